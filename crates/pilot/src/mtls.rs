//! Which transport security a workload takes, from PeerAuthentication.

use lateen_api::Object;
use lateen_api::security::{MtlsMode, PeerAuthentication};
use lateen_core::Labels;

use crate::listener::Mode;
use crate::snapshot::Snapshot;

/// The mode of a port: permissive where no policy says otherwise.
pub(crate) fn mode(
    snapshot: &Snapshot,
    namespace: &str,
    labels: &Labels,
    port: Option<u16>,
) -> Mode {
    said(snapshot, namespace, labels, port).map_or(Mode::Permissive, |said| said.mode)
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
