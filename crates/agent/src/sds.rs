//! Secrets for Envoy, over a Unix socket: `default` is the workload's certificate and key,
//! `ROOTCA` the roots. Both are pushed again whenever they change.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use lateen_tls::{Identity, IdentityStore};
use lateen_xds::types::core::{DataSource, data_source};
use lateen_xds::types::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use lateen_xds::types::secret_service::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use lateen_xds::types::tls::{CertificateValidationContext, Secret, TlsCertificate, secret};
use lateen_xds::{Any, TypeUrl};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The workload's certificate and key.
const WORKLOAD: &str = "default";
/// The roots that peers are verified against.
const ROOTS: &str = "ROOTCA";

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves secrets; never returns unless the transport fails.
pub(crate) async fn serve(listener: UnixListener, store: Arc<IdentityStore>) {
    let service = SecretDiscoveryServiceServer::new(Secrets { store });
    let served = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "secrets are no longer served");
    }
}

struct Secrets {
    store: Arc<IdentityStore>,
}

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type DeltaSecretsStream = Responses<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Responses<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(
            "delta secret discovery is not supported, use GRPC",
        ))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (responses_tx, responses_rx) = mpsc::channel(4);
        let stream = SecretStream {
            requests: request.into_inner(),
            responses_tx,
            changed_rx: self.store.subscribe(),
            store: self.store.clone(),
            names: Vec::new(),
            sent: None,
        };
        tokio::spawn(stream.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(responses_rx))))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let identity = self.store.current();
        let identity = identity.map_err(|e| Status::unavailable(e.to_string()))?;
        let names = request.into_inner().resource_names;
        Ok(Response::new(response(
            &names,
            &identity,
            1,
            *self.store.subscribe().borrow(),
        )))
    }
}

/// One stream of Envoy; it opens one per secret.
struct SecretStream {
    requests: Streaming<DiscoveryRequest>,
    responses_tx: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    changed_rx: watch::Receiver<u64>,
    store: Arc<IdentityStore>,
    names: Vec<String>,
    /// The nonce of the last response and the generation that it carried.
    sent: Option<(u64, u64)>,
}

impl SecretStream {
    async fn run(mut self) {
        loop {
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => self.take(request),
                    // Envoy closes streams of secrets that it no longer needs.
                    Ok(None) | Err(_) => return,
                },
                changed = self.changed_rx.changed() => if changed.is_err() { return },
            }
            if self.answer().await.is_err() {
                return;
            }
        }
    }

    /// An acknowledgement changes nothing; other names ask for an answer at once.
    fn take(&mut self, request: DiscoveryRequest) {
        if let Some(refused) = &request.error_detail {
            tracing::warn!(reason = refused.message, "Envoy refused a secret");
        }
        if request.resource_names != self.names {
            self.names = request.resource_names;
            self.sent = None;
        }
    }

    async fn answer(&mut self) -> Result<(), ()> {
        let generation = *self.changed_rx.borrow_and_update();
        let Ok(identity) = self.store.current() else {
            return Ok(());
        };
        let (nonce, last) = self.sent.unwrap_or_default();
        if self.names.is_empty() || last == generation {
            return Ok(());
        }
        self.sent = Some((nonce + 1, generation));
        let response = response(&self.names, &identity, nonce + 1, generation);
        self.responses_tx.send(Ok(response)).await.map_err(|_| ())
    }
}

fn response(
    names: &[String],
    identity: &Identity,
    nonce: u64,
    generation: u64,
) -> DiscoveryResponse {
    let secrets = names.iter().filter_map(|name| secret_named(name, identity));
    let resources = secrets
        .map(|s| lateen_xds::pack_any(&s))
        .collect::<Vec<Any>>();
    DiscoveryResponse {
        version_info: generation.to_string(),
        nonce: nonce.to_string(),
        type_url: TypeUrl::SECRET.to_string(),
        resources,
        ..DiscoveryResponse::default()
    }
}

fn secret_named(name: &str, identity: &Identity) -> Option<Secret> {
    let inline = |pem: &str| {
        let specifier = data_source::Specifier::InlineBytes(pem.as_bytes().to_vec());
        Some(DataSource {
            specifier: Some(specifier),
            ..DataSource::default()
        })
    };
    let kind = match name {
        WORKLOAD => secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(identity.chain_pem()),
            private_key: inline(identity.key_pem()),
            ..TlsCertificate::default()
        }),
        ROOTS => secret::Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(identity.roots_pem()),
            ..CertificateValidationContext::default()
        }),
        _ => {
            tracing::warn!(name, "Envoy asks for an unknown secret");
            return None;
        }
    };
    Some(Secret {
        name: name.to_owned(),
        r#type: Some(kind),
    })
}

#[cfg(test)]
mod tests;
