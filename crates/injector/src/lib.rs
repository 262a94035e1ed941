//! Adds the sidecar to pods: by a webhook when they are made, or to files ahead of that.
//!
//! Pods are handled as JSON, so that what this version of Kubernetes' types does not know passes
//! through untouched.

mod checks;
mod config;
mod custom;
mod decision;
mod gotemplate;
mod kube_inject;
mod merge;
mod overlay;
mod params;
mod probes;
mod prometheus;
mod proxy_config;
mod template;
mod values;
mod webhook;

pub use config::{ConfigError, InjectorConfig, Policy};
pub use decision::{Decision, decide};
pub use gotemplate::{TemplateError, render_template};
pub use kube_inject::{
    KubeInjectError, inject_document, kube_inject, kube_uninject, uninject_document,
};
pub use params::{Owner, Params};
pub use template::{inject, inject_gateway, uninject};
pub use webhook::{Counters, router};
