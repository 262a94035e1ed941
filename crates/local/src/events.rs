//! Writes Events, in the background and counted when they repeat.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

/// So many distinct events are remembered for counting.
const REMEMBERED: usize = 1000;

/// Hands events to a task that writes them; cheap to clone, never blocks.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    news_tx: mpsc::UnboundedSender<News>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    component: &'static str,
    uid: String,
    reason: String,
    message: String,
}

#[derive(Debug)]
struct News {
    key: Key,
    about: ObjectReference,
    warning: bool,
}

impl Recorder {
    /// Starts the task.
    pub(crate) fn start(client: kube::Client) -> Self {
        let (news_tx, news_rx) = mpsc::unbounded_channel();
        tokio::spawn(write(client, news_rx));
        Self { news_tx }
    }

    /// Something went as it should.
    pub(crate) fn normal(
        &self,
        component: &'static str,
        about: &ObjectReference,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.send(component, about, reason, message.into(), false);
    }

    /// Something did not.
    pub(crate) fn warning(
        &self,
        component: &'static str,
        about: &ObjectReference,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.send(component, about, reason, message.into(), true);
    }

    fn send(
        &self,
        component: &'static str,
        about: &ObjectReference,
        reason: &str,
        message: String,
        warning: bool,
    ) {
        let uid = about.uid.clone().unwrap_or_default();
        let key = Key {
            component,
            uid,
            reason: reason.to_owned(),
            message,
        };
        // The task ends only with the runtime.
        let _ = self.news_tx.send(News {
            key,
            about: about.clone(),
            warning,
        });
    }
}

async fn write(client: kube::Client, mut news_rx: mpsc::UnboundedReceiver<News>) {
    let mut known: HashMap<Key, (String, i32)> = HashMap::new();
    while let Some(news) = news_rx.recv().await {
        let namespace = news
            .about
            .namespace
            .as_deref()
            .filter(|text| !text.is_empty())
            .unwrap_or("default");
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        if known.len() > REMEMBERED {
            known.clear();
        }
        let result = match known.get_mut(&news.key) {
            Some((name, count)) => {
                *count += 1;
                let patch = json!({"count": count, "lastTimestamp": Time(Timestamp::now())});
                let patched = api
                    .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                    .await;
                patched.map(|_| ())
            }
            None => {
                let event = event(&news, namespace);
                let name = event.metadata.name.clone().unwrap_or_default();
                known.insert(news.key.clone(), (name, 1));
                api.create(&PostParams::default(), &event).await.map(|_| ())
            }
        };
        if let Err(error) = result {
            debug!(%error, "an event was not written");
            known.remove(&news.key);
        }
    }
}

fn event(news: &News, namespace: &str) -> Event {
    let now = Timestamp::now();
    let about = news.about.name.as_deref().unwrap_or("unknown");
    let time = Some(Time(now));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: news.about.clone(),
        reason: Some(news.key.reason.clone()),
        message: Some(news.key.message.clone()),
        type_: Some(if news.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        source: Some(EventSource {
            component: Some(news.key.component.to_owned()),
            host: None,
        }),
        reporting_component: Some(news.key.component.to_owned()),
        reporting_instance: Some("lateen".to_owned()),
        ..Event::default()
    }
}
