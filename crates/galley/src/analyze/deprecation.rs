//! Fields of old.

use super::{Code, Findings, index::Index};
use crate::unsupported::places;

/// Kind, field, and what to write instead.
const OLD: &[(&str, &str, &str)] = &[
    ("VirtualService", "http[].fault.delay.percent", "percentage"),
    ("VirtualService", "http[].fault.abort.percent", "percentage"),
    ("VirtualService", "http[].mirrorPercent", "mirrorPercentage"),
    (
        "VirtualService",
        "http[].mirror_percent",
        "mirrorPercentage",
    ),
    (
        "VirtualService",
        "http[].corsPolicy.allowOrigin",
        "allowOrigins",
    ),
    (
        "VirtualService",
        "http[].appendHeaders",
        "headers.request.add",
    ),
    (
        "VirtualService",
        "http[].websocketUpgrade",
        "nothing, it is always on",
    ),
    (
        "DestinationRule",
        "BLOCK.outlierDetection.consecutiveErrors",
        "consecutive5xxErrors",
    ),
    (
        "DestinationRule",
        "BLOCK.loadBalancer.warmupDurationSecs",
        "warmup.duration",
    ),
    (
        "Sidecar",
        "outboundTrafficPolicy.egressProxy",
        "egress listeners or a VirtualService",
    ),
];

/// Names of policies of load balancing that are called otherwise now.
const LEAST_CONN: &str = "BLOCK.loadBalancer.simple";

/// Fields that are set and old.
pub(super) fn check<'a>(index: &Index<'a>, findings: &mut Findings<'a>) {
    for (kind, path, instead) in OLD {
        for object in index.of(kind) {
            for at in places(object.spec(), path) {
                let what = format!("{at} is old; write {instead} instead");
                findings.add(object, Code::Deprecated, &at, what);
            }
        }
    }
    for object in index.of("DestinationRule") {
        for at in places(object.spec(), LEAST_CONN) {
            let pointer = at.replace(['.', '['], "/").replace(']', "");
            let value = object.written.value.pointer(&format!("/{pointer}"));
            if value.is_some_and(|value| value == "LEAST_CONN") {
                let what = format!("{at}: LEAST_CONN is old; write LEAST_REQUEST instead");
                findings.add(object, Code::Deprecated, &at, what);
            }
        }
    }
}
