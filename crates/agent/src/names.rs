//! The names of the mesh, from the control plane.
//!
//! The agent has a stream of its own, beside the proxy's: whichever proxy runs, or none, names are
//! the agent's.

use std::sync::Arc;

use lateen_xds::client::{self, ConnectError, Connection, Update};
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
    let node = match node(&config) {
        Ok(node) => node,
        Err(error) => {
            tracing::error!(%error, "names of the mesh are not asked for");
            return std::future::pending().await;
        }
    };
    let socket = config.paths.xds_socket.clone();
    let mut ads = client::spawn(node, move || {
        let socket = socket.clone();
        async move {
            let socket = std::path::absolute(socket)?;
            let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
            Ok::<Connection, ConnectError>(endpoint.connect().await?.into())
        }
    });
    ads.subscriber.wildcard(TypeUrl::NAME_TABLE);
    while let Some(update) = ads.updates.recv().await {
        take(update, &place, &tables);
    }
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
    // There is one; that it is gone means that no names are answered any more.
    let body = update
        .resources
        .last()
        .and_then(|found| found.body.as_ref());
    let told = match body.map(decode_any::<NameTable>) {
        None if update.removed.is_empty() => return update.ack(),
        None => NameTable::default(),
        Some(Ok(told)) => told,
        Some(Err(error)) => {
            tracing::error!(%error, "the table of names cannot be read; the last one stays");
            return update.nack(error.to_string());
        }
    };
    tracing::debug!(hosts = told.table.len(), "new table of names");
    tables.send_replace(Arc::new(Table::new(told, place.clone())));
    update.ack();
}
