use lateen_tls::LeafRequest;
use lateen_xds::types::secret_service::secret_discovery_service_client::SecretDiscoveryServiceClient;
use tonic::transport::Endpoint;

use super::*;
use crate::relay::bind;
use crate::testing::{DAY, Pod};

fn identity(pod: &Pod) -> Identity {
    let id = "spiffe://cluster.local/ns/default/sa/default"
        .parse()
        .expect("an identity");
    pod.authority
        .identity(&LeafRequest::spiffe(&id, DAY))
        .expect("a leaf")
}

fn request(names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        type_url: TypeUrl::SECRET.to_string(),
        ..DiscoveryRequest::default()
    }
}

fn secret(response: &DiscoveryResponse) -> Secret {
    lateen_xds::decode_any(&response.resources[0]).expect("a secret")
}

#[tokio::test]
async fn secrets_wait_for_the_certificate_and_follow_it() {
    let pod = Pod::new();
    let path = pod.root.path().join("socket");
    let store = Arc::new(IdentityStore::empty());
    tokio::spawn(serve(bind(&path).expect("a socket"), store.clone()));
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).expect("a path");
    let channel = endpoint.connect().await.expect("served");
    let (requests_tx, requests_rx) = mpsc::channel(4);
    requests_tx
        .send(request(&["default"], ""))
        .await
        .expect("open");
    let mut client = SecretDiscoveryServiceClient::new(channel);
    let mut responses = client
        .stream_secrets(ReceiverStream::new(requests_rx))
        .await
        .expect("a stream")
        .into_inner();

    store.set(identity(&pod));
    let first = responses
        .message()
        .await
        .expect("open")
        .expect("a response");
    let certificate = |response: &DiscoveryResponse| match secret(response).r#type {
        Some(secret::Type::TlsCertificate(certificate)) => certificate,
        other => panic!("a certificate, not {other:?}"),
    };
    let key = certificate(&first).private_key;
    requests_tx
        .send(request(&["default"], &first.nonce))
        .await
        .expect("open");

    store.set(identity(&pod));
    let second = responses
        .message()
        .await
        .expect("open")
        .expect("a response");
    assert_ne!(
        certificate(&second).private_key,
        key,
        "an acknowledgement is not answered"
    );

    requests_tx
        .send(request(&["ROOTCA"], &second.nonce))
        .await
        .expect("open");
    let third = responses
        .message()
        .await
        .expect("open")
        .expect("a response");
    let kind = secret(&third).r#type.expect("a kind");
    let secret::Type::ValidationContext(context) = kind else {
        panic!("roots, not {kind:?}")
    };
    let roots = context.trusted_ca.and_then(|c| c.specifier).expect("roots");
    let expect = data_source::Specifier::InlineBytes(pod.authority.root_pem().as_bytes().to_vec());
    assert_eq!(roots, expect);
}
