//! Annotations of the mesh: known ones, where they belong, and what they may say.

use lateen_api::annotations::{self as named, Says};
use serde_json::Value;

use super::{
    Code, Findings,
    index::Index,
    object::{Obj, entries, is_of_system, text},
};

/// Kinds that an annotation is for.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Pod,
    Service,
    Namespace,
    Ingress,
    Any,
}

struct Known {
    name: &'static str,
    on: &'static [On],
    /// What to write instead, of what is no longer used.
    old: &'static str,
}

const fn pod(name: &'static str) -> Known {
    on(name, &[On::Pod])
}

const fn on(name: &'static str, on: &'static [On]) -> Known {
    Known { name, on, old: "" }
}

const KNOWN: &[Known] = &[
    pod(named::STATUS),
    Known {
        old: "the label of the same name",
        ..pod(named::INJECT)
    },
    pod(named::REWRITE_PROBERS),
    pod(named::PROXY_IMAGE),
    pod(named::PROXY_IMAGE_TYPE),
    pod(named::PROXY_CPU),
    pod(named::PROXY_CPU_LIMIT),
    pod(named::PROXY_MEMORY),
    pod(named::PROXY_MEMORY_LIMIT),
    pod(named::INTERCEPTION_MODE),
    pod(named::BOOTSTRAP_OVERRIDE),
    pod("sidecar.istio.io/statsHistogramBuckets"),
    pod("sidecar.istio.io/statsFlushInterval"),
    pod("sidecar.istio.io/statsEvictionInterval"),
    pod("sidecar.istio.io/statsInclusionPrefixes"),
    pod("sidecar.istio.io/statsInclusionSuffixes"),
    pod("sidecar.istio.io/statsInclusionRegexps"),
    pod("sidecar.istio.io/extraStatTags"),
    Known {
        old: "the annotation proxy.istio.io/config",
        ..pod("sidecar.istio.io/discoveryAddress")
    },
    pod("sidecar.istio.io/capNetBindService"),
    pod(named::USER_VOLUME),
    pod(named::USER_VOLUME_MOUNT),
    pod(named::LOG_LEVEL),
    pod(named::COMPONENT_LOG_LEVEL),
    pod(named::AGENT_LOG_LEVEL),
    pod(named::NATIVE_SIDECAR),
    pod(named::INCLUDE_OUTBOUND_IP_RANGES),
    pod(named::EXCLUDE_OUTBOUND_IP_RANGES),
    pod(named::INCLUDE_INBOUND_PORTS),
    pod(named::EXCLUDE_INBOUND_PORTS),
    pod(named::INCLUDE_OUTBOUND_PORTS),
    pod(named::EXCLUDE_OUTBOUND_PORTS),
    pod(named::EXCLUDE_INTERFACES),
    Known {
        old: "istio.io/reroute-virtual-interfaces",
        ..pod(named::KUBEVIRT_INTERFACES)
    },
    pod(named::REROUTE_VIRTUAL_INTERFACES),
    pod(named::STATUS_PORT),
    pod(named::READINESS_INITIAL_DELAY),
    pod(named::READINESS_PERIOD),
    pod(named::READINESS_FAILURE),
    pod(named::READINESS_PORTS),
    pod(named::PROXY_CONFIG),
    pod(named::PROXY_OVERRIDES),
    pod(named::TEMPLATES),
    pod(named::MERGE_METRICS),
    pod("ambient.istio.io/redirection"),
    pod("ambient.istio.io/bypass-inbound-capture"),
    pod("ambient.istio.io/dns-capture"),
    on(named::REVISION, &[On::Pod, On::Namespace]),
    on(named::EXPORT_TO, &[On::Service]),
    on(
        "networking.istio.io/traffic-distribution",
        &[On::Service, On::Namespace],
    ),
    on("networking.istio.io/service-type", &[On::Any]),
    on("networking.istio.io/address-type", &[On::Any]),
    on(named::SERVICE_ACCOUNTS, &[On::Service]),
    on("alpha.istio.io/canonical-serviceaccounts", &[On::Service]),
    on("traffic.istio.io/nodeSelector", &[On::Service]),
    on("topology.istio.io/controlPlaneClusters", &[On::Namespace]),
    on("galley.istio.io/analyze-suppress", &[On::Any]),
    on("istio.io/dry-run", &[On::Any]),
    on("gateway.istio.io/controller-version", &[On::Any]),
    on("gateway.istio.io/name-override", &[On::Any]),
    on("gateway.istio.io/service-account", &[On::Any]),
    on("install.operator.istio.io/chart-owner", &[On::Any]),
    on("install.operator.istio.io/owner-generation", &[On::Any]),
    on("install.operator.istio.io/version", &[On::Any]),
];

/// Kinds whose pods are looked at where their template is.
const TEMPLATES: [&str; 6] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "Job",
    "Pod",
];

/// Whether the mesh reads an annotation.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

/// Annotations of everything that the mesh reads some of.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for (kind, on) in [
        ("Namespace", On::Namespace),
        ("Service", On::Service),
        ("Ingress", On::Ingress),
    ] {
        for object in index.of(kind) {
            let of = &object.written.value["metadata"]["annotations"];
            annotations(index, object, of, "metadata", on, findings);
        }
    }
    for (_, workload) in index.workloads() {
        let object = &workload.object;
        if !TEMPLATES.contains(&object.kind) || workload.is_owned() {
            continue;
        }
        let at = if workload.is_pod() {
            "metadata"
        } else {
            "spec.template.metadata"
        };
        annotations(
            index,
            object,
            &workload.meta["annotations"],
            at,
            On::Pod,
            findings,
        );
        if !workload.is_pod() {
            let own = &object.written.value["metadata"]["annotations"];
            annotations(index, object, own, "metadata", On::Any, findings);
        }
    }
}

/// `On::Any` stands for what has no pods of its own: a Deployment, not its template.
fn annotations<'a>(
    index: &Index<'a>,
    object: &Obj<'a>,
    all: &Value,
    at: &str,
    place: On,
    findings: &mut Findings<'a>,
) {
    if is_of_system(object.namespace, &index.settings.root_namespace) {
        return;
    }
    for (name, value) in entries(all).filter(|(name, _)| is_of_mesh(name)) {
        let field = format!("{at}.annotations[{name}]");
        let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
            let what = format!("Unknown annotation: {name}: nothing reads it");
            findings.add(object, Code::UnknownAnnotation, &field, what);
            continue;
        };
        if !known.on.contains(&On::Any) && !known.on.contains(&place) {
            let what = format!(
                "Misplaced annotation: {name}: {} there, it has no effect",
                misplaced(known, place, object)
            );
            findings.add(object, Code::MisplacedAnnotation, &field, what);
            continue;
        }
        if let Some(fault) = Says::of(name).fault(text(value)) {
            let what = format!("Invalid annotation {name}: {fault}");
            findings.add(object, Code::InvalidAnnotation, &field, what);
        }
        if !known.old.is_empty() {
            let what = format!("Annotation {name:?} is old; write {} instead", known.old);
            findings.add(object, Code::DeprecatedAnnotation, &field, what);
        }
    }
}

fn misplaced(known: &Known, place: On, object: &Obj<'_>) -> String {
    let of_pods = known.on.contains(&On::Pod) && place == On::Any;
    match of_pods {
        true => format!(
            "it belongs to the pods of the {}, under spec.template.metadata;",
            object.kind
        ),
        false => {
            let kinds = known.on.iter().map(|on| match on {
                On::Pod => "pods",
                On::Service => "Services",
                On::Namespace => "Namespaces",
                On::Ingress => "Ingresses",
                On::Any => "all kinds",
            });
            format!(
                "it is for {} and not for {}s;",
                kinds.collect::<Vec<_>>().join(" and "),
                object.kind
            )
        }
    }
}

/// Whether a name is the mesh's. What it writes for itself is not judged.
fn is_of_mesh(name: &str) -> bool {
    let domain = name.split_once('/').map_or("", |(domain, _)| domain);
    let is = domain == "istio.io" || domain.ends_with(".istio.io");
    is && !domain.ends_with("internal.istio.io") && domain != "operator.istio.io"
}
