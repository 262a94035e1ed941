//! Which transport security a workload takes, from PeerAuthentication.

use lateen_api::Object;
use lateen_api::mesh::AuthPolicy;
use lateen_api::security::{MtlsMode, PeerAuthentication};
use lateen_core::Labels;

use crate::listener::Mode;
use crate::snapshot::Snapshot;

/// The mode of a port: what policies say of it, else what the mesh says.
pub(crate) fn mode(
    snapshot: &Snapshot,
    namespace: &str,
    labels: &Labels,
    port: Option<u16>,
) -> Mode {
    let said = said(snapshot, namespace, labels, port);
    said.map_or_else(|| unsaid(snapshot), |said| said.mode)
}

/// The mode of ports that no policy speaks of: permissive unless the mesh says otherwise.
pub(crate) fn unsaid(snapshot: &Snapshot) -> Mode {
    match snapshot.config.mesh.auth_policy {
        Some(AuthPolicy::MutualTls) => Mode::Strict,
        Some(AuthPolicy::None) | None => Mode::Permissive,
    }
}

/// A mode, and what says it.
pub(crate) struct Said<'a> {
    pub(crate) mode: Mode,
    pub(crate) policy: &'a Object<PeerAuthentication>,
    /// That it says it of the port alone.
    pub(crate) of_port: bool,
}

/// What is said of a port: by the policy which selects the workload, else of its namespace, else of
/// the root namespace. In each scope the oldest policy counts. A policy for a workload may have ports
/// with modes of their own.
pub(crate) fn said<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    labels: &Labels,
    port: Option<u16>,
) -> Option<Said<'a>> {
    let policies = Policies::of(snapshot, namespace, labels);
    let said = |policy, of_port, mode| Said {
        mode,
        policy,
        of_port,
    };
    if let (Some(workload), Some(port)) = (policies.workload, port) {
        let of_port = workload.spec.port_level_mtls.get(&port.to_string());
        if let Some(mode) = of_port.and_then(|mtls| known(mtls.mode)) {
            return Some(said(workload, true, mode));
        }
    }
    let scopes = [policies.workload, policies.namespace, policies.root];
    let mut scopes = scopes.into_iter().flatten();
    scopes.find_map(|policy| {
        let mode = policy
            .spec
            .mtls
            .as_ref()
            .and_then(|mtls| known(mtls.mode))?;
        Some(said(policy, false, mode))
    })
}

/// Ports of a workload that have modes of their own.
pub(crate) fn ports(snapshot: &Snapshot, namespace: &str, labels: &Labels) -> Vec<u16> {
    let policies = Policies::of(snapshot, namespace, labels);
    let ports = policies
        .workload
        .into_iter()
        .flat_map(|p| p.spec.port_level_mtls.keys());
    ports.filter_map(|port| port.parse().ok()).collect()
}

/// Whether any policy turns mutual TLS off anywhere, so that endpoints must be asked one by one.
pub(crate) fn is_off_somewhere(snapshot: &Snapshot) -> bool {
    let off = |mtls: &lateen_api::security::MutualTls| mtls.mode == MtlsMode::Disable;
    snapshot.config.peer_authentications.iter().any(|policy| {
        policy.spec.mtls.as_ref().is_some_and(off) || policy.spec.port_level_mtls.values().any(off)
    })
}

type Policy<'a> = Option<&'a Object<PeerAuthentication>>;

struct Policies<'a> {
    workload: Policy<'a>,
    namespace: Policy<'a>,
    root: Policy<'a>,
}

impl<'a> Policies<'a> {
    fn of(snapshot: &'a Snapshot, namespace: &str, labels: &Labels) -> Self {
        let root = snapshot.config.mesh.root_namespace();
        let selector = |policy: &'a Object<PeerAuthentication>| {
            let selector = policy.spec.selector.as_ref().map(|s| &s.match_labels);
            selector.filter(|labels| !labels.is_empty())
        };
        let first = |wanted: &dyn Fn(&'a Object<PeerAuthentication>) -> bool| {
            let all = snapshot.config.peer_authentications.iter();
            all.map(|policy| &**policy).find(|policy| wanted(policy))
        };
        Policies {
            workload: first(&|policy| {
                policy.meta.namespace == namespace
                    && selector(policy).is_some_and(|wanted| crate::wire::selects(wanted, labels))
            }),
            namespace: first(&|policy| {
                policy.meta.namespace == namespace && selector(policy).is_none()
            }),
            root: first(&|policy| policy.meta.namespace == root && selector(policy).is_none()),
        }
    }
}

fn known(mode: MtlsMode) -> Option<Mode> {
    match mode {
        MtlsMode::Unset => None,
        MtlsMode::Disable => Some(Mode::Disable),
        MtlsMode::Permissive => Some(Mode::Permissive),
        MtlsMode::Strict => Some(Mode::Strict),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::fixture;

    /// The mode of port 80 of `a`, in a mesh that says this, with these policies.
    fn of(mesh: Value, policies: &str) -> Mode {
        let mut config = fixture::config(policies);
        config.mesh = Arc::new(serde_json::from_value(mesh).expect("a mesh"));
        let world = Arc::new(fixture::world());
        let snapshot = Snapshot::new(1, world, Arc::new(config), fixture::DOMAIN);
        mode(&snapshot, "default", &Labels::default(), Some(80))
    }

    #[test]
    fn the_mesh_says_what_no_policy_says() {
        let policy = |mode: &str| {
            format!(
                "kind: PeerAuthentication\nmetadata: {{name: p}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
            )
        };
        let mutual = || json!({"authPolicy": "MUTUAL_TLS"});
        assert_eq!(of(json!({}), ""), Mode::Permissive);
        assert_eq!(of(json!({"authPolicy": "NONE"}), ""), Mode::Permissive);
        assert_eq!(of(mutual(), ""), Mode::Strict);
        // One that says nothing leaves it to the mesh.
        assert_eq!(of(mutual(), &policy("UNSET")), Mode::Strict);
        assert_eq!(of(mutual(), &policy("PERMISSIVE")), Mode::Permissive);
        assert_eq!(of(mutual(), &policy("DISABLE")), Mode::Disable);
    }
}
