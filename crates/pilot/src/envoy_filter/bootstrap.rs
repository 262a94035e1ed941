//! Patches of what proxies start from. Agents write that, and ask for the patches before they start
//! their proxies: what is sent is the sum of them, which they lay over it.

use lateen_api::networking::PatchContext;
use lateen_xds::json;
use lateen_xds::names::BOOTSTRAP_PARTS;
use lateen_xds::server::Resource;
use lateen_xds::types::bootstrap::Bootstrap;

use super::edit::Edit;
use super::{Patch, Patches, Selected, What};

/// What our own proxy takes from a bootstrap.
const READ_BY_OURS: [&str; 5] = [
    "node",
    "static_resources",
    "dynamic_resources",
    "admin",
    "cluster_manager",
];

impl Selected {
    /// What is laid over the proxy's bootstrap; empty where no patch is for it.
    pub(crate) fn bootstrap(&self) -> Resource {
        let patches = self.all.as_ref();
        let parts = patches.map_or_else(Bootstrap::default, |patches| patches.bootstrap());
        Resource::new(BOOTSTRAP_PARTS, &parts)
    }
}

impl Patches {
    pub(super) fn bootstrap(&self) -> Bootstrap {
        let contexts: &[PatchContext] = match self.router {
            true => &[PatchContext::Gateway],
            false => &[PatchContext::SidecarInbound, PatchContext::SidecarOutbound],
        };
        let mut parts = Bootstrap::default();
        for patch in &self.list {
            let is_meant = contexts.iter().any(|context| patch.when.is_in(*context));
            if let What::Bootstrap(edit) = &patch.what
                && is_meant
            {
                patch.done(BOOTSTRAP_PARTS, edit.change(&mut parts));
                if self.ours {
                    say_ignored(patch, edit);
                }
            }
        }
        parts
    }
}

/// Names what our own proxy does nothing with.
fn say_ignored(patch: &Patch, edit: &Edit<Bootstrap>) {
    let fields = json::to_value(&*edit.value).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    for (field, _) in fields.filter(|(field, _)| !READ_BY_OURS.contains(&field.as_str())) {
        let why = format!("Lateen's proxy does nothing with {field}");
        patch.does_not_fit(BOOTSTRAP_PARTS, &why);
    }
}
