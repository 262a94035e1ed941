//! Adds the sidecar to pods: by a webhook when they are made, or to files ahead of that.
//!
//! Pods are handled as JSON, so that what this version of Kubernetes' types does not know passes
//! through untouched.

mod decision;
mod kube_inject;
mod merge;
mod params;
mod probes;
mod prometheus;
mod proxy_config;
mod template;
mod values;
mod webhook;

pub use decision::{Decision, decide};
pub use kube_inject::{KubeInjectError, inject_document, kube_inject};
pub use params::{Owner, Params};
pub use template::{inject, inject_gateway};
pub use webhook::{Counters, router};
