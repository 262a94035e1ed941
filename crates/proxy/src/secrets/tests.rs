use lateen_decode::Data;
use lateen_tls::{Authority, LeafRequest};

use super::*;

/// A context of one certificate and without roots.
fn spec() -> TlsSpec {
    TlsSpec {
        certs: vec![CertSource::Sds("cert".to_owned())],
        roots: RootSource::None,
        crl: None,
        names: Vec::new(),
        pins: lateen_decode::Pins::default(),
        alpn: Vec::new(),
        min: TlsVersion::Tls12,
        max: TlsVersion::Tls13,
        suites: Vec::new(),
        groups: Vec::new(),
        sni: None,
        auto_sni: false,
        host_sni: false,
        verify_sni: false,
        verify_host: false,
        require_client: false,
    }
}

#[test]
fn an_algorithm_that_we_do_not_have_is_refused_by_its_name() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let check = |spec: TlsSpec, field: &str| {
        let secrets = Secrets::new(Arc::new(IdentityStore::empty()));
        let refused = secrets.acceptor(&spec).expect_err(field);
        assert_eq!(refused.field, field);
        let refused = secrets.connector(&spec).err().expect(field);
        assert_eq!(refused.field, field);
    };
    let suites = TlsSpec {
        suites: names(&["ECDHE-RSA-AES128-GCM-SHA256", "AES512-SHA"]),
        ..spec()
    };
    check(suites, "tls_params.cipher_suites");
    let groups = TlsSpec {
        groups: names(&["P-521"]),
        ..spec()
    };
    check(groups, "tls_params.ecdh_curves");
}

#[tokio::test]
async fn lists_of_a_context_and_of_its_secret_both_count() {
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
    let authority = Authority::self_signed("cluster.local", DAY).expect("a root");
    let stranger = Authority::self_signed("other.local", DAY).expect("a root");
    let leaf = LeafRequest::server(["a.test"], DAY);
    let identity = authority.identity(&leaf).expect("a leaf");
    let inline = |text: &str| Data::Inline(text.as_bytes().to_vec());
    let list = |of: &Authority| of.revoke(&[], DAY).expect("a list");
    let secrets = Secrets::new(Arc::new(IdentityStore::empty()));
    let acceptor = secrets.acceptor(&TlsSpec {
        certs: vec![CertSource::Given {
            chain: inline(identity.chain_pem()),
            key: inline(identity.key_pem()),
        }],
        roots: RootSource::Sds("roots".to_owned()),
        // Without the end of its last line.
        crl: Some(inline(list(&stranger).trim_end())),
        require_client: true,
        ..spec()
    });
    let acceptor = acceptor.expect("a context");
    let roots = SecretData::Roots {
        pem: inline(authority.root_pem()),
        crl: Some(inline(&list(&authority))),
    };
    secrets.set("roots", roots).expect("roots");
    let store = Arc::new(IdentityStore::new(identity));
    let connector = Connector::new(store, ClientOptions::default());
    let (near, far) = tokio::io::duplex(64 << 10);
    let (served, _client) = tokio::join!(acceptor.accept(far), connector.connect(near, None));
    // By the list of the secret the client is known to be good.
    served.expect("the client is trusted");
}

#[test]
fn a_key_in_the_text_of_a_chain_is_not_shown() {
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
    let authority = Authority::self_signed("cluster.local", DAY).expect("a root");
    let leaf = LeafRequest::server(["a.test"], DAY);
    let own = authority.identity(&leaf).expect("a leaf");
    let identity = authority.identity(&leaf).expect("a leaf");
    let both = format!("{}{}", identity.key_pem(), identity.chain_pem());
    let secrets = Secrets::new(Arc::new(IdentityStore::new(own)));
    let context = TlsSpec {
        roots: RootSource::Sds("roots".to_owned()),
        ..spec()
    };
    let _acceptor = secrets.acceptor(&context).expect("a context");
    let inline = |text: &str| Data::Inline(text.as_bytes().to_vec());
    let certificate = SecretData::Certificate(CertSource::Given {
        chain: inline(&both),
        key: inline(identity.key_pem()),
    });
    secrets.set("cert", certificate).expect("a certificate");
    let pem = inline(&format!("{}{}", authority.root_pem(), authority.key_pem()));
    secrets
        .set("roots", SecretData::Roots { pem, crl: None })
        .expect("roots");
    for (name, shown) in secrets.shown() {
        let text = match shown.expect("it has come") {
            Shown::Certificate(text) | Shown::Roots(text) => text,
        };
        assert!(!text.contains("PRIVATE KEY"), "{name}");
        assert!(text.contains("BEGIN CERTIFICATE"), "{name}");
    }
}
