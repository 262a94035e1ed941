//! Whom a handshake lets in, against peers and chains that our own authority would never make.

use std::sync::Arc;
use std::time::Duration;

use lateen_tls::{
    Acceptor, Authority, ClientAuth, ClientOptions, Connector, Error, Identity, IdentityStore,
    LeafRequest, PeerRule, SanKind, SanMatch, ServerCheck, ServerOptions, Stream,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const DAY: Duration = Duration::from_secs(86_400);
const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
const PRODUCTPAGE: &str = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";

type Made = Result<Stream<DuplexStream>, Error>;

async fn meet(server: &Acceptor, client: &Connector) -> (Made, Made) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = async {
        let mut stream = server.accept(far).await?;
        stream.write_all(b"s").await.map_err(Error::Io)?;
        stream.flush().await.map_err(Error::Io)?;
        stream.read_u8().await.map_err(Error::Io)?;
        Ok(stream)
    };
    let client = async {
        let mut stream = client.connect(near, None).await?;
        stream.write_all(b"c").await.map_err(Error::Io)?;
        stream.flush().await.map_err(Error::Io)?;
        stream.read_u8().await.map_err(Error::Io)?;
        Ok(stream)
    };
    tokio::join!(server, client)
}

fn acceptor(identity: Identity) -> Acceptor {
    let options = ServerOptions {
        client_auth: ClientAuth::Required(PeerRule::AnyTrusted),
        ..ServerOptions::default()
    };
    Acceptor::new(Arc::new(IdentityStore::new(identity)), options)
}

fn connector(identity: Identity, rule: PeerRule) -> Connector {
    let options = ClientOptions {
        check: ServerCheck::Peer(rule),
        ..ClientOptions::default()
    };
    Connector::new(Arc::new(IdentityStore::new(identity)), options)
}

fn named(root: &Authority, uris: &[&str], dns: &[&str]) -> Identity {
    let request = LeafRequest {
        uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
        dns: dns.iter().map(|&name| name.to_owned()).collect(),
        validity: DAY,
        ..LeafRequest::default()
    };
    root.identity(&request).expect("a leaf")
}

fn root() -> Authority {
    Authority::self_signed("cluster.local", DAY).expect("a root")
}

#[tokio::test]
async fn who_has_two_uri_names_is_nobody() {
    let root = root();
    let twofold = || named(&root, &[PRODUCTPAGE, REVIEWS], &[]);
    let plain = || named(&root, &[REVIEWS], &[]);
    let client = connector(twofold(), PeerRule::AnyTrusted);
    let (served, _) = meet(&acceptor(plain()), &client).await;
    let why = served.expect_err("refused").to_string();
    assert!(why.contains("several URI names"), "{why}");
    let client = connector(plain(), PeerRule::exact([REVIEWS]));
    let (_, connected) = meet(&acceptor(twofold()), &client).await;
    let why = connected.expect_err("refused").to_string();
    assert!(why.contains("several URI names"), "{why}");
}

#[tokio::test]
async fn names_fit_by_kind() {
    let root = root();
    let uri = |text: &str| (SanKind::Uri, SanMatch::Exact(text.to_owned()));
    let dns = |text: &str| (SanKind::Dns, SanMatch::Exact(text.to_owned()));
    for (uris, names, rule, fits) in [
        (&[REVIEWS][..], &[][..], uri(REVIEWS), true),
        (&["http://a.b"], &[], dns("http://a.b"), false),
        (&[], &["a.b"], uri("a.b"), false),
        (&[], &["a.b"], dns("A.b"), true),
        (&[], &["*.a.b"], dns("c.a.b"), true),
        (&[], &["*.a.b"], dns("d.c.a.b"), false),
        (&[], &["*.a.b"], dns("a.b"), false),
        (&[], &["*.a.b"], dns(".a.b"), false),
        (
            &[],
            &["a.b"],
            (SanKind::Any, SanMatch::Suffix(".b".to_owned())),
            true,
        ),
    ] {
        let server = acceptor(named(&root, uris, names));
        let rule = PeerRule::Names(vec![rule]);
        let client = connector(named(&root, &[PRODUCTPAGE], &[]), rule.clone());
        let (_, connected) = meet(&server, &client).await;
        assert_eq!(connected.is_ok(), fits, "{uris:?} {names:?} {rule:?}");
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A leaf for these purposes, below so many intermediate authorities.
fn below(between: usize, purposes: &[ExtendedKeyUsagePurpose], is_ca: bool) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let params = authority("root");
    let roots = params.self_signed(&key).expect("a root").pem();
    let mut issuer = Issuer::new(params, key);
    let mut chain = String::new();
    for depth in 0..between {
        let key = KeyPair::generate().expect("a key");
        let params = authority(&format!("between {depth}"));
        let cert = params.signed_by(&key, &issuer).expect("a certificate");
        chain.insert_str(0, &cert.pem());
        issuer = Issuer::new(params, key);
    }
    let key = KeyPair::generate().expect("a key");
    let mut params = if is_ca {
        authority("leaf")
    } else {
        CertificateParams::default()
    };
    params.subject_alt_names = vec![SanType::URI(REVIEWS.try_into().expect("ASCII"))];
    params.extended_key_usages = purposes.to_vec();
    let leaf = params.signed_by(&key, &issuer).expect("a certificate");
    chain.insert_str(0, &leaf.pem());
    Identity::from_pem(&chain, &key.serialize_pem(), &roots).expect("consistent")
}

#[tokio::test]
async fn chains_are_followed_so_far_and_purposes_are_kept() {
    use ExtendedKeyUsagePurpose::{ClientAuth as Client, ServerAuth as Server};
    for (between, purposes, is_ca, as_server, as_client) in [
        (0, vec![Server, Client], false, true, true),
        (0, vec![], false, true, true),
        (0, vec![Server], false, true, false),
        (0, vec![Client], false, false, true),
        (2, vec![Server, Client], false, true, true),
        (9, vec![Server, Client], false, false, false),
        // An authority's certificate is no identity.
        (0, vec![Server, Client], true, false, false),
    ] {
        let text = format!("{between} {purposes:?} {is_ca}");
        let made = below(between, &purposes, is_ca);
        let ours = root();
        let mut roots = ours.root_pem().to_owned();
        roots.push_str(made.roots_pem());
        let tested =
            || Identity::from_pem(made.chain_pem(), made.key_pem(), &roots).expect("consistent");
        let plain = || {
            let plain = named(&ours, &[PRODUCTPAGE], &[]);
            Identity::from_pem(plain.chain_pem(), plain.key_pem(), &roots).expect("consistent")
        };
        let (server, client) = (acceptor(tested()), connector(plain(), PeerRule::AnyTrusted));
        // Twice: what was verified before is not verified again, what was refused is.
        for _ in 0..2 {
            assert_eq!(meet(&server, &client).await.1.is_ok(), as_server, "{text}");
        }
        let server = acceptor(plain());
        for _ in 0..2 {
            let client = connector(tested(), PeerRule::AnyTrusted);
            assert_eq!(meet(&server, &client).await.0.is_ok(), as_client, "{text}");
        }
    }
}

/// A client with a certificate and whichever key, over a provider of its own.
async fn intrude(
    server: &Acceptor,
    provider: CryptoProvider,
    chain_pem: &str,
    key_pem: &str,
) -> Made {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("valid PEM");
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("valid PEM");
    let key = provider
        .key_provider
        .load_private_key(key)
        .expect("a usable key");
    let roots = server
        .store()
        .current()
        .expect("set")
        .roots_pem()
        .to_owned();
    let mut store = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root.expect("valid PEM")).expect("a root");
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(store)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            chain, key,
        ))));
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from("reviews.default").expect("a name");
    let connecting = async {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, near).await;
        // Held until the server has judged.
        (stream.is_ok(), stream)
    };
    tokio::join!(server.accept(far), connecting).0
}

#[tokio::test]
async fn a_known_certificate_is_no_proof() {
    let root = root();
    let server = acceptor(named(&root, &[REVIEWS], &["reviews.default"]));
    let victim = named(&root, &[PRODUCTPAGE], &[]);
    let good = connector(
        Identity::from_pem(victim.chain_pem(), victim.key_pem(), root.root_pem())
            .expect("consistent"),
        PeerRule::AnyTrusted,
    );
    meet(&server, &good).await.0.expect("the victim is trusted");
    let other = named(&root, &[PRODUCTPAGE], &[]);
    let provider = aws_lc_rs::default_provider;
    let (chain, key) = (victim.chain_pem(), victim.key_pem());
    let made = intrude(&server, provider(), chain, key).await;
    made.expect("with its key it is");
    let made = intrude(&server, provider(), chain, other.key_pem()).await;
    let why = made.expect_err("another key").to_string();
    assert!(why.contains("BadSignature"), "{why}");
}

#[tokio::test]
async fn the_hybrid_exchange_is_used_and_its_absence_is_borne() {
    let root = root();
    let server = acceptor(named(&root, &[REVIEWS], &["reviews.default"]));
    let us = named(&root, &[PRODUCTPAGE], &[]);
    for (groups, expect) in [
        (
            vec![
                aws_lc_rs::kx_group::X25519MLKEM768,
                aws_lc_rs::kx_group::X25519,
            ],
            "X25519MLKEM768",
        ),
        (vec![aws_lc_rs::kx_group::X25519], "X25519"),
        (vec![aws_lc_rs::kx_group::SECP256R1], "secp256r1"),
    ] {
        let provider = CryptoProvider {
            kx_groups: groups,
            ..aws_lc_rs::default_provider()
        };
        let made = intrude(&server, provider, us.chain_pem(), us.key_pem()).await;
        let info = made.expect("trusted").info().clone();
        assert_eq!(info.group, Some(expect));
        assert_eq!(info.cipher, "TLS13_AES_128_GCM_SHA256");
    }
    let client = connector(us, PeerRule::exact([REVIEWS]));
    let (served, _) = meet(&server, &client).await;
    let info = served.expect("trusted").info().clone();
    assert_eq!(info.group, Some("X25519MLKEM768"));
}
