//! Ports of a gateway's container, by those of its Service.
//!
//! Kubernetes tells the ports of a container apart by number and protocol and takes none twice, and a
//! Service that leads to a port by name finds nothing unless a container has a port of the name.

use serde_json::{Value, json};

/// Where a gateway says that it is ready.
const STATUS_PORT: u64 = 15021;
/// Where its metrics are, which the injector adds.
const METRICS: (u64, &str) = (15090, "http-envoy-prom");

/// Those that the ports of a Service lead to, and that of readiness.
pub(crate) fn of_container(service: &[Value]) -> Vec<Value> {
    let mut targets: Vec<Target<'_>> = Vec::new();
    let status = Target {
        number: STATUS_PORT,
        protocol: "TCP",
        name: None,
    };
    for target in service.iter().filter_map(Target::of).chain([status]) {
        let is_metrics = target.number == METRICS.0 && target.protocol == "TCP";
        let is_named = |name| name == METRICS.1 || targets.iter().any(|it| it.name == Some(name));
        if is_metrics || target.name.is_some_and(is_named) {
            continue;
        }
        match targets.iter_mut().find(|held| held.is_same(&target)) {
            Some(held) => held.name = held.name.or(target.name),
            None => targets.push(target),
        }
    }
    targets.iter().map(Target::manifest).collect()
}

/// A port that a Service leads to.
struct Target<'a> {
    number: u64,
    protocol: &'a str,
    name: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// A name stands for the number that clients ask for, as nobody says another.
    fn of(port: &'a Value) -> Option<Self> {
        let (target, own) = (&port["targetPort"], &port["port"]);
        Some(Self {
            number: target.as_u64().or(own.as_u64())?,
            protocol: port["protocol"].as_str().unwrap_or("TCP"),
            name: target.as_str(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.number, self.protocol) == (other.number, other.protocol)
    }

    fn manifest(&self) -> Value {
        let mut port = json!({"containerPort": self.number, "protocol": self.protocol});
        if let Some(name) = self.name {
            port["name"] = json!(name);
        }
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(service: Value, want: Value) {
        let ports = service.as_array().expect("a list");
        assert_eq!(Value::from(of_container(ports)), want);
    }

    #[test]
    fn each_port_is_there_once() {
        check(
            json!([
                {"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": 8080},
                {"port": 8080, "protocol": "UDP"}, {"port": 15021}, {"port": 15090},
            ]),
            json!([
                {"containerPort": 8080, "protocol": "TCP"},
                {"containerPort": 8080, "protocol": "UDP"},
                {"containerPort": 15021, "protocol": "TCP"},
            ]),
        );
    }

    #[test]
    fn a_name_leads_to_a_port() {
        check(
            json!([
                {"port": 80, "targetPort": 8080}, {"port": 8080, "targetPort": "web"},
                {"port": 90, "targetPort": "web"}, {"port": 91, "targetPort": "http-envoy-prom"},
            ]),
            json!([
                {"containerPort": 8080, "protocol": "TCP", "name": "web"},
                {"containerPort": 15021, "protocol": "TCP"},
            ]),
        );
    }
}
