//! The route tables of a gateway: hosts that its servers and VirtualServices have in common.

use std::collections::BTreeMap;

use lateen_core::Hostname;

use super::{Bound, Role};
use crate::route::{GatewayHost, HostKind, Table, VirtualHostKey};
use crate::shared::Shared;
use crate::snapshot::HostedVirtualService;
use crate::view::View;

impl<'a> View<'a> {
    pub(in crate::view) fn gateway_routes(self, table: &str) -> Option<Table> {
        let bound: Vec<_> = self
            .bound()
            .into_iter()
            .filter(|b| matches!(b.role(), Role::Http | Role::Https) && b.routes() == table)
            .collect();
        let port = bound.first()?.port;
        let mut hosts: BTreeMap<String, HostRules<'a>> = BTreeMap::new();
        for bound in &bound {
            self.add_hosts(bound, &mut hosts);
        }
        let served: Vec<String> = hosts.keys().cloned().collect();
        let answers = self.misdirected(&bound, &served);
        // Hosts that another listener has are not this one's, whatever its routes say.
        hosts.retain(|host, _| {
            let host = Hostname::new(host);
            !answers
                .iter()
                .any(|answer| answer.is_elsewhere(&host, &bound[0].hosts()))
        });
        let hosts = hosts.into_iter().map(|(host, found)| {
            let rules = || found.rules.iter().map(|(_, hosted)| *hosted);
            HostKind::Gateway(GatewayHost {
                port,
                host,
                targets: self.targets(rules(), None),
                client: self.client(rules()),
                rules: found
                    .rules
                    .iter()
                    .map(|(gateway, hosted)| (gateway.clone(), Shared::of(&hosted.object)))
                    .collect(),
                https_only: found.https_only,
            })
        });
        let mut kinds: Vec<_> = hosts.collect();
        kinds.extend(answers.into_iter().map(HostKind::Answer));
        if kinds.is_empty() {
            kinds.push(HostKind::Nothing { port });
        }
        let host = |kind| VirtualHostKey {
            table: table.to_owned(),
            kind,
        };
        Some(Table {
            name: table.to_owned(),
            port,
            by_port: false,
            hosts: kinds.into_iter().map(host).collect(),
        })
    }

    fn add_hosts(self, bound: &Bound<'a>, hosts: &mut BTreeMap<String, HostRules<'a>>) {
        let name = bound.name();
        for hosted in self.bound_rules(&name) {
            if hosted.object.spec.http.is_empty() {
                continue;
            }
            for host in hosted
                .hosts
                .iter()
                .flat_map(|host| bound.common(hosted, host))
            {
                let rules = hosts.entry(host.to_string()).or_default();
                rules.https_only |= bound.https_only();
                let known = rules.rules.iter().any(|(_, r)| std::ptr::eq(*r, hosted));
                if !known {
                    rules.rules.push((name.clone(), hosted));
                }
            }
        }
        if bound.https_only() {
            for host in bound.hosts() {
                hosts.entry(host.to_string()).or_default().https_only = true;
            }
        }
    }
}

#[derive(Default)]
struct HostRules<'a> {
    rules: Vec<(String, &'a HostedVirtualService)>,
    https_only: bool,
}
