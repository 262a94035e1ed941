//! `spec.tls.frontend` of a Gateway: the certificates that clients of its HTTPS listeners must have.

use lateen_api::{
    Object,
    gateway_api::{FrontendTlsValidation, FrontendValidationMode, Gateway, ObjectReference},
};

use super::{Around, ROOTS, backend::End, conditions::Verdict, roots};
use crate::RootsKind;

/// What clients of a listener are held to.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Why the listener cannot be served.
    pub(super) fault: Option<Verdict>,
    pub(super) unresolved: Option<Verdict>,
    /// Kind, namespace and name of the objects that roots are in; none where clients need no
    /// certificate.
    pub(super) roots: Vec<(RootsKind, String, String)>,
}

impl Clients {
    /// Of a port: what is said of it, else what is said of all.
    pub(super) fn of(around: Around<'_>, gateway: &Object<Gateway>, port: u32) -> Self {
        let mut clients = Clients::default();
        let tls = gateway.spec.tls.as_ref();
        let Some(frontend) = tls.and_then(|tls| tls.frontend.as_ref()) else {
            return clients;
        };
        let own = frontend.per_port.iter().find(|own| own.port == port);
        let found = own.map_or(frontend.default.as_ref(), |own| own.tls.as_ref());
        if let Some(validation) = found.and_then(|found| found.validation.as_ref()) {
            clients.read(around, &gateway.meta.namespace, validation);
        }
        clients
    }

    fn read(&mut self, around: Around<'_>, home: &str, validation: &FrontendTlsValidation) {
        if validation.mode == Some(FrontendValidationMode::AllowInsecureFallback) {
            let message = "mode AllowInsecureFallback of tls.frontend is not supported";
            self.fault = Some(Verdict::new("UnsupportedValue", message));
            return;
        }
        for to in &validation.ca_certificate_refs {
            match referred(around, home, to) {
                Ok(found) => self.roots.push(found),
                Err(verdict) => drop(self.unresolved.get_or_insert(verdict)),
            }
        }
        if self.roots.is_empty() {
            let message = "no caCertificateRef of tls.frontend leads to roots";
            self.fault = Some(Verdict::new("NoValidCACertificate", message));
        }
    }

    /// What the roots are called.
    pub(super) fn credential(&self) -> String {
        let of = |(kind, namespace, name): &(RootsKind, String, String)| {
            format!("{}/{namespace}/{name}", kind.as_str())
        };
        let all: Vec<String> = self.roots.iter().map(of).collect();
        format!("{ROOTS}{}", all.join(","))
    }
}

fn referred(
    around: Around<'_>,
    home: &str,
    to: &ObjectReference,
) -> Result<(RootsKind, String, String), Verdict> {
    let group = to.group.as_deref().unwrap_or_default();
    let kind = roots::kind(group, &to.kind, &to.name, "InvalidCACertificateKind")?;
    let namespace = to.namespace.as_deref().unwrap_or(home);
    let target = End {
        group,
        kind: kind.as_str(),
        namespace,
    };
    if !around.permits(End::of("Gateway", home), target, &to.name) {
        let message = format!(
            "{} {namespace}/{} is in another namespace, and no ReferenceGrant there lets Gateway of {home} refer to it",
            to.kind, to.name
        );
        return Err(Verdict::new("RefNotPermitted", message));
    }
    roots::check(around, kind, namespace, &to.name)?;
    Ok((kind, namespace.to_owned(), to.name.clone()))
}
