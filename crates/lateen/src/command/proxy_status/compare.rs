//! What differs between what a proxy was sent and what it has.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};
use similar::TextDiff;

use crate::command::proxy_config::dump::{
    BOOTSTRAP, CLUSTERS, Dump, ENDPOINTS, LISTENERS, ROUTES, Section,
};
use crate::output::{self, Format};

/// Lines around a difference.
const CONTEXT: usize = 7;

/// Kinds of resources that are compared.
const COMPARED: [(&str, Section); 3] = [
    ("Clusters", CLUSTERS),
    ("Listeners", LISTENERS),
    ("Routes", ROUTES),
];

/// Prints what differs, kind by kind.
pub(super) fn print(sent: &Dump, own: &Dump, format: Format) -> anyhow::Result<()> {
    let all = all(sent, own);
    if format == Format::Short {
        for (kind, difference) in &all {
            match difference {
                None => output::line(format_args!("{kind} Match")),
                Some(difference) => output::print(difference),
            }
        }
        return Ok(());
    }
    let told = |(kind, difference): &(&str, Option<String>)| {
        let told = json!({"match": difference.is_none(), "diff": difference});
        ((*kind).to_lowercase(), told)
    };
    let told: Map<String, Value> = all.iter().map(told).collect();
    output::structured(&Value::Object(told), format)
}

/// Each kind with what differs, if anything.
fn all(sent: &Dump, own: &Dump) -> Vec<(&'static str, Option<String>)> {
    let mut all: Vec<_> = COMPARED
        .iter()
        .map(|(kind, section)| {
            let texts = [sent, own].map(|dump| resources(dump, *section));
            (*kind, difference(kind, &texts))
        })
        .collect();
    // By the addresses alone: Envoy's dump is not what it was sent, but what it made of that.
    if own.has(ENDPOINTS) {
        let texts = [sent, own].map(endpoints);
        all.push(("Endpoints", difference("Endpoints", &texts)));
    }
    all
}

fn difference(kind: &str, [sent, own]: &[String; 2]) -> Option<String> {
    if sent == own {
        return None;
    }
    let diff = TextDiff::from_lines(sent, own);
    let titles = [format!("Istiod {kind}"), format!("Proxy {kind}")];
    let text = diff
        .unified_diff()
        .context_radius(CONTEXT)
        .header(&titles[0], &titles[1])
        .to_string();
    Some(text)
}

/// What was received, by name, in one form whoever wrote it.
fn resources(dump: &Dump, section: Section) -> String {
    let named = dump.received(section).into_iter().map(|resource| {
        let name = resource["name"].as_str().unwrap_or_default().to_owned();
        let same_form = lateen_xds::json::with_json_names(section.message, resource.clone());
        let mut resource = same_form.unwrap_or_else(|_| {
            let mut resource = resource.clone();
            if let Some(fields) = resource.as_object_mut() {
                fields.remove("@type");
            }
            resource
        });
        // Which of them is meant is told by the domains alone: the order says nothing.
        for field in ["virtualHosts", "virtual_hosts"] {
            if let Some(hosts) = resource.get_mut(field).and_then(Value::as_array_mut) {
                hosts.sort_by_key(|host| host["name"].to_string());
            }
        }
        (name, sorted(resource))
    });
    let named: BTreeMap<String, Value> = named.collect();
    let texts = named.values().map(|resource| format!("{resource:#}\n"));
    texts.collect()
}

/// Fields in one order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> = fields
                .into_iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// The addresses of each cluster, one a line.
fn endpoints(dump: &Dump) -> String {
    let mut clusters: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for cluster in dump.received(ENDPOINTS) {
        let name = cluster["cluster_name"].as_str().unwrap_or_default();
        // They hold wherever connections were going to, which nobody sent.
        if name.starts_with("inbound|") || name.contains("PassthroughCluster") {
            continue;
        }
        let addresses = clusters.entry(name).or_default();
        for place in cluster["endpoints"].as_array().into_iter().flatten() {
            let hosts = place["lb_endpoints"].as_array().into_iter().flatten();
            addresses.extend(hosts.map(|host| address(&host["endpoint"]["address"])));
        }
    }
    let mut text = String::new();
    for (name, mut addresses) in clusters {
        addresses.sort();
        for address in addresses {
            let _ = writeln!(text, "{name} {address}");
        }
    }
    text
}

fn address(of: &Value) -> String {
    let socket = &of["socket_address"];
    match socket["address"].as_str() {
        Some(address) => format!("{address}:{}", socket["port_value"]),
        None => of.to_string(),
    }
}

/// The proxy that a dump is of, `name.namespace`, by the node in its bootstrap.
pub(super) fn proxy_of(dump: &Dump) -> Option<String> {
    let bootstrap = dump.sections(BOOTSTRAP).next()?;
    let id = bootstrap.pointer("/bootstrap/node/id")?.as_str()?;
    id.split('~').nth(2).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(clusters: Value, more: Value) -> Dump {
        let kind = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}");
        let value = json!({"configs": [
            {"@type": kind("BootstrapConfigDump"),
             "bootstrap": {"node": {"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local"}}},
            {"@type": kind("ClustersConfigDump"), "dynamic_active_clusters": clusters,
             "static_clusters": [{"cluster": {"name": "own"}}]},
            {"@type": kind("EndpointsConfigDump"), "dynamic_endpoint_configs": more},
        ]});
        Dump::read(&value.to_string()).unwrap()
    }

    fn cluster(name: &str, timeout: &str) -> Value {
        json!({"cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": name, "connect_timeout": timeout}})
    }

    fn endpoints(addresses: &[&str]) -> Value {
        let hosts = addresses.iter().map(|address| {
            json!({"endpoint": {"address": {"socket_address": {"address": address, "port_value": 80}}}})
        });
        json!([{"endpoint_config": {"cluster_name": "c",
            "endpoints": [{"lb_endpoints": hosts.collect::<Vec<_>>()}]}}])
    }

    #[test]
    fn the_same_in_another_form_matches() {
        let sent = dump(
            json!([cluster("a", "10s"), cluster("b", "0.250s")]),
            endpoints(&["1.1.1.1", "1.1.1.2"]),
        );
        let mut turned = json!([cluster("b", "0.250000s"), cluster("a", "10s")]);
        turned[1]["cluster"]["@type"] = json!("x");
        let own = dump(turned, endpoints(&["1.1.1.2", "1.1.1.1"]));
        let all = all(&sent, &own);
        assert!(
            all.iter().all(|(_, difference)| difference.is_none()),
            "{all:?}"
        );
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn what_connections_brought_does_not_differ() {
        let sent = dump(json!([]), endpoints(&["1.1.1.1"]));
        let mut held = endpoints(&["1.1.1.1"]);
        let mut own = endpoints(&["10.0.0.1"])[0].clone();
        own["endpoint_config"]["cluster_name"] = "inbound|9080||".into();
        held.as_array_mut().unwrap().push(own);
        let all = all(&sent, &dump(json!([]), held));
        assert_eq!(all[3], ("Endpoints", None));
    }

    #[test]
    fn virtual_hosts_have_no_order() {
        let routes = |hosts: [&str; 2]| {
            let hosts = hosts.map(|name| json!({"name": name, "domains": [name]}));
            let kind = "type.googleapis.com/envoy.admin.v3.RoutesConfigDump";
            let value = json!({"configs": [{"@type": kind, "dynamic_route_configs":
                [{"route_config": {"name": "80", "virtual_hosts": hosts}}]}]});
            resources(&Dump::read(&value.to_string()).unwrap(), ROUTES)
        };
        assert_eq!(routes(["a", "b"]), routes(["b", "a"]));
        assert_ne!(routes(["a", "b"]), routes(["a", "c"]));
    }

    #[test]
    fn what_differs_is_shown() {
        let sent = dump(json!([cluster("a", "10s")]), endpoints(&["1.1.1.1"]));
        let own = dump(json!([cluster("a", "1s")]), endpoints(&["1.1.1.2"]));
        let all = all(&sent, &own);
        let clusters = all[0].1.as_deref().unwrap_or_default();
        assert!(
            clusters.starts_with("--- Istiod Clusters\n+++ Proxy Clusters\n"),
            "{clusters}"
        );
        assert!(
            clusters.contains("-  \"connectTimeout\": \"10s\"")
                && clusters.contains("+  \"connectTimeout\": \"1s\""),
            "{clusters}"
        );
        let endpoints = all[3].1.as_deref().unwrap_or_default();
        assert!(
            endpoints.contains("-c 1.1.1.1:80\n+c 1.1.1.2:80"),
            "{endpoints}"
        );
    }

    #[test]
    fn a_dump_says_whose_it_is() {
        let dump = dump(json!([]), json!([]));
        assert_eq!(proxy_of(&dump).as_deref(), Some("a.b"));
    }
}
