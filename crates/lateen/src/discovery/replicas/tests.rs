use std::convert::Infallible;

use http_body_util::Full;
use hyper::{Response, body::Incoming, server::conn::http2 as server, service::service_fn};
use lateen_core::{Hostname, ServiceId, SpiffeId};
use lateen_registry::{Documents, Offline};
use lateen_tls::{Authority, ClientAuth, LeafRequest, PeerRule, https, peer_spiffe};
use tokio::net::TcpListener;

use super::*;

/// What the replicas' certificates are for.
const HOST: &str = "istiod.istio-system.svc";
const HOUR: Duration = Duration::from_secs(3600);

const ENDPOINTS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: istiod, namespace: istio-system, labels: {app: istiod}}
spec: {ports: [{name: grpc-xds, port: 15010}]}
---
kind: EndpointSlice
metadata:
  {name: istiod, namespace: istio-system, labels: {kubernetes.io/service-name: istiod}}
ports: [{name: grpc-xds, port: 15010}]
endpoints:
- {addresses: [10.244.0.1]}
- {addresses: [10.244.0.2]}
- {addresses: [10.244.0.3], conditions: {ready: false}}
- {addresses: [10.244.0.4]}
---
apiVersion: v1
kind: Service
metadata: {name: istiod-canary, namespace: istio-system, labels: {app: istiod}}
spec: {ports: [{name: grpc-xds, port: 15010}]}
---
kind: EndpointSlice
metadata:
  name: istiod-canary
  namespace: istio-system
  labels: {kubernetes.io/service-name: istiod-canary}
ports: [{name: grpc-xds, port: 15010}]
endpoints:
- {addresses: [10.244.0.1]}
- {addresses: [10.244.0.5]}
---
apiVersion: v1
kind: Service
metadata: {name: istiod, namespace: default, labels: {app: istiod}}
spec: {ports: [{name: grpc-xds, port: 15010}]}
---
kind: EndpointSlice
metadata:
  {name: istiod, namespace: default, labels: {kubernetes.io/service-name: istiod}}
ports: [{name: grpc-xds, port: 15010}]
endpoints:
- {addresses: [10.244.0.6]}
";

fn replicas_with(store: Arc<IdentityStore>) -> Replicas {
    let istiod = Hostname::service("istiod", "istio-system", "cluster.local");
    let service = ServiceId::new("istio-system", istiod);
    Replicas::new("istio-system", service, "istiod-a".to_owned(), store)
}

/// As a replica with an identity that this authority gave it.
fn replicas(authority: &Authority) -> Replicas {
    let own = SpiffeId::new("cluster.local", "istio-system", "istiod").expect("an identity");
    let own = authority.identity(&LeafRequest::spiffe(&own, HOUR));
    let store = Arc::new(IdentityStore::new(own.expect("a certificate")));
    replicas_with(store)
}

/// Another replica, which knows every object that it is asked for in generation 2.
async fn answer(
    request: Request<Incoming>,
    asker: Option<SpiffeId>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if asker.is_none_or(|asker| asker.namespace != "istio-system") {
        let refused = Response::builder().status(401);
        return Ok(refused.body(Full::from("who are you")).expect("an answer"));
    }
    let query = request.uri().query().unwrap_or_default();
    let objects = query.strip_prefix("objects=").unwrap_or_default();
    let share = |object: &str| {
        let parts: Vec<_> = object.split('/').map(str::to_owned).collect();
        let [kind, namespace, name] = parts.try_into().expect("three parts");
        Share {
            kind,
            namespace,
            name,
            generation: 2,
            proxies: 3,
            acknowledged: 3,
            ..Share::default()
        }
    };
    let shares: Vec<_> = objects.split(',').map(share).collect();
    let text = serde_json::to_string(&shares).expect("JSON");
    Ok(Response::new(Full::from(text)))
}

/// Serves under the certificate of this host.
async fn serve(authority: &Authority, host: &str) -> SocketAddr {
    let certificate = authority.identity(&LeafRequest::server([host], HOUR));
    let store = Arc::new(IdentityStore::new(certificate.expect("a certificate")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let workloads = PeerRule::TrustDomains(vec!["cluster.local".to_owned()]);
    let listener = https::Listener::http(vec![listener], store, ClientAuth::Optional(workloads));
    let mut listener = listener.expect("it listens");
    let address = listener.address();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.next().await;
            let asker = peer_spiffe(&stream).cloned();
            let service = service_fn(move |request| answer(request, asker.clone()));
            let connection = server::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}

fn replica(name: &str, address: SocketAddr) -> Replica {
    Replica {
        name: name.to_owned(),
        address,
        is_alike: true,
    }
}

#[tokio::test]
async fn each_says_what_it_knows_or_why_not() {
    lateen_tls::install_provider();
    let authority = Authority::self_signed("cluster.local", HOUR).expect("an authority");
    let there = serve(&authority, HOST).await;
    let there = replica("istiod-b", there);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = replica("istiod-c", listener.local_addr().expect("an address"));
    drop(listener);
    // More than one request takes, under names as long as they can be.
    let objects: Vec<_> = (0..250)
        .map(|n| ObjectRef::new("VirtualService", "default", format!("{n:0>253}")))
        .collect();
    let own = replicas(&authority);
    let said = own.ask(vec![there.clone(), gone.clone()], &objects).await;
    let names: Vec<_> = said.iter().map(|said| said.replica.as_str()).collect();
    assert_eq!(names, ["istiod-b", "istiod-c"]);
    let reports = said[0].reports.as_ref().expect("it answered");
    assert!(objects.iter().all(|object| {
        let report = reports.get(object);
        report.is_some_and(|report| report.generation == 2 && report.proxies == 3)
    }));
    assert!(said[1].reports.is_err());

    let said = async |own: &Replicas, there: &Replica| {
        let mut said = own.ask(vec![there.clone()], &objects[..1]).await;
        let reports = said.remove(0).reports;
        format!("{:#}", reports.map(|_| ()).expect_err("refused"))
    };
    let stranger = SpiffeId::new("cluster.local", "default", "reviews").expect("an identity");
    let stranger = authority.identity(&LeafRequest::spiffe(&stranger, HOUR));
    let store = Arc::new(IdentityStore::new(stranger.expect("a certificate")));
    let stranger = replicas_with(store);
    let error = said(&stranger, &there).await;
    assert!(error.contains("who are you"), "{error}");
    // Who is no replica, or of another mesh, is told nothing.
    let other = serve(&authority, "reviews.default.svc").await;
    let error = said(&own, &replica("istiod-d", other)).await;
    assert!(error.contains("certificate"), "{error}");
    let foreign = Authority::self_signed("cluster.local", HOUR).expect("an authority");
    let foreign = serve(&foreign, HOST).await;
    let foreign = replica("istiod-e", foreign);
    let error = said(&own, &foreign).await;
    assert!(error.contains("certificate"), "{error}");
    // Another revision may be of another mesh; one of this mesh is asked as any other.
    let of_another = |replica: &Replica| Replica {
        is_alike: false,
        ..replica.clone()
    };
    let all = [&foreign, &there, &gone].map(of_another);
    let said = own.ask(all.into(), &objects[..1]).await;
    let names: Vec<_> = said.iter().map(|said| said.replica.as_str()).collect();
    assert_eq!(names, ["istiod-b", "istiod-c"]);
    assert!(said[0].reports.is_ok());
    // Whether one that does not answer is of this mesh is not known, so it is asked again.
    assert!(said[1].reports.is_err() && !said[1].is_alike);
    // One that does not let this one in will not do so later.
    let said = stranger.ask(vec![of_another(&there)], &objects[..1]).await;
    assert!(said.is_empty());
}

#[test]
fn others_are_known_where_this_one_is() {
    let authority = Authority::self_signed("cluster.local", HOUR).expect("an authority");
    let own = replicas(&authority);
    assert_eq!(own.others(&World::default()), []);
    // Which of them is this one is not known yet.
    let pods = |names: &[(u8, &str)]| {
        let pod = |(n, name): &(u8, &str)| {
            format!(
                "kind: Pod\nmetadata: {{name: {name}, namespace: istio-system}}\n\
                 spec: {{containers: []}}\nstatus: {{podIP: 10.244.0.{n}}}\n"
            )
        };
        let documents = names.iter().map(pod).chain([ENDPOINTS.to_owned()]);
        let text = documents.collect::<Vec<_>>().join("---\n");
        let texts = [Documents::file("a.yaml", text)];
        let read = Offline::read(&texts, &[], |_| Vec::new(), "cluster.local");
        read.expect("a platform").world
    };
    assert_eq!(own.others(&pods(&[(2, "istiod-b")])), []);
    let world = pods(&[(1, "istiod-a"), (2, "istiod-b"), (3, "istiod-c")]);
    let at = |n: u8| SocketAddr::from(([10, 244, 0, n], 15012));
    // One that is in its node's network has no pod to its address.
    let others = [
        replica("istiod-b", at(2)),
        replica("10.244.0.4", at(4)),
        Replica {
            is_alike: false,
            ..replica("10.244.0.5", at(5))
        },
    ];
    assert_eq!(own.others(&world), others);
}
