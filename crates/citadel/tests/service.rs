//! The certificate service over real TLS: who gets a certificate, and whose.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lateen_citadel::{
    Authenticator, CaOptions, CertificateAuthority, Citadel, Creation, Denied, Origin, SecretData,
    SecretStore, StoreError, TrustDomains,
};
use lateen_core::SpiffeId;
use lateen_tls::{
    Acceptor, CertInfo, ClientAuth, ClientOptions, Connector, GrpcConnector, Identity,
    IdentityStore, LeafRequest, PeerRule, ServerCheck, ServerOptions, https,
};
use lateen_xds::ca::{CertificateClient, IstioCertificateRequest};
use tokio::sync::watch;
use tonic::{Code, Request, Status};

const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";

/// Secrets in memory. `rival` is created just before our own creation, as a replica would.
#[derive(Default)]
struct Memory {
    secrets: Mutex<BTreeMap<String, (String, SecretData)>>,
    rival: Mutex<Option<SecretData>>,
}

#[async_trait]
impl SecretStore for Memory {
    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SecretData>, StoreError> {
        let secrets = self.secrets.lock().expect("no panic under it");
        Ok(secrets
            .get(&format!("{namespace}/{name}"))
            .map(|(_, data)| data.clone()))
    }

    async fn create(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        data: SecretData,
    ) -> Result<Creation, StoreError> {
        let key = format!("{namespace}/{name}");
        let mut secrets = self.secrets.lock().expect("no panic under it");
        if let Some(rival) = self.rival.lock().expect("no panic under it").take() {
            secrets.insert(key.clone(), (kind.to_owned(), rival));
        }
        if secrets.contains_key(&key) {
            return Ok(Creation::Exists);
        }
        secrets.insert(key, (kind.to_owned(), data));
        Ok(Creation::Created)
    }
}

struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, token: &str) -> Result<SpiffeId, Denied> {
        match token {
            "good" => Ok(REVIEWS.parse().expect("a SPIFFE identity")),
            "expired" => Err(Denied::Refused("token has expired".to_owned())),
            "down" => Err(Denied::Unavailable("connection refused".to_owned())),
            _ => Err(Denied::Refused(
                "token was not issued by this cluster".to_owned(),
            )),
        }
    }
}

async fn load(store: &Memory) -> CertificateAuthority {
    CertificateAuthority::load_or_create(store, CaOptions::default())
        .await
        .expect("an authority")
}

struct Server {
    ca: Arc<CertificateAuthority>,
    trust: watch::Sender<Arc<TrustDomains>>,
    address: String,
}

async fn serve() -> Server {
    let ca = Arc::new(load(&Memory::default()).await);
    let serving = ca.serving_identity(&[]).expect("a certificate");
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let rule = PeerRule::AnyTrusted;
    let store = Arc::new(IdentityStore::new(with_roots(&serving, &ca.root_pem())));
    let listener = https::Listener::http(vec![tcp], store, ClientAuth::Optional(rule));
    let listener = listener.expect("a listener");
    let address = listener.address().to_string();
    let (trust, domains) = watch::channel(Arc::new(TrustDomains::new("cluster.local", [])));
    let citadel = Citadel::new(ca.clone(), Arc::new(Tokens), domains).into_server();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(citadel)
            .serve_with_incoming(listener.into_incoming()),
    );
    Server { ca, trust, address }
}

fn with_roots(identity: &Identity, roots: &str) -> Identity {
    Identity::from_pem(identity.chain_pem(), identity.key_pem(), roots).expect("consistent")
}

impl Server {
    async fn ask(
        &self,
        identity: Identity,
        token: Option<&str>,
        message: IstioCertificateRequest,
    ) -> Result<Vec<String>, Status> {
        let alpn = vec![b"h2".to_vec()];
        let check = ServerCheck::ServerName;
        let options = ClientOptions {
            check,
            alpn,
            ..ClientOptions::default()
        };
        let connector = Connector::new(Arc::new(IdentityStore::new(identity)), options);
        let grpc = GrpcConnector::new(Arc::new(connector)).with_sni("istiod.istio-system.svc");
        let mut client = CertificateClient::new(grpc.channel(&self.address).expect("an address"));
        let mut request = Request::new(message);
        if let Some(token) = token {
            let header = format!("Bearer {token}").parse().expect("ASCII");
            request.metadata_mut().insert("authorization", header);
        }
        Ok(client
            .create_certificate(request)
            .await?
            .into_inner()
            .cert_chain)
    }

    fn nobody(&self) -> Identity {
        Identity::roots_only(&self.ca.root_pem()).expect("valid roots")
    }
}

fn request(validity: i64) -> (String, IstioCertificateRequest) {
    let (key, csr) =
        lateen_tls::csr("spiffe://cluster.local/ns/istio-system/sa/evil").expect("a CSR");
    (
        key,
        IstioCertificateRequest {
            csr,
            validity_duration: validity,
            metadata: None,
        },
    )
}

#[tokio::test]
async fn a_token_buys_a_certificate_of_its_owner_whatever_the_request_says() {
    let server = serve().await;
    let (key, message) = request(3600);
    let chain = server
        .ask(server.nobody(), Some("good"), message)
        .await
        .expect("issued");
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1], server.ca.root_pem());
    let info = CertInfo::from_pem(&chain[0]).expect("a certificate");
    assert_eq!(info.uris, [REVIEWS]);
    let lifetime = info
        .not_after
        .duration_since(std::time::SystemTime::now())
        .expect("valid");
    assert!(lifetime <= Duration::from_secs(3600) && lifetime > Duration::from_secs(3500));

    // The certificate then speaks for itself, with no token.
    let identity = Identity::from_pem(&chain[0], &key, &chain[1]).expect("it fits the key");
    let chain = server
        .ask(identity, None, request(0).1)
        .await
        .expect("issued");
    let info = CertInfo::from_pem(&chain[0]).expect("a certificate");
    assert_eq!(info.uris, [REVIEWS]);
}

#[tokio::test]
async fn a_certificate_proves_what_the_mesh_trusts_now() {
    let server = serve().await;
    let (key, message) = request(3600);
    let chain = server
        .ask(server.nobody(), Some("good"), message)
        .await
        .expect("issued");
    let old = || Identity::from_pem(&chain[0], &key, &chain[1]).expect("it fits the key");
    // With the old domain as an alias, whoever has a certificate of it gets one of the new.
    let moved = TrustDomains::new("corp", ["cluster.local"]);
    server.trust.send_replace(Arc::new(moved));
    let next = server.ask(old(), None, request(0).1).await;
    let info = CertInfo::from_pem(&next.expect("issued")[0]).expect("a certificate");
    assert_eq!(info.uris, [REVIEWS.replace("cluster.local", "corp")]);
    // Without, it is a stranger, who may have a token.
    server
        .trust
        .send_replace(Arc::new(TrustDomains::new("corp", [])));
    let refused = server.ask(old(), None, request(0).1).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let why = format!("{REVIEWS} is not of trust domain corp, and shows no token");
    assert_eq!(refused.message(), why);
    server
        .ask(old(), Some("good"), request(0).1)
        .await
        .expect("issued");
}

#[tokio::test]
async fn without_proof_there_is_no_certificate_and_the_reason_is_said() {
    let server = serve().await;
    for (token, code, reason) in [
        (Some("expired"), Code::Unauthenticated, "token has expired"),
        (
            Some("foreign"),
            Code::Unauthenticated,
            "token was not issued by this cluster",
        ),
        (Some("down"), Code::Unavailable, "connection refused"),
        (
            None,
            Code::Unauthenticated,
            "neither a client certificate nor a token",
        ),
    ] {
        let status = server.ask(server.nobody(), token, request(0).1).await;
        let status = status.expect_err("refused");
        assert_eq!(status.code(), code, "{token:?}");
        assert!(
            status.message().contains(reason),
            "{token:?}: {}",
            status.message()
        );
    }
    let mut text = String::new();
    server.ca.metrics().render(&mut text);
    assert!(
        text.contains("citadel_server_authentication_failure_count 4"),
        "{text}"
    );
    assert!(text.contains("citadel_server_csr_count 4"), "{text}");
}

#[tokio::test]
async fn bad_requests_are_the_callers_fault() {
    let server = serve().await;
    let days = |n: i64| n * 86_400;
    let nonsense = IstioCertificateRequest {
        csr: "nonsense".into(),
        ..request(0).1
    };
    for message in [nonsense, request(days(91)).1, request(-1).1] {
        let status = server.ask(server.nobody(), Some("good"), message).await;
        assert_eq!(status.expect_err("refused").code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn the_root_is_created_once_and_found_again() {
    let store = Memory::default();
    let first = load(&store).await;
    assert_eq!(first.origin(), Origin::Created);
    assert_eq!(
        store.secrets.lock().expect("no panic")["istio-system/istio-ca-secret"].0,
        "istio.io/ca-root"
    );
    let second = load(&store).await;
    assert_eq!(second.origin(), Origin::Loaded);
    assert_eq!(first.root_pem(), second.root_pem());
}

#[tokio::test]
async fn who_creates_second_uses_the_first_ones_root() {
    let winner = Memory::default();
    let first = load(&winner).await;
    let secret = winner.secrets.lock().expect("no panic")["istio-system/istio-ca-secret"]
        .1
        .clone();
    let store = Memory {
        rival: Mutex::new(Some(secret)),
        ..Memory::default()
    };
    let second = load(&store).await;
    assert_eq!(second.origin(), Origin::Loaded);
    assert_eq!(first.root_pem(), second.root_pem());
}

#[tokio::test]
async fn a_plugged_in_authority_comes_first_and_a_broken_secret_is_named() {
    let own =
        lateen_tls::Authority::self_signed("corp", Duration::from_secs(3600)).expect("a root");
    let mut data = SecretData::from([
        ("ca-cert.pem".to_owned(), own.cert_pem().into()),
        ("ca-key.pem".to_owned(), own.key_pem().into()),
        ("cert-chain.pem".to_owned(), Vec::new()),
        ("root-cert.pem".to_owned(), own.root_pem().into()),
    ]);
    let store = Memory::default();
    store
        .create("istio-system", "cacerts", "Opaque", data.clone())
        .await
        .expect("in memory");
    let ca = load(&store).await;
    assert_eq!(
        (ca.origin(), ca.root_pem().as_str()),
        (Origin::Plugged, own.root_pem())
    );

    data.remove("ca-key.pem");
    let store = Memory::default();
    store
        .create("istio-system", "cacerts", "Opaque", data)
        .await
        .expect("in memory");
    let error = CertificateAuthority::load_or_create(&store, CaOptions::default()).await;
    let error = error.expect_err("a key is missing").to_string();
    assert_eq!(error, "secret istio-system/cacerts has no key ca-key.pem");
}

/// What the operator brings: an authority, and the roots that are to be trusted.
fn plugged(signer: &lateen_tls::Authority, roots: &[&lateen_tls::Authority]) -> SecretData {
    let roots: String = roots.iter().map(|root| root.root_pem()).collect();
    SecretData::from([
        ("ca-cert.pem".to_owned(), signer.cert_pem().into()),
        ("ca-key.pem".to_owned(), signer.key_pem().into()),
        ("cert-chain.pem".to_owned(), signer.cert_pem().into()),
        ("root-cert.pem".to_owned(), roots.into()),
    ])
}

/// Whether two workloads take each other for what they are, whoever calls.
async fn trust_each_other(one: &Arc<IdentityStore>, other: &Arc<IdentityStore>) -> bool {
    for (server, client) in [(one, other), (other, one)] {
        let rule = || PeerRule::exact([REVIEWS]);
        let options = ServerOptions {
            client_auth: ClientAuth::Required(rule()),
            ..ServerOptions::default()
        };
        let acceptor = Acceptor::new(server.clone(), options);
        let options = ClientOptions {
            check: ServerCheck::Peer(rule()),
            ..ClientOptions::default()
        };
        let connector = Connector::new(client.clone(), options);
        let (near, far) = tokio::io::duplex(64 << 10);
        let met = tokio::join!(acceptor.accept(far), connector.connect(near, None));
        if met.0.is_err() || met.1.is_err() {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_root_is_rotated_in_steps_in_which_all_trust_each_other() {
    let root = || lateen_tls::Authority::self_signed("corp", Duration::from_secs(3600));
    let (old, new) = (root().expect("a root"), root().expect("a root"));
    let store = Memory::default();
    let first = plugged(&old, &[&old]);
    let created = store.create("istio-system", "cacerts", "Opaque", first.clone());
    created.await.expect("in memory");
    let ca = Arc::new(load(&store).await);
    let mut roots = ca.roots();
    let serving = Arc::new(IdentityStore::empty());
    let keeping = tokio::spawn(ca.clone().keep_serving(serving.clone(), Vec::new()));
    serving.ready().await;
    let mut served = serving.subscribe();
    let reviews = REVIEWS.parse().expect("an identity");
    let workload = || {
        let identity = ca.workload_identity(&reviews).expect("a certificate");
        Arc::new(IdentityStore::new(identity))
    };
    let mut before = workload();

    // What is the same is no change, and what would part the mesh is refused.
    assert!(!ca.replug(Some(&first)).expect("it is in force"));
    let foreign = plugged(&new, &[&new]);
    let mut half = first.clone();
    half.remove("ca-key.pem");
    for (secret, reason) in [
        (Some(&foreign), "Put both roots into root-cert.pem"),
        (Some(&half), "has no key ca-key.pem"),
        (None, "secret istio-system/cacerts is gone"),
    ] {
        let refused = ca.replug(secret).expect_err("refused").to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    assert!(!roots.has_changed().expect("it lives"));
    assert_eq!(ca.root_pem(), old.root_pem());

    let both = format!("{}{}", old.root_pem(), new.root_pem());
    for (secret, trusted) in [
        (plugged(&old, &[&old, &new]), both.as_str()),
        (plugged(&new, &[&old, &new]), &both),
        (plugged(&new, &[&new]), new.root_pem()),
    ] {
        assert!(ca.replug(Some(&secret)).expect("a step"));
        assert_eq!(&**roots.borrow_and_update(), trusted);
        let is_served = served.wait_for(|_| {
            let current = serving.current().expect("it is ready");
            current.roots_pem() == trusted
        });
        drop(is_served.await.expect("the store lives"));
        let after = workload();
        assert!(trust_each_other(&before, &after).await, "{trusted}");
        before = after;
    }
    let minute = Duration::from_secs(60);
    let stranger = old.identity(&LeafRequest::spiffe(&reviews, minute));
    let stranger = Arc::new(IdentityStore::new(stranger.expect("a certificate")));
    assert!(
        !trust_each_other(&before, &stranger).await,
        "the old root is out"
    );
    keeping.abort();
}
