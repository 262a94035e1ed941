//! SPIFFE identities of workloads.

use std::{fmt, str::FromStr};

use arcstr::ArcStr;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`: who a workload is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    /// The mesh's trust domain, `cluster.local` unless configured.
    pub trust_domain: ArcStr,
    /// The namespace that the workload runs in.
    pub namespace: ArcStr,
    /// The service account that the workload runs as.
    pub service_account: ArcStr,
}

/// Why a text is not a workload's SPIFFE identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
pub struct InvalidSpiffeId {
    /// What was given.
    pub text: String,
}

impl SpiffeId {
    /// Puts an identity together; its parts must not be empty or hold a slash.
    pub fn new(
        trust_domain: impl AsRef<str>,
        namespace: impl AsRef<str>,
        service_account: impl AsRef<str>,
    ) -> Result<Self, InvalidSpiffeId> {
        let parts = [
            trust_domain.as_ref(),
            namespace.as_ref(),
            service_account.as_ref(),
        ];
        if parts
            .iter()
            .any(|part| part.is_empty() || part.contains('/'))
        {
            let text = format!("spiffe://{}/ns/{}/sa/{}", parts[0], parts[1], parts[2]);
            return Err(InvalidSpiffeId { text });
        }
        Ok(SpiffeId {
            trust_domain: parts[0].into(),
            namespace: parts[1].into(),
            service_account: parts[2].into(),
        })
    }

    /// The form that policies use: without the `spiffe://`.
    pub fn principal(&self) -> String {
        format!(
            "{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSpiffeId {
            text: text.to_owned(),
        };
        let rest = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
        match rest.split('/').collect::<Vec<_>>()[..] {
            [trust_domain, "ns", namespace, "sa", service_account] => {
                SpiffeId::new(trust_domain, namespace, service_account).map_err(|_| invalid())
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let text = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
        let id: SpiffeId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(
            id.principal(),
            "cluster.local/ns/default/sa/bookinfo-reviews"
        );
    }

    #[test]
    fn refuses_other_forms() {
        for text in [
            "",
            "cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a",
            "spiffe://cluster.local/ns//sa/b",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe:///ns/a/sa/b",
            "https://cluster.local/ns/a/sa/b",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }
}
