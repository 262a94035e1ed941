//! What a proxy would be served, without a server: for whoever explains a configuration or tries it
//! out. The generators and what they are asked for are those of the discovery service.

use std::sync::Arc;

use lateen_core::Locality;
use lateen_galley::ConfigSet;
use lateen_registry::World;
use lateen_xds::TypeUrl;
use lateen_xds::server::{Name, Resource};

use crate::engine::{Engine, Served};
use crate::platform::Platform;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;

/// What one proxy is served of one world and one configuration. It has no secrets.
pub struct Offline {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) proxy: Proxy,
    engine: Engine,
    served: Arc<Served>,
}

impl Offline {
    /// For a proxy; a platform is named by the domain of its services (`cluster.local`).
    pub fn new(
        world: Arc<World>,
        config: Arc<ConfigSet>,
        platform: impl Into<Platform>,
        proxy: &Proxy,
    ) -> Offline {
        let snapshot = Arc::new(Snapshot::new(1, world, config, platform));
        let engine = Engine::new(snapshot.clone());
        let served = engine.served(proxy);
        Offline {
            snapshot,
            proxy: proxy.clone(),
            engine,
            served,
        }
    }

    /// Where the proxy is; nowhere where nothing is known of its workload.
    pub fn locality(&self) -> Locality {
        let workloads = &self.snapshot.world.workloads_by_ip;
        let own = workloads.get(&self.proxy.ip);
        own.map(|own| own.locality.clone()).unwrap_or_default()
    }

    /// All of its clusters.
    pub fn clusters(&self) -> Vec<Arc<Resource>> {
        self.served.list(&TypeUrl::CLUSTER)
    }

    /// All of its listeners.
    pub fn listeners(&self) -> Vec<Arc<Resource>> {
        self.served.list(&TypeUrl::LISTENER)
    }

    /// The route table of a name, if there is one.
    pub fn routes(&self, name: &str) -> Option<Arc<Resource>> {
        self.named(&TypeUrl::ROUTE, name)
    }

    /// The endpoints of a name, if there are any.
    pub fn endpoints(&self, name: &str) -> Option<Arc<Resource>> {
        self.named(&TypeUrl::ENDPOINT, name)
    }

    fn named(&self, type_url: &TypeUrl, name: &str) -> Option<Arc<Resource>> {
        let names = [Name::new(name)];
        let mut found = self.served.find(&self.engine.cache, type_url, names.iter());
        found.pop()
    }
}
