//! Our own proxy, in this process.

use std::path::Path;
use std::sync::Arc;

use lateen_proxy::{BootstrapSource, ProxyOptions};
use lateen_tls::IdentityStore;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::AgentConfig;

/// The running proxy. It ends when this is stopped or dropped.
#[derive(Debug)]
pub(crate) struct InProcess {
    running: JoinHandle<Result<(), lateen_proxy::Error>>,
    shutdown: CancellationToken,
}

impl InProcess {
    pub(crate) fn start(
        config: &AgentConfig,
        bootstrap: &Path,
        identity: &Arc<IdentityStore>,
    ) -> Self {
        let source = BootstrapSource::File(bootstrap.to_owned());
        let mut options = ProxyOptions::new(source, identity.clone());
        if let Some(workers) = config.concurrency {
            options.concurrency = usize::try_from(workers).unwrap_or(usize::MAX);
        }
        options.drain_time = config.termination_drain;
        let shutdown = options.shutdown.clone();
        Self {
            running: tokio::spawn(lateen_proxy::run(options)),
            shutdown,
        }
    }

    /// Resolves when the proxy ends.
    pub(crate) async fn ended(&mut self) -> Error {
        Error::Proxy(match (&mut self.running).await {
            Ok(Ok(())) => "it ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => lost(&error),
        })
    }

    /// Lets the proxy finish what is under way, for as long as its drain time.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        match (&mut self.running).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the proxy did not end well"),
            Err(error) => tracing::warn!(error = lost(&error), "the proxy did not end well"),
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn lost(error: &JoinError) -> String {
    format!("it failed in itself: {error}")
}
