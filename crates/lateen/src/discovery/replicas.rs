//! What the other replicas of the control plane, of all its revisions, say of how far objects got on
//! their proxies. They are asked for the objects that are of interest, by their debug page: over TLS,
//! where both sides have to prove who they are.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_core::{ObjectRef, ServiceId, ports};
use lateen_pilot::{Report, Share};
use lateen_registry::{EndpointKey, Service, World};
use lateen_tls::{ClientOptions, Connector, IdentityStore, ServerCheck};
use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

/// Label `app` of the Services of control planes, whatever their revision.
const APP: &str = "istiod";
/// The port of theirs that every replica serves.
const PORT: &str = "grpc-xds";

/// How long a replica may take for a connection, and for each answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of the names of objects in one request's path, well below what servers take for a head.
const NAMES_MAX: usize = 4 << 10;
/// An answer that is longer is refused: no replica has so much to say of so many objects.
const ANSWER_MAX: usize = 4 << 20;

/// What a replica knows of the objects that it was asked for, or why it did not say.
pub(super) struct Said {
    /// Name of its pod.
    pub(super) replica: String,
    /// Whether it is of this one's revision.
    pub(super) is_alike: bool,
    pub(super) reports: anyhow::Result<BTreeMap<ObjectRef, Report>>,
}

/// What is there is no replica of a control plane of this mesh, so that asking it again is no use.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Foreign(anyhow::Error);

/// The replicas beside this one.
#[derive(Clone, Debug)]
pub(super) struct Replicas {
    /// Where the Services of control planes are, whose endpoints are their replicas.
    namespace: String,
    /// That of this one's revision.
    service: ServiceId,
    /// This replica's pod.
    own: String,
    port: u16,
    connector: Arc<Connector>,
    /// The name that every replica's certificate has.
    host: String,
}

/// One of the others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Replica {
    name: String,
    address: SocketAddr,
    /// Whether it is of this one's revision. Who is not may be something else altogether.
    is_alike: bool,
}

impl Replicas {
    /// `service` is that of this replica's revision, `own` the name of its pod, `identity` what it
    /// shows to the others.
    pub(super) fn new(
        namespace: &str,
        service: ServiceId,
        own: String,
        identity: Arc<IdentityStore>,
    ) -> Self {
        let options = ClientOptions {
            check: ServerCheck::ServerName,
            alpn: vec![b"h2".to_vec()],
            ..ClientOptions::default()
        };
        Replicas {
            // Replicas of every revision have certificates for this.
            host: format!("istiod.{namespace}.svc"),
            namespace: namespace.to_owned(),
            service,
            own,
            port: ports::XDS_TLS,
            connector: Arc::new(Connector::new(identity, options)),
        }
    }

    /// Those that serve now.
    pub(super) fn others(&self, world: &World) -> Vec<Replica> {
        let is_control_plane = |service: &&Arc<Service>| {
            service.namespace == self.namespace && service.labels.value("app") == Some(APP)
        };
        let control_planes = world.services.values().filter(is_control_plane);
        // One pod may be behind several Services.
        let mut all: BTreeMap<IpAddr, bool> = BTreeMap::new();
        for service in control_planes {
            let key = EndpointKey::new(service.id(), PORT);
            let endpoints = world
                .endpoints
                .get(&key)
                .into_iter()
                .flat_map(|it| it.iter());
            let ready = endpoints.filter(|endpoint| endpoint.ready);
            for address in ready.filter_map(|it| it.address.parse::<IpAddr>().ok()) {
                *all.entry(address).or_default() |= key.service == self.service;
            }
        }
        let replica = |(ip, is_alike): (IpAddr, bool)| Replica {
            // One in its node's network is known by its address alone.
            name: match world.workload(ip) {
                Some(workload) => workload.name.clone(),
                None => ip.to_string(),
            },
            address: SocketAddr::from((ip, self.port)),
            is_alike,
        };
        let all: Vec<_> = all.into_iter().map(replica).collect();
        // Where this one is not found among them, nobody can say which are others.
        let is_own = |replica: &Replica| replica.name == self.own;
        match all.iter().any(is_own) {
            true => all.into_iter().filter(|replica| !is_own(replica)).collect(),
            false => Vec::new(),
        }
    }

    /// Asks all of them at once. Of another revision that answers otherwise than replicas do, nothing
    /// is said: it is of another mesh, or of another program.
    pub(super) async fn ask(&self, others: Vec<Replica>, objects: &[ObjectRef]) -> Vec<Said> {
        let asked = others.into_iter().map(async |replica| {
            let reports = self.ask_one(&replica, objects).await;
            if let Err(error) = &reports
                && !replica.is_alike
            {
                let is_foreign = error.is::<Foreign>();
                debug!(replica = replica.name, %error, is_foreign, "another revision says nothing");
                if is_foreign {
                    return None;
                }
            }
            Some(Said {
                reports,
                is_alike: replica.is_alike,
                replica: replica.name,
            })
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn ask_one(
        &self,
        replica: &Replica,
        objects: &[ObjectRef],
    ) -> anyhow::Result<BTreeMap<ObjectRef, Report>> {
        let connect = async {
            let stream = TcpStream::connect(replica.address).await?;
            let stream = self.connector.connect(stream, Some(&self.host)).await;
            let stream = stream.map_err(|error| match error {
                lateen_tls::Error::Handshake(_) => Foreign(error.into()).into(),
                error => anyhow::Error::new(error),
            })?;
            let io = TokioIo::new(stream);
            Ok::<_, anyhow::Error>(http2::handshake(TokioExecutor::new(), io).await?)
        };
        let connected = timeout(PATIENCE, connect).await;
        let (mut sender, connection) = connected.context("no connection in time")??;
        // Its errors also reach the requests.
        tokio::spawn(connection);
        let mut reports = BTreeMap::new();
        for names in in_parts(objects) {
            let page = format!("/debug/distributionz?objects={names}");
            let request = Request::get(format!("https://{}{page}", self.host));
            let request = request.body(Empty::<Bytes>::new())?;
            let answer = async {
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = Limited::new(body, ANSWER_MAX).collect().await;
                let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
                Ok::<_, anyhow::Error>((head, body))
            };
            let answer = timeout(PATIENCE, answer).await;
            let (head, body) = answer.context("no answer in time")??;
            if !head.status.is_success() {
                let text = String::from_utf8_lossy(&body);
                let error = anyhow!("{}: {text}", head.status);
                return Err(match head.status.is_client_error() {
                    true => Foreign(error).into(),
                    false => error,
                });
            }
            let shares = serde_json::from_slice::<Vec<Share>>(&body);
            let shares = shares
                .context("it answered in another form")
                .map_err(Foreign)?;
            reports.extend(shares.into_iter().filter_map(Share::report));
        }
        Ok(reports)
    }
}

/// The names of objects, in as many lists as fit into a path each.
fn in_parts(objects: &[ObjectRef]) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for object in objects {
        let name = format!("{}/{}/{}", object.kind, object.namespace, object.name);
        match parts.last_mut() {
            Some(part) if part.len() + name.len() < NAMES_MAX => {
                part.push(',');
                part.push_str(&name);
            }
            _ => parts.push(name),
        }
    }
    parts
}

#[cfg(test)]
mod tests;
