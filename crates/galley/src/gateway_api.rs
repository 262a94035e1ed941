//! Kubernetes' Gateway API as the mesh's own objects: each listener becomes a Gateway, what routes say
//! of a listener's host becomes a VirtualService, and every object gets its status.
//!
//! Pure: objects and the world go in, objects and statuses come out. Statuses have no times, which
//! whoever writes them adds.
//!
//! Invariant: what cannot be done is refused by a condition that names it, and a route with such a
//! part is not in force in parts.

mod backend;
mod backend_tls;
mod certificates;
mod conditions;
mod filters;
mod frontend_tls;
mod gateways;
mod grpc;
mod http;
mod l4;
mod listeners;
mod mesh;
mod objects;
mod parents;
mod roots;
mod routes;
mod sessions;
mod status;

use std::collections::{BTreeMap, BTreeSet};

use lateen_api::{
    Object,
    gateway_api::GatewayDeployment,
    mesh::MeshConfig,
    networking::{DestinationRule, Gateway, VirtualService},
};
use lateen_core::{ObjectRef, Problem};
use lateen_registry::World;
use serde_json::Value;

use crate::{RootsKind, credentials};

pub use objects::unreadable;
pub(crate) use objects::{Objects, by_age};

/// The controller that runs gateways of class [`CLASS`].
pub const CONTROLLER: &str = "istio.io/gateway-controller";
/// The class of gateways that the mesh runs; it need not be declared.
pub const CLASS: &str = "istio";
/// On an internal Gateway: host names of the Services whose proxies serve it, instead of a selector.
pub const GATEWAY_SERVICE: &str = "internal.istio.io/gateway-service";
/// On an internal VirtualService: `gateway` where prefixes end at an element of the path.
pub const ROUTE_SEMANTICS: &str = "internal.istio.io/route-semantics";
/// Value of [`ROUTE_SEMANTICS`] of what was a route of the Gateway API.
pub const GATEWAY_SEMANTICS: &str = "gateway";
/// What annotations start with that users may not write.
pub(crate) const INTERNAL: &str = "internal.istio.io/";
/// What credentials are called that a Gateway of the Gateway API names; behind it is
/// `namespace/name`.
pub const CREDENTIAL: &str = "kubernetes-gateway://";
/// On an internal Gateway: the credential that its proxies show to backends with a BackendTLSPolicy.
pub const CLIENT_CERTIFICATE: &str = "internal.istio.io/client-certificate";
/// What roots are called that a BackendTLSPolicy names; behind it are `Kind/namespace/name` of the
/// objects that they are in, with commas between them.
pub const ROOTS: &str = "kubernetes-roots://";
/// On an internal DestinationRule: the BackendTLSPolicy that it stands for. It holds for gateways,
/// beside whatever other rules hold for its host.
pub const BACKEND_TLS: &str = "internal.istio.io/backend-tls";

/// What objects are read against.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) world: &'a World,
    pub(crate) credentials: &'a credentials::Once<'a>,
    /// What holds for the whole mesh.
    pub(crate) mesh: &'a MeshConfig,
    /// The domain of service names.
    pub(crate) domain: &'a str,
    /// Whether it is read for clients in the mesh: they may call every Service as it is, so that a
    /// route of theirs needs no grant, and what is for gateways does not hold.
    pub(crate) in_mesh: bool,
}

/// What comes out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Translation {
    pub(crate) gateways: Vec<Object<Gateway>>,
    pub(crate) virtual_services: Vec<Object<VirtualService>>,
    pub(crate) destination_rules: Vec<Object<DestinationRule>>,
    pub(crate) statuses: BTreeMap<ObjectRef, Said>,
    pub(crate) deployments: Vec<GatewayDeployment>,
    pub(crate) granted: BTreeSet<Granted>,
    /// Of objects whose status has no place for it.
    pub(crate) problems: Vec<Problem>,
}

/// What is said of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Generation of the spec that it is about.
    pub generation: i64,
    /// Its status, without times. Of lists with a `controllerName`, only the entries of
    /// [`CONTROLLER`].
    pub status: Value,
}

/// A Secret, or roots, that proxies may have, since a Gateway that they serve names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Granted {
    /// Namespace of the proxies.
    pub to: String,
    /// Service account of the proxies, where the mesh made them; others must be able to read Secrets
    /// by themselves.
    pub account: Option<String>,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// That only the roots are granted, and what they are in.
    pub roots: Option<RootsKind>,
}

/// Reads all objects.
pub(crate) fn translate(around: Around<'_>) -> Translation {
    let mut out = Translation::default();
    if around.objects.is_empty() {
        return out;
    }
    let mut gateways = gateways::read(around);
    let mut rules = routes::Rules::default();
    routes::read(around, &mut gateways, &mut rules, &mut out.statuses);
    gateways.write(around, &rules, &mut out);
    rules.write(&gateways, &mut out.virtual_services);
    backend_tls::write(around, &gateways, &rules, &mut out);
    mesh::write(around, &rules, &mut out.virtual_services);
    crate::ingress::translate(around, &mut out);
    out
}

#[cfg(test)]
pub(crate) mod tests;
