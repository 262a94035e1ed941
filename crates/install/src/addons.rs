//! Servers beside the mesh that show what it does: metrics, dashboards, traces, graphs.
//!
//! They are of no revision and of no profile: each is an installation of its own in the control plane's
//! namespace, so that another profile or another revision leaves it alone. Images are those that the
//! projects publish; names, ports and labels of Services and pods are the ones that Istio's users know.

mod grafana;
mod kiali;
mod prometheus;
mod server;
mod servicegraph;
mod tracing;

use lateen_api::shape::suggestion;
use serde_json::Value;

use crate::{InstallError, Installation, Part, labels};

/// A server beside the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addon {
    /// Metrics, and the alerts.
    Prometheus,
    /// Dashboards.
    Grafana,
    /// Jaeger, by the name that the Service has.
    Tracing,
    /// Zipkin, in the place of Jaeger.
    Zipkin,
    /// What the mesh consists of, and how it is.
    Kiali,
    /// The graph of services as Istio 1.0 had it.
    ServiceGraph,
}

/// All of them, with their names.
const ALL: [(&str, Addon); 6] = [
    ("prometheus", Addon::Prometheus),
    ("grafana", Addon::Grafana),
    ("tracing", Addon::Tracing),
    ("zipkin", Addon::Zipkin),
    ("kiali", Addon::Kiali),
    ("servicegraph", Addon::ServiceGraph),
];

impl Addon {
    /// All of them, in the order in which they are best installed.
    pub fn all() -> impl Iterator<Item = Addon> {
        ALL.into_iter().map(|(_, addon)| addon)
    }

    /// The one of a name; `jaeger` is another name of `tracing`.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(name: &str) -> Result<Addon, InstallError> {
        let wanted = if name == "jaeger" { "tracing" } else { name };
        let found = ALL.iter().find(|(name, _)| *name == wanted);
        found
            .map(|(_, addon)| *addon)
            .ok_or_else(|| InstallError::Addon {
                name: name.to_owned(),
                help: suggestion(name, &ALL.map(|(name, _)| name)),
            })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = ALL.iter().find(|(_, addon)| *addon == self);
        found.map_or("", |(name, _)| name)
    }

    /// What the label [`crate::OWNER`] says on everything of it.
    pub fn owner(self) -> String {
        format!("addon-{}", self.name())
    }

    /// Selects everything of it, with the control plane's namespace.
    pub fn selector(self, namespace: &str) -> String {
        labels::owned_by_addon(&self.owner(), namespace)
    }

    /// What a part of it is called, and what people call it.
    fn component(self) -> (&'static str, &'static str) {
        match self {
            Addon::Prometheus => ("Prometheus", "Prometheus"),
            Addon::Grafana => ("Grafana", "Grafana"),
            Addon::Tracing => ("Tracing", "Tracing"),
            Addon::Zipkin => ("Zipkin", "Zipkin"),
            Addon::Kiali => ("Kiali", "Kiali"),
            Addon::ServiceGraph => ("ServiceGraph", "Service graph"),
        }
    }

    fn objects(self, installation: &Installation) -> Vec<Value> {
        match self {
            Addon::Prometheus => prometheus::all(installation),
            Addon::Grafana => grafana::all(installation),
            Addon::Tracing => tracing::jaeger(installation),
            Addon::Zipkin => tracing::zipkin(installation),
            Addon::Kiali => kiali::all(installation),
            Addon::ServiceGraph => servicegraph::all(installation),
        }
    }
}

/// A part for each addon, in the control plane's namespace, which must be there.
///
/// # Errors
/// Addons that cannot be there together.
pub fn addon_parts(
    installation: &Installation,
    addons: &[Addon],
) -> Result<Vec<Part>, InstallError> {
    if addons.contains(&Addon::Tracing) && addons.contains(&Addon::Zipkin) {
        return Err(InstallError::NotSupported {
            what: "the addon tracing beside zipkin".to_owned(),
            help: "both are the Service zipkin; choose one of them".to_owned(),
        });
    }
    let wanted = Addon::all().filter(|addon| addons.contains(addon));
    let parts = wanted.map(|addon| {
        let (component, title) = addon.component();
        let mut objects = addon.objects(installation);
        for object in &mut objects {
            labels::own_addon(object, component, &addon.owner(), installation.namespace());
        }
        Part {
            component,
            title: title.to_owned(),
            objects,
        }
    });
    Ok(parts.collect())
}

#[cfg(test)]
mod tests;
