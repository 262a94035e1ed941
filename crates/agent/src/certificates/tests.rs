use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use lateen_tls::{Authority, CsrKey, LeafRequest};
use lateen_xds::ca::{CertificateServer, CertificateService, IstioCertificateResponse};
use tonic::{Response, Status};

use super::*;
use crate::testing::{DAY, Pod};

#[test]
fn renewal_is_at_half_life_give_or_take() {
    let hours = |random| renew_in(DAY, 0.5, random).as_secs_f64() / 3600.0;
    assert!((hours(0.5) - 12.0).abs() < 1e-6);
    assert!(hours(0.0) > 11.7 && hours(1.0) < 12.3);
    assert_eq!(renew_in(Duration::ZERO, 0.5, 0.5), MIN_WAIT);
}

/// A control plane that signs for the bearer of "good" and fails the first call.
struct FakeAuthority {
    authority: Authority,
    /// Roots that are trusted beside the authority's own.
    added: Mutex<String>,
    calls: AtomicU32,
    lifetime: Duration,
}

impl CertificateService for FakeAuthority {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(Status::unavailable("starting"));
        }
        if request
            .metadata()
            .get("authorization")
            .is_none_or(|t| t != "Bearer good")
        {
            return Err(Status::unauthenticated("token is not accepted"));
        }
        let id = "spiffe://cluster.local/ns/default/sa/default"
            .parse()
            .expect("an identity");
        let leaf = LeafRequest::spiffe(&id, self.lifetime);
        let csr = request.into_inner().csr;
        let issued = self
            .authority
            .issue(&leaf, CsrKey::FromCsr(&csr))
            .expect("a CSR");
        let added = self.added.lock().expect("no panic").clone();
        let cert_chain = vec![
            issued.cert_pem,
            self.authority.root_pem().to_owned() + &added,
        ];
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

async fn serve(pod: &Pod, lifetime: Duration) -> (Arc<FakeAuthority>, Arc<AgentConfig>) {
    let (listener, address) = pod.control_plane().await;
    let (cert, key) = (pod.authority.cert_pem(), pod.authority.key_pem());
    let authority = Authority::from_pem(cert, key, "", "").expect("the same authority");
    let fake = Arc::new(FakeAuthority {
        authority,
        added: Mutex::default(),
        calls: AtomicU32::new(0),
        lifetime,
    });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(CertificateServer::new(fake.clone()))
            .serve_with_incoming(listener.into_incoming()),
    );
    (fake, pod.config(&address, &[]))
}

#[tokio::test]
async fn a_certificate_is_obtained_after_a_failure_and_renewed_in_time() {
    let pod = Pod::new();
    let (fake, config) = serve(&pod, Duration::from_secs(2)).await;
    let store = Arc::new(IdentityStore::empty());
    let keeping = tokio::spawn(Certificates::new(config.clone()).keep(store.clone()));
    let first = store.ready().await;
    assert_eq!(first.spiffe(), Some(&config.spiffe));
    assert_eq!(first.roots_pem(), fake.authority.root_pem());
    let mut changed = store.subscribe();
    changed
        .wait_for(|n| *n >= 2)
        .await
        .expect("the store lives");
    let second = store.current().expect("renewed");
    assert_ne!(
        first.key_pem(),
        second.key_pem(),
        "each certificate has its own key"
    );
    keeping.abort();
}

/// Long before half its life, since others may have certificates of the added root already.
#[tokio::test]
async fn an_added_root_is_trusted_when_it_is_mounted() {
    let pod = Pod::new();
    let (fake, config) = serve(&pod, DAY).await;
    let store = Arc::new(IdentityStore::empty());
    let keeping = tokio::spawn(Certificates::new(config).keep(store.clone()));
    let first = store.ready().await;
    let other = Authority::self_signed("cluster.local", DAY).expect("a root");
    *fake.added.lock().expect("no panic") = other.root_pem().to_owned();
    let both = format!("{}{}", pod.authority.root_pem(), other.root_pem());
    assert_ne!(first.roots_pem(), both);
    pod.put("var/run/secrets/istio/root-cert.pem", &both);
    let mut changed = store.subscribe();
    let renewed = changed.wait_for(|_| store.current().is_ok_and(|now| now.roots_pem() == both));
    let renewed = tokio::time::timeout(Duration::from_secs(60), renewed).await;
    drop(renewed.expect("in time").expect("the store lives"));
    keeping.abort();
}

#[tokio::test]
async fn a_refused_token_is_an_error_with_the_reason() {
    let pod = Pod::new();
    let (_, config) = serve(&pod, DAY).await;
    let certificates = Certificates::new(config);
    certificates
        .fetch()
        .await
        .expect_err("the first call fails");
    certificates.fetch().await.expect("the second works");
    pod.token("foreign");
    let error = certificates
        .fetch()
        .await
        .expect_err("a foreign token")
        .to_string();
    assert!(
        error.contains("token is not accepted (Unauthenticated)"),
        "{error}"
    );
}

#[tokio::test]
async fn a_control_plane_of_another_root_gets_no_token() {
    let pod = Pod::new();
    let (fake, config) = serve(&pod, DAY).await;
    let other = Authority::self_signed("other", DAY).expect("a root");
    pod.put("var/run/secrets/istio/root-cert.pem", other.root_pem());
    Certificates::new(config)
        .fetch()
        .await
        .expect_err("not verified");
    assert_eq!(fake.calls.load(Ordering::Relaxed), 0);
}
