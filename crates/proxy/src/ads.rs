//! The connection to the control plane.

use std::path::PathBuf;
use std::time::Duration;

use lateen_xds::client::{self, ConnectError, Connection};
use lateen_xds::types::core::Node;
use lateen_xds::types::wkt::{Value, value};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use crate::bootstrap::AdsTarget;
use crate::state::Event;

/// The server is given so long to answer a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that stays silent is probed, so that a server that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The field of the node's metadata by which the control plane knows that virtual hosts may come as
/// resources of their own.
const VIRTUAL_HOSTS: &str = "LATEEN_VIRTUAL_HOSTS";

/// Starts the client; its updates become events.
pub(crate) fn start(
    node: Node,
    target: AdsTarget,
    events_tx: mpsc::UnboundedSender<Event>,
) -> client::Subscriber {
    let mut ads = client::spawn(announcing(node), move || connect(target.clone()));
    let subscriber = ads.subscriber.clone();
    tokio::spawn(async move {
        while let Some(update) = ads.updates.recv().await {
            if events_tx.send(Event::Update(update)).is_err() {
                return;
            }
        }
    });
    subscriber
}

/// The node, and what this proxy understands beyond others. What else is in the node is the agent's,
/// which may be of another release.
fn announcing(mut node: Node) -> Node {
    let yes = value::Kind::StringValue("true".to_owned());
    let metadata = node.metadata.get_or_insert_default();
    let fields = &mut metadata.fields;
    fields.insert(VIRTUAL_HOSTS.to_owned(), Value { kind: Some(yes) });
    node
}

async fn connect(target: AdsTarget) -> Result<Connection, ConnectError> {
    let channel = match target {
        AdsTarget::Unix(path) => unix(path).await?,
        AdsTarget::Tcp(address) => {
            tune(Endpoint::from_shared(format!("http://{address}"))?)
                .connect()
                .await?
        }
    };
    Ok(channel.into())
}

async fn unix(path: PathBuf) -> Result<Channel, ConnectError> {
    let path = std::path::absolute(path)?;
    // The `unix` scheme is the library's own; the path is the rest of it.
    Ok(
        tune(Endpoint::from_shared(format!("unix://{}", path.display()))?)
            .connect()
            .await?,
    )
}

fn tune(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_while_idle(true)
}
