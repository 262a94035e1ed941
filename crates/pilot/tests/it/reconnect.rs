//! A client that comes back with what it holds, while something else is in force.

use std::collections::HashMap;
use std::sync::Arc;

use futures::channel::mpsc;
use lateen_core::Protocol;
use lateen_xds::TypeUrl;
use lateen_xds::google::rpc::Status as Reason;
use lateen_xds::types::core::Node;
use lateen_xds::types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use lateen_xds::types::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use crate::distribution::{Plane, rule};
use crate::fixture::Mesh;

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";
const RATINGS: &str = "outbound|9080||ratings.default.svc.cluster.local";
const DETAILS: &str = "outbound|9080||details.default.svc.cluster.local";
const RULE: &str = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{timeout: 7s, route: [{destination: {host: reviews}}]}]
";

/// A stream of a proxy that asks for everything that leads to reviews.
struct Stream {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    answers: tonic::Streaming<DeltaDiscoveryResponse>,
}

fn node() -> Option<Node> {
    Some(Node {
        id: "sidecar~10.244.0.9~comes-back.default~default.svc.cluster.local".into(),
        ..Node::default()
    })
}

type Versions = HashMap<String, String>;

impl Stream {
    async fn open(plane: &Plane, held: Versions) -> Stream {
        let (requests, stream) = mpsc::unbounded();
        let first = DeltaDiscoveryRequest {
            node: node(),
            type_url: TypeUrl::CLUSTER.to_string(),
            initial_resource_versions: held,
            ..DeltaDiscoveryRequest::default()
        };
        requests.unbounded_send(first).expect("a stream");
        let mut client = AggregatedDiscoveryServiceClient::new(plane.channel.clone());
        let answers = client.delta_aggregated_resources(stream).await;
        Stream {
            requests,
            answers: answers.expect("a stream").into_inner(),
        }
    }

    fn ask(&self, type_url: &TypeUrl, name: Option<&str>, held: Versions) {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.to_string(),
            resource_names_subscribe: name.into_iter().map(str::to_owned).collect(),
            initial_resource_versions: held,
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.unbounded_send(request).expect("a stream");
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        let next = self.answers.message().await;
        next.expect("a response").expect("no end")
    }

    fn accept(&self, response: &DeltaDiscoveryResponse) {
        self.answer(response, None);
    }

    fn answer(&self, response: &DeltaDiscoveryResponse, refusal: Option<Reason>) {
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: refusal,
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.unbounded_send(answer).expect("a stream");
    }
}

fn versions(response: &DeltaDiscoveryResponse) -> Versions {
    let all = response.resources.iter();
    all.map(|resource| (resource.name.clone(), resource.version.clone()))
        .collect()
}

/// What a first stream is given of everything that leads to reviews.
async fn first_stream(plane: &Plane) -> HashMap<TypeUrl, Versions> {
    let asked = [
        (TypeUrl::CLUSTER, None),
        (TypeUrl::ENDPOINT, Some(REVIEWS)),
        (TypeUrl::LISTENER, None),
        (TypeUrl::ROUTE, Some("9080")),
    ];
    let mut held: HashMap<TypeUrl, Versions> = HashMap::new();
    let mut stream = Stream::open(plane, Versions::new()).await;
    for (type_url, name) in asked {
        if type_url != TypeUrl::CLUSTER {
            stream.ask(&type_url, name, Versions::new());
        }
        let response = stream.next().await;
        assert_eq!(response.type_url, type_url.as_str());
        stream.accept(&response);
        held.insert(type_url, versions(&response));
    }
    held
}

/// Envoy does not accept a cluster before it has endpoints, nor any clusters after it.
#[tokio::test]
async fn changed_clusters_have_endpoints_and_routes_wait_for_them() {
    let plane = Plane::new(&rule(1, 1)).await;
    let mut held = first_stream(&plane).await;

    plane.apply(&format!("{}{RULE}", rule(2, 2)));
    plane.settled(2).await;
    let mut held = |type_url: &TypeUrl| held.remove(type_url).expect("it was sent");
    let mut stream = Stream::open(&plane, held(&TypeUrl::CLUSTER)).await;
    stream.ask(&TypeUrl::LISTENER, None, held(&TypeUrl::LISTENER));
    stream.ask(&TypeUrl::ROUTE, Some("9080"), held(&TypeUrl::ROUTE));
    let of_endpoints = held(&TypeUrl::ENDPOINT);
    stream.ask(&TypeUrl::ENDPOINT, Some(REVIEWS), of_endpoints.clone());

    let clusters = stream.next().await;
    assert!(versions(&clusters).contains_key(REVIEWS), "it has changed");
    let endpoints = stream.next().await;
    assert_eq!(endpoints.type_url, TypeUrl::ENDPOINT.as_str());
    assert_eq!(
        versions(&endpoints),
        of_endpoints,
        "sent again as they were"
    );
    stream.accept(&endpoints);
    stream.accept(&clusters);
    // Listeners have not changed; that they were asked for is answered all the same.
    let listeners = stream.next().await;
    assert_eq!(listeners.type_url, TypeUrl::LISTENER.as_str());
    assert_eq!(listeners.resources, []);
    let routes = stream.next().await;
    assert_eq!(routes.type_url, TypeUrl::ROUTE.as_str());
    assert!(versions(&routes).contains_key("9080"));
}

/// Routes of the stream before lead to what is gone, until they are asked for and changed.
#[tokio::test]
async fn what_is_gone_stays_until_the_routes_to_it_were_asked_for() {
    let plane = Plane::new(&rule(1, 1)).await;
    let mut held = first_stream(&plane).await;
    let mut mesh = Mesh::bookinfo();
    let services = &mut mesh.world.services;
    services.retain(|id, _| !id.hostname.starts_with("reviews"));
    plane.world.send_replace(Arc::new(mesh.world));
    plane.apply(&rule(2, 1));
    plane.settled(2).await;

    let mut held = |type_url: &TypeUrl| held.remove(type_url).expect("it was sent");
    let mut stream = Stream::open(&plane, held(&TypeUrl::CLUSTER)).await;
    let clusters = stream.next().await;
    assert_eq!(clusters.removed_resources, [""; 0]);
    stream.accept(&clusters);
    stream.ask(&TypeUrl::ENDPOINT, Some(REVIEWS), held(&TypeUrl::ENDPOINT));
    stream.ask(&TypeUrl::LISTENER, None, held(&TypeUrl::LISTENER));
    // What would have been said by now comes before the answer to this.
    stream.ask(&TypeUrl::ENDPOINT, Some(DETAILS), Versions::new());
    let mut order = Vec::new();
    while order.last() != Some(&(TypeUrl::CLUSTER.to_string(), true)) {
        let response = stream.next().await;
        stream.accept(&response);
        let tells_gone = response
            .removed_resources
            .iter()
            .any(|name| name == REVIEWS);
        assert!(
            !tells_gone || order.len() >= 3,
            "{order:?}, then {response:?}"
        );
        order.push((response.type_url, tells_gone));
        if order.len() == 2 {
            stream.ask(&TypeUrl::ROUTE, Some("9080"), held(&TypeUrl::ROUTE));
        }
    }
    let gone: Vec<_> = order.into_iter().skip(2).collect();
    let step = |type_url: TypeUrl, tells_gone| (type_url.to_string(), tells_gone);
    assert_eq!(
        gone,
        [
            step(TypeUrl::ROUTE, false),
            step(TypeUrl::ENDPOINT, true),
            step(TypeUrl::CLUSTER, true)
        ]
    );
}

/// A table that is held goes on as it is while a cluster that the new one names was refused.
#[tokio::test]
async fn routes_that_are_held_do_not_lead_to_what_was_refused() {
    let plane = Plane::new(&rule(1, 1)).await;
    let mut held = first_stream(&plane).await;
    let mut mesh = Mesh::bookinfo();
    let port = ("http", 9080, 9080, Protocol::Http);
    mesh.service("fresh", &["10.96.0.77"], &[port]);
    plane.world.send_replace(Arc::new(mesh.world));
    plane.apply(&rule(2, 1));
    plane.settled(2).await;

    let mut held = |type_url: &TypeUrl| held.remove(type_url).expect("it was sent");
    let mut stream = Stream::open(&plane, held(&TypeUrl::CLUSTER)).await;
    let clusters = stream.next().await;
    stream.ask(&TypeUrl::LISTENER, None, held(&TypeUrl::LISTENER));
    stream.ask(&TypeUrl::ROUTE, Some("9080"), held(&TypeUrl::ROUTE));
    let reason = Reason {
        message: "not today".into(),
        ..Reason::default()
    };
    stream.answer(&clusters, Some(reason));
    let listeners = stream.next().await;
    assert_eq!(listeners.type_url, TypeUrl::LISTENER.as_str());
    // Routes would have come with them, before the answer to this.
    stream.ask(&TypeUrl::ENDPOINT, Some(DETAILS), Versions::new());
    let endpoints = stream.next().await;
    assert_eq!(endpoints.type_url, TypeUrl::ENDPOINT.as_str());
}

/// What a table that is held back leads to stays with it.
#[tokio::test]
async fn what_held_routes_lead_to_does_not_go() {
    let plane = Plane::new(&rule(1, 1)).await;
    let mut held = first_stream(&plane).await;
    let without_ratings = |fresh: bool| {
        let mut mesh = Mesh::bookinfo();
        let services = &mut mesh.world.services;
        services.retain(|id, _| !id.hostname.starts_with("ratings"));
        if fresh {
            let port = ("http", 9080, 9080, Protocol::Http);
            mesh.service("fresh", &["10.96.0.77"], &[port]);
        }
        Arc::new(mesh.world)
    };
    plane.world.send_replace(without_ratings(true));
    plane.apply(&rule(2, 1));
    plane.settled(2).await;

    let mut held = |type_url: &TypeUrl| held.remove(type_url).expect("it was sent");
    let mut stream = Stream::open(&plane, held(&TypeUrl::CLUSTER)).await;
    let clusters = stream.next().await;
    stream.ask(&TypeUrl::LISTENER, None, held(&TypeUrl::LISTENER));
    stream.ask(&TypeUrl::ROUTE, Some("9080"), held(&TypeUrl::ROUTE));
    stream.ask(&TypeUrl::ENDPOINT, Some(DETAILS), Versions::new());
    let reason = Reason {
        message: "not today".into(),
        ..Reason::default()
    };
    stream.answer(&clusters, Some(reason));
    let tells_gone = |response: &DeltaDiscoveryResponse| {
        let gone = &response.removed_resources;
        gone.iter().any(|name| name == RATINGS)
    };
    for _ in 0..2 {
        let response = stream.next().await;
        assert!(!tells_gone(&response), "{response:?}");
        stream.accept(&response);
    }
    // It would have gone by now, before the answer to this.
    stream.ask(&TypeUrl::ENDPOINT, Some(REVIEWS), held(&TypeUrl::ENDPOINT));
    let response = stream.next().await;
    assert_eq!(response.type_url, TypeUrl::ENDPOINT.as_str());
    stream.accept(&response);

    // With what was refused gone, the table is good again, and what it led to can go.
    plane.world.send_replace(without_ratings(false));
    plane.apply(&rule(3, 1));
    let mut order = Vec::new();
    loop {
        let response = stream.next().await;
        stream.accept(&response);
        let has_gone = tells_gone(&response);
        order.push(response.type_url);
        if has_gone {
            break;
        }
    }
    let route = TypeUrl::ROUTE.to_string();
    assert!(order.contains(&route), "{order:?}");
    assert_eq!(order.last(), Some(&TypeUrl::CLUSTER.to_string()));
}

/// A stream of the older protocol.
struct OlderStream {
    requests: mpsc::UnboundedSender<DiscoveryRequest>,
    answers: tonic::Streaming<DiscoveryResponse>,
}

impl OlderStream {
    /// A stream that begins with these requests.
    async fn open(plane: &Plane, asked: &[(TypeUrl, &[&str])]) -> OlderStream {
        let (requests, stream) = mpsc::unbounded();
        for (i, (type_url, names)) in asked.iter().enumerate() {
            let request = DiscoveryRequest {
                node: if i == 0 { node() } else { None },
                ..request(type_url, names)
            };
            requests.unbounded_send(request).expect("a stream");
        }
        let mut client = AggregatedDiscoveryServiceClient::new(plane.channel.clone());
        let answers = client.stream_aggregated_resources(stream).await;
        OlderStream {
            requests,
            answers: answers.expect("a stream").into_inner(),
        }
    }

    async fn next(&mut self, want: &TypeUrl) -> DiscoveryResponse {
        let next = self.answers.message().await;
        let next = next.expect("a response").expect("no end");
        assert_eq!(next.type_url, want.as_str());
        next
    }

    fn accept(&self, response: &DiscoveryResponse, names: &[&str]) {
        let answer = DiscoveryRequest {
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            ..request(&TypeUrl::new(&response.type_url), names)
        };
        self.requests.unbounded_send(answer).expect("a stream");
    }
}

fn request(type_url: &TypeUrl, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.to_string(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

/// The older protocol does not say what is held: who comes back asks for everything at once.
#[tokio::test]
async fn routes_of_the_older_protocol_wait_until_clusters_are_accepted() {
    let plane = Plane::new(&rule(1, 1)).await;
    let asked: [(TypeUrl, &[&str]); 4] = [
        (TypeUrl::CLUSTER, &[]),
        (TypeUrl::ENDPOINT, &[REVIEWS]),
        (TypeUrl::LISTENER, &[]),
        (TypeUrl::ROUTE, &["9080"]),
    ];
    let mut stream = OlderStream::open(&plane, &asked).await;
    let clusters = stream.next(&TypeUrl::CLUSTER).await;
    let endpoints = stream.next(&TypeUrl::ENDPOINT).await;
    // What is not waiting for anything comes before the answer to this.
    stream.accept(&endpoints, &[REVIEWS, DETAILS]);
    let more = stream.next(&TypeUrl::ENDPOINT).await;
    stream.accept(&more, &[REVIEWS, DETAILS]);
    stream.accept(&clusters, &[]);
    stream.next(&TypeUrl::LISTENER).await;
    let routes = stream.next(&TypeUrl::ROUTE).await;
    assert_eq!(routes.resources.len(), 1);
}

#[tokio::test]
async fn who_asks_for_routes_alone_does_not_wait() {
    let plane = Plane::new(&rule(1, 1)).await;
    let mut stream = OlderStream::open(&plane, &[(TypeUrl::ROUTE, &["9080"])]).await;
    let routes = stream.next(&TypeUrl::ROUTE).await;
    assert_eq!(routes.resources.len(), 1);
}
