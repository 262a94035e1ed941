//! References: whether they are permitted, and what they lead to.

use lateen_api::{
    gateway_api::{BackendRef, GROUP, ReferenceGrantTo},
    networking::{Destination, PortSelector},
};
use lateen_core::{Hostname, ServiceId};

use super::{
    Around,
    backend_tls::{self, Trust},
    conditions::Verdict,
};

/// One end of a reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
}

impl<'a> End<'a> {
    /// An object of the Gateway API.
    pub(super) fn of(kind: &'a str, namespace: &'a str) -> Self {
        Self {
            group: GROUP,
            kind,
            namespace,
        }
    }
}

impl<'a> Around<'a> {
    /// The same for clients in the mesh.
    pub(super) fn for_mesh(self) -> Self {
        Self {
            in_mesh: true,
            ..self
        }
    }

    /// Whether an object may refer to another: within a namespace always, else where the other's
    /// namespace grants it.
    pub(super) fn permits(self, from: End<'_>, to: End<'_>, name: &str) -> bool {
        let is_target = |target: &ReferenceGrantTo| {
            target.group.as_deref().unwrap_or_default() == to.group
                && target.kind == to.kind
                && target.name.as_deref().is_none_or(|only| only == name)
        };
        let grants = self.objects.grants.values();
        let mut grants = grants.filter(|grant| grant.meta.namespace == to.namespace);
        from.namespace == to.namespace
            || grants.any(|grant| {
                let mut sources = grant.spec.from.iter();
                sources.any(|source| {
                    source.group.as_deref().unwrap_or_default() == from.group
                        && source.kind == from.kind
                        && source.namespace == from.namespace
                }) && grant.spec.to.iter().any(is_target)
            })
    }

    /// Where a backend is. What is missing or forbidden is an error.
    pub(super) fn backend(self, from: End<'_>, to: &BackendRef) -> Result<Destination, Verdict> {
        let group = to.group.as_deref().unwrap_or_default();
        let kind = to.kind.as_deref().unwrap_or("Service");
        let namespace = to.namespace.as_deref().unwrap_or(from.namespace);
        let host = match (group, kind) {
            ("", "Service") => Hostname::service(&to.name, namespace, self.domain),
            // Istio's own: a host that a ServiceEntry declares.
            ("networking.istio.io", "Hostname") => Hostname::new(&to.name),
            _ => {
                let message = format!("backend {group}/{kind} {} is not supported", to.name);
                return Err(Verdict::new("InvalidKind", message));
            }
        };
        let target = End {
            group,
            kind,
            namespace,
        };
        if !self.in_mesh && !self.permits(from, target, &to.name) {
            let message = format!(
                "{kind} {}/{} is in another namespace, and no ReferenceGrant there lets {} of {} refer to it",
                namespace, to.name, from.kind, from.namespace
            );
            return Err(Verdict::new("RefNotPermitted", message));
        }
        let missing = |what: String| Err(Verdict::new("BackendNotFound", what));
        let named = match kind {
            "Service" => self
                .world
                .services
                .get(&ServiceId::new(namespace, host.clone())),
            _ => self.world.named(&host).next(),
        };
        let Some(service) = named else {
            return missing(format!("backend {kind} {} not found", to.name));
        };
        let Some(port) = to.port else {
            let message = format!("backend {kind} {} has no port: name one", to.name);
            return Err(Verdict::new("UnsupportedValue", message));
        };
        let is_udp = from.kind == "UDPRoute";
        let known = u16::try_from(port).ok().and_then(|port| match is_udp {
            true => service.datagram_port(port),
            false => service.port(port),
        });
        let Some(known) = known else {
            let of = if is_udp { " of protocol UDP" } else { "" };
            return missing(format!("{kind} {} has no port {port}{of}", to.name));
        };
        let mut out = destination(&host, port);
        let policy = match kind {
            // There is no TLS of datagrams.
            _ if is_udp => None,
            "Service" => self.tls_policy(namespace, &to.name, &known.name),
            _ => None,
        };
        if let Some(policy) = policy {
            let refused = match self.in_mesh {
                true => Some("it holds for gateways alone".to_owned()),
                false => Trust::of(self, policy).refused.map(|why| why.message),
            };
            if let Some(why) = refused {
                let message = format!(
                    "BackendTLSPolicy {}: {why}, and without TLS {kind} {} is not called",
                    policy.meta.name, to.name
                );
                return Err(Verdict::new("InvalidBackendTLSPolicy", message));
            }
            out.subset = backend_tls::subset(policy);
        }
        Ok(out)
    }
}

pub(super) fn destination(host: &str, port: u32) -> Destination {
    Destination {
        host: host.to_owned(),
        subset: String::new(),
        port: Some(PortSelector { number: port }),
    }
}

/// A destination that is never there: connections that are its share are closed.
pub(super) fn nowhere() -> Destination {
    destination("backend.invalid", 1)
}
