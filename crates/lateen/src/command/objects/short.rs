//! Columns of objects as `istioctl` 1.0 printed them.

use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use lateen_api::kinds::Kind;
use serde_json::Value;

use crate::table::Table;

/// Spaces between columns, and the least width of one.
const PADDING: usize = 3;
const LEAST: usize = 10;

/// The columns of a kind, sorted by name.
pub(super) fn table(kind: &Kind, objects: &[DynamicObject], now: Timestamp) -> Table {
    let mut objects: Vec<&DynamicObject> = objects.iter().collect();
    objects.sort_by_key(|object| (object.name_any(), object.namespace()));
    let mut table = match kind.kind {
        "VirtualService" => Table::new([
            "VIRTUAL-SERVICE NAME",
            "GATEWAYS",
            "HOSTS",
            "#HTTP",
            "#TCP",
            "NAMESPACE",
            "AGE",
        ]),
        "DestinationRule" => Table::new([
            "DESTINATION-RULE NAME",
            "HOST",
            "SUBSETS",
            "NAMESPACE",
            "AGE",
        ]),
        "Gateway" => Table::new(["GATEWAY NAME", "HOSTS", "NAMESPACE", "AGE"]),
        "ServiceEntry" => Table::new(["SERVICE-ENTRY NAME", "HOSTS", "PORTS", "NAMESPACE", "AGE"]),
        _ => Table::new(["NAME", "KIND", "NAMESPACE", "AGE"]),
    }
    .padded(PADDING)
    .at_least(LEAST);
    for object in objects {
        let spec = &object.data["spec"];
        let name = object.name_any();
        let ends = [
            object.namespace().unwrap_or_default(),
            age(
                object.metadata.creation_timestamp.as_ref().map(|at| at.0),
                now,
            ),
        ];
        let [namespace, age] = ends;
        match kind.kind {
            "VirtualService" => table.row([
                name,
                joined(&spec["gateways"]),
                joined(&spec["hosts"]),
                format!("{:>5}", count(&spec["http"])),
                format!("{:>4}", count(&spec["tcp"])),
                namespace,
                age,
            ]),
            "DestinationRule" => {
                let host = spec["host"].as_str().unwrap_or_default().to_owned();
                let subsets = each(&spec["subsets"], |subset| text(&subset["name"]));
                table.row([name, host, subsets, namespace, age]);
            }
            "Gateway" => {
                let hosts = each(&spec["servers"], |server| joined(&server["hosts"]));
                table.row([name, hosts, namespace, age]);
            }
            "ServiceEntry" => {
                let port = |port: &Value| {
                    let number = port["number"].as_u64().unwrap_or_default();
                    format!("{}/{number}", text(&port["protocol"]))
                };
                let ports = each(&spec["ports"], port);
                table.row([name, joined(&spec["hosts"]), ports, namespace, age]);
            }
            kind => table.row([name, kind.to_owned(), namespace, age]),
        }
    }
    table
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn each(list: &Value, of: impl Fn(&Value) -> String) -> String {
    let items = list.as_array().into_iter().flatten();
    let items: Vec<String> = items.map(of).collect();
    items.join(",")
}

fn joined(list: &Value) -> String {
    each(list, text)
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// In the largest unit: `5d`, `3h`, `12m`, `7s`.
fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else {
        return "Unknown".to_owned();
    };
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let found = units.into_iter().find(|(length, _)| seconds >= *length);
    let (length, unit) = found.unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    use lateen_api::kinds;
    use serde_json::json;

    use super::*;

    fn check(kind: &Kind, spec: Value, expect: &str) {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "networking.istio.io/v1", "kind": kind.kind,
            "metadata": {"name": "bookinfo", "namespace": "default",
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec,
        }))
        .expect("an object");
        let now = "2026-01-01T00:05:30Z".parse().expect("a time");
        assert_eq!(table(kind, &[object], now).to_string(), expect);
    }

    #[test]
    fn each_kind_has_its_columns() {
        check(
            &kinds::VIRTUAL_SERVICE,
            json!({"hosts": ["*"], "gateways": ["bookinfo-gateway"], "http": [{}]}),
            "VIRTUAL-SERVICE NAME   GATEWAYS           HOSTS     #HTTP     #TCP      NAMESPACE   AGE\n\
             bookinfo               bookinfo-gateway   *             1        0      default     5m\n",
        );
        check(
            &kinds::DESTINATION_RULE,
            json!({"host": "reviews", "subsets": [{"name": "v1"}, {"name": "v2"}]}),
            "DESTINATION-RULE NAME   HOST      SUBSETS   NAMESPACE   AGE\n\
             bookinfo                reviews   v1,v2     default     5m\n",
        );
        check(
            &kinds::GATEWAY,
            json!({"servers": [{"hosts": ["*"]}]}),
            "GATEWAY NAME   HOSTS     NAMESPACE   AGE\n\
             bookinfo       *         default     5m\n",
        );
        check(
            &kinds::SERVICE_ENTRY,
            json!({"hosts": ["a.example"], "ports": [{"number": 443, "protocol": "TLS"}]}),
            "SERVICE-ENTRY NAME   HOSTS       PORTS     NAMESPACE   AGE\n\
             bookinfo             a.example   TLS/443   default     5m\n",
        );
        check(
            &kinds::PEER_AUTHENTICATION,
            json!({}),
            "NAME       KIND                 NAMESPACE   AGE\n\
             bookinfo   PeerAuthentication   default     5m\n",
        );
    }

    #[test]
    fn ages_are_in_the_largest_unit() {
        let now: Timestamp = "2026-01-03T00:00:00Z".parse().expect("a time");
        for (since, expect) in [
            ("2026-01-01T00:00:00Z", "2d"),
            ("2026-01-02T22:00:00Z", "2h"),
            ("2026-01-02T23:59:53Z", "7s"),
            ("2026-01-03T00:00:05Z", "0s"),
        ] {
            assert_eq!(age(since.parse().ok(), now), expect, "{since}");
        }
        assert_eq!(age(None, now), "Unknown");
    }
}
