//! What an installation consists of, as objects ready to be applied.
//!
//! An [`Installation`] is worked out of [`Layers`]: a profile, IstioOperator files and flags. Its
//! [`parts`] are the objects, by component and in an order in which they can be applied.

mod addons;
mod chart;
mod cni;
mod config;
mod control_plane;
mod crds;
mod environment;
mod error;
mod gateway_api;
mod gateways;
mod ignored;
mod installation;
mod labels;
mod merge;
mod operator;
mod overlay;
mod path;
mod ports;
pub mod profile;
mod rbac;
mod record;
mod remote;
mod rules;
mod scale;
mod set;
mod settings;
mod tag;
mod webhooks;

use std::collections::BTreeSet;

use lateen_api::install::Overlay;
use serde_json::{Value, json};

pub use addons::{Addon, addon_parts};
pub use chart::{Chart, charts};
pub use environment::{flag, is_unread};
pub use error::InstallError;
pub use gateway_api::gateway_manifests;
pub use installation::Installation;
pub use labels::{
    COMPONENT, KINDS, OWNER, OWNER_NAMESPACE, REVISION, is_owned, owned, owned_alike, owned_by,
    owner_labels,
};
pub use operator::Layers;
pub use record::{again, file_of_record, is_record, of_record, recorded_parts, records};
pub use rules::tables as rights;
pub use tag::{TAG, TagRequest, add_default_tag, tag, tag_service};

/// Objects of one component.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The component, as Istio calls it: `Base`, `Pilot`, `IngressGateways`.
    pub component: &'static str,
    /// What people call it.
    pub title: String,
    /// The objects, in an order in which they can be applied one after the other.
    pub objects: Vec<Value>,
}

/// All components that an installation has, in the order in which they are needed.
///
/// # Errors
/// An overlay that cannot be made.
pub fn parts(installation: &Installation) -> Result<Vec<Part>, InstallError> {
    let mut parts = Vec::new();
    let mut spaces = BTreeSet::from([installation.namespace().to_owned()]);
    let mut add = |component, title: &str, mut objects: Vec<Value>, overlays: &[Overlay]| {
        overlay::apply(overlays, &mut objects)?;
        for object in &mut objects {
            labels::own(object, component, installation);
        }
        parts.push(Part {
            component,
            title: title.to_owned(),
            objects,
        });
        Ok(())
    };
    if let Some(base) = installation.base() {
        let settings = installation::k8s(base.k8s.as_ref());
        let mut objects = vec![namespace(installation.namespace())];
        objects.extend(crds::all(installation));
        objects.extend(rbac::base(installation));
        add("Base", "Istio core", objects, &settings.overlays)?;
    }
    // Before pods that count on it.
    if let Some(cni) = installation.cni() {
        let settings = installation::k8s(cni.k8s.as_ref());
        let mut objects = cni::all(installation, cni, &settings);
        let own = cni.namespace.as_deref();
        if let Some(own) = own.filter(|own| !own.is_empty() && spaces.insert((*own).to_owned())) {
            objects.insert(0, namespace(own));
        }
        add("Cni", "CNI", objects, &settings.overlays)?;
    }
    if let Some(pilot) = installation.pilot() {
        let settings = installation::k8s(pilot.k8s.as_ref());
        let mut objects = rbac::control_plane(installation);
        objects.extend(config::all(installation));
        objects.extend(control_plane::all(installation, pilot, &settings));
        objects.extend(webhooks::all(installation));
        add("Pilot", "Istiod", objects, &settings.overlays)?;
    } else if installation.is_remote() {
        let objects = remote::all(installation);
        add("IstiodRemote", "Istiod remote", objects, &[])?;
    }
    for gateway in installation.gateways() {
        let (component, title) = match gateway.is_ingress {
            true => ("IngressGateways", "Ingress gateway"),
            false => ("EgressGateways", "Egress gateway"),
        };
        let settings = installation::k8s(gateway.component.k8s.as_ref());
        let mut objects = gateways::all(installation, &gateway, &settings);
        let own = gateway.component.namespace.as_deref();
        if let Some(own) = own.filter(|own| !own.is_empty() && spaces.insert((*own).to_owned())) {
            objects.insert(0, namespace(own));
        }
        let title = match gateway.name {
            "istio-ingressgateway" | "istio-egressgateway" => title.to_owned(),
            name => format!("{title} {name}"),
        };
        add(component, &title, objects, &settings.overlays)?;
    }
    Ok(parts)
}

/// All objects, in an order in which they can be applied one after the other.
///
/// # Errors
/// An overlay that cannot be made.
pub fn manifests(installation: &Installation) -> Result<Vec<Value>, InstallError> {
    let parts = parts(installation)?;
    Ok(parts.into_iter().flat_map(|part| part.objects).collect())
}

/// The accounts as which control planes of other clusters come, and what they may do: the one that
/// reads, and with `control_plane` also that of a control plane which has the cluster as its own.
pub fn accounts(installation: &Installation, control_plane: bool) -> Vec<Value> {
    let mut objects = rbac::base(installation);
    if control_plane {
        objects.extend(rbac::control_plane(installation));
    }
    objects
}

/// Definitions of the Gateway API's kinds, for a platform that has none. Where the Gateway API is
/// installed, its own must be left as they are.
pub fn gateway_api_definitions() -> Vec<Value> {
    crds::gateway_api().collect()
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

#[cfg(test)]
mod tests;
