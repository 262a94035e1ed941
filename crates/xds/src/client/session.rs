//! The client's task: streams one after the other, over the same subscriptions.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use lateen_core::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

use super::subscriptions::Subscriptions;
use super::{BACKOFF, Command, ConnectError, Connection, Resource, State, Ticket, Update};
use crate::TypeUrl;
use crate::types::core::Node;
use crate::types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::types::rpc;

/// Requests between this task and the connection: more than there are resource types, so that the
/// opening requests always fit.
const OUTGOING: usize = 32;
/// A response may hold every cluster and listener of a large mesh.
const MAX_RESPONSE: usize = 256 << 20;

pub(super) struct Session {
    node: Node,
    commands_tx: mpsc::UnboundedSender<Command>,
    commands_rx: mpsc::UnboundedReceiver<Command>,
    updates: mpsc::Sender<Update>,
    state: watch::Sender<State>,
    subscriptions: Subscriptions,
    /// The last report.
    report: Option<DeltaDiscoveryRequest>,
    /// Which stream this is; answers to an older one are not sent.
    stream: u64,
}

/// The request side of one stream.
struct Outgoing {
    requests_tx: mpsc::Sender<DeltaDiscoveryRequest>,
    /// The first request of a stream carries the node, later ones need not.
    node: Option<Node>,
}

/// Why a stream ended.
enum End {
    /// Nobody reads the updates any more.
    Unused,
    /// The connection or the server.
    Broken(String),
}

impl Session {
    pub(super) fn new(
        node: Node,
        commands_tx: mpsc::UnboundedSender<Command>,
        commands_rx: mpsc::UnboundedReceiver<Command>,
        updates: mpsc::Sender<Update>,
        state: watch::Sender<State>,
    ) -> Self {
        Session {
            node,
            commands_tx,
            commands_rx,
            updates,
            state,
            subscriptions: Subscriptions::default(),
            report: None,
            stream: 0,
        }
    }

    pub(super) async fn run<C, F>(mut self, mut connect: C)
    where
        C: FnMut() -> F + Send,
        F: Future<Output = Result<Connection, ConnectError>> + Send,
    {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            self.stream += 1;
            let end = self.one_stream(&mut connect, &mut backoff).await;
            let End::Broken(reason) = end else { return };
            warn!(%reason, "discovery stream ended, reconnecting");
            self.state.send_replace(State::Disconnected(reason));
            if let Some(End::Unused) = self.record_for(backoff.next_delay()).await {
                return;
            }
        }
    }

    /// Answers and subscriptions count also while there is no stream.
    async fn record_for(&mut self, delay: Duration) -> Option<End> {
        let wait = tokio::time::sleep(delay);
        tokio::pin!(wait);
        loop {
            let command = tokio::select! {
                () = &mut wait => return None,
                () = self.updates.closed() => return Some(End::Unused),
                Some(command) = self.commands_rx.recv() => command,
            };
            self.apply(command);
        }
    }

    async fn one_stream<C, F>(&mut self, connect: &mut C, backoff: &mut Backoff) -> End
    where
        C: FnMut() -> F + Send,
        F: Future<Output = Result<Connection, ConnectError>> + Send,
    {
        let connection = tokio::select! {
            () = self.updates.closed() => return End::Unused,
            connection = connect() => connection,
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => return End::Broken(format!("cannot connect: {error}")),
        };
        let (requests_tx, requests_rx) = mpsc::channel(OUTGOING);
        let mut outgoing = Outgoing {
            requests_tx,
            node: Some(self.node.clone()),
        };
        let mut request = tonic::Request::new(ReceiverStream::new(requests_rx));
        *request.metadata_mut() = connection.metadata;
        let mut client = AggregatedDiscoveryServiceClient::new(connection.channel)
            .max_decoding_message_size(MAX_RESPONSE);

        // A server may wait for the first request before it answers with headers, so requests
        // are written while the call is being opened.
        let opening = self.opening();
        let call = client.delta_aggregated_resources(request);
        let answer = tokio::select! {
            answer = call => answer,
            end = self.forward(opening, &mut outgoing) => return end,
        };
        let mut responses = match answer {
            Ok(response) => response.into_inner(),
            Err(status) => return End::Broken(describe(&status)),
        };
        self.state.send_replace(State::Connected);
        let opened = Instant::now();
        let end = loop {
            let response = tokio::select! {
                end = self.forward(Vec::new(), &mut outgoing) => break end,
                response = responses.next() => response,
            };
            match response {
                Some(Ok(response)) => {
                    backoff.reset();
                    if self.hand_on(response).await.is_err() {
                        break End::Unused;
                    }
                }
                Some(Err(status)) => break End::Broken(describe(&status)),
                None => break End::Broken("the server closed the stream".into()),
            }
        };
        // A stream that only reports is never answered; that it lasted says that it worked.
        if opened.elapsed() >= BACKOFF.1 {
            backoff.reset();
        }
        end
    }

    /// Sends `opening` and then what commands ask for, until the stream ends. Cancelling it between
    /// commands loses nothing: room for the request is taken before the command is.
    async fn forward(
        &mut self,
        opening: Vec<DeltaDiscoveryRequest>,
        outgoing: &mut Outgoing,
    ) -> End {
        let broken = || End::Broken("the connection broke".into());
        for mut request in opening {
            request.node = outgoing.node.take();
            if outgoing.requests_tx.send(request).await.is_err() {
                return broken();
            }
        }
        loop {
            let Ok(permit) = outgoing.requests_tx.reserve().await else {
                return broken();
            };
            let command = tokio::select! {
                () = self.updates.closed() => return End::Unused,
                Some(command) = self.commands_rx.recv() => command,
            };
            if let Some(mut request) = self.apply(command) {
                request.node = outgoing.node.take();
                permit.send(request);
            }
        }
    }

    fn opening(&mut self) -> Vec<DeltaDiscoveryRequest> {
        // What was asked for before this moment belongs to the opening requests.
        while let Ok(command) = self.commands_rx.try_recv() {
            self.apply(command);
        }
        let opening = self.subscriptions.opening();
        opening.into_iter().chain(self.report.clone()).collect()
    }

    fn apply(&mut self, command: Command) -> Option<DeltaDiscoveryRequest> {
        match command {
            Command::Wildcard(url) => self.subscriptions.wildcard(url),
            Command::Subscribe(url, names) => self.subscriptions.subscribe(url, names),
            Command::Unsubscribe(url, names) => self.subscriptions.unsubscribe(url, names),
            Command::Answer(answer) => self.subscriptions.answer(answer, self.stream),
            Command::Report(url, fault) => {
                self.report = Some(report(&url, fault));
                self.report.clone()
            }
        }
    }

    async fn hand_on(
        &mut self,
        response: DeltaDiscoveryResponse,
    ) -> Result<(), mpsc::error::SendError<Update>> {
        let type_url = TypeUrl::new(&response.type_url);
        debug!(
            r#type = type_url.short(),
            resources = response.resources.len(),
            removed = response.removed_resources.len(),
            "discovery response"
        );
        let resources = response.resources.into_iter().map(|resource| Resource {
            name: resource.name,
            version: resource.version,
            body: resource.resource,
        });
        let update = Update {
            type_url,
            resources: resources.collect(),
            removed: response.removed_resources,
            ticket: Ticket {
                commands: self.commands_tx.clone(),
                stream: self.stream,
                nonce: response.nonce,
            },
        };
        self.updates.send(update).await
    }
}

fn report(url: &TypeUrl, fault: Option<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: url.to_string(),
        error_detail: fault.map(|message| rpc::Status {
            code: tonic::Code::Internal.into(),
            message,
            ..rpc::Status::default()
        }),
        ..DeltaDiscoveryRequest::default()
    }
}

fn describe(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests;
