//! The control plane's listeners: what is served on which port.

use std::{collections::BTreeMap, future::IntoFuture, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, extract::Request, response::IntoResponse, routing::get};
use http_body_util::BodyExt;
use kube::Client;
use lateen_citadel::{Authenticator, CertificateAuthority, Citadel, Trust};
use lateen_galley::Galley;
use lateen_injector::{Owner, Params};
use lateen_pilot::{Anonymous, Discovery, Registering, Settings};
use lateen_registry::{Registry, SourceStatus, StatusWriter};
use lateen_tls::{ClientAuth, IdentityStore, PeerRule, Version, https};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport;
use tonic::transport::server::TcpIncoming;
use tower::ServiceExt;
use tracing::{error, info, warn};

use super::{
    Options, access::Identified, control, credentials::Credentials, sources, tokens::Tokens,
};

/// What stands behind the listeners.
pub(super) struct Parts {
    client: Client,
    discovery: Discovery,
    authority: Arc<CertificateAuthority>,
    authenticator: Arc<dyn Authenticator>,
    trust: Trust,
    serving: Arc<IdentityStore>,
    webhooks: Router,
    metrics: Router,
}

/// What other parts use as well.
pub(super) struct Sinks {
    pub(super) trust: Trust,
    pub(super) credentials: Arc<Credentials>,
    pub(super) statuses: StatusWriter,
    pub(super) registering: Option<Registering>,
    /// What pods are injected with.
    pub(super) params: watch::Receiver<Arc<Params>>,
}

impl Parts {
    pub(super) fn new(
        client: &Client,
        registry: &Registry,
        galley: &Galley,
        authority: Arc<CertificateAuthority>,
        serving: Arc<IdentityStore>,
        sinks: Sinks,
        options: &Options,
    ) -> Self {
        let Sinks {
            trust,
            credentials,
            statuses,
            registering,
            params,
        } = sinks;
        let discovery = Discovery::new(
            registry.world(),
            galley.config(),
            lateen_pilot::Options {
                domain: options.domain.clone(),
                credentials,
                registering,
                settings: settings(params.clone(), options),
                stream_lifetime: options.stream_lifetime,
                ask_again: lateen_pilot::ASK_AGAIN,
            },
        );
        let validations = Arc::new(lateen_galley::Counters::default());
        let injections = Arc::new(lateen_injector::Counters::default());
        let validate = lateen_galley::router(galley.config(), Arc::clone(&validations));
        let inject = lateen_injector::router(params, Arc::clone(&injections));
        let counters = Counters {
            authority: Arc::clone(&authority),
            validations,
            injections,
            sources: registry.sources(),
            statuses,
        };
        Parts {
            client: client.clone(),
            metrics: metrics(discovery.metrics_router(), counters),
            discovery,
            authenticator: Arc::new(Tokens::new(
                client.clone(),
                trust.clone(),
                &options.audiences,
            )),
            authority,
            trust,
            serving,
            webhooks: validate
                .merge(inject)
                .route("/ready", get(async || "ready")),
        }
    }
}

impl Parts {
    /// The discovery server.
    pub(super) fn discovery(&self) -> &Discovery {
        &self.discovery
    }
}

/// What debug pages say of this control plane.
fn settings(params: watch::Receiver<Arc<Params>>, options: &Options) -> Settings {
    Settings {
        namespace: options.namespace.clone(),
        cluster_id: options.cluster_id.clone(),
        unsafe_admin: std::env::var("UNSAFE_ENABLE_ADMIN_ENDPOINTS").is_ok_and(|set| set == "true"),
        templates: Some(Arc::new(move || templates(&params.borrow()))),
    }
}

/// What an empty pod becomes: templates are built in.
fn templates(params: &Params) -> BTreeMap<String, String> {
    type Inject = fn(&mut serde_json::Value, &Owner, &Params);
    let owner = Owner {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: String::new(),
        namespace: String::new(),
    };
    let template = |(name, inject): (&str, Inject)| {
        let mut pod = serde_json::json!({"metadata": {}, "spec": {"containers": []}});
        inject(&mut pod, &owner, params);
        let text = serde_yaml_ng::to_string(&pod).unwrap_or_else(|error| error.to_string());
        (name.to_owned(), text)
    };
    let all: [(&str, Inject); 2] = [
        ("sidecar", lateen_injector::inject),
        ("gateway", lateen_injector::inject_gateway),
    ];
    all.into_iter().map(template).collect()
}

/// Counters of the parts beside discovery.
#[derive(Clone)]
struct Counters {
    authority: Arc<CertificateAuthority>,
    validations: Arc<lateen_galley::Counters>,
    injections: Arc<lateen_injector::Counters>,
    sources: watch::Receiver<Arc<[SourceStatus]>>,
    statuses: StatusWriter,
}

/// The metrics of every part on one page.
fn metrics(discovery: Router, counters: Counters) -> Router {
    let page = discovery.clone();
    let all = async move |request: Request| {
        let own = page.oneshot(request).await.into_response();
        let (head, body) = own.into_parts();
        let mut text = match body.collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(error) => return error.to_string().into_response(),
        };
        counters.authority.metrics().render(&mut text);
        text.push_str(&counters.validations.render());
        text.push_str(&counters.injections.render());
        sources::render(&counters.sources.borrow(), &mut text);
        text.push_str(&counters.statuses.counters().render());
        (head.status, text).into_response()
    };
    let rest = Router::new().fallback_service(discovery);
    Router::new().route("/metrics", get(all)).merge(rest)
}

/// Every port, bound: a port in use is told before anything is served.
pub(super) struct Servers {
    http: TcpListener,
    https: TcpListener,
    grpc: TcpListener,
    secure_grpc: TcpListener,
    monitoring: TcpListener,
    /// Only an aid: a control plane serves without it.
    control: Option<TcpListener>,
    ways: Ways,
}

/// How they are served.
#[derive(Clone, Copy)]
struct Ways {
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
    tls_min_version: Version,
    /// Whether debug pages are served without TLS.
    debug_pages: bool,
}

impl Servers {
    pub(super) fn bind(options: &Options) -> anyhow::Result<Self> {
        Ok(Servers {
            http: bind(options.http, "--httpAddr")?,
            https: bind(options.https, "--httpsAddr")?,
            grpc: bind(options.grpc, "--grpcAddr")?,
            secure_grpc: bind(options.secure_grpc, "--secureGRPCAddr")?,
            monitoring: bind(options.monitoring, "--monitoringAddr")?,
            control: control_listener(options),
            ways: Ways {
                keepalive_interval: options.keepalive_interval,
                keepalive_timeout: options.keepalive_timeout,
                tls_min_version: options.tls_min_version,
                debug_pages: options.environment.debug_pages,
            },
        })
    }

    /// Serves everything until the result is stopped.
    pub(super) fn serve(self, parts: Parts) -> anyhow::Result<Running> {
        let mut running = Running {
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        let access = Identified {
            client: parts.client,
            authenticator: Arc::clone(&parts.authenticator),
            trust: parts.trust.clone(),
        };
        let open = parts.discovery.ads_service(Anonymous);
        let open = self.ways.server().add_service(open);
        // Without it the end of a large push waits for an acknowledgement that is held back.
        let incoming = TcpIncoming::from(self.grpc).with_nodelay(Some(true));
        running.spawn("xDS", |stop| {
            open.serve_with_incoming_shutdown(incoming, stop)
        });

        let citadel = Citadel::new(parts.authority, parts.authenticator, parts.trust);
        let citadel = citadel.into_server();
        let pages = parts.discovery.debug_router(access.clone());
        let rest = parts.discovery.rest_v1_router(access.clone());
        let secure = Routes::new(parts.discovery.ads_service(access)).add_service(citadel);
        // Replicas ask each other where each has to say who it is.
        let secure = secure.into_axum_router().merge(pages.clone());
        let secure = self.ways.server().add_routes(secure.into());
        let serving = Arc::clone(&parts.serving);
        // Of which trust domain it must be, which may change, each service asks of each request.
        let workloads = ClientAuth::Optional(PeerRule::AnyTrusted);
        let lowest = self.ways.tls_min_version;
        let incoming = vec![self.secure_grpc];
        let incoming = https::Listener::http_from(lowest, incoming, serving, workloads)?;
        let incoming = Box::pin(incoming.into_incoming());
        running.spawn("secure xDS", |stop| {
            secure.serve_with_incoming_shutdown(incoming, stop)
        });

        let webhooks = vec![self.https];
        let nobody = ClientAuth::None;
        let webhooks = https::Listener::http_from(lowest, webhooks, parts.serving, nobody)?;
        running.serve("webhooks", webhooks, parts.webhooks);
        // Who asks from this very machine is known by the address.
        let pages = match self.ways.debug_pages {
            true => pages.merge(rest),
            false => Router::new().route("/ready", get(async || "ready")),
        };
        let pages = pages.into_make_service_with_connect_info::<SocketAddr>();
        let http = axum::serve(self.http, pages);
        running.spawn("debug", |stop| {
            http.with_graceful_shutdown(stop).into_future()
        });
        running.serve("metrics", self.monitoring, parts.metrics);
        if let Some(listener) = self.control {
            running.serve("ControlZ", listener, control::router());
        }
        Ok(running)
    }
}

impl Ways {
    /// A gRPC server that notices when a client is gone without a word: the network of a pod that was
    /// killed says nothing, and its streams would stay.
    fn server(&self) -> transport::Server {
        transport::Server::builder()
            .http2_keepalive_interval(Some(self.keepalive_interval))
            .http2_keepalive_timeout(Some(self.keepalive_timeout))
    }
}

fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    lateen_xds::server::listen(address)
        .with_context(|| format!("cannot listen on {address} ({flag})"))
}

fn control_listener(options: &Options) -> Option<TcpListener> {
    let address = SocketAddr::new(options.control_address, options.control_port);
    let bound = bind(address, "--ctrlz_port");
    if let Err(error) = &bound {
        warn!("no ControlZ: {error:#}");
    }
    bound.ok()
}

/// Servers at work.
pub(super) struct Running {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    fn serve<L>(&mut self, name: &'static str, listener: L, router: Router)
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let serve = axum::serve(listener, router.into_make_service());
        self.spawn(name, |stop| {
            serve.with_graceful_shutdown(stop).into_future()
        });
    }

    fn spawn<F, E>(
        &mut self,
        name: &'static str,
        serve: impl FnOnce(tokio_util::sync::WaitForCancellationFutureOwned) -> F,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send,
    {
        let serving = serve(self.stop.clone().cancelled_owned());
        info!(name, "serving");
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                error!(name, %error, "a server ended");
            }
        });
    }

    /// Takes no more connections and lets what is in flight end, for so long.
    pub(super) async fn stop(mut self, limit: Duration) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, ended).await.is_err() {
            // Streams of proxies never end by themselves; those move on to another replica.
            info!("streams that are still open are cut");
        }
    }
}
