//! Who may follow configuration over the port that asks for it: workloads, by certificate or token;
//! and which of them may have the certificates of gateways: those that may read Secrets.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use lateen_citadel::{Authenticator, Trust};
use lateen_core::SpiffeId;
use lateen_pilot::{Authenticate, Peer};
use tonic::Status;

/// Streams and requests whose caller has proved who it is.
#[derive(Clone)]
pub(super) struct Identified {
    pub(super) client: Client,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) trust: Trust,
}

impl Authenticate for Identified {
    fn authenticate<'a>(
        &'a self,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<Option<SpiffeId>, Status>> {
        async move {
            let trust = self.trust.borrow().clone();
            let caller = lateen_citadel::identify(
                &peer.metadata,
                &peer.extensions,
                &trust,
                self.authenticator.as_ref(),
            );
            Ok(Some(caller.await?.spiffe))
        }
        .boxed()
    }

    fn reads_secrets<'a>(&'a self, identity: &'a SpiffeId) -> BoxFuture<'a, Result<bool, Status>> {
        async move {
            let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
            let answer = api
                .create(&PostParams::default(), &review(identity))
                .await
                // Nobody could be asked: a gateway comes back, and goes on with what it has.
                .map_err(|e| Status::unavailable(format!("access review: {e}")))?;
            Ok(answer.status.is_some_and(|status| status.allowed))
        }
        .boxed()
    }
}

/// Whether a service account may list the Secrets of its namespace, which is what Istio asks too.
fn review(identity: &SpiffeId) -> SubjectAccessReview {
    let namespace = identity.namespace.to_string();
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!(
                "system:serviceaccount:{namespace}:{}",
                identity.service_account
            )),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace),
                verb: Some("list".to_owned()),
                resource: Some("secrets".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::{Request, Response, body::Bytes};
    use kube::client::Body;
    use lateen_citadel::{Denied, TrustDomains};
    use serde_json::{Value, json};

    use super::*;

    struct Nobody;

    #[async_trait::async_trait]
    impl Authenticator for Nobody {
        async fn authenticate(&self, _token: &str) -> Result<SpiffeId, Denied> {
            Err(Denied::Refused("nobody".to_owned()))
        }
    }

    /// An API server that lets one service account read Secrets.
    async fn api(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        let body = request.into_body().collect().await.expect("a body");
        let mut review: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
        let spec = &review["spec"];
        let wanted = json!({"namespace": "ns", "resource": "secrets", "verb": "list"});
        let allowed = spec["user"] == "system:serviceaccount:ns:gateway"
            && spec["resourceAttributes"] == wanted;
        review["status"] = json!({"allowed": allowed});
        Ok(Response::new(Body::from(Bytes::from(review.to_string()))))
    }

    #[tokio::test]
    async fn the_platform_says_who_reads_secrets() {
        let access = Identified {
            client: Client::new(tower::service_fn(api), "default"),
            authenticator: Arc::new(Nobody),
            trust: tokio::sync::watch::channel(Arc::new(TrustDomains::new("cluster.local", []))).1,
        };
        for (account, expect) in [("gateway", true), ("reviews", false)] {
            let id = SpiffeId::new("cluster.local", "ns", account).expect("an identity");
            assert_eq!(
                access.reads_secrets(&id).await.ok(),
                Some(expect),
                "{account}"
            );
        }
    }
}
