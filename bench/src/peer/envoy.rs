//! Envoy from a file, with the resources that our proxy gets from its control plane.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Found, Side, Stage};
use crate::identity::{CHAIN, KEY, ROOTS};
use crate::ports::Ports;
use crate::process::{PROXY_CORE, get, on_core};
use crate::resources;

pub(super) fn command(
    found: &Found,
    stage: &Stage,
    side: Side,
    ports: Ports,
    directory: &Path,
) -> Result<Command> {
    let identity = stage.identity(side);
    let certificates = |names: Value| files(identity, &names);
    let (listeners, clusters) = match side {
        Side::Inbound => resources::inbound(ports, &certificates),
        Side::Plain => resources::plain(ports),
        Side::Outbound(server) => resources::outbound(ports, server, &certificates, &["http/1.1"]),
    };
    let bootstrap = json!({
        "node": { "id": "sidecar~127.0.0.1~items-v1.default~default.svc.cluster.local",
                  "cluster": "items.default" },
        "admin": { "address": resources::address(ports.admin()) },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    });
    let path = directory.join("envoy.json");
    fs::write(&path, format!("{bootstrap:#}"))?;
    let mut command = on_core(PROXY_CORE, &found.binary)?;
    command.arg("-c").arg(path);
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]);
    Ok(command)
}

fn files(directory: &Path, names: &Value) -> Value {
    let file = |name: &str| json!({ "filename": directory.join(name) });
    json!({
        "tls_certificates": [{ "certificate_chain": file(CHAIN), "private_key": file(KEY) }],
        "validation_context": {
            "trusted_ca": file(ROOTS),
            "match_typed_subject_alt_names": names,
        },
    })
}

/// What its connection managers answered with 2xx.
pub(super) fn answered(ports: Ports) -> Result<u64> {
    let text = get(
        ports.admin(),
        "/stats?filter=%5Ehttp%5C.%28in%7Cout%29bound%5C.downstream_rq_2xx%24",
    )?;
    sum(&text)
}

fn sum(text: &str) -> Result<u64> {
    let mut total = 0;
    for line in text.lines() {
        let (_, value) = line.rsplit_once(": ").context("a statistic")?;
        total += value.trim().parse::<u64>().context("a number")?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_added() {
        let text = "http.inbound.downstream_rq_2xx: 3\nhttp.outbound.downstream_rq_2xx: 4\n";
        assert_eq!(sum(text).expect("valid"), 7);
        assert!(sum("nonsense\n").is_err());
    }
}
