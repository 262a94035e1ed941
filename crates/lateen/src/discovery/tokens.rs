//! Who a bearer token belongs to, by asking the API server.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use lateen_citadel::{Authenticator, Denied, Trust, TrustDomains};
use lateen_core::SpiffeId;

/// The audience of tokens for the mesh where nothing else is said.
pub(super) const AUDIENCE: &str = "istio-ca";
/// What the API server calls a service account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Reviews tokens of service accounts.
#[derive(Clone)]
pub(super) struct Tokens {
    client: Client,
    trust: Trust,
    /// A token must be for one of them. Never empty: that would mean the API server's own.
    audiences: Vec<String>,
}

impl Tokens {
    /// `audiences` are those that tokens for the mesh carry (`sds.token.aud`).
    pub(super) fn new(client: Client, trust: Trust, audiences: &[String]) -> Self {
        Tokens {
            client,
            trust,
            audiences: or_usual(audiences),
        }
    }
}

/// Of a list that says nothing, the usual audience is left.
fn or_usual(audiences: &[String]) -> Vec<String> {
    let named = audiences.iter().map(|audience| audience.trim().to_owned());
    let named: Vec<String> = named.filter(|audience| !audience.is_empty()).collect();
    if named.is_empty() {
        return vec![AUDIENCE.to_owned()];
    }
    named
}

#[async_trait::async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, token: &str) -> Result<SpiffeId, Denied> {
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let spec = TokenReviewSpec {
            token: token.to_owned(),
            audiences: Some(self.audiences.clone()),
        };
        let review = TokenReview {
            spec,
            ..TokenReview::default()
        };
        // Nobody could be asked: that is no answer about the token, and lets nobody in.
        let unavailable = |error: kube::Error| Denied::Unavailable(error.to_string());
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(unavailable)?;
        let status = answer.status.unwrap_or_default();
        // An API server that does not know audiences leaves them out of its answer.
        let ours = status
            .audiences
            .iter()
            .flatten()
            .any(|audience| self.audiences.contains(audience));
        if status.authenticated != Some(true) || !ours {
            let why = status
                .error
                .unwrap_or_else(|| format!("it is not for audience {}", self.audiences.join(", ")));
            return Err(Denied::Refused(why));
        }
        let user = status
            .user
            .and_then(|user| user.username)
            .unwrap_or_default();
        identity(&self.trust.borrow(), &user)
            .ok_or_else(|| Denied::Refused(format!("{user} is not a service account")))
    }
}

fn identity(trust: &TrustDomains, user: &str) -> Option<SpiffeId> {
    let (namespace, account) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    trust.identity(namespace, account)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use hyper::{Request, Response, body::Bytes};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server at which every token is for audience `mine`.
    async fn api(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        let body = request.into_body().collect().await.expect("a body");
        let mut review: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
        let asked = review["spec"]["audiences"].as_array().into_iter().flatten();
        let common: Vec<Value> = asked.filter(|it| *it == "mine").cloned().collect();
        review["status"] = json!({
            "authenticated": !common.is_empty(),
            "audiences": common,
            "user": {"username": "system:serviceaccount:ns:a"},
        });
        Ok(Response::new(Body::from(Bytes::from(review.to_string()))))
    }

    fn trust() -> Trust {
        let domains = TrustDomains::new("cluster.local", []);
        tokio::sync::watch::channel(Arc::new(domains)).1
    }

    #[tokio::test]
    async fn a_token_is_for_one_of_the_audiences() {
        for (audiences, is_taken) in [
            (&["istio-ca", " mine"][..], true),
            (&["mine"], true),
            (&["istio-ca"], false),
            // Nothing that is said must not mean anything.
            (&[""], false),
            (&[], false),
        ] {
            let named: Vec<String> = audiences.iter().map(|it| (*it).to_owned()).collect();
            let client = Client::new(tower::service_fn(api), "default");
            let found = Tokens::new(client, trust(), &named).authenticate("t").await;
            assert_eq!(found.is_ok(), is_taken, "{audiences:?}: {found:?}");
        }
    }

    #[test]
    fn only_service_accounts_are_workloads() {
        let trust = TrustDomains::new("cluster.local", []);
        let id = identity(&trust, "system:serviceaccount:default:bookinfo-reviews");
        let expect = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
        assert_eq!(id.map(|id| id.to_string()).as_deref(), Some(expect));
        for user in [
            "admin",
            "system:serviceaccount:default",
            "system:serviceaccount::x",
            "",
        ] {
            assert_eq!(identity(&trust, user), None, "{user}");
        }
    }
}
