//! Whole handshakes over in-memory pipes: who is let in, who is refused, and what is learnt.

use std::sync::Arc;
use std::time::Duration;

use lateen_core::SpiffeId;
use lateen_tls::{
    Acceptor, Algorithms, Authority, ClientAuth, ClientOptions, Connector, CsrKey, Error, Identity,
    IdentityStore, LeafRequest, PeerRule, ServerCheck, ServerOptions, Stream, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const DAY: Duration = Duration::from_secs(86_400);
const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
const PRODUCTPAGE: &str = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";
const SNI: &str = "outbound_.9080_._.reviews.default.svc.cluster.local";

fn authority() -> Authority {
    Authority::self_signed("cluster.local", DAY).expect("a root can be made")
}

fn identity(authority: &Authority, spiffe: &str) -> Identity {
    let id: SpiffeId = spiffe.parse().expect("a SPIFFE identity");
    authority
        .identity(&LeafRequest::spiffe(&id, DAY))
        .expect("a leaf can be issued")
}

fn store(authority: &Authority, spiffe: &str) -> Arc<IdentityStore> {
    Arc::new(IdentityStore::new(identity(authority, spiffe)))
}

fn acceptor(store: Arc<IdentityStore>, client_auth: ClientAuth) -> Acceptor {
    let alpn = vec![b"istio".to_vec(), b"h2".to_vec()];
    Acceptor::new(
        store,
        ServerOptions {
            client_auth,
            alpn,
            ..ServerOptions::default()
        },
    )
}

fn connector(store: Arc<IdentityStore>, rule: PeerRule) -> Connector {
    let check = ServerCheck::Peer(rule);
    let alpn = vec![b"istio".to_vec()];
    Connector::new(
        store,
        ClientOptions {
            check,
            alpn,
            ..ClientOptions::default()
        },
    )
}

type Both = (
    Result<Stream<DuplexStream>, Error>,
    Result<Stream<DuplexStream>, Error>,
);

/// Connects and moves a byte each way, so that post-handshake refusals and tickets arrive.
async fn meet(server: &Acceptor, client: &Connector) -> Both {
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = async {
        let mut stream = server.accept(far).await?;
        stream.write_all(b"s").await.map_err(Error::Io)?;
        stream.flush().await.map_err(Error::Io)?;
        stream.read_u8().await.map_err(Error::Io)?;
        Ok(stream)
    };
    let client = async {
        let mut stream = client.connect(near, Some(SNI)).await?;
        stream.write_all(b"c").await.map_err(Error::Io)?;
        stream.flush().await.map_err(Error::Io)?;
        stream.read_u8().await.map_err(Error::Io)?;
        Ok(stream)
    };
    tokio::join!(server, client)
}

fn reason(result: Result<Stream<DuplexStream>, Error>) -> String {
    result.expect_err("the handshake is refused").to_string()
}

#[tokio::test]
async fn workloads_learn_each_others_names() {
    let root = authority();
    let server = acceptor(
        store(&root, REVIEWS),
        ClientAuth::Required(PeerRule::TrustDomains(vec!["cluster.local".into()])),
    );
    let client = connector(store(&root, PRODUCTPAGE), PeerRule::exact([REVIEWS]));
    let (served, connected) = meet(&server, &client).await;
    let served = served.expect("the client is trusted");
    let connected = connected.expect("the server is trusted");
    assert_eq!(
        lateen_tls::peer_spiffe(&served)
            .expect("a client identity")
            .to_string(),
        PRODUCTPAGE
    );
    assert_eq!(
        lateen_tls::peer_spiffe(&connected)
            .expect("an identity")
            .to_string(),
        REVIEWS
    );
    assert_eq!(served.info().sni.as_deref(), Some(SNI));
    assert_eq!(served.info().alpn.as_deref(), Some(&b"istio"[..]));
    assert_eq!(connected.info().version, Version::Tls13);
}

#[tokio::test]
async fn a_server_with_another_identity_is_refused() {
    let root = authority();
    let server = acceptor(store(&root, PRODUCTPAGE), ClientAuth::None);
    let client = connector(store(&root, PRODUCTPAGE), PeerRule::exact([REVIEWS]));
    let why = reason(meet(&server, &client).await.1);
    assert!(
        why.contains(&format!("peer is {PRODUCTPAGE}, expected {REVIEWS}")),
        "{why}"
    );
}

#[tokio::test]
async fn a_client_of_another_trust_domain_is_refused() {
    let root = authority();
    let rule = PeerRule::TrustDomains(vec!["cluster.local".into()]);
    let server = acceptor(store(&root, REVIEWS), ClientAuth::Required(rule));
    let foreign = store(&root, "spiffe://elsewhere/ns/default/sa/x");
    let client = connector(foreign, PeerRule::AnyTrusted);
    let why = reason(meet(&server, &client).await.0);
    assert!(
        why.contains("is not of trust domain cluster.local"),
        "{why}"
    );
}

#[tokio::test]
async fn a_client_of_another_root_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let server = acceptor(
        store(&ours, REVIEWS),
        ClientAuth::Required(PeerRule::AnyTrusted),
    );
    let issued = theirs
        .issue(
            &LeafRequest::spiffe(&PRODUCTPAGE.parse().expect("a SPIFFE identity"), DAY),
            CsrKey::Generate,
        )
        .expect("a leaf can be issued");
    let key = issued.key_pem.expect("a generated key");
    let forged = Identity::from_pem(&issued.chain_pem, &key, ours.root_pem());
    let forged = Arc::new(IdentityStore::new(forged.expect("consistent")));
    let (served, _) = meet(&server, &connector(forged, PeerRule::AnyTrusted)).await;
    let why = reason(served);
    assert!(
        why.contains("UnknownIssuer") || why.contains("BadSignature"),
        "{why}"
    );
}

#[tokio::test]
async fn a_client_without_certificate_is_refused_when_one_is_required() {
    let root = authority();
    let nobody = || {
        let identity = Identity::roots_only(root.root_pem()).expect("valid roots");
        connector(
            Arc::new(IdentityStore::new(identity)),
            PeerRule::exact([REVIEWS]),
        )
    };
    let strict = acceptor(
        store(&root, REVIEWS),
        ClientAuth::Required(PeerRule::AnyTrusted),
    );
    assert!(matches!(
        meet(&strict, &nobody()).await.0,
        Err(Error::Handshake(_))
    ));
    let lenient = acceptor(
        store(&root, REVIEWS),
        ClientAuth::Optional(PeerRule::AnyTrusted),
    );
    let (served, _) = meet(&lenient, &nobody()).await;
    assert!(
        served
            .expect("no certificate is needed")
            .info()
            .peer
            .is_none()
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let root = authority();
    let id = REVIEWS.parse().expect("a SPIFFE identity");
    let expired = || {
        // Certificates have whole seconds: one second less than none is in the past.
        let leaf = root.identity(&LeafRequest::spiffe(&id, Duration::ZERO));
        Arc::new(IdentityStore::new(leaf.expect("a leaf can be issued")))
    };
    let (server, client) = (expired(), expired());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let fresh = connector(store(&root, PRODUCTPAGE), PeerRule::AnyTrusted);
    let why = reason(meet(&acceptor(server, ClientAuth::None), &fresh).await.1);
    assert!(why.contains("expired"), "{why}");
    let strict = acceptor(
        store(&root, REVIEWS),
        ClientAuth::Required(PeerRule::AnyTrusted),
    );
    let why = reason(
        meet(&strict, &connector(client, PeerRule::AnyTrusted))
            .await
            .0,
    );
    assert!(why.contains("expired"), "{why}");
}

#[tokio::test]
async fn rotation_serves_new_connections_and_keeps_old_ones() {
    let (old, new) = (authority(), authority());
    let shared = store(&old, REVIEWS);
    let server = acceptor(shared.clone(), ClientAuth::Required(PeerRule::AnyTrusted));
    let client = connector(store(&old, PRODUCTPAGE), PeerRule::exact([REVIEWS]));
    let (served, connected) = meet(&server, &client).await;
    let (mut served, mut connected) = (served.expect("trusted"), connected.expect("trusted"));

    shared.set(identity(&new, REVIEWS));
    connected
        .write_all(b"still here")
        .await
        .expect("the old connection lives");
    connected.flush().await.expect("the old connection lives");
    let mut got = [0; 10];
    served
        .read_exact(&mut got)
        .await
        .expect("the old connection lives");
    assert_eq!(&got, b"still here");

    // The old client holds a ticket, which must not get it past the new root.
    assert!(meet(&server, &client).await.0.is_err());
    client.store().set(identity(&new, PRODUCTPAGE));
    meet(&server, &client)
        .await
        .0
        .expect("the new root is trusted");
}

#[tokio::test]
async fn sessions_are_resumed_and_keep_the_peer() {
    let root = authority();
    let server = acceptor(
        store(&root, REVIEWS),
        ClientAuth::Required(PeerRule::AnyTrusted),
    );
    let client = connector(store(&root, PRODUCTPAGE), PeerRule::exact([REVIEWS]));
    meet(&server, &client).await.0.expect("trusted");
    let served = meet(&server, &client).await.0.expect("trusted");
    assert!(served.info().resumed);
    assert_eq!(
        lateen_tls::peer_spiffe(&served).expect("kept").to_string(),
        PRODUCTPAGE
    );
}

#[tokio::test]
async fn nothing_works_before_the_first_identity() {
    let empty = Arc::new(IdentityStore::empty());
    let root = authority();
    let server = acceptor(empty.clone(), ClientAuth::None);
    let client = connector(store(&root, PRODUCTPAGE), PeerRule::AnyTrusted);
    assert!(matches!(
        meet(&server, &client).await.0,
        Err(Error::NotReady)
    ));
    let waiting = tokio::spawn({
        let empty = empty.clone();
        async move { empty.ready().await }
    });
    empty.set(identity(&root, REVIEWS));
    let ready = waiting.await.expect("no panic");
    assert_eq!(ready.spiffe().expect("an identity").to_string(), REVIEWS);
    meet(&server, &client).await.0.expect("now it works");
}

#[tokio::test]
async fn the_webs_way_verifies_the_name_that_was_asked_for() {
    let root = authority();
    let leaf = LeafRequest::server(["istiod.istio-system.svc"], DAY);
    let server = Arc::new(IdentityStore::new(root.identity(&leaf).expect("a leaf")));
    let roots = Identity::roots_only(root.root_pem()).expect("valid roots");
    let options = ClientOptions {
        check: ServerCheck::ServerName,
        ..ClientOptions::default()
    };
    let client = Connector::new(Arc::new(IdentityStore::new(roots)), options);
    for (name, fits) in [
        ("istiod.istio-system.svc", true),
        ("evil.istio-system.svc", false),
    ] {
        let acceptor = acceptor(server.clone(), ClientAuth::None);
        let (near, far) = tokio::io::duplex(64 << 10);
        let (_, connected) = tokio::join!(acceptor.accept(far), client.connect(near, Some(name)));
        assert_eq!(connected.is_ok(), fits, "{name}");
    }
}

#[tokio::test]
async fn without_a_common_application_protocol_there_is_none() {
    let root = authority();
    let server = acceptor(store(&root, REVIEWS), ClientAuth::None);
    let client = connector(store(&root, PRODUCTPAGE), PeerRule::exact([REVIEWS]));
    for (offer, agreed) in [
        (vec![b"istio-peer-exchange".to_vec()], None),
        (vec![b"h2".to_vec(), b"istio".to_vec()], Some(&b"istio"[..])),
        (Vec::new(), None),
    ] {
        let (near, far) = tokio::io::duplex(64 << 10);
        let connect = client.connect_alpn(near, Some(SNI), offer);
        let (served, connected) = tokio::join!(server.accept(far), connect);
        assert_eq!(served.expect("served").info().alpn.as_deref(), agreed);
        assert_eq!(connected.expect("connected").info().alpn.as_deref(), agreed);
    }
}

#[tokio::test]
async fn tls_1_2_verifies_as_well() {
    let root = authority();
    let options = ServerOptions {
        client_auth: ClientAuth::Required(PeerRule::AnyTrusted),
        max_version: Version::Tls12,
        ..ServerOptions::default()
    };
    let server = Acceptor::new(store(&root, REVIEWS), options);
    let client = connector(store(&root, PRODUCTPAGE), PeerRule::exact([REVIEWS]));
    let served = meet(&server, &client).await.0.expect("trusted");
    assert_eq!(served.info().version, Version::Tls12);
    assert!(
        served
            .info()
            .cipher
            .contains("ECDHE_ECDSA_WITH_AES_256_GCM")
    );
    let wrong = connector(store(&root, PRODUCTPAGE), PeerRule::exact([PRODUCTPAGE]));
    assert!(meet(&server, &wrong).await.1.is_err());
}

#[tokio::test]
async fn a_handshake_needs_a_group_of_both() {
    let authority = authority();
    let groups = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let algorithms = Algorithms::default().with_groups(&names);
        algorithms.expect("known")
    };
    for (server, client, agree) in [
        (&["P-384"][..], &["X25519"][..], false),
        (&["P-384", "X25519"], &["X25519"], true),
        (&["P-384"], &[], true),
        (&["X25519MLKEM768"], &["P-256", "X25519MLKEM768"], true),
        (&["X25519MLKEM768"], &["P-256", "X25519"], false),
    ] {
        let acceptor = Acceptor::new(
            store(&authority, REVIEWS),
            ServerOptions {
                algorithms: groups(server),
                ..ServerOptions::default()
            },
        );
        let connector = Connector::new(
            store(&authority, PRODUCTPAGE),
            ClientOptions {
                algorithms: groups(client),
                ..ClientOptions::default()
            },
        );
        let (accepted, connected) = meet(&acceptor, &connector).await;
        let both = accepted.is_ok() && connected.is_ok();
        assert_eq!(both, agree, "{server:?} {client:?}");
    }
}
