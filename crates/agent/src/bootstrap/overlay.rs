//! What users lay over the bootstrap: patches of EnvoyFilters, for which the control plane is asked before
//! the proxy starts, and a file, which counts for more. Both are parts of Envoy's message; lists are
//! added to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lateen_xds::client::Update;
use lateen_xds::names::BOOTSTRAP_PARTS;
use lateen_xds::types::bootstrap::Bootstrap;
use lateen_xds::{Lists, TypeUrl, decode_any, json, merge};
use serde_json::Value;

use crate::config::{AgentConfig, bad};
use crate::{Error, names};

/// How long the control plane is waited for, which may know nothing of such patches.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is laid over the bootstrap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    /// A file, in JSON or YAML.
    pub(crate) file: Option<PathBuf>,
    /// Whether the control plane is asked for patches.
    pub(crate) patches: bool,
}

impl Overlay {
    /// The variable with the path of the file, as the injector sets it.
    pub(crate) const FILE: &str = "ISTIO_BOOTSTRAP_OVERRIDE";
    /// The variable that says whether the control plane is asked.
    pub(crate) const PATCHES: &str = "BOOTSTRAP_XDS_AGENT";
}

/// A bootstrap with all that is laid over it; as it is where that is nothing.
///
/// # Errors
/// When the file is none of Envoy's message. Patches that do not come, or cannot be read, are told and
/// left out: they are not to keep the pod from starting.
pub(super) async fn laid_over(bootstrap: Value, config: &AgentConfig) -> Result<Value, Error> {
    let mut parts = Vec::new();
    if config.overlay.patches {
        parts.extend(asked(config, PATIENCE).await);
    }
    if let Some(path) = &config.overlay.file {
        parts.push(read(path)?);
    }
    if parts.is_empty() {
        return Ok(bootstrap);
    }
    let invalid = |error: lateen_xds::Error| Error::Proxy(format!("bootstrap: {error}"));
    let mut whole: Bootstrap = json::from_value(bootstrap).map_err(invalid)?;
    for part in &parts {
        merge(&mut whole, part, Lists::Append).map_err(invalid)?;
    }
    json::to_value(&whole).map_err(invalid)
}

fn read(path: &Path) -> Result<Bootstrap, Error> {
    let wrong = |why: String| bad(Overlay::FILE, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    json::from_value(value).map_err(|error| wrong(error.to_string()))
}

/// What the control plane has to lay over it.
async fn asked(config: &AgentConfig, patience: Duration) -> Option<Bootstrap> {
    let mut ads = match names::open(config) {
        Ok(ads) => ads,
        Err(error) => {
            tracing::error!(%error, "the control plane is not asked for patches of the bootstrap");
            return None;
        }
    };
    ads.subscriber.wildcard(TypeUrl::BOOTSTRAP);
    let answered = async {
        loop {
            let update = ads.updates.recv().await?;
            if update.type_url == TypeUrl::BOOTSTRAP {
                return taken(update);
            }
            update.ack();
        }
    };
    let answer = tokio::time::timeout(patience, answered).await;
    answer.unwrap_or_else(|_| {
        let seconds = patience.as_secs();
        tracing::error!(
            seconds,
            "no patches of the bootstrap came, the proxy starts without them"
        );
        None
    })
}

fn taken(update: Update) -> Option<Bootstrap> {
    let mut found = update.resources.iter();
    let found = found.find(|resource| resource.name == BOOTSTRAP_PARTS);
    let body = found.and_then(|resource| resource.body.as_ref());
    let Some(body) = body else {
        let why = "only patches of bootstraps are taken, not whole ones";
        tracing::error!(why, "the proxy starts without patches of its bootstrap");
        update.nack(why);
        return None;
    };
    match decode_any(body) {
        Ok(parts) => {
            update.ack();
            Some(parts)
        }
        Err(error) => {
            tracing::error!(%error, "the proxy starts without patches of its bootstrap");
            update.nack(error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests;
