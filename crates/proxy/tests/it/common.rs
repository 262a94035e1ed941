//! Backends, clients and a proxy in this process, for tests of whole exchanges on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lateen_http::{
    Abort, Body, ClientConfig, Handler, Lease, Method, Pool, Request, RequestHead, Response,
    ServerConfig,
};
use lateen_proxy::{BootstrapSource, ProxyOptions};
use lateen_tls::IdentityStore;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A port that nobody has, of connections and of datagrams. It is below those that the system gives
/// out by itself, so that no other test's socket gets it in the meantime.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let first = std::process::id() as usize * 101;
    loop {
        let n = first + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(20_000 + n % 12_000).expect("a port");
        let is_free = std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
            && std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if is_free {
            return port;
        }
    }
}

/// A backend that tells what it saw.
#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) name: &'static str,
    pub(crate) hits: Arc<AtomicUsize>,
}

impl Echo {
    pub(crate) async fn start(name: &'static str) -> (SocketAddr, Echo) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let echo = Echo {
            name,
            hits: Arc::default(),
        };
        let handler = echo.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = handler.clone();
                tokio::spawn(async move {
                    let config = ServerConfig::default();
                    let _ =
                        lateen_http::serve(stream, &config, handler, std::future::pending()).await;
                });
            }
        });
        (address, echo)
    }
}

impl Handler for Echo {
    async fn handle(&self, request: Request) -> Result<Response, Abort> {
        let hit = self.hits.fetch_add(1, Ordering::SeqCst);
        let head = request.head;
        let path = head.path().to_owned();
        if path == "/reset" {
            return Err(Abort);
        }
        if path == "/slow" {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        if path == "/flaky" && hit.is_multiple_of(2) {
            return Ok(Response::text(503, "not now"));
        }
        let body = request.body.collect(1 << 24).await.map_err(|_| Abort)?;
        let headers: serde_json::Map<String, Value> = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into()))
            .collect();
        let seen = json!({
            "backend": self.name,
            "method": head.method.as_str(),
            "target": head.target(),
            "authority": head.authority(),
            "version": head.version.as_str(),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        });
        let status = head
            .query()
            .and_then(|query| query.strip_prefix("status=")?.parse().ok());
        let mut response = Response::new(status.unwrap_or(200), Body::from(seen.to_string()));
        response
            .head
            .headers
            .set("x-backend", self.name)
            .expect("header text");
        Ok(response)
    }
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) admin: u16,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), lateen_proxy::Error>>,
}

impl Proxy {
    pub(crate) async fn start(port: u16, listeners: Value, clusters: Value) -> Proxy {
        Self::with_identity(port, listeners, clusters, Arc::new(IdentityStore::empty())).await
    }

    pub(crate) async fn with_identity(
        port: u16,
        listeners: Value,
        clusters: Value,
        identity: Arc<IdentityStore>,
    ) -> Proxy {
        let resources = json!({ "listeners": listeners, "clusters": clusters });
        Self::launch(port, json!({ "static_resources": resources }), identity).await
    }

    /// A proxy whose bootstrap has more than listeners and clusters.
    pub(crate) async fn start_in(around: &Value, port: u16, resources: Value) -> Proxy {
        let mut bootstrap = json!({ "static_resources": resources });
        merge(&mut bootstrap, around);
        Self::launch(port, bootstrap, Arc::new(IdentityStore::empty())).await
    }

    /// A proxy before the cluster `up`, to which every request goes by this action.
    pub(crate) async fn before(up: Value, mut action: Value) -> Proxy {
        action["cluster"] = "up".into();
        let routes = json!([{ "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": action }] }]);
        let port = free_port();
        let listeners = json!([listener("main", port, "OUTBOUND", hcm(routes))]);
        Proxy::start(port, listeners, json!([up])).await
    }

    /// A proxy whose configuration comes from a server on this port.
    pub(crate) async fn with_discovery(port: u16, xds: u16, identity: Arc<IdentityStore>) -> Proxy {
        let dynamic = json!({
            "lds_config": { "ads": {} }, "cds_config": { "ads": {} },
            "ads_config": { "api_type": "DELTA_GRPC", "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }] },
        });
        let server = cluster("xds-grpc", &[([127, 0, 0, 1], xds).into()]);
        let resources = json!({ "clusters": [server] });
        let bootstrap = json!({ "dynamic_resources": dynamic, "static_resources": resources });
        Self::launch(port, bootstrap, identity).await
    }

    async fn launch(port: u16, more: Value, identity: Arc<IdentityStore>) -> Proxy {
        let admin = free_port();
        let mut bootstrap = json!({
            "node": {
                "id": "sidecar~127.0.0.1~test.default~default.svc.cluster.local",
                "metadata": {
                    "WORKLOAD_NAME": "test-v1", "NAMESPACE": "default", "CLUSTER_ID": "Kubernetes",
                    "LABELS": { "app": "test", "version": "v1" },
                },
            },
            "admin": { "address": socket("127.0.0.1", admin) },
        });
        merge(&mut bootstrap, &more);
        let shutdown = CancellationToken::new();
        let options = ProxyOptions {
            concurrency: 1,
            shutdown: shutdown.clone(),
            ..ProxyOptions::new(BootstrapSource::Json(bootstrap.to_string()), identity)
        };
        let task = tokio::spawn(lateen_proxy::run(options));
        let proxy = Proxy {
            port,
            admin,
            shutdown,
            task,
        };
        for _ in 0..500 {
            if proxy.task.is_finished() {
                break;
            }
            if TcpStream::connect(("127.0.0.1", admin)).await.is_ok() {
                return proxy;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the proxy does not start: {:?}", proxy.task.await);
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.port, false).await
    }

    /// The text behind a path of the admin interface.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let mut client = Client::connect(self.admin, false).await;
        client.get("admin", path).await.text
    }
}

/// A client with one connection that it uses again and again.
pub(crate) struct Client {
    pool: Pool<(), std::hash::RandomState>,
    first: Option<Lease>,
}

/// A response, read whole.
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: lateen_http::Headers,
    pub(crate) text: String,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or("")
    }
}

impl Client {
    pub(crate) async fn connect(port: u16, http2: bool) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("listening");
        let config = ClientConfig {
            http2,
            ..ClientConfig::default()
        };
        let pool = Pool::new(1);
        let connection = async { Ok::<_, ()>(lateen_http::connect(stream, &config)) };
        let first = pool.connect(&(), http2, connection).await;
        Client {
            pool,
            first: first.ok(),
        }
    }

    pub(crate) async fn get(&mut self, authority: &str, target: &str) -> Seen {
        self.get_with(authority, target, &[]).await
    }

    pub(crate) async fn get_with(
        &mut self,
        authority: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Seen {
        let mut head = RequestHead::new(Method::GET, authority, target).expect("valid");
        for (name, value) in headers {
            head.headers.append(*name, value).expect("valid");
        }
        self.send(Request::new(head, Body::empty())).await
    }

    pub(crate) async fn post(&mut self, authority: &str, target: &str, body: String) -> Seen {
        let head = RequestHead::new(Method::POST, authority, target).expect("valid");
        self.send(Request::new(head, Body::from(body))).await
    }

    pub(crate) async fn send(&mut self, request: Request) -> Seen {
        let again = || self.pool.checkout(&()).expect("the server kept it open");
        let lease = self.first.take().unwrap_or_else(again);
        let response = lease.send(&request.head, request.body, None).await;
        let response = response.expect("a response");
        let text = response.body.collect(1 << 24).await.expect("a body");
        Seen {
            status: response.head.status,
            headers: response.head.headers,
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

/// Puts one document over another, field by field.
pub(crate) fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, more) in more {
                merge(into.entry(key.as_str()).or_insert(Value::Null), more);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

pub(crate) fn socket(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

pub(crate) fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|address| json!({ "endpoint": { "address": socket(&address.ip().to_string(), address.port()) } }))
        .collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

pub(crate) const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
pub(crate) const TCP: &str =
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

pub(crate) fn hcm(routes: Value) -> Value {
    json!({
        "@type": HCM,
        "stat_prefix": "test",
        "route_config": { "name": "local", "virtual_hosts": routes },
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "normalize_path": true,
        "http_filters": [
            { "name": "envoy.filters.http.fault", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault" } },
            { "name": "envoy.filters.http.cors", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors" } },
            { "name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } },
        ],
    })
}

pub(crate) fn listener(name: &str, port: u16, direction: &str, filter: Value) -> Value {
    json!({
        "name": name,
        "address": socket("127.0.0.1", port),
        "traffic_direction": direction,
        "filter_chains": [{ "filters": [{ "name": "main", "typed_config": filter }] }],
    })
}
