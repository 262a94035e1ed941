//! ServiceEntries: addresses and protocols of their ports.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Code, Findings,
    index::{Index, exported},
    object::{Obj, list, text, texts},
};

/// What is told apart by address alone must have one.
pub(super) fn addresses<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let is_on = |name: &str| index.proxy_metadata(name) == "true";
    // Proxies that answer names give hosts addresses of their own.
    if is_on("ISTIO_META_DNS_CAPTURE") && is_on("ISTIO_META_DNS_AUTO_ALLOCATE") {
        return;
    }
    for object in index.of("ServiceEntry") {
        if !list(&object.spec()["addresses"]).is_empty() {
            continue;
        }
        for (n, port) in list(&object.spec()["ports"]).iter().enumerate() {
            let protocol = text(&port["protocol"]);
            if protocol.is_empty() || protocol.eq_ignore_ascii_case("tcp") {
                let what = "without addresses, connections to a TCP port are taken as meant for it \
                            whatever host they go to; add spec.addresses, or name the protocol";
                let field = format!("spec.ports[{n}].protocol");
                findings.add(object, Code::ServiceEntryAddressesRequired, &field, what);
            }
        }
    }
}

/// An object, the protocol that it says a port has, and where it does.
type Claim<'a> = (Obj<'a>, String, String);

/// One port of one host with two protocols.
pub(super) fn protocols<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let mut held: BTreeMap<(String, u64), Vec<Claim<'a>>> = BTreeMap::new();
    for object in index.of("ServiceEntry") {
        for host in texts(&object.spec()["hosts"]) {
            for (n, port) in list(&object.spec()["ports"]).iter().enumerate() {
                let Some(number) = port["number"].as_u64() else {
                    continue;
                };
                let protocol = text(&port["protocol"]).to_ascii_uppercase();
                let claim = (*object, protocol, format!("spec.ports[{n}].protocol"));
                held.entry((host.to_ascii_lowercase(), number))
                    .or_default()
                    .push(claim);
            }
        }
    }
    for ((host, number), claims) in held {
        for (object, protocol, field) in &claims {
            let export = exported(object);
            let against = claims.iter().filter(|(other, spoken, _)| {
                let meets = || export.meets(object.namespace, &exported(other), other.namespace);
                !other.is(object) && spoken != protocol && meets()
            });
            let against: Vec<_> = against.collect();
            if against.is_empty() {
                continue;
            }
            let names: BTreeSet<_> = against.iter().map(|(other, ..)| other.key()).collect();
            let names: Vec<_> = names.into_iter().chain([object.key()]).collect();
            let spoken: BTreeSet<_> = against
                .iter()
                .map(|(_, spoken, _)| spoken.as_str())
                .collect();
            let spoken: Vec<_> = spoken.into_iter().chain([protocol.as_str()]).collect();
            let what = format!(
                "ServiceEntries {} say of port {number} of host {host:?} that it speaks {}; one of them \
                 is taken",
                names.join(", "),
                spoken.join(", "),
            );
            findings.add(object, Code::ConflictingServiceEntryProtocol, field, what);
        }
    }
}
