//! How TLS ends at a port of the workload, and who says so.

use super::Origin;
use crate::listener::Mode;
use crate::mtls::Said;
use crate::view::View;

/// What is said of a port's TLS: by a PeerAuthentication, and by the Sidecar that ends TLS of its own
/// where the mesh's is turned off.
pub(super) fn tls(view: View<'_>, port: u16) -> Vec<(&'static str, Origin)> {
    let said = view.said_of_mtls(port);
    let mode = said.as_ref().map(|said| said.mode);
    let by_policy = said.map(|said| of_policy(&said, port));
    let by_sidecar = (mode == Some(Mode::Disable)).then(|| of_sidecar(view, port));
    by_policy.into_iter().chain(by_sidecar.flatten()).collect()
}

/// The mode that a policy has for a port, and the field that says it.
pub(super) fn of_policy(said: &Said<'_>, port: u16) -> (&'static str, Origin) {
    let mode = match said.mode {
        Mode::Strict => "mutual TLS STRICT",
        Mode::Permissive => "mutual TLS PERMISSIVE",
        Mode::Disable => "mutual TLS DISABLE",
    };
    let field = match said.of_port {
        true => format!("spec.portLevelMtls[{port}].mode"),
        false => "spec.mtls.mode".to_owned(),
    };
    (
        mode,
        Origin::new("PeerAuthentication", &said.policy.meta, field),
    )
}

fn of_sidecar(view: View<'_>, port: u16) -> Option<(&'static str, Origin)> {
    let sidecar = view.own_sidecar()?;
    let mut ingress = sidecar.spec.ingress.iter();
    let at = ingress.position(|listener| {
        let number = listener.port.as_ref().map(|of| of.number);
        number == Some(u32::from(port)) && listener.tls.is_some()
    })?;
    let origin = Origin::new("Sidecar", &sidecar.meta, format!("spec.ingress[{at}].tls"));
    Some(("TLS", origin))
}
