//! `watch`: the objects there are, if asked for, and then every change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::core::Core;
use super::error::ApiError;
use super::kinds::Resource;
use super::read;
use super::reply::{self, Reply};
use super::request::{Call, is_true};
use super::selector::Selectors;
use crate::store::{Change, Event, Object};

/// How often a quiet watcher learns the latest revision.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);

/// A watch without a limit of its own ends after this long, so that clients spread anew.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// Lines that wait for a slow reader before the watcher stops reading the log.
const QUEUE: usize = 64;

/// Answers `watch`.
pub(super) fn watch(core: &Arc<Core>, call: &Call) -> Result<Reply, ApiError> {
    if call.target.resource.virtual_only {
        return Err(ApiError::method_not_allowed("watch"));
    }
    let (lines, queue) = mpsc::channel(QUEUE);
    let watcher = Watcher {
        selectors: Selectors::parse(&call.query, &call.target.resource)?,
        core: Arc::clone(core),
        call: call.clone(),
        bookmarks: is_true(&call.query, "allowWatchBookmarks"),
        revision: 0,
        columns_sent: AtomicBool::new(false),
        lines,
    };
    let start = watcher.start()?;
    let timeout = call
        .parameter("timeoutSeconds")
        .and_then(|seconds| seconds.parse().ok())
        .filter(|seconds| *seconds > 0)
        .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let shutdown = core.shutdown.clone();
    tokio::spawn(async move {
        let closed = watcher.lines.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = closed.closed() => {}
            () = tokio::time::sleep(timeout) => {}
            () = watcher.run(start) => {}
        }
    });
    Ok(reply::stream(
        "application/json",
        ReceiverStream::new(queue),
    ))
}

/// Where a watch begins.
enum Start {
    /// After a revision.
    After(u64),
    /// With the objects there are, and then perhaps a bookmark that says that these were all.
    Initial { marker: bool },
}

struct Watcher {
    core: Arc<Core>,
    call: Call,
    selectors: Selectors,
    bookmarks: bool,
    revision: u64,
    /// Of a table.
    columns_sent: AtomicBool,
    lines: mpsc::Sender<std::io::Result<Bytes>>,
}

/// The reader has gone away.
struct Gone;

impl Watcher {
    fn resource(&self) -> &Resource {
        &self.call.target.resource
    }

    fn start(&self) -> Result<Start, ApiError> {
        if is_true(&self.call.query, "sendInitialEvents")
            && self.call.query.contains_key("sendInitialEvents")
        {
            return Ok(Start::Initial {
                marker: self.bookmarks,
            });
        }
        match self.call.parameter("resourceVersion") {
            None | Some("0") => Ok(Start::Initial { marker: false }),
            Some(text) => text
                .parse()
                .map(Start::After)
                .map_err(|_| ApiError::bad_request(format!("invalid resource version {text:?}"))),
        }
    }

    async fn run(mut self, start: Start) {
        // Subscribed before the first look, so that nothing falls between.
        let mut changes = self.core.store.changes(&self.resource().storage);
        let begun = match start {
            Start::After(revision) => {
                self.revision = revision;
                Ok(())
            }
            Start::Initial { marker } => self.send_initial(marker).await,
        };
        if begun.is_err() {
            return;
        }
        let mut bookmark = tokio::time::interval(BOOKMARK_INTERVAL);
        bookmark.reset();
        loop {
            changes.borrow_and_update();
            if self.send_events().await.is_err() {
                return;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = bookmark.tick(), if self.bookmarks => {
                    if self.send_events().await.is_err() || self.send_bookmark(false).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn send_initial(&mut self, marker: bool) -> Result<(), Gone> {
        let namespace = &self.call.target.namespace;
        let namespace = (!namespace.is_empty()).then_some(namespace.as_str());
        let (objects, revision) = self.core.store.list(&self.resource().storage, namespace);
        for object in objects {
            if self.selectors.matches(&object.value) {
                self.send("ADDED", self.shown(&object)).await?;
            }
        }
        self.revision = revision;
        if marker {
            self.send_bookmark(true).await
        } else {
            Ok(())
        }
    }

    async fn send_events(&mut self) -> Result<(), Gone> {
        match self
            .core
            .store
            .events_after(&self.resource().storage, self.revision)
        {
            Ok((events, upto)) => {
                for event in events {
                    if let Some(kind) = self.kind_for(&event) {
                        self.send(kind, self.shown(&event.object)).await?;
                    }
                }
                self.revision = self.revision.max(upto);
                Ok(())
            }
            Err(error) => {
                self.send("ERROR", ApiError::gone(error.to_string()).status())
                    .await?;
                Err(Gone)
            }
        }
    }

    /// What the event is for this watcher, whose selectors an object may begin or cease to match.
    fn kind_for(&self, event: &Event) -> Option<&'static str> {
        let namespace = &self.call.target.namespace;
        if !namespace.is_empty() && event.object.key.namespace != *namespace {
            return None;
        }
        let before = event
            .previous
            .as_ref()
            .is_some_and(|object| self.selectors.matches(&object.value));
        let after = event.change != Change::Deleted && self.selectors.matches(&event.object.value);
        match (before, after) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }

    fn shown(&self, object: &Object) -> Value {
        let first = !self.columns_sent.swap(true, Ordering::Relaxed);
        read::present_with(&self.call, &object.value, first)
    }

    async fn send_bookmark(&self, initial_end: bool) -> Result<(), Gone> {
        let mut object = json!({
            "kind": self.resource().kind,
            "apiVersion": self.resource().api_version(),
            "metadata": {"resourceVersion": self.revision.to_string(), "creationTimestamp": null},
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.send("BOOKMARK", object).await
    }

    async fn send(&self, kind: &str, object: Value) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(&json!({"type": kind, "object": object}))
            .expect("JSON values have text keys");
        line.push(b'\n');
        self.lines.send(Ok(line.into())).await.map_err(|_| Gone)
    }
}
