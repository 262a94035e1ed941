//! A Kubernetes-style API server: what `kubectl` and the `kube` crate need, on an embedded store.
//!
//! A request is authenticated, its path is matched against the kinds served, RBAC is asked, and
//! then one of `read`, `watch` and `write` answers it. Builtin kinds differ only in the
//! tables and functions of `strategy`; custom ones only in their schema.

mod admission;
mod auth;
mod body;
mod core;
mod crd;
mod discovery;
mod error;
mod exec;
mod kinds;
mod logs;
mod meta;
mod patch;
pub mod pki;
mod port_forward;
mod protobuf;
mod read;
mod reply;
mod request;
mod selector;
mod serve;
mod spdy;
mod strategy;
mod table;
mod types;
mod upgrade;
mod watch;
mod write;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

pub use admission::pod_security::HOST_USERS;
pub use auth::User;
pub use error::ApiError;
pub use exec::{Command, PodExec, Session};
pub use logs::{LogOptions, LogSource, LogStream};
pub use port_forward::PodDialer;

use crate::store::{Store, StoreError};

/// Addresses of services: the whole range of the platform.
pub const SERVICE_CIDR: &str = "10.96.0.0/12";

/// What an API server needs to start.
pub struct Config {
    /// The directory of the store; made if absent.
    pub store: PathBuf,
    /// Where to listen; already bound.
    pub listeners: Vec<std::net::TcpListener>,
    /// The cluster's keys. Without them the listeners are plain and trust everybody: for tests.
    pub pki: Option<Arc<pki::Pki>>,
    /// Where pods' logs are read from; without one `logs` answers "not supported".
    pub logs: Option<Arc<dyn LogSource>>,
    /// How ports of pods are reached; without one `portforward` answers "not supported".
    pub dialer: Option<Arc<dyn PodDialer>>,
    /// How programs are run in pods; without one `exec` answers "not supported".
    pub executor: Option<Arc<dyn PodExec>>,
}

/// The API server, ready to serve.
pub struct ApiServer {
    core: Arc<core::Core>,
    listeners: Vec<std::net::TcpListener>,
}

impl ApiServer {
    /// Opens the store and puts into it what every cluster has.
    ///
    /// # Errors
    /// If the directory cannot be made or the store cannot be opened or written.
    pub async fn new(config: Config) -> Result<Self, StoreError> {
        let Config {
            store,
            listeners,
            pki,
            logs,
            dialer,
            executor,
        } = config;
        std::fs::create_dir_all(&store).map_err(|error| StoreError::Storage(error.to_string()))?;
        let store = Store::open(&store.join("state.redb"))?;
        let core = core::Core::new(store, pki, logs, dialer, executor);
        core::bootstrap::run(&core)
            .await
            .map_err(|error| StoreError::Storage(error.to_string()))?;
        Ok(Self { core, listeners })
    }

    /// Serves until the future ends; open watches and log streams end with it.
    ///
    /// # Errors
    /// If a listener cannot be used.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> std::io::Result<()> {
        serve::run(self.core, self.listeners, shutdown).await
    }
}
