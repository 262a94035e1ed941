//! Policies that another mesh has left in the cluster, and that this one would not enforce.
//!
//! The webhook refuses them when they are written; those that are stored already were written to a
//! webhook that took them. They would look as if they were in force.

use kube::{ResourceExt, core::TypeMeta};

use crate::apply::Applier;

/// Kinds by which people are kept out.
const KINDS: [&str; 3] = [
    "AuthorizationPolicy",
    "RequestAuthentication",
    "PeerAuthentication",
];
/// Versions that definitions of the last years serve, the newest first.
const VERSIONS: [&str; 2] = ["security.istio.io/v1", "security.istio.io/v1beta1"];

/// A sentence for each kind of which there are objects that are not enforced.
pub(crate) async fn not_enforced(applier: &mut Applier) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for kind in KINDS {
        for api_version in VERSIONS {
            let types = TypeMeta {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            };
            if applier.known(&types).await?.is_some() {
                all.extend(of_kind(applier, &types).await?);
                break;
            }
        }
    }
    Ok(all)
}

async fn of_kind(applier: &mut Applier, types: &TypeMeta) -> anyhow::Result<Option<String>> {
    let mut refused = Vec::new();
    for object in applier.list(types, "").await? {
        let name = format!(
            "{}/{}",
            object.namespace().unwrap_or_default(),
            object.name_any()
        );
        let document = serde_json::to_value(&object)?;
        // The last one says what holds for the kind as a whole.
        if let Some(fault) = lateen_galley::review(&document).0.last() {
            refused.push((name, format!("{}: {}", fault.field, fault.reason)));
        }
    }
    let Some((name, fault)) = refused.first() else {
        return Ok(None);
    };
    let others = match refused.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let kind = &types.kind;
    Ok(Some(format!(
        "{kind} {name}{others} would not be enforced, and whoever it keeps out would be let in ({fault}); see docs/migrate.md"
    )))
}
