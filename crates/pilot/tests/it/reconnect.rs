//! A client that comes back with what it holds, while something else is in force.

use std::collections::HashMap;

use futures::channel::mpsc;
use lateen_xds::TypeUrl;
use lateen_xds::types::core::Node;
use lateen_xds::types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use lateen_xds::types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use crate::distribution::{Plane, rule};

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";
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

type Versions = HashMap<String, String>;

impl Stream {
    async fn open(plane: &Plane, held: Versions) -> Stream {
        let (requests, stream) = mpsc::unbounded();
        let first = DeltaDiscoveryRequest {
            node: Some(Node {
                id: "sidecar~10.244.0.9~comes-back.default~default.svc.cluster.local".into(),
                ..Node::default()
            }),
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
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
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

/// Envoy does not accept a cluster before it has endpoints, nor any clusters after it.
#[tokio::test]
async fn changed_clusters_have_endpoints_and_routes_wait_for_them() {
    let plane = Plane::new(&rule(1, 1)).await;
    let asked = [
        (TypeUrl::CLUSTER, None),
        (TypeUrl::ENDPOINT, Some(REVIEWS)),
        (TypeUrl::LISTENER, None),
        (TypeUrl::ROUTE, Some("9080")),
    ];
    let mut held: HashMap<TypeUrl, Versions> = HashMap::new();
    let mut stream = Stream::open(&plane, Versions::new()).await;
    for (type_url, name) in asked {
        if type_url != TypeUrl::CLUSTER {
            stream.ask(&type_url, name, Versions::new());
        }
        let response = stream.next().await;
        assert_eq!(response.type_url, type_url.as_str());
        stream.accept(&response);
        held.insert(type_url, versions(&response));
    }
    drop(stream);

    plane.apply(&format!("{}{RULE}", rule(2, 2)));
    plane
        .report(|report| report.is_some_and(|report| report.generation == 2 && report.is_done()))
        .await;
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
