//! What changes for objects when the control plane of an older Istio gives way to this one. Names of
//! settings and the releases that changed them are Istio's; whoever comes from an earlier release had
//! the other behaviour.

use serde_json::Value;

use super::{
    Code, Findings,
    index::Index,
    object::{Obj, list, text},
};

/// Something that is otherwise here.
struct Change {
    /// Istio's name of the setting.
    field: &'static str,
    /// Minor releases of Istio 1 from which it is otherwise.
    from: std::ops::RangeInclusive<u32>,
    /// Whose objects it may concern.
    kind: &'static str,
    /// What is otherwise, and what to do.
    what: &'static str,
    concerns: fn(&Index<'_>, &Obj<'_>) -> bool,
}

const EVER: u32 = u32::MAX;

const CHANGES: [Change; 7] = [
    Change {
        field: "ENABLE_EXTERNAL_NAME_ALIAS",
        from: 0..=20,
        kind: "Service",
        what: "a Service of type ExternalName was one of its own; it is another name of the service \
               that it names now, and rules for its own ports have no effect",
        concerns: |_, object| object.spec()["type"] == "ExternalName",
    },
    Change {
        field: "ENABLE_AUTO_SNI",
        from: 0..=20,
        kind: "DestinationRule",
        what: "TLS without `sni` had no server name; it has that of the request now: set `sni` where the \
               server wants another",
        concerns: |_, object| originated(object).any(|tls| text(&tls["sni"]).is_empty()),
    },
    Change {
        field: "PERSIST_OLDEST_FIRST_HEURISTIC_FOR_VIRTUAL_SERVICE_HOST_MATCHING",
        from: 0..=20,
        kind: "VirtualService",
        what: "of hosts with wildcards that cover each other the oldest object won; the longest wildcard \
               wins now",
        concerns: |_, object| {
            let mut hosts = list(&object.spec()["hosts"]).iter();
            hosts.any(|host| text(host).starts_with('*'))
        },
    },
    Change {
        field: "ENHANCED_RESOURCE_SCOPING",
        from: 0..=21,
        kind: "Namespace",
        what: "the mesh's objects counted also in namespaces that `discoverySelectors` do not select; they \
               have no effect there now",
        concerns: |index, object| {
            !list(&index.settings.mesh["discoverySelectors"]).is_empty()
                && object.name == index.settings.root_namespace
        },
    },
    Change {
        field: "meshConfig.defaultConfig.tracer",
        from: 0..=21,
        kind: "Service",
        what: "proxies sent their traces to zipkin by themselves; they do not now",
        concerns: |index, object| {
            object.name == "zipkin" && object.namespace == index.settings.root_namespace
        },
    },
    Change {
        field: "VERIFY_CERTIFICATE_AT_CLIENT",
        from: 21..=EVER,
        kind: "DestinationRule",
        what: "TLS without `caCertificates` held the server's certificate against the system's roots; here \
               nothing verifies it: set `caCertificates`",
        concerns: |_, object| originated(object).any(is_unverified),
    },
    Change {
        field: "ENABLE_RESOLUTION_NONE_TARGET_PORT",
        from: 22..=EVER,
        kind: "ServiceEntry",
        what: "a `targetPort` beside resolution NONE led there; here connections keep the port that they \
               were made to",
        concerns: |_, object| {
            let spec = object.spec();
            let other = |port: &Value| {
                !port["targetPort"].is_null() && port["targetPort"] != port["number"]
            };
            matches!(text(&spec["resolution"]), "" | "NONE")
                && list(&spec["ports"]).iter().any(other)
        },
    },
];

/// Objects that do something else than they did.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let Some(from) = index.settings.from_minor else {
        return;
    };
    for change in CHANGES.iter().filter(|change| change.from.contains(&from)) {
        for object in index.of(change.kind) {
            if (change.concerns)(index, object) {
                let what = format!("{} since Istio 1.{from}: {}", change.field, change.what);
                findings.add(object, Code::UpdateIncompatibility, "", what);
            }
        }
    }
}

/// Settings of which it cannot be told whether they concern anything, where the objects of a kind may
/// not be read: their names, and what they change.
pub fn untold(from_minor: u32, kind: &str) -> Vec<String> {
    let own = CHANGES.iter();
    let own = own.filter(|change| change.kind == kind && change.from.contains(&from_minor));
    own.map(|change| {
        format!(
            "{} since Istio 1.{from_minor}: {}",
            change.field, change.what
        )
    })
    .collect()
}

/// Every TLS of a DestinationRule that is not the mesh's own.
fn originated<'a>(object: &Obj<'a>) -> impl Iterator<Item = &'a Value> + use<'a> {
    let spec = object.spec();
    let of_subsets = list(&spec["subsets"]).iter();
    let policies = of_subsets.map(|subset| &subset["trafficPolicy"]);
    let policies = policies.chain([&spec["trafficPolicy"]]);
    let all = policies.flat_map(|policy| {
        let of_ports = list(&policy["portLevelSettings"]).iter();
        of_ports.map(|port| &port["tls"]).chain([&policy["tls"]])
    });
    all.filter(|tls| matches!(text(&tls["mode"]), "SIMPLE" | "MUTUAL"))
}

fn is_unverified(tls: &Value) -> bool {
    text(&tls["caCertificates"]).is_empty()
        && text(&tls["credentialName"]).is_empty()
        && tls["insecureSkipVerify"] != true
}
