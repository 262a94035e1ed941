//! The names of the mesh, from the control plane.
//!
//! The agent has a stream of its own, beside the proxy's: whichever proxy runs, or none, names are
//! the agent's.

use std::sync::Arc;

use lateen_xds::client::{self, ConnectError, Connection, Resource, Update};
use lateen_xds::nds::NameTable;
use lateen_xds::types::core::Node;
use lateen_xds::{TypeUrl, decode_any, json};
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::transport::Endpoint;

use crate::bootstrap;
use crate::config::AgentConfig;
use crate::dns::{Place, Table};

/// The metadata field by which the control plane knows that this is no proxy's stream.
const AGENT: &str = "LATEEN_AGENT";

/// Keeps a table equal to what the control plane says; never returns. Where that cannot be reached,
/// the last one stays.
pub(crate) async fn follow(
    config: Arc<AgentConfig>,
    place: Place,
    tables: watch::Sender<Arc<Table>>,
) {
    let mut ads = match open(&config) {
        Ok(ads) => ads,
        Err(error) => {
            tracing::error!(%error, "names of the mesh are not asked for");
            // Nobody is to wait for them.
            drop(tables);
            return std::future::pending().await;
        }
    };
    ads.subscriber.wildcard(TypeUrl::NAME_TABLE);
    while let Some(update) = ads.updates.recv().await {
        take(update, &place, &tables);
    }
}

/// A stream of the agent's own.
pub(crate) fn open(config: &AgentConfig) -> Result<client::Client, lateen_xds::Error> {
    let node = node(config);
    // Many megabytes, for one message.
    lateen_xds::json::release();
    let node = node?;
    let socket = config.paths.xds_socket.clone();
    Ok(client::spawn(node, move || {
        let socket = socket.clone();
        async move {
            let socket = std::path::absolute(socket)?;
            let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
            Ok::<Connection, ConnectError>(endpoint.connect().await?.into())
        }
    }))
}

fn node(config: &AgentConfig) -> Result<Node, lateen_xds::Error> {
    let mut node: Value = bootstrap::node(config);
    node["metadata"][AGENT] = json!("true");
    json::from_value(node)
}

fn take(update: Update, place: &Place, tables: &watch::Sender<Arc<Table>>) {
    if update.type_url != TypeUrl::NAME_TABLE {
        return update.ack();
    }
    match set(&update.resources, &update.removed, place, tables) {
        Ok(()) => update.ack(),
        Err(error) => {
            tracing::error!(%error, "the table of names cannot be read; the last one stays");
            update.nack(error.to_string());
        }
    }
}

/// Sets what an update says. Whatever that is, the control plane has answered, and nobody waits for
/// a first table any longer.
fn set(
    resources: &[Resource],
    removed: &[String],
    place: &Place,
    tables: &watch::Sender<Arc<Table>>,
) -> Result<(), lateen_xds::Error> {
    // There is one; that it is gone means that no names are answered any more.
    let body = resources.last().and_then(|found| found.body.as_ref());
    let told = match body.map(decode_any::<NameTable>) {
        None if removed.is_empty() => None,
        None => Some(Ok(NameTable::default())),
        told => told,
    };
    let Some(Ok(told)) = told else {
        // The last one stays, or none at all.
        tables.send_modify(|_| {});
        return told.map_or(Ok(()), |told| told.map(|_| ()));
    };
    tracing::debug!(hosts = told.table.len(), "new table of names");
    tables.send_replace(Arc::new(Table::new(told, place.clone())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use lateen_xds::Any;
    use lateen_xds::nds::NameInfo;
    use prost::Message;

    use super::*;

    #[test]
    fn every_answer_ends_the_wait_and_a_table_stays_until_another_comes() {
        let mut told = NameTable::default();
        let info = NameInfo {
            ips: vec!["10.96.0.1".to_owned()],
            ..NameInfo::default()
        };
        told.table.insert("a.example".to_owned(), info);
        let resource = |value: Vec<u8>| Resource {
            name: String::new(),
            version: "1".to_owned(),
            body: Some(Any {
                type_url: TypeUrl::NAME_TABLE.to_string(),
                value,
            }),
        };
        let table = [resource(told.encode_to_vec())];
        let unreadable = [resource(vec![0xff])];
        let gone = [String::new()];
        let place = Place::default();
        for (resources, removed, expect) in [
            (&table[..], &[][..], [true, true]),
            (&[], &[], [false, true]),
            (&[], &gone, [false, false]),
            (&unreadable, &[], [false, true]),
        ] {
            for (before, expect) in [(false, expect[0]), (true, expect[1])] {
                let (tables_tx, mut tables) = watch::channel(Arc::default());
                if before {
                    set(&table, &[], &place, &tables_tx).expect("readable");
                    tables.mark_unchanged();
                }
                let set = set(resources, removed, &place, &tables_tx);
                assert_eq!(set.is_err(), resources == unreadable, "{set:?}");
                assert!(tables.has_changed().expect("open"), "{resources:?}");
                let known = tables.borrow().find("a.example").is_some();
                assert_eq!(known, expect, "{resources:?} {removed:?} {before}");
            }
        }
    }
}
