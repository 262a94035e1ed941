//! Patches of clusters.

use lateen_xds::types::cluster::Cluster;
use lateen_xds::{Lists, merge};

use super::edit::Edit;
use super::when::ClusterFacts;
use super::{Patches, What};
use lateen_api::networking::{PatchContext, PatchOperation};

fn edit(what: &What) -> Option<&Edit<Cluster>> {
    match what {
        What::Cluster(edit) => Some(edit),
        _ => None,
    }
}

impl Patches {
    /// Whether any patch changes a cluster.
    pub(super) fn change_cluster(&self, context: PatchContext, facts: &ClusterFacts<'_>) -> bool {
        let mut all = self.of(context, edit);
        all.any(|(patch, edit)| {
            !edit.adds() && !edit.removes() && patch.when.holds_for_cluster(facts)
        })
    }

    /// Whether a patch takes a cluster out.
    pub(super) fn remove_cluster(&self, context: PatchContext, facts: &ClusterFacts<'_>) -> bool {
        let mut all = self.of(context, edit);
        let found = all.find(|(patch, edit)| edit.removes() && patch.when.holds_for_cluster(facts));
        if let Some((patch, _)) = found {
            patch.done(&facts.name, Ok(true));
        }
        found.is_some()
    }

    pub(super) fn cluster(
        &self,
        context: PatchContext,
        facts: &ClusterFacts<'_>,
        mut cluster: Cluster,
    ) -> Cluster {
        for (patch, edit) in self.of(context, edit) {
            if edit.adds() || edit.removes() || !patch.when.holds_for_cluster(facts) {
                continue;
            }
            let reads = |cluster: &_| lateen_decode::cluster(cluster).map(drop);
            let at = (patch, facts.name.as_str());
            self.attempt(at, &mut cluster, reads, |cluster| change(cluster, edit));
        }
        cluster
    }
}

/// A cluster that chooses its transport socket by endpoint has no socket of its own to merge into:
/// the patch's is for the one of its name among those to choose from.
fn change(cluster: &mut Cluster, edit: &Edit<Cluster>) -> Result<bool, String> {
    let merges = edit.operation != PatchOperation::Replace;
    let Some(socket) = edit.value.transport_socket.as_ref() else {
        return edit.change(cluster);
    };
    if !merges || cluster.transport_socket_matches.is_empty() {
        return edit.change(cluster);
    }
    let mut patched = cluster.clone();
    let mut found = false;
    for choice in &mut patched.transport_socket_matches {
        let held = choice.transport_socket.as_mut();
        if let Some(held) = held.filter(|held| held.name == socket.name) {
            found = true;
            merge(held, socket, lists(edit)).map_err(|error| error.to_string())?;
        }
    }
    if !found {
        let name = &socket.name;
        return Err(format!(
            "none of the transport sockets that it chooses from is named {name:?}"
        ));
    }
    let mut rest = Cluster::clone(&edit.value);
    rest.transport_socket = None;
    merge(&mut patched, &rest, lists(edit)).map_err(|error| error.to_string())?;
    *cluster = patched;
    Ok(true)
}

fn lists(edit: &Edit<Cluster>) -> Lists {
    match edit.operation {
        PatchOperation::MergeAndReplaceList => Lists::Replace,
        _ => Lists::Append,
    }
}
