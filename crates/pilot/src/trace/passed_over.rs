//! VirtualServices for a host that do not decide, and why they do not.

use std::sync::Arc;

use lateen_api::networking::VirtualService;
use lateen_core::{Hostname, ObjectRef};
use lateen_registry::MESH_CONFIG;

use super::Origin;
use crate::snapshot::HostedVirtualService;
use crate::view::View;

/// A host that is not known.
const ANY: &str = "*";

/// A VirtualService that has no say in what becomes of a host's requests or connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The fields that keep it out.
    pub from: Vec<Origin>,
    /// Why, in words.
    pub why: String,
}

pub(super) fn trace(
    view: View<'_>,
    host: &str,
    chosen: &str,
    port: u16,
    http: bool,
) -> Vec<PassedOver> {
    let (host, chosen) = (Hostname::new(host), Hostname::new(chosen));
    let there = There {
        view,
        deciding: view.deciding(&chosen, port, http),
        gateways: view.gateways_at(port, http),
        chosen: &chosen,
    };
    let says = |spec: &VirtualService| match http {
        true => !spec.http.is_empty(),
        false => !spec.tls.is_empty() || !spec.tcp.is_empty(),
    };
    let (all, _) = view.snapshot.hosted();
    let mut found = Vec::new();
    for hosted in all.iter().filter(|hosted| says(&hosted.object.spec)) {
        // The one of its hosts that names it most closely.
        let places = hosted.hosts.iter().enumerate();
        let covering =
            places.filter(|(_, own)| host.as_str() == ANY || own.covers(&host) || **own == chosen);
        let Some((n, own)) = covering.max_by_key(|(_, own)| (!own.is_wildcard(), own.len())) else {
            continue;
        };
        let mut deciding = there.deciding.iter();
        if !deciding.any(|of| Arc::ptr_eq(&of.object, &hosted.object)) {
            let field = format!("spec.hosts[{n}]");
            found.push(there.why_not(hosted, own, &field, port));
        }
    }
    found
}

struct There<'a> {
    view: View<'a>,
    /// Those that decide.
    deciding: Vec<&'a HostedVirtualService>,
    /// `mesh`, or the gateways that have the port.
    gateways: Vec<String>,
    chosen: &'a Hostname,
}

impl There<'_> {
    fn why_not(
        &self,
        hosted: &HostedVirtualService,
        own: &Hostname,
        field: &str,
        port: u16,
    ) -> PassedOver {
        let (view, object) = (self.view, &hosted.object);
        let (meta, spec) = (&object.meta, &object.spec);
        let by = |field: &str, why: String| PassedOver {
            from: vec![Origin::of_written(meta, field)],
            why,
        };
        if !self.gateways.iter().any(|gateway| hosted.is_bound(gateway)) {
            let wanted = match spec.gateways.is_empty() {
                true => "sidecars".to_owned(),
                false => spec.gateways.join(" and "),
            };
            let is = self.gateways.join(" or ");
            return by("spec.gateways", format!("it is for {wanted}, this is {is}"));
        }
        let namespace = &view.from.namespace;
        if !view.snapshot.sees(namespace, hosted) {
            let why = format!("it is not exported to namespace {namespace}");
            if !spec.export_to.is_empty() {
                return by("spec.exportTo", why);
            }
            let root = view.snapshot.config.mesh.root_namespace();
            let of_mesh = Origin {
                object: ObjectRef::new("ConfigMap", root, MESH_CONFIG),
                field: "data.mesh.defaultVirtualServiceExportTo".to_owned(),
            };
            let mut hidden = by("", why);
            hidden.from.push(of_mesh);
            return hidden;
        }
        if let Some(kept_out) = view.kept_out_by(hosted, port) {
            let mut found = by(
                field,
                "the workload's Sidecar does not let it through".to_owned(),
            );
            found.from.push(kept_out);
            return found;
        }
        let Some(winner) = self.deciding.first() else {
            return by(field, "nothing here is for its hosts".to_owned());
        };
        let name = Origin::of_written(&winner.object.meta, "").object;
        let is_named = own == self.chosen;
        let why = match (is_named, winner.hosts.contains(self.chosen)) {
            (false, true) => format!("{name} names {} itself", self.chosen),
            (false, false) if longest(winner, self.chosen) > own.len() => {
                format!("{name} has a longer pattern for {}", self.chosen)
            }
            _ if lateen_galley::sources(&winner.object.meta).is_some() => {
                format!("{name} comes before VirtualServices")
            }
            _ => format!("{name} is older"),
        };
        by(field, why)
    }
}

/// The length of the longest host that covers another.
fn longest(hosted: &HostedVirtualService, chosen: &Hostname) -> usize {
    let covering = hosted.hosts.iter().filter(|own| own.covers(chosen));
    covering.map(|own| own.len()).max().unwrap_or_default()
}
