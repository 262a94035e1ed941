//! Services, workloads and endpoints, wherever they come from.
//!
//! Each platform is folded to the same immutable [`World`]; nothing behind this crate knows which
//! platform a service came from. One task writes, readers hold an `Arc`.

mod changes;
mod consul;
mod external;
mod feed;
mod files;
mod kubernetes;
mod model;
mod offline;
mod raw;
mod revision;
mod service_entry;
mod shared_map;
mod source;
mod state;
mod status;
mod store;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use changes::WorldChanges;
pub use consul::Consul;
pub use feed::{Changes, Feed};
pub use files::{Check, FieldFault, Files};
pub use kubernetes::{MESH_CONFIG, resource};
pub use model::{
    Endpoint, EndpointKey, Namespace, Node, Provider, Resolution, Service, ServicePort, TargetPort,
    TrafficDistribution, Workload, WorkloadOwner, World,
};
pub use offline::{Documents, Offline, Places, Written};
pub use raw::{RawConfig, WATCHED_KINDS};
pub use shared_map::{Iter, SharedMap};
pub use source::{Freshness, SourceStatus};
pub use status::{
    StatusCounters, StatusKind, StatusOwner, StatusPace, StatusTarget, StatusWriter, WantedStatus,
};

use kubernetes::Kubernetes;
use source::Source;

/// Bounds memory while the writer is busy; sources then wait, watches in their sockets.
const QUEUE: usize = 1024;

/// What the registry needs to know beside where the platform is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Domain of the platform's services.
    pub domain: String,
    /// Namespace of the control plane, where the ConfigMap of the mesh is.
    pub namespace: String,
    /// The name of that ConfigMap.
    pub mesh_config: String,
    /// Revision of the control plane: objects that are labelled with another one are not read.
    /// Empty, all are.
    pub revision: String,
    /// How long the first state may wait for a source that can be done without.
    pub patience: Duration,
    /// Where the mesh's own objects come from instead of the platform.
    pub files: Option<Files>,
    /// Whether objects of the Gateway API are read.
    pub gateway_api: bool,
    /// A catalogue that adds services to the platform's.
    pub consul: Option<Consul>,
}

impl Options {
    /// Longer than an API server takes to answer its slowest list, shorter than people wait.
    pub const PATIENCE: Duration = Duration::from_secs(30);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            domain: "cluster.local".into(),
            namespace: "istio-system".into(),
            mesh_config: MESH_CONFIG.into(),
            revision: String::new(),
            patience: Self::PATIENCE,
            files: None,
            gateway_api: true,
            consul: None,
        }
    }
}

/// A running registry. Dropping it stops its watches; what was published stays.
#[derive(Debug)]
pub struct Registry {
    world: watch::Receiver<Arc<World>>,
    config: watch::Receiver<Arc<RawConfig>>,
    synced: watch::Receiver<bool>,
    sources: watch::Receiver<Arc<[SourceStatus]>>,
    _tasks: JoinSet<()>,
}

impl Registry {
    /// Starts to watch a Kubernetes API server. Returns at once; must be called in a tokio runtime.
    pub fn kubernetes(client: kube::Client, options: Options) -> Self {
        let mut tasks = JoinSet::new();
        let (updates_tx, updates) = mpsc::channel(QUEUE);
        let platform = Kubernetes {
            client,
            namespace: options.namespace,
            mesh_config: options.mesh_config,
            revision: options.revision.into(),
            objects: options.files.is_none(),
            gateway_api: options.gateway_api,
        };
        platform.start(&mut tasks, updates_tx.clone());
        if let Some(files) = options.files {
            files.start(&mut tasks, updates_tx.clone());
        }
        let mut state = state::State::new(options.domain);
        if let Some(consul) = options.consul {
            state.expect_catalog();
            consul.start(&mut tasks, updates_tx);
        }
        let (publisher, outputs) = state::publisher();
        tasks.spawn(state::run(state, updates, publisher, options.patience));
        Self {
            world: outputs.world,
            config: outputs.config,
            synced: outputs.synced,
            sources: outputs.sources,
            _tasks: tasks,
        }
    }

    /// Services and workloads; changes once per burst of changes.
    pub fn world(&self) -> watch::Receiver<Arc<World>> {
        self.world.clone()
    }

    /// The same as [`Registry::world`], with what changed since the reader last looked.
    pub fn world_feed(&self) -> Feed<World> {
        Feed::new(self.world.clone())
    }

    /// The mesh's own objects, as they were written.
    pub fn config(&self) -> watch::Receiver<Arc<RawConfig>> {
        self.config.clone()
    }

    /// How fresh each source is. What a source said holds however stale it is.
    pub fn sources(&self) -> watch::Receiver<Arc<[SourceStatus]>> {
        self.sources.clone()
    }

    /// Whether every watch has delivered its first list, or is late and can be done without. Nothing
    /// is published before that, so that nobody acts on half a world.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until [`Registry::is_synced`].
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        // An error means that the writer is gone, which is the end of the process.
        let _ = synced.wait_for(|done| *done).await;
    }
}
