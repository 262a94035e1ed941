//! websockets: a page that shows, as it happens, what others set by a request.

use std::convert::Infallible;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::{Html, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::{Error, serve};

/// Changes that a slow page may be behind before it misses some.
const QUEUE: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TCP port to listen on
    #[arg(long, default_value_t = 8888)]
    port: u16,
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Error> {
        serve::http(self.port, router()).await
    }
}

/// A cell of the page's table and what it shall show.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Change {
    id: String,
    value: String,
}

type Changes = broadcast::Sender<Change>;

fn router() -> Router {
    let (changes, _) = broadcast::channel(QUEUE);
    Router::new()
        .route("/", get(|| async { Html(include_str!("websockets.html")) }))
        .route("/ws", get(follow))
        .route("/api", get(set).post(set))
        .with_state(changes)
}

/// Sends every page the change; nobody may be looking.
async fn set(State(changes): State<Changes>, Query(change): Query<Change>) -> String {
    let n_pages = changes.send(change).unwrap_or(0);
    format!("shown by {n_pages} pages\n")
}

async fn follow(State(changes): State<Changes>, upgrade: WebSocketUpgrade) -> Response {
    let changes = changes.subscribe();
    upgrade.on_upgrade(async move |socket| {
        // The page is gone, which is how each of them ends.
        let _: Result<Infallible, axum::Error> = show(socket, changes).await;
    })
}

async fn show(
    mut socket: WebSocket,
    mut changes: broadcast::Receiver<Change>,
) -> Result<Infallible, axum::Error> {
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => {
                    let text = serde_json::to_string(&change).map_err(axum::Error::new)?;
                    socket.send(Message::text(text)).await?;
                }
                Err(broadcast::error::RecvError::Lagged(n)) => {
                    tracing::info!(n, "a slow page missed changes");
                }
                Err(error) => return Err(axum::Error::new(error)),
            },
            // What pages say is of no interest; that they are gone is.
            message = socket.recv() => match message {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(axum::Error::new("the page is gone")),
            },
        }
    }
}
