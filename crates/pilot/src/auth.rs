//! Who is at the other end, and whether it is who its node says.

use std::net::SocketAddr;

use futures::future::BoxFuture;
use lateen_core::SpiffeId;
use lateen_xds::server::Peer;
use tonic::Status;

use crate::proxy::Proxy;

/// Finds the identity of a stream from its certificate or token.
pub trait Authenticate: Send + Sync + 'static {
    /// The caller's identity; `None` admits it without one.
    ///
    /// # Errors
    /// When the caller must not be admitted.
    fn authenticate<'a>(
        &'a self,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Option<SpiffeId>, Status>>;

    /// Whether the platform lets this identity read the Secrets of its namespace. A gateway is given
    /// certificates only if it does: any workload can say that it is a gateway. By default nobody is.
    ///
    /// # Errors
    /// When the platform cannot be asked.
    fn reads_secrets<'a>(&'a self, identity: &'a SpiffeId) -> BoxFuture<'a, Result<bool, Status>> {
        let _ = identity;
        Box::pin(async { Ok(false) })
    }
}

/// For the plaintext port: everybody is admitted, nobody has an identity, and nobody gets secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Authenticate for Anonymous {
    fn authenticate<'a>(
        &'a self,
        _peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Option<SpiffeId>, Status>> {
        Box::pin(async { Ok(None) })
    }
}

/// Whether a caller is in the same network namespace. Behind `None` may be anybody.
pub(crate) fn is_local(address: Option<SocketAddr>) -> bool {
    address.is_some_and(|address| address.ip().to_canonical().is_loopback())
}

/// A proxy may only ask for the configuration of the workload that it is.
pub(crate) fn check(proxy: &Proxy, identity: &SpiffeId) -> Result<(), Status> {
    let account = &proxy.service_account;
    let same_account = account.is_empty() || *account == *identity.service_account;
    if *proxy.namespace == *identity.namespace && same_account {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "{identity} may not speak for namespace {:?} and service account {account:?}",
        proxy.namespace
    )))
}

#[cfg(test)]
mod tests {
    use lateen_xds::types::core::Node;

    use super::*;

    #[test]
    fn a_proxy_speaks_for_its_own_workload_only() {
        let node = Node {
            id: "sidecar~10.0.0.1~a.ns~ns.svc.cluster.local".into(),
            metadata: Some(crate::wire::record([(
                "SERVICE_ACCOUNT",
                crate::wire::text("sa"),
            )])),
            ..Node::default()
        };
        let proxy = Proxy::from_node(&node).expect("well formed");
        let check = |namespace, account| {
            let id = SpiffeId::new("td", namespace, account).expect("an identity");
            super::check(&proxy, &id).is_ok()
        };
        assert!(check("ns", "sa"));
        assert!(!check("other", "sa"));
        assert!(!check("ns", "other"));
    }
}
