//! What the other replicas of the control plane say of how far objects got on their proxies. They are
//! asked for the objects that are of interest, by their debug page.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, ensure};
use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use lateen_core::{ObjectRef, ports};
use lateen_pilot::{Report, Share};
use lateen_registry::{EndpointKey, World};
use tokio::{net::TcpStream, time::timeout};

/// The token that proves to another replica that this is one; see `tokens`.
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
/// How long a replica may take for a connection, and for each answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Objects of one request, whose names are in its path.
const OBJECTS_MAX: usize = 100;
/// An answer that is longer is refused: no replica has so much to say of so many objects.
const ANSWER_MAX: usize = 4 << 20;

/// What a replica knows of the objects that it was asked for, or why it did not say.
pub(super) struct Said {
    /// Name of its pod.
    pub(super) replica: String,
    pub(super) reports: anyhow::Result<BTreeMap<ObjectRef, Report>>,
}

/// The replicas beside this one.
#[derive(Debug)]
pub(super) struct Replicas {
    /// The control plane's own service, whose endpoints are its replicas.
    service: EndpointKey,
    /// This replica's pod.
    own: String,
    port: u16,
    token: PathBuf,
}

/// One of the others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Replica {
    name: String,
    address: SocketAddr,
}

impl Replicas {
    /// `own` is the name of this replica's pod.
    pub(super) fn new(service: EndpointKey, own: String) -> Self {
        Replicas {
            service,
            own,
            port: ports::CONTROL_PLANE_DEBUG,
            token: TOKEN.into(),
        }
    }

    /// Those that serve now.
    pub(super) fn others(&self, world: &World) -> Vec<Replica> {
        let Some(endpoints) = world.endpoints.get(&self.service) else {
            return Vec::new();
        };
        let ready = endpoints.iter().filter(|endpoint| endpoint.ready);
        let addresses = ready.filter_map(|endpoint| endpoint.address.parse::<IpAddr>().ok());
        let replica = |ip: IpAddr| Replica {
            // One in its node's network is known by its address alone.
            name: match world.workload(ip) {
                Some(workload) => workload.name.clone(),
                None => ip.to_string(),
            },
            address: SocketAddr::from((ip, self.port)),
        };
        let all: Vec<_> = addresses.map(replica).collect();
        // Where this one is not found among them, nobody can say which are others.
        let is_own = |replica: &Replica| replica.name == self.own;
        match all.iter().any(is_own) {
            true => all.into_iter().filter(|replica| !is_own(replica)).collect(),
            false => Vec::new(),
        }
    }

    /// Asks all of them at once.
    pub(super) async fn ask(&self, others: Vec<Replica>, objects: &[ObjectRef]) -> Vec<Said> {
        let asked = others.into_iter().map(async |replica| Said {
            reports: self.ask_one(&replica, objects).await,
            replica: replica.name,
        });
        join_all(asked).await
    }

    async fn ask_one(
        &self,
        replica: &Replica,
        objects: &[ObjectRef],
    ) -> anyhow::Result<BTreeMap<ObjectRef, Report>> {
        let token = tokio::fs::read_to_string(&self.token).await;
        let token = token.with_context(|| format!("cannot read {}", self.token.display()))?;
        let stream = timeout(PATIENCE, TcpStream::connect(replica.address)).await;
        let stream = stream.context("no connection in time")??;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its errors also reach the requests.
        tokio::spawn(connection);
        let mut reports = BTreeMap::new();
        for objects in objects.chunks(OBJECTS_MAX) {
            let names: Vec<_> = objects
                .iter()
                .map(|object| format!("{}/{}/{}", object.kind, object.namespace, object.name))
                .collect();
            let request = Request::get(format!("/debug/distributionz?objects={}", names.join(",")))
                .header(header::HOST, replica.address.to_string())
                .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
                .body(Empty::<Bytes>::new())?;
            let answer = async {
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = Limited::new(body, ANSWER_MAX).collect().await;
                let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
                Ok::<_, anyhow::Error>((head, body))
            };
            let answer = timeout(PATIENCE, answer).await;
            let (head, body) = answer.context("no answer in time")??;
            ensure!(
                head.status.is_success(),
                "{}: {}",
                head.status,
                String::from_utf8_lossy(&body)
            );
            let shares: Vec<Share> =
                serde_json::from_slice(&body).context("it answered in another form")?;
            reports.extend(shares.into_iter().filter_map(Share::report));
        }
        Ok(reports)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::{Response, body::Incoming, service::service_fn};
    use lateen_core::{Hostname, ServiceId};
    use tokio::net::TcpListener;

    use super::*;

    fn replicas(token: PathBuf) -> Replicas {
        let istiod = Hostname::service("istiod", "istio-system", "cluster.local");
        let service = EndpointKey::new(ServiceId::new("istio-system", istiod), "grpc-xds");
        let mut replicas = Replicas::new(service, "istiod-a".to_owned());
        replicas.token = token;
        replicas
    }

    /// Another replica, which knows every object that it is asked for in generation 2.
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let token = request.headers().get("authorization");
        if token.is_none_or(|token| token != "Bearer secret") {
            let refused = Response::builder().status(401);
            return Ok(refused.body(Full::from("who are you")).expect("an answer"));
        }
        let query = request.uri().query().unwrap_or_default();
        let objects = query.strip_prefix("objects=").unwrap_or_default();
        let shares: Vec<_> = objects
            .split(',')
            .map(|object| {
                let parts: Vec<_> = object.split('/').collect();
                Share {
                    kind: parts[0].to_owned(),
                    namespace: parts[1].to_owned(),
                    name: parts[2].to_owned(),
                    generation: 2,
                    proxies: 3,
                    acknowledged: 3,
                    ..Share::default()
                }
            })
            .collect();
        let text = serde_json::to_string(&shares).expect("JSON");
        Ok(Response::new(Full::from(text)))
    }

    async fn serve() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(connection);
            }
        });
        address
    }

    #[tokio::test]
    async fn each_says_what_it_knows_or_why_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, "secret\n").expect("written");
        let there = Replica {
            name: "istiod-b".to_owned(),
            address: serve().await,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let gone = Replica {
            name: "istiod-c".to_owned(),
            address: listener.local_addr().expect("an address"),
        };
        drop(listener);
        // More than one request takes.
        let objects: Vec<_> = (0..250)
            .map(|n| ObjectRef::new("VirtualService", "default", format!("vs-{n}")))
            .collect();
        let replicas = replicas(token.clone());
        let said = replicas.ask(vec![there.clone(), gone], &objects).await;
        let names: Vec<_> = said.iter().map(|said| said.replica.as_str()).collect();
        assert_eq!(names, ["istiod-b", "istiod-c"]);
        let reports = said[0].reports.as_ref().expect("it answered");
        assert!(objects.iter().all(|object| {
            let report = reports.get(object);
            report.is_some_and(|report| report.generation == 2 && report.proxies == 3)
        }));
        assert!(said[1].reports.is_err());

        std::fs::write(&token, "of somebody else").expect("written");
        let said = replicas.ask(vec![there], &objects[..1]).await;
        let error = said[0].reports.as_ref().map(|_| ()).expect_err("refused");
        assert!(error.to_string().contains("who are you"), "{error:#}");
    }
}
