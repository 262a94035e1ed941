//! Whether what `explain` says of a case is what the table says.

use std::collections::BTreeMap;

use lateen_explain::{Call, Explanation, Outcome};
use serde_json::Value;

use crate::DOMAIN;

pub(crate) fn judge(case: &Value, call: &Call, told: &Explanation) -> Result<(), String> {
    let same = |what: &str, is: Value| {
        let expect = &case[what];
        if expect.is_null() || *expect == is {
            Ok(())
        } else {
            Err(format!("{what} is {is}, not {expect}"))
        }
    };
    let chain = told.chain.as_ref().map_or("", |chain| &chain.name);
    same("chain", chain.into())?;
    let server = told.chain.as_ref().and_then(|chain| chain.from.first());
    let server = server.map(|from| format!("{} {}", from.object, from.field));
    same("server", server.into())?;
    let route = told.route.as_ref();
    let from = route.and_then(|route| route.from.last());
    same("object", from.map_or("", |from| &from.object).into())?;
    same("rule", from.map_or("", |from| &from.field).into())?;
    let missed = route.into_iter().flat_map(|route| &route.others);
    let missed = missed.flat_map(|other| &other.from);
    let missed: Vec<&str> = missed.map(|from| from.field.as_str()).collect();
    same("missed", missed.into())?;
    let is_closed = matches!(
        told.outcome,
        Outcome::NoListener | Outcome::NoChain | Outcome::Closed
    );
    same("closed", is_closed.into())?;
    let status = match &told.outcome {
        Outcome::NoHost | Outcome::NoRoute => Some(404),
        Outcome::HttpsRequired => Some(301),
        Outcome::Answer { status } => Some(*status),
        Outcome::Redirect(to) => Some(to.status),
        _ => None,
    };
    same("status", status.into())?;
    if let Outcome::Redirect(to) = &told.outcome {
        let mut parts = serde_json::Map::new();
        for (what, value) in [
            ("scheme", &to.scheme),
            ("host", &to.host),
            ("path", &to.path),
        ] {
            if !value.is_empty() {
                parts.insert(what.to_owned(), value.as_str().into());
            }
        }
        if let Some(port) = to.port {
            parts.insert("port".to_owned(), port.into());
        }
        same("redirect", parts.into())?;
    }
    let Outcome::Forward(to) = &told.outcome else {
        return match ["to", "pods", "timeoutMs", "path"]
            .iter()
            .find(|f| !case[**f].is_null())
        {
            Some(_) => Err("it is not sent on".to_owned()),
            None => Ok(()),
        };
    };
    if status.is_none() && !is_closed && case["to"].is_null() {
        return Err("a case whose call is sent on says where to".to_owned());
    }
    let shares: BTreeMap<String, f64> = to
        .clusters
        .iter()
        .map(|cluster| (cluster.name.clone(), cluster.percent))
        .collect();
    let expect: BTreeMap<String, f64> = match &case["to"] {
        Value::String(name) => [(full(name, call), 100.0)].into(),
        Value::Object(list) => list
            .iter()
            .map(|(name, share)| (full(name, call), share.as_f64().unwrap_or(-1.0)))
            .collect(),
        other => return Err(format!("to is {other}")),
    };
    if shares != expect {
        return Err(format!("it goes to {shares:?}, not {expect:?}"));
    }
    if let Some(lost) = to.clusters.iter().find(|cluster| !cluster.known) {
        return Err(format!("there is no cluster {}", lost.name));
    }
    same("timeoutMs", to.timeout_ms.into())?;
    same("retries", to.retries.as_str().into())?;
    same("path", to.path.as_str().into())?;
    same("authority", to.authority.as_str().into())?;
    same("session", to.session.as_str().into())?;
    same("faults", to.faults.clone().into())?;
    let mirrors: serde_json::Map<String, Value> = to
        .mirrors
        .iter()
        .map(|(name, share)| (name.clone(), (*share).into()))
        .collect();
    same("mirrors", mirrors.into())?;
    let tls: Vec<String> = to.clusters.iter().flat_map(|c| c.tls.clone()).collect();
    same("tls", tls.into())?;
    let hosts = to.clusters.iter().flat_map(|cluster| &cluster.hosts);
    let mut addresses: Vec<&str> = hosts.clone().map(|host| &*host.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    same("hosts", addresses.into())?;
    let used = hosts.filter(|host| host.percent > 0.0);
    let mut pods: Vec<String> = used
        .map(|host| {
            host.workload
                .split('.')
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    pods.sort();
    same("pods", pods.into())
}

/// `reviews/v1` is the subset of a service of namespace `default` at the port of the call,
/// `reviews:80` the service at another one; names of clusters stand for themselves.
fn full(name: &str, call: &Call) -> String {
    if name.contains('|') || name.ends_with("Cluster") || name.starts_with("InboundPassthrough") {
        return name.to_owned();
    }
    let (name, subset) = name.split_once('/').unwrap_or((name, ""));
    let (subset, of_subset) = match subset.split_once(':') {
        Some((subset, port)) => (subset, Some(port.to_owned())),
        None => (subset, None),
    };
    let (host, port) = match name.split_once(':') {
        Some((host, port)) => (host, port.to_owned()),
        None => (
            name,
            of_subset.unwrap_or(call.destination.port().to_string()),
        ),
    };
    let host = if host.contains('.') {
        host.to_owned()
    } else {
        format!("{host}.default.svc.{DOMAIN}")
    };
    format!("outbound|{port}|{subset}|{host}")
}
