//! Telemetry: providers, and which workloads it is for.

use super::{
    Code, Findings,
    index::Index,
    object::{list, text, texts},
    sidecar::{OneOf, one_each},
};

/// Providers that a mesh has without saying so.
const BUILT_IN: [&str; 3] = ["prometheus", "stackdriver", "envoy"];

/// Two for one workload.
pub(super) fn selectors<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let of = OneOf {
        kind: "Telemetry",
        selector: |spec| &spec["selector"]["matchLabels"],
        field: "spec.selector.matchLabels",
        same_pod: Code::ConflictingTelemetryWorkloadSelectors,
        same_namespace: Code::MultipleTelemetriesWithoutWorkloadSelectors,
    };
    one_each(index, &of, findings);
}

/// Access logs that go nowhere.
pub(super) fn providers<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let mesh = &index.settings.mesh;
    let has_default = texts(&mesh["defaultProviders"]["accessLogging"])
        .next()
        .is_some();
    let known = |name: &str| {
        let mut providers = list(&mesh["extensionProviders"]).iter();
        BUILT_IN.contains(&name) || providers.any(|provider| provider["name"] == name)
    };
    for object in index.of("Telemetry") {
        for (n, logging) in list(&object.spec()["accessLogging"]).iter().enumerate() {
            let at = format!("spec.accessLogging[{n}].providers");
            let names: Vec<_> = list(&logging["providers"])
                .iter()
                .map(|of| text(&of["name"]))
                .collect();
            let what = match names.iter().find(|name| !known(name)) {
                None if !names.is_empty() || has_default => continue,
                None => format!(
                    "Telemetry {:?} names no provider of access logs, and the mesh has none by default: \
                     it has no effect",
                    object.key()
                ),
                Some(name) => format!(
                    "Telemetry {:?} names provider {name:?}, which is not among the mesh's \
                     extensionProviders",
                    object.key()
                ),
            };
            findings.add(object, Code::InvalidTelemetryProvider, &at, what);
        }
    }
}

/// Tracing by a provider that proxies no longer have.
pub(super) fn lightstep<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    let providers = list(&index.settings.mesh["extensionProviders"]).iter();
    let old: Vec<_> = providers
        .filter(|provider| !provider["lightstep"].is_null())
        .map(|provider| text(&provider["name"]))
        .collect();
    for object in index.of("Telemetry") {
        for (n, tracing) in list(&object.spec()["tracing"]).iter().enumerate() {
            let mut names = list(&tracing["providers"])
                .iter()
                .map(|of| text(&of["name"]));
            if let Some(name) = names.find(|name| old.contains(name)) {
                let what = format!(
                    "provider {name:?} is of kind lightstep, which is no longer there; use opentelemetry"
                );
                findings.add(
                    object,
                    Code::Deprecated,
                    &format!("spec.tracing[{n}].providers"),
                    what,
                );
            }
        }
    }
}
