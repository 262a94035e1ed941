//! A control plane for our proxies: the certificate service and xDS, as istiod has them, with
//! resources that the run wrote.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use lateen_citadel::{Authenticator, CertificateAuthority, Citadel, Denied, TrustDomains};
use lateen_core::SpiffeId;
use lateen_tls::{ClientAuth, IdentityStore, PeerRule, https};
use lateen_xds::server::{Ads, Connections, Names, Peer, Resource, ResourceSource};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::core::Node;
use lateen_xds::types::listener::Listener;
use lateen_xds::{TypeUrl, json};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;

use crate::identity::{TRUST_DOMAIN, spiffe};
use crate::ports::CONTROL;

/// What a proxy is told.
#[derive(Debug, Clone, Default)]
struct World {
    listeners: Vec<Arc<Resource>>,
    clusters: Vec<Arc<Resource>>,
}

/// The control plane; worlds are added by the name of their pod before it connects.
#[derive(Debug)]
pub(crate) struct Plane {
    worlds: Mutex<HashMap<String, World>>,
    snapshots: watch::Sender<u64>,
}

impl Plane {
    /// Starts to serve.
    pub(crate) async fn start(ca: Arc<CertificateAuthority>) -> Result<Arc<Self>> {
        let plane = Arc::new(Plane {
            worlds: Mutex::default(),
            snapshots: watch::Sender::new(1),
        });
        let serving = ca.serving_identity(&["localhost".to_owned()])?;
        let tcp = TcpListener::bind(("127.0.0.1", CONTROL)).await?;
        let auth = ClientAuth::Optional(PeerRule::TrustDomains(vec![TRUST_DOMAIN.to_owned()]));
        let store = Arc::new(IdentityStore::new(serving));
        let listener = https::Listener::http(vec![tcp], store, auth)?;
        let ads = Ads::new(plane.clone(), Arc::new(Connections::default()));
        let trust = watch::channel(Arc::new(TrustDomains::new(TRUST_DOMAIN, []))).1;
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(Citadel::new(ca, Arc::new(Accounts), trust).into_server())
                .add_service(ads.into_service())
                .serve_with_incoming(listener.into_incoming()),
        );
        Ok(plane)
    }

    /// What the proxy in `pod` will get.
    pub(crate) fn add(&self, pod: &str, listeners: Vec<Value>, clusters: Vec<Value>) -> Result<()> {
        let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
        let mut world = World::default();
        for value in listeners {
            let (name, message) = (name(&value), json::from_value::<Listener>(value));
            let message = message.context("a listener")?;
            world
                .listeners
                .push(Arc::new(Resource::new(name, &message)));
        }
        for value in clusters {
            let (name, message) = (name(&value), json::from_value::<Cluster>(value));
            let message = message.context("a cluster")?;
            world.clusters.push(Arc::new(Resource::new(name, &message)));
        }
        let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        worlds.insert(pod.to_owned(), world);
        Ok(())
    }

    fn world(&self, pod: &str) -> Option<World> {
        let worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        worlds.get(pod).cloned()
    }
}

impl ResourceSource for Plane {
    /// The name of the pod.
    type Client = String;
    type Snapshot = u64;

    async fn connect(&self, node: &Node, _peer: &Peer) -> Result<String, Status> {
        // sidecar~IP~POD.NAMESPACE~DOMAIN
        let pod = node.id.split(['~', '.']).nth(5).unwrap_or_default();
        match self.world(pod) {
            Some(_) => Ok(pod.to_owned()),
            None => Err(Status::not_found(node.id.clone())),
        }
    }

    fn snapshots(&self, _pod: &String) -> watch::Receiver<u64> {
        self.snapshots.subscribe()
    }

    fn generation(&self, snapshot: &u64) -> u64 {
        *snapshot
    }

    fn generate(
        &self,
        _snapshot: &u64,
        pod: &String,
        type_url: &TypeUrl,
        names: Names<'_>,
    ) -> Vec<Arc<Resource>> {
        let world = self.world(pod).unwrap_or_default();
        let resources = match type_url {
            url if *url == TypeUrl::LISTENER => world.listeners,
            url if *url == TypeUrl::CLUSTER => world.clusters,
            _ => Vec::new(),
        };
        let wanted = |resource: &Arc<Resource>| names.contains(&resource.name);
        resources.into_iter().filter(wanted).collect()
    }
}

/// The token is the service account itself: nobody else is in this network.
struct Accounts;

#[async_trait]
impl Authenticator for Accounts {
    async fn authenticate(&self, token: &str) -> Result<SpiffeId, Denied> {
        spiffe(token.trim()).map_err(|error| Denied::Refused(error.to_string()))
    }
}
