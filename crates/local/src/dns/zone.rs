//! The names of the cluster, as Kubernetes' DNS specification 1.1.0 has them.

use std::net::IpAddr;

use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, PTR, SRV},
    },
};

use crate::cluster::{ClusterService, Services};

/// The cluster's domain.
const DOMAIN: &str = "cluster.local";
/// Seconds that an answer may be kept. Short, as pods come and go.
const TTL: u32 = 5;

/// What is known of a name.
pub(super) struct Found {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
}

/// The services, looked at as names.
pub(super) struct Zone<'a> {
    services: &'a Services,
}

impl<'a> Zone<'a> {
    pub(super) fn new(services: &'a Services) -> Self {
        Zone { services }
    }

    /// The answer for a name of the cluster; `None` when the name is somebody else's.
    pub(super) fn lookup(&self, name: &Name, kind: RecordType) -> Option<Found> {
        let text = name.to_ascii().to_ascii_lowercase();
        let text = text.trim_end_matches('.');
        if kind == RecordType::PTR {
            return self.reverse(name, text);
        }
        let rest = text.strip_suffix(DOMAIN)?;
        let labels: Vec<&str> = rest.trim_end_matches('.').rsplit('.').collect();
        let data = match labels[..] {
            ["svc", namespace, service] => self.service(namespace, service, kind),
            ["svc", namespace, service, "_tcp", port] => {
                self.ports(namespace, service, port, "TCP", kind)
            }
            ["svc", namespace, service, "_udp", port] => {
                self.ports(namespace, service, port, "UDP", kind)
            }
            ["svc", namespace, service, host] => self.host(namespace, service, host, kind),
            ["pod", _, dashed] => pod(dashed, kind),
            // Empty, not absent: there are names below.
            ["svc", _] | ["svc"] | [""] => Some(Vec::new()),
            _ => None,
        };
        Some(match data {
            Some(data) => Found {
                code: ResponseCode::NoError,
                records: records(name, data),
            },
            None => Found {
                code: ResponseCode::NXDomain,
                records: Vec::new(),
            },
        })
    }

    fn named(&self, namespace: &str, service: &str) -> Option<&ClusterService> {
        self.services
            .get(&(namespace.to_owned(), service.to_owned()))
    }

    fn service(&self, namespace: &str, name: &str, kind: RecordType) -> Option<Vec<RData>> {
        let service = self.named(namespace, name)?;
        if let Some(alias) = &service.alias {
            let target = Name::from_ascii(format!("{}.", alias.trim_end_matches('.'))).ok()?;
            return Some(vec![RData::CNAME(CNAME(target))]);
        }
        if service.addresses.is_empty() {
            return Some(addresses(pods(service).map(|(_, ip)| ip), kind));
        }
        Some(addresses(service.addresses.iter().copied(), kind))
    }

    /// `<hostname or dashed address>.<headless service>.…`.
    fn host(
        &self,
        namespace: &str,
        name: &str,
        host: &str,
        kind: RecordType,
    ) -> Option<Vec<RData>> {
        let service = self.named(namespace, name)?;
        let of_host: Vec<IpAddr> = pods(service)
            .filter(|(label, _)| label == host)
            .map(|(_, ip)| ip)
            .collect();
        (!of_host.is_empty()).then(|| addresses(of_host.into_iter(), kind))
    }

    /// `_port._protocol.<service>.…`.
    fn ports(
        &self,
        namespace: &str,
        name: &str,
        port: &str,
        protocol: &str,
        kind: RecordType,
    ) -> Option<Vec<RData>> {
        let service = self.named(namespace, name)?;
        let wanted = port.strip_prefix('_')?;
        let port = service.ports.iter().find(|candidate| {
            candidate.name.as_deref() == Some(wanted)
                && candidate.protocol.as_deref().unwrap_or("TCP") == protocol
        })?;
        if kind != RecordType::SRV {
            return Some(Vec::new());
        }
        let target = |host: &str, number: u16| {
            let name = Name::from_ascii(format!("{host}{name}.{namespace}.svc.{DOMAIN}."));
            name.ok()
                .map(|name| RData::SRV(SRV::new(0, 100, number, name)))
        };
        if service.addresses.is_empty() {
            let backends = service.backends(port);
            let host = |ip: IpAddr| {
                pods(service)
                    .find(|(_, of)| *of == ip)
                    .map(|(label, _)| label)
            };
            let named = backends
                .into_iter()
                .filter_map(|(ip, number)| Some((host(ip)?, number)));
            return Some(
                named
                    .filter_map(|(host, number)| target(&format!("{host}."), number))
                    .collect(),
            );
        }
        Some(
            target("", u16::try_from(port.port).ok()?)
                .into_iter()
                .collect(),
        )
    }

    fn reverse(&self, name: &Name, text: &str) -> Option<Found> {
        let address = text.strip_suffix(".in-addr.arpa")?;
        let octets: Vec<&str> = address.rsplit('.').collect();
        let ip: IpAddr = octets.join(".").parse().ok()?;
        let service = self
            .services
            .values()
            .find(|service| service.addresses.contains(&ip))?;
        let target = format!("{}.{}.svc.{DOMAIN}.", service.name, service.namespace);
        let data = vec![RData::PTR(PTR(Name::from_ascii(target).ok()?))];
        Some(Found {
            code: ResponseCode::NoError,
            records: records(name, data),
        })
    }
}

/// Ready endpoints with their host names; an address stands for itself where there is none.
fn pods(service: &ClusterService) -> impl Iterator<Item = (String, IpAddr)> + '_ {
    let endpoints = service.slices.iter().flat_map(|(_, endpoints)| endpoints);
    endpoints
        .filter(|endpoint| service.serves(endpoint))
        .flat_map(|endpoint| {
            endpoint.addresses.iter().filter_map(|text| {
                let ip: IpAddr = text.parse().ok()?;
                Some((endpoint.hostname.clone().unwrap_or_else(|| dashed(ip)), ip))
            })
        })
}

fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// `10-244-0-5.<namespace>.pod.…` is the address that it says.
fn pod(dashed: &str, kind: RecordType) -> Option<Vec<RData>> {
    let ip = dashed.replace('-', ".").parse().ok()?;
    Some(addresses(std::iter::once(ip), kind))
}

fn addresses(ips: impl Iterator<Item = IpAddr>, kind: RecordType) -> Vec<RData> {
    ips.filter_map(|ip| match (ip, kind) {
        (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(ip))),
        (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(ip))),
        _ => None,
    })
    .collect()
}

fn records(name: &Name, data: Vec<RData>) -> Vec<Record> {
    data.into_iter()
        .map(|data| Record::from_rdata(name.clone(), TTL, data))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn services() -> Services {
        let slices = vec![(
            serde_json::from_value(json!([{"name": "http", "port": 8080}])).unwrap(),
            serde_json::from_value(json!([
                {"addresses": ["10.244.0.2"], "hostname": "db-0"},
                {"addresses": ["10.244.0.3"]},
            ]))
            .unwrap(),
        )];
        let ports: Vec<_> = serde_json::from_value(json!([{"name": "http", "port": 80}])).unwrap();
        let plain = ClusterService {
            namespace: "n".into(),
            name: "web".into(),
            addresses: vec!["10.96.0.9".parse().unwrap()],
            ports: ports.clone(),
            ..ClusterService::default()
        };
        let headless = ClusterService {
            namespace: "n".into(),
            name: "db".into(),
            ports,
            slices,
            ..ClusterService::default()
        };
        let alias = ClusterService {
            namespace: "n".into(),
            name: "out".into(),
            alias: Some("example.com".into()),
            ..ClusterService::default()
        };
        let all = [plain, headless, alias];
        all.into_iter()
            .map(|s| ((s.namespace.clone(), s.name.clone()), s))
            .collect()
    }

    fn ask(name: &str, kind: RecordType) -> Option<(ResponseCode, Vec<String>)> {
        let name = Name::from_ascii(name).unwrap();
        let found = Zone::new(&services()).lookup(&name, kind)?;
        let mut data: Vec<String> = found
            .records
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        data.sort();
        Some((found.code, data))
    }

    fn check(name: &str, kind: RecordType, expect: &[&str]) {
        let expect = (
            ResponseCode::NoError,
            expect.iter().map(|s| (*s).to_owned()).collect(),
        );
        assert_eq!(ask(name, kind), Some(expect), "{name} {kind}");
    }

    #[test]
    fn names_of_the_cluster_are_answered() {
        check("web.n.svc.cluster.local.", RecordType::A, &["10.96.0.9"]);
        check("WEB.n.svc.cluster.local.", RecordType::A, &["10.96.0.9"]);
        check("web.n.svc.cluster.local.", RecordType::AAAA, &[]);
        check(
            "db.n.svc.cluster.local.",
            RecordType::A,
            &["10.244.0.2", "10.244.0.3"],
        );
        check(
            "db-0.db.n.svc.cluster.local.",
            RecordType::A,
            &["10.244.0.2"],
        );
        check(
            "10-244-0-3.db.n.svc.cluster.local.",
            RecordType::A,
            &["10.244.0.3"],
        );
        check("out.n.svc.cluster.local.", RecordType::A, &["example.com."]);
        check(
            "10-244-0-7.n.pod.cluster.local.",
            RecordType::A,
            &["10.244.0.7"],
        );
        check(
            "_http._tcp.web.n.svc.cluster.local.",
            RecordType::SRV,
            &["0 100 80 web.n.svc.cluster.local."],
        );
        check(
            "9.0.96.10.in-addr.arpa.",
            RecordType::PTR,
            &["web.n.svc.cluster.local."],
        );
    }

    #[test]
    fn what_is_not_there_is_said_so() {
        for name in [
            "nobody.n.svc.cluster.local.",
            "x.db.n.svc.cluster.local.",
            "a.cluster.local.",
        ] {
            let expect = Some((ResponseCode::NXDomain, Vec::new()));
            assert_eq!(ask(name, RecordType::A), expect, "{name}");
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        assert_eq!(ask("example.com.", RecordType::A), None);
        assert_eq!(ask("1.2.3.4.in-addr.arpa.", RecordType::PTR), None);
    }
}
