//! Trust domains of a mesh: the one that identities are issued in, and those that mean it.

use std::sync::Arc;

use lateen_core::SpiffeId;
use tokio::sync::watch;

/// The trust domains of the mesh, as they change.
pub type Trust = watch::Receiver<Arc<TrustDomains>>;

/// Whose identities are those of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomains {
    own: String,
    /// Other names of it.
    aliases: Vec<String>,
}

impl TrustDomains {
    /// One to issue identities in, and others that mean the same mesh.
    pub fn new<S: Into<String>>(own: S, aliases: impl IntoIterator<Item = S>) -> Self {
        let own = own.into();
        let aliases = aliases.into_iter().map(Into::into);
        let aliases = aliases.filter(|alias| *alias != own).collect();
        Self { own, aliases }
    }

    /// The one that identities are issued in.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The same ones, with `own` to issue identities in; `None` where it is none of them.
    #[must_use]
    pub fn issuing(&self, own: &str) -> Option<Self> {
        self.all().any(|domain| domain == own).then(|| {
            let others = self.all().filter(|domain| *domain != own);
            Self::new(own, others)
        })
    }

    /// A workload of the mesh; `None` where these parts make no identity.
    pub fn identity(&self, namespace: &str, account: &str) -> Option<SpiffeId> {
        SpiffeId::new(&self.own, namespace, account).ok()
    }

    /// Who a workload of any of these domains is in the mesh's own; `None` for a stranger.
    pub fn admit(&self, id: &SpiffeId) -> Option<SpiffeId> {
        let is_known = self.all().any(|domain| id.trust_domain.as_str() == domain);
        is_known
            .then(|| self.identity(&id.namespace, &id.service_account))
            .flatten()
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        let aliases = self.aliases.iter().map(String::as_str);
        std::iter::once(self.own.as_str()).chain(aliases)
    }
}

impl std::fmt::Display for TrustDomains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.all().collect::<Vec<_>>().join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_mean_the_domain_itself() {
        let domains = TrustDomains::new("new", ["old", "new"]);
        let admitted = |text: &str| {
            let id: SpiffeId = text.parse().expect("an identity");
            domains.admit(&id).map(|id| id.to_string())
        };
        for own in ["spiffe://new/ns/n/sa/a", "spiffe://old/ns/n/sa/a"] {
            assert_eq!(admitted(own).as_deref(), Some("spiffe://new/ns/n/sa/a"));
        }
        assert_eq!(admitted("spiffe://foreign/ns/n/sa/a"), None);
        let before = domains.issuing("old").expect("one of them");
        assert_eq!(
            (before.own(), before.to_string()),
            ("old", "old or new".into())
        );
        assert_eq!(domains.issuing("foreign"), None);
    }
}
