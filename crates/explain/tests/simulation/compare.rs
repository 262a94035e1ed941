//! Whether what came of a call is what was to come of it.

use std::collections::BTreeSet;

use lateen_explain::{Call, Cluster, Destination, Explanation, Outcome, Redirection, Security};
use lateen_registry::World;
use serde_json::{Value, json};

use crate::DOMAIN;
use crate::backend::Backends;
use crate::client::{Answer, Client, Got};
use crate::proxies::{Line, Proxy};
use crate::table::{Asked, Case};

/// How often a call is made at most, until all clusters and pods that may serve it have done so.
const CALLS: usize = 200;

/// A case at a running proxy. `explain` has said what is to come of it, and the table has agreed.
pub(crate) struct Comparison<'a> {
    pub case: &'a Case,
    pub asked: &'a Asked,
    pub client: Client<'a>,
    pub proxy: &'a Proxy,
    pub backends: &'a Backends,
    pub world: &'a World,
}

impl Comparison<'_> {
    pub(crate) async fn run(&self) -> Result<(), String> {
        let (call, told) = (&self.asked.call, &self.asked.told);
        let answer = self.client.call(call).await;
        match &told.outcome {
            Outcome::NoListener | Outcome::NoChain | Outcome::Closed => closed(&answer.got),
            // Datagrams have trials of their own.
            Outcome::Dropped => Err("the table has no datagrams".to_owned()),
            Outcome::NoHost | Outcome::NoRoute => self.answered(&answer.got, 404),
            Outcome::HttpsRequired => {
                let to = Redirection {
                    status: 301,
                    scheme: "https".to_owned(),
                    ..Redirection::default()
                };
                self.answered(&answer.got, to.status)?;
                redirected(&answer.got, call, &to)
            }
            Outcome::Answer { status } => self.answered(&answer.got, *status),
            Outcome::Redirect(to) => {
                self.answered(&answer.got, to.status)?;
                redirected(&answer.got, call, to)
            }
            Outcome::Forward(to) => self.forwarded(answer, to).await,
        }
    }

    async fn forwarded(&self, first: Answer, to: &Destination) -> Result<(), String> {
        if let Some(status) = aborted(to) {
            return self.answered(&first.got, status);
        }
        if !self.case.spec["then"].is_null() {
            return self.then(&first.got);
        }
        if let [cluster] = to.clusters.as_slice()
            && cluster.hosts.is_empty()
            && cluster.hosts_from.is_empty()
        {
            return match &first.got {
                Got::Closed(_) if !is_http(&self.asked.told) => Ok(()),
                got => self.answered(got, 503),
            };
        }
        let mut wanted = self.wanted(to);
        let mut answer = first;
        for _ in 0..CALLS {
            let reached = self.one(&answer, to).await?;
            wanted.retain(|name| !reached.contains(name));
            if wanted.is_empty() {
                return self.mirrored(to).await;
            }
            answer = self.client.call(&self.asked.call).await;
        }
        Err(format!("{CALLS} calls reached everything but {wanted:?}"))
    }

    /// Whether what comes back is what it says, by as many tries.
    fn then(&self, got: &Got) -> Result<(), String> {
        let expect = &self.case.spec["then"];
        let Got::Response { status, .. } = got else {
            return Err(format!("no response: {got:?}"));
        };
        if *expect != json!(status) {
            return Err(format!("then it is {status}, not {expect}"));
        }
        let own = self.asked.call.headers.iter();
        let mut own = own.filter(|(name, _)| name == "x-case");
        let own = own.next().map(|(_, value)| value.as_str());
        let own = own.ok_or("it has no x-case by which its tries are known")?;
        let n_tries = self.backends.n_seen(Some(own));
        let expect = &self.case.spec["tries"];
        (*expect == json!(n_tries))
            .then_some(())
            .ok_or_else(|| format!("it was tried {n_tries} times, not {expect}"))
    }

    /// A status of the proxy's own, as gRPC tells it to who calls by gRPC.
    fn answered(&self, got: &Got, expect: u16) -> Result<(), String> {
        let mut headers = self.asked.call.headers.iter();
        let is_grpc = headers
            .any(|(name, value)| name == "content-type" && value.starts_with("application/grpc"));
        if !is_grpc {
            return by_proxy(got, expect);
        }
        by_proxy(got, 200)?;
        // As gRPC maps statuses of HTTP.
        let code = match expect {
            400 => "13",
            401 => "16",
            403 => "7",
            404 => "12",
            429 | 502..=504 => "14",
            _ => "2",
        };
        match got {
            Got::Response { grpc: Some(is), .. } if is == code => Ok(()),
            got => Err(format!("not gRPC's {code}: {got:?}")),
        }
    }

    /// Clusters and pods that must be reached if it is tried often enough.
    fn wanted(&self, to: &Destination) -> BTreeSet<String> {
        let clusters = to.clusters.iter().filter(|cluster| cluster.percent >= 10.0);
        let mut wanted: BTreeSet<String> = clusters.map(|cluster| cluster.name.clone()).collect();
        if !self.case.spec["pods"].is_null() {
            let hosts = to.clusters.iter().flat_map(|cluster| &cluster.hosts);
            let used = hosts.filter(|host| host.percent >= 10.0);
            wanted.extend(used.map(|host| host.address.clone()));
        }
        wanted
    }

    /// Judges one answer; returns the cluster and the host that it came from.
    async fn one(&self, answer: &Answer, to: &Destination) -> Result<[String; 2], String> {
        let seen = match &answer.got {
            Got::Response {
                seen: Some(seen), ..
            }
            | Got::Bytes(seen) => seen,
            got => return Err(format!("not sent on: {got:?}")),
        };
        let from = answer.from.ok_or("a call from nowhere")?.to_string();
        let line = self.proxy.line(&from).await?;
        let found = to.clusters.iter().find(|found| found.name == line.cluster);
        let cluster = found.ok_or_else(|| format!("it went to {line:?}"))?;
        names(&self.asked.told, &line)?;
        let at = seen["at"].as_str().unwrap_or_default().to_owned();
        self.place(cluster, &at)?;
        self.security(cluster, seen)?;
        if is_http(&self.asked.told) {
            self.request(to, seen)?;
        }
        if let Got::Response { session, .. } = &answer.got {
            let told = session.as_ref().map(|by| to.session.contains(by.as_str()));
            if told != (!to.session.is_empty()).then_some(true) {
                return Err(format!("the session is {session:?}, not {:?}", to.session));
            }
        }
        Ok([line.cluster, at])
    }

    /// Whether a host is one of the cluster's.
    fn place(&self, cluster: &Cluster, at: &str) -> Result<(), String> {
        let known = cluster.hosts.iter().find(|host| host.address == at);
        let is_right = match (known, cluster.hosts_from.as_str()) {
            (Some(host), _) => host.percent > 0.0,
            (None, "the destination of the connection") => {
                at == self.asked.call.destination.to_string()
            }
            (None, hosts_from) => !hosts_from.is_empty(),
        };
        is_right
            .then_some(())
            .ok_or_else(|| format!("it arrived at {at}"))
    }

    /// Whether the backend saw the TLS that it should: the cluster's, around the caller's own where
    /// that is passed on.
    fn security(&self, cluster: &Cluster, seen: &Value) -> Result<(), String> {
        let mut layers: Vec<&Value> = seen["layers"].as_array().into_iter().flatten().collect();
        let call = &self.asked.call;
        if let Security::Tls { server_name, .. } = &call.security
            && self.asked.told.downstream.starts_with("plain")
        {
            let inner = layers.pop().ok_or("the caller's own TLS was lost")?;
            let sni = json!(server_name);
            if inner["sni"] != sni {
                return Err(format!("the caller's TLS asks for {inner}"));
            }
        }
        let is = match layers.as_slice() {
            [] => "plain text".to_owned(),
            [layer] if !layer["peer"].is_null() => "mutual TLS of the mesh".to_owned(),
            [layer] => match layer["sni"].as_str() {
                Some(sni) => format!("TLS for {sni}"),
                None => "TLS".to_owned(),
            },
            more => return Err(format!("layers of TLS: {more:?}")),
        };
        let said = cluster.tls.contains(&is);
        said.then_some(())
            .ok_or_else(|| format!("the backend saw {is}, not {:?}", cluster.tls))
    }

    fn request(&self, to: &Destination, seen: &Value) -> Result<(), String> {
        let call = &self.asked.call;
        let path = seen["path"].as_str().unwrap_or_default();
        let expect = if to.path.is_empty() {
            call.target.clone()
        } else {
            match call.target.split_once('?') {
                Some((_, query)) => format!("{}?{query}", to.path),
                None => to.path.clone(),
            }
        };
        if path != expect {
            return Err(format!("the backend saw path {path:?}, not {expect:?}"));
        }
        let authority = seen["authority"].as_str().unwrap_or_default();
        let expect = match to.authority.as_str() {
            "" => call.authority.as_str(),
            rewritten => rewritten,
        };
        if !rewritten_elsewhere(expect) && !authority.eq_ignore_ascii_case(expect) {
            let told = format!("the backend saw authority {authority:?}, not {expect:?}");
            return Err(told);
        }
        let version = &self.case.spec["version"];
        if !version.is_null() && *version != seen["version"] {
            return Err(format!(
                "the backend saw {}, not {version}",
                seen["version"]
            ));
        }
        for (name, value) in self.case.spec["sent"].as_object().into_iter().flatten() {
            let is = &seen["headers"][name];
            if is != value {
                return Err(format!("the backend saw {name}: {is}, not {value}"));
            }
        }
        Ok(())
    }

    /// Whether every cluster that gets all requests a second time has got one.
    async fn mirrored(&self, to: &Destination) -> Result<(), String> {
        let always = to.mirrors.iter().filter(|(_, percent)| *percent >= 100.0);
        for (cluster, _) in always {
            // `outbound|PORT|SUBSET|HOST`
            let host = cluster.rsplit('|').next().unwrap_or_default();
            let deadline = std::time::Instant::now() + crate::client::PATIENCE;
            while !self
                .backends
                .seen()
                .iter()
                .any(|seen| self.is_copy(seen, host))
            {
                if std::time::Instant::now() > deadline {
                    return Err(format!("no copy arrived at {host}"));
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    fn is_copy(&self, seen: &Value, host: &str) -> bool {
        let authority = seen["authority"].as_str().unwrap_or_default();
        let at: Option<std::net::SocketAddr> = seen["at"].as_str().and_then(|at| at.parse().ok());
        let workload = at.and_then(|at| self.world.workload(at.ip()));
        let is_of = |app: &str| host == format!("{app}.default.svc.{DOMAIN}");
        let app = workload.and_then(|workload| workload.labels.value("app"));
        authority.contains("-shadow") && app.is_some_and(is_of)
    }
}

fn is_http(told: &Explanation) -> bool {
    told.host.is_some()
}

/// The authority is that of the host, which `explain` does not tell.
fn rewritten_elsewhere(authority: &str) -> bool {
    authority == "the host's own name"
        || authority.starts_with("what header")
        || authority == "by the path"
}

/// The status that all requests are answered with, where faults say so.
fn aborted(to: &Destination) -> Option<u16> {
    let all = |fault: &String| {
        let status = fault.strip_prefix("status ")?.strip_suffix(" for 100 %")?;
        status.parse().ok()
    };
    to.faults.iter().find_map(all)
}

/// Whether the proxy names the chain and the route as `explain` does.
fn names(told: &Explanation, line: &Line) -> Result<(), String> {
    let chain = told.chain.as_ref().map_or("", |chain| &chain.name);
    // What has no name is told by its place.
    if !chain.starts_with('#') && line.chain != chain {
        return Err(format!("chain {:?}, not {chain:?}", line.chain));
    }
    let route = told.route.as_ref().map_or("", |route| &route.name);
    if let Some((_, route)) = route.split_once(' ')
        && line.route != route
    {
        return Err(format!("route {:?}, not {route:?}", line.route));
    }
    Ok(())
}

fn closed(got: &Got) -> Result<(), String> {
    match got {
        Got::Closed(fault) if fault.is_empty() => Err("closed without a reason".to_owned()),
        Got::Closed(_) => Ok(()),
        got => Err(format!("not closed: {got:?}")),
    }
}

/// A status that no backend has sent.
fn by_proxy(got: &Got, expect: u16) -> Result<(), String> {
    match got {
        Got::Response {
            status, seen: None, ..
        } if *status == expect => Ok(()),
        got => Err(format!("not {expect} by the proxy itself: {got:?}")),
    }
}

fn redirected(got: &Got, call: &Call, to: &Redirection) -> Result<(), String> {
    let Got::Response { location, .. } = got else {
        return Err(format!("no redirect: {got:?}"));
    };
    let (own, default) = match call.security {
        Security::Plain => ("http", "80"),
        _ => ("https", "443"),
    };
    let scheme = if to.scheme.is_empty() {
        own
    } else {
        &to.scheme
    };
    let (host, port) = match call.authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.to_owned())),
        None => (call.authority.as_str(), None),
    };
    let (host, port) = match (to.host.as_str(), to.port) {
        ("", None) => (host, port.filter(|port| scheme == own || port != default)),
        ("", Some(port)) => (host, Some(port.to_string())),
        (host, port) => (host, port.map(|port| port.to_string())),
    };
    let port = port.filter(|port| (scheme, port.as_str()) != ("https", "443"));
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let path = if to.path.is_empty() {
        &call.target
    } else {
        &to.path
    };
    let expect = format!("{scheme}://{host}{port}{path}");
    match location {
        Some(location) if *location == expect => Ok(()),
        other => Err(format!("redirected to {other:?}, not {expect:?}")),
    }
}
