//! Whether a client and the servers that it calls agree on TLS.

use lateen_api::networking::ClientTlsMode;
use lateen_core::{Labels, ObjectRef, Protocol};
use lateen_pilot::{ClusterTrace, Offline};
use lateen_registry::{Service, ServicePort, TargetPort};
use lateen_xds::names::ClusterName;

use super::{seen, tls_mode};
use crate::platform::{Caller, Platform};

/// One port of a service, as a client reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsCheck {
    /// The service's full name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether both sides agree.
    pub status: Agreement,
    /// What servers take: `STRICT`, `PERMISSIVE`, `DISABLE`, or several of these.
    pub server: String,
    /// What the client speaks.
    pub client: ClientTlsMode,
    /// What says what servers take; `None` where nothing does.
    pub policy: Option<ObjectRef>,
    /// What says what the client speaks; `None` where it goes by what servers take.
    pub rule: Option<ObjectRef>,
}

/// Whether two sides agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// No rule says what the client speaks, so it is what servers take.
    Auto,
    /// They do.
    Ok,
    /// They do not: connections fail.
    Conflict,
}

impl Agreement {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Agreement::Auto => "AUTO",
            Agreement::Ok => "OK",
            Agreement::Conflict => "CONFLICT",
        }
    }
}

impl Platform {
    /// What a workload speaks to each port of each service that it sees, sorted.
    pub fn tls_checks(&self, client: &Caller) -> Vec<TlsCheck> {
        let offline = self.offline(client);
        let seen = seen(&offline);
        let services = self.world.services.values();
        let ports =
            services.flat_map(|service| service.ports.iter().map(move |port| (service, port)));
        let connections = ports.filter(|(_, port)| port.protocol != Protocol::Udp);
        let mut checks: Vec<TlsCheck> = connections
            .filter_map(|(service, port)| {
                let host = service.hostname.as_str();
                let name = ClusterName::outbound(port.port, "", host).to_string();
                let trace = offline
                    .trace_cluster(&name)
                    .filter(|_| seen.contains(&name))?;
                Some(self.tls_check(&offline, &trace, service, port))
            })
            .collect();
        checks.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        checks
    }

    fn tls_check(
        &self,
        offline: &Offline,
        trace: &ClusterTrace,
        service: &Service,
        port: &ServicePort,
    ) -> TlsCheck {
        let servers = self.servers(offline, service, port);
        let mut modes: Vec<&str> = servers.iter().map(|server| server.mode).collect();
        modes.sort_unstable();
        modes.dedup();
        let mut settings = trace.settings.iter();
        let said = settings.find_map(|(what, by)| {
            let rule = self
                .destination_rule(&by.object)
                .filter(|_| *what == "tls")?;
            Some((tls_mode(rule, &by.field)?, by.object.clone()))
        });
        let takes_mutual = !modes.contains(&"DISABLE");
        let (client, rule, status) = match said {
            Some((client, rule)) => (client, Some(rule), agreement(client, &modes)),
            None if takes_mutual => (ClientTlsMode::IstioMutual, None, Agreement::Auto),
            None => (ClientTlsMode::Disable, None, Agreement::Auto),
        };
        TlsCheck {
            host: service.hostname.to_string(),
            port: port.port,
            status,
            server: modes.join("/"),
            client,
            policy: servers.into_iter().find_map(|server| server.policy),
            rule,
        }
    }

    /// What each server of a port takes; where there is none, what one without labels would.
    fn servers(&self, offline: &Offline, service: &Service, port: &ServicePort) -> Vec<Server> {
        let endpoints = self.world.endpoints(&service.id(), &port.name);
        let each = endpoints.iter().map(|endpoint| {
            if !endpoint.mtls {
                // Without a proxy of the mesh no policy counts.
                return Server {
                    mode: "DISABLE",
                    policy: None,
                };
            }
            Server::of(
                offline,
                &endpoint.namespace,
                &endpoint.labels,
                endpoint.port,
            )
        });
        let each: Vec<Server> = each.collect();
        if !each.is_empty() {
            return each;
        }
        if service.external {
            return vec![Server {
                mode: "DISABLE",
                policy: None,
            }];
        }
        let number = match &port.target_port {
            TargetPort::Number(number) => *number,
            TargetPort::Name(_) => port.port,
        };
        vec![Server::of(
            offline,
            &service.namespace,
            &Labels::default(),
            number,
        )]
    }
}

struct Server {
    mode: &'static str,
    policy: Option<ObjectRef>,
}

impl Server {
    fn of(offline: &Offline, namespace: &str, labels: &Labels, port: u16) -> Server {
        let said = offline.trace_tls_of(namespace, labels, port);
        let mode = said.as_ref().map(|(what, _)| *what);
        Server {
            mode: mode.map_or_else(
                || offline.unsaid_tls(),
                |what| what.strip_prefix("mutual TLS ").unwrap_or(what),
            ),
            policy: said.map(|(_, by)| by.object),
        }
    }
}

/// Only the mesh's own TLS is taken where it is required, and nowhere else where it is turned off.
fn agreement(client: ClientTlsMode, servers: &[&str]) -> Agreement {
    let refused = match client {
        ClientTlsMode::IstioMutual => "DISABLE",
        ClientTlsMode::Disable | ClientTlsMode::Simple | ClientTlsMode::Mutual => "STRICT",
    };
    match servers.contains(&refused) {
        true => Agreement::Conflict,
        false => Agreement::Ok,
    }
}

#[cfg(test)]
mod tests {
    use lateen_registry::Documents;

    use super::*;

    const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: default}
spec: {template: {metadata: {labels: {app: shop}}, spec: {containers: [{name: c}]}}}
";

    const MUTUAL: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'authPolicy: MUTUAL_TLS'}
";

    fn policy(mode: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: all, namespace: default}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        )
    }

    fn rule(mode: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: own, namespace: default}}\n\
             spec: {{host: shop, trafficPolicy: {{tls: {{mode: {mode}}}}}}}\n"
        )
    }

    #[test]
    fn what_each_side_says_decides() {
        let check = |texts: &[String], expect: (&str, &str, &str, bool, bool)| {
            let first = std::iter::once(SHOP.to_owned()).chain(texts.iter().cloned());
            let all: Vec<Documents> = first.map(|text| Documents::file("f", text)).collect();
            let platform = Platform::read(&all, "cluster.local").expect("valid");
            let caller = platform.caller("shop").expect("a pod");
            let checks = platform.tls_checks(&caller);
            let anybody = platform.anybody("default").expect("a client");
            assert_eq!(platform.tls_checks(&anybody), checks, "{texts:?}");
            let [told] = &checks[..] else {
                panic!("{checks:?}")
            };
            assert_eq!(
                (&*told.host, told.port),
                ("shop.default.svc.cluster.local", 80)
            );
            let found = (
                told.status.as_str(),
                &*told.server,
                told.client.as_str(),
                told.policy.is_some(),
                told.rule.is_some(),
            );
            assert_eq!(found, expect, "{texts:?}");
        };
        check(&[], ("AUTO", "PERMISSIVE", "ISTIO_MUTUAL", false, false));
        check(
            &[MUTUAL.to_owned()],
            ("AUTO", "STRICT", "ISTIO_MUTUAL", false, false),
        );
        check(
            &[MUTUAL.to_owned(), rule("DISABLE")],
            ("CONFLICT", "STRICT", "DISABLE", false, true),
        );
        let strict = policy("STRICT");
        check(
            std::slice::from_ref(&strict),
            ("AUTO", "STRICT", "ISTIO_MUTUAL", true, false),
        );
        check(
            &[policy("DISABLE")],
            ("AUTO", "DISABLE", "DISABLE", true, false),
        );
        check(
            &[strict.clone(), rule("ISTIO_MUTUAL")],
            ("OK", "STRICT", "ISTIO_MUTUAL", true, true),
        );
        check(
            &[strict, rule("DISABLE")],
            ("CONFLICT", "STRICT", "DISABLE", true, true),
        );
        check(
            &[policy("DISABLE"), rule("ISTIO_MUTUAL")],
            ("CONFLICT", "DISABLE", "ISTIO_MUTUAL", true, true),
        );
        check(
            &[rule("DISABLE")],
            ("OK", "PERMISSIVE", "DISABLE", false, true),
        );
    }
}
