//! The simulation table: configuration, then a call, then what is to come of it.
//!
//! `simulation/platform.yaml` is the platform of all files beside it; each of those has a
//! configuration and cases. The cases run on what `explain` asks, which is the code of the proxy
//! without its sockets. Nothing is skipped: a case that cannot be run fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lateen_explain::{Call, Explanation, Outcome, Platform, Security, explain};
use serde_json::Value;

const DOMAIN: &str = "cluster.local";

/// What a case may say; anything else is a misspelling.
const FIELDS: [&str; 22] = [
    "name",
    "call",
    "from",
    "to",
    "at",
    "headers",
    "random",
    "security",
    "alpn",
    "status",
    "closed",
    "redirect",
    "chain",
    "timeoutMs",
    "retries",
    "path",
    "authority",
    "mirrors",
    "faults",
    "tls",
    "pods",
    "object",
];

#[test]
fn the_table() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .expect("the table")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name != "platform.yaml"))
        .collect();
    files.sort();
    let base = std::fs::read_to_string(dir.join("platform.yaml")).expect("the platform");
    let (mut n_cases, mut faults) = (0, Vec::new());
    for path in files {
        let file = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("readable");
        let group: Value = serde_saphyr::from_str(&text).expect("YAML");
        let config = group["config"]
            .as_str()
            .expect("a configuration")
            .to_owned();
        let texts = [
            ("platform.yaml".to_owned(), base.clone()),
            (file.clone(), config),
        ];
        let platform = Platform::read(&texts, DOMAIN);
        let platform = platform.unwrap_or_else(|faults| panic!("{file}: {faults:#?}"));
        assert!(platform.unused.is_empty(), "{file}: {:?}", platform.unused);
        let cases = group["cases"].as_array().expect("cases");
        for case in cases {
            n_cases += 1;
            if let Err(fault) = run(&platform, case) {
                faults.push(format!("{file}: {}: {fault}", case["name"]));
            }
        }
    }
    println!("{n_cases} cases on route alone, {} failed", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(n_cases >= 60, "{n_cases} cases");
}

fn run(platform: &Platform, case: &Value) -> Result<(), String> {
    for field in case.as_object().expect("a case").keys() {
        if !FIELDS.contains(&field.as_str()) {
            return Err(format!("a case has no field {field:?}"));
        }
    }
    let text = |field: &str| case[field].as_str();
    // A case is asked at the caller's proxy, or at that of the workload that is called.
    let who = text("at").or(text("from")).unwrap_or("productpage-v1");
    let proxy = platform.caller(who).ok_or(format!("no workload {who}"))?;
    let (method, url) = text("call")
        .and_then(|call| call.split_once(' '))
        .ok_or("a call is METHOD URL")?;
    let call = if text("at").is_some() {
        platform.call_to(&proxy, method, url)
    } else {
        platform.call(&proxy, method, url)
    };
    let mut call = call.map_err(|error| error.to_string())?;
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().ok_or("headers are texts")?;
        call.headers
            .push((name.to_ascii_lowercase(), value.to_owned()));
    }
    call.random = case["random"].as_u64().unwrap_or(0);
    match text("security") {
        Some("mesh") => call.security = Security::Mesh,
        Some("tls") => {
            call.security = Security::Tls {
                server_name: None,
                alpn: vec!["h2".to_owned()],
            }
        }
        Some(other) => return Err(format!("security {other:?}")),
        None => {}
    }
    let served = platform.served(&proxy).map_err(|error| error.to_string())?;
    let told = explain(&served, &call, &platform.places);
    judge(case, &call, &told).map_err(|fault| format!("{fault}\n{told}"))
}

fn judge(case: &Value, call: &Call, told: &Explanation) -> Result<(), String> {
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
    let object = told.route.as_ref().map_or("", |route| &route.from);
    let object = object.split(" (").next().unwrap_or_default();
    same("object", object.into())?;
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
    let (host, port) = match name.split_once(':') {
        Some((host, port)) => (host, port.to_owned()),
        None => (name, call.destination.port().to_string()),
    };
    let host = if host.contains('.') {
        host.to_owned()
    } else {
        format!("{host}.default.svc.{DOMAIN}")
    };
    format!("outbound|{port}|{subset}|{host}")
}
