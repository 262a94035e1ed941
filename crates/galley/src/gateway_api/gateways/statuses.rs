//! What is said of GatewayClasses, Gateways and ListenerSets.

use std::collections::BTreeSet;

use lateen_api::{
    Meta,
    gateway_api::{
        GatewayClassStatus, GatewayStatus, GatewayStatusAddress, ListenerSetStatus,
        SupportedFeature,
    },
    status::Condition,
};

use super::{Gateways, Known, KnownSet, SERVICE_TYPE};
use crate::gateway_api::{
    Said,
    conditions::{Verdict, condition, holds},
    listeners::Role,
    status::said,
};

/// What the class can do, by the names of the conformance suite. What the mesh can do is not for a
/// class to say.
const FEATURES: [&str; 47] = [
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayInfrastructure",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "UDPRoute",
];

impl Gateways<'_> {
    pub(super) fn status(&self, known: &Known<'_>) -> GatewayStatus {
        let generation = known.object.meta.generation;
        let own: Vec<_> = self.listeners_of(known).collect();
        let broken = own
            .iter()
            .any(|bound| bound.set.is_none() && !bound.serves());
        let accepted = match broken {
            true => ("ListenersNotValid", "Some listeners are not valid"),
            false => ("Accepted", "Resource accepted"),
        };
        let mut accepted_listeners = own.iter().filter(|bound| bound.is_accepted());
        let none = accepted_listeners
            .next()
            .is_none()
            .then(|| Verdict::new("ListenersNotValid", "No listener is valid"));
        let fault = known.fault.as_ref().or(none.as_ref());
        let addresses = addresses(known);
        let programmed = self.programmed(known, &addresses);
        let listeners = own.iter().filter(|bound| bound.set.is_none());
        let resolved = ("ResolvedRefs", "All references resolved");
        let of_certificate = known.client_certificate.as_ref();
        let of_certificate = of_certificate
            .map(|of| holds("ResolvedRefs", of.unresolved.as_ref(), resolved, generation));
        let conditions = [holds("Accepted", fault, accepted, generation), programmed];
        GatewayStatus {
            conditions: conditions.into_iter().chain(of_certificate).collect(),
            addresses,
            listeners: listeners.map(|bound| bound.status(generation)).collect(),
            attached_listener_sets: Some(known.sets),
        }
    }

    fn programmed(&self, known: &Known<'_>, addresses: &[GatewayStatusAddress]) -> Condition {
        let generation = known.object.meta.generation;
        let no = |reason: &'static str, message: String| {
            Verdict::new(reason, message).no("Programmed", generation)
        };
        if let Some(fault) = &known.fault {
            return no("Invalid", fault.message.clone());
        }
        for served in &known.services {
            let Some(service) = served.service else {
                return no(
                    "AddressNotAssigned",
                    format!("Service {} not found", served.host),
                );
            };
            for bound in self.listeners_of(known).filter(|bound| bound.serves()) {
                let port = bound.listener.port;
                let has = u16::try_from(port).ok().and_then(|port| match bound.role {
                    Role::Udp => service.datagram_port(port),
                    _ => service.port(port),
                });
                if has.is_none() {
                    return no(
                        "Invalid",
                        format!("Service {} has no port {port}", served.host),
                    );
                }
            }
        }
        let asked =
            known.object.spec.addresses.iter().filter(|asked| {
                asked.r#type.as_deref() != Some("Hostname") && !asked.value.is_empty()
            });
        let has = |asked: &str| addresses.iter().any(|address| address.value == asked);
        let missing: Vec<&str> = asked
            .map(|asked| &*asked.value)
            .filter(|asked| !has(asked))
            .collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return no(
                "AddressNotUsable",
                format!("The Service was not given {missing}; one address can be asked for"),
            );
        }
        if addresses.is_empty() {
            return no(
                "AddressNotAssigned",
                "The Service has no address yet".into(),
            );
        }
        let hosts: Vec<_> = known.services.iter().map(|s| s.host.as_str()).collect();
        let message = format!(
            "Resource programmed, assigned to service(s) {}",
            hosts.join(", ")
        );
        condition("Programmed", "True", "Programmed", &message, generation)
    }

    pub(super) fn set_status(&self, set: &KnownSet<'_>) -> ListenerSetStatus {
        let generation = set.object.meta.generation;
        let own = self.listeners.iter();
        let own = own.filter(|b| b.set.is_some_and(|s| std::ptr::eq(s, set.object)));
        let own: Vec<_> = own.collect();
        let none = (!own.is_empty() && !own.iter().any(|bound| bound.serves()))
            .then(|| Verdict::new("ListenersNotValid", "No listener is valid"));
        let fault = set.fault.as_ref().or(none.as_ref());
        ListenerSetStatus {
            conditions: vec![
                holds(
                    "Accepted",
                    fault,
                    ("Accepted", "Resource accepted"),
                    generation,
                ),
                holds(
                    "Programmed",
                    fault,
                    ("Programmed", "Resource programmed"),
                    generation,
                ),
            ],
            listeners: own.iter().map(|bound| bound.status(generation)).collect(),
        }
    }
}

/// Addresses of load balancers, else the Services' own names where they have none and will have none.
fn addresses(known: &Known<'_>) -> Vec<GatewayStatusAddress> {
    let kind = known.object.meta.annotations.get(SERVICE_TYPE);
    let awaits = known.managed && kind.is_none_or(|kind| kind == "LoadBalancer");
    let mut all = BTreeSet::new();
    for served in &known.services {
        let Some(service) = served.service else {
            continue;
        };
        all.extend(service.load_balancer.iter().cloned());
        if service.load_balancer.is_empty() && !awaits {
            all.insert(served.host.to_string());
        }
    }
    let is_ip = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    all.into_iter()
        .map(|value| GatewayStatusAddress {
            r#type: Some(
                if is_ip(&value) {
                    "IPAddress"
                } else {
                    "Hostname"
                }
                .into(),
            ),
            value,
        })
        .collect()
}

pub(super) fn class_status(meta: &Meta) -> Said {
    let accepted = ("Accepted", "Handled by the mesh's gateway controller");
    let feature = |name: &&str| SupportedFeature {
        name: (*name).into(),
    };
    let status = GatewayClassStatus {
        conditions: vec![holds("Accepted", None, accepted, meta.generation)],
        supported_features: FEATURES.iter().map(feature).collect(),
    };
    said(&status, meta.generation)
}
