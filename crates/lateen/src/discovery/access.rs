//! Who may follow configuration over the port that asks for it: workloads, by certificate or token.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use lateen_citadel::Authenticator;
use lateen_core::SpiffeId;
use lateen_pilot::{Authenticate, Peer};
use tonic::Status;

/// Streams whose caller has proved who it is.
pub(super) struct Identified {
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) trust_domain: String,
}

impl Authenticate for Identified {
    fn authenticate<'a>(
        &'a self,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Option<SpiffeId>, Status>> {
        async move {
            let caller = lateen_citadel::identify(
                &peer.metadata,
                &peer.extensions,
                &self.trust_domain,
                self.authenticator.as_ref(),
            );
            Ok(Some(caller.await?.spiffe))
        }
        .boxed()
    }
}
