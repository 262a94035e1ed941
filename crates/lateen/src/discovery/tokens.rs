//! Who a bearer token belongs to, by asking the API server.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use lateen_citadel::{Authenticator, Denied};
use lateen_core::SpiffeId;

/// The audience that tokens for the mesh must carry (`sds.token.aud`).
const AUDIENCE: &str = "istio-ca";
/// What the API server calls a service account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Reviews tokens of service accounts.
#[derive(Clone)]
pub(super) struct Tokens {
    client: Client,
    trust_domain: String,
}

impl Tokens {
    pub(super) fn new(client: Client, trust_domain: impl Into<String>) -> Self {
        Tokens {
            client,
            trust_domain: trust_domain.into(),
        }
    }
}

#[async_trait::async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, token: &str) -> Result<SpiffeId, Denied> {
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let spec = TokenReviewSpec {
            token: token.to_owned(),
            audiences: Some(vec![AUDIENCE.to_owned()]),
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
            .any(|audience| audience == AUDIENCE);
        if status.authenticated != Some(true) || !ours {
            let why = status
                .error
                .unwrap_or_else(|| format!("it is not for audience {AUDIENCE}"));
            return Err(Denied::Refused(why));
        }
        let user = status
            .user
            .and_then(|user| user.username)
            .unwrap_or_default();
        identity(&self.trust_domain, &user)
            .ok_or_else(|| Denied::Refused(format!("{user} is not a service account")))
    }
}

fn identity(trust_domain: &str, user: &str) -> Option<SpiffeId> {
    let (namespace, account) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    SpiffeId::new(trust_domain, namespace, account).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_service_accounts_are_workloads() {
        let id = identity(
            "cluster.local",
            "system:serviceaccount:default:bookinfo-reviews",
        );
        let expect = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
        assert_eq!(id.map(|id| id.to_string()).as_deref(), Some(expect));
        for user in [
            "admin",
            "system:serviceaccount:default",
            "system:serviceaccount::x",
            "",
        ] {
            assert_eq!(identity("cluster.local", user), None, "{user}");
        }
    }
}
