//! The `log` subresource of pods; whoever runs the containers implements [`LogSource`].

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;

use super::core::Core;
use super::error::ApiError;
use super::meta;
use super::reply::{self, Reply};
use super::request::{Call, is_true};
use crate::store::Object;

/// The lines of a container's log.
pub type LogStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Which part of which container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The container; always one of the pod's.
    pub container: String,
    /// Go on until the container ends.
    pub follow: bool,
    /// The run before the present one.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only lines younger than this.
    pub since_seconds: Option<u64>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Put the time before each line.
    pub timestamps: bool,
}

/// Reads containers' logs.
#[async_trait::async_trait]
pub trait LogSource: Send + Sync {
    /// Opens the log of one container of a pod.
    ///
    /// # Errors
    /// What the user should read, when there is no such log: `container "x" in pod "y" is waiting to start: …`.
    async fn open(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        options: LogOptions,
    ) -> Result<LogStream, String>;
}

/// Answers `GET …/pods/{name}/log`.
pub(super) async fn get(core: &Arc<Core>, call: &Call, pod: &Object) -> Result<Reply, ApiError> {
    let Some(source) = &core.logs else {
        return Err(ApiError::bad_request(
            "logs are not supported: no node is attached",
        ));
    };
    let options = options(call, pod)?;
    let uid = meta::text(&pod.value, "/metadata/uid").unwrap_or_default();
    let lines = source
        .open(&pod.key.namespace, &pod.key.name, uid, options)
        .await
        .map_err(ApiError::bad_request)?;
    let until = core.shutdown.clone().cancelled_owned();
    Ok(reply::stream(
        "text/plain",
        futures::StreamExt::take_until(lines, until),
    ))
}

fn options(call: &Call, pod: &Object) -> Result<LogOptions, ApiError> {
    let number = |key: &str| match call.parameter(key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
            ApiError::bad_request(format!("{key}: {text:?} is not a number that can be used"))
        }),
    };
    Ok(LogOptions {
        container: container(call, pod)?,
        follow: is_true(&call.query, "follow"),
        previous: is_true(&call.query, "previous"),
        tail_lines: number("tailLines")?,
        since_seconds: number("sinceSeconds")?,
        limit_bytes: number("limitBytes")?,
        timestamps: is_true(&call.query, "timestamps"),
    })
}

fn names<'a>(pod: &'a Object, pointer: &str) -> Vec<&'a str> {
    meta::list(&pod.value, pointer)
        .iter()
        .filter_map(|one| meta::text(one, "/name"))
        .collect()
}

fn container(call: &Call, pod: &Object) -> Result<String, ApiError> {
    let (main, init) = (
        names(pod, "/spec/containers"),
        names(pod, "/spec/initContainers"),
    );
    let name = &pod.key.name;
    match call.parameter("container") {
        Some(asked) if main.contains(&asked) || init.contains(&asked) => Ok(asked.to_owned()),
        Some(asked) => Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {name}"
        ))),
        None => match main.as_slice() {
            [only] => Ok((*only).to_owned()),
            many => {
                let init = if init.is_empty() {
                    String::new()
                } else {
                    format!(" or one of the init containers: [{}]", init.join(" "))
                };
                Err(ApiError::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]{init}",
                    many.join(" ")
                )))
            }
        },
    }
}
