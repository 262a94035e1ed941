//! A pod's directory and a control plane in this process, for the tests of several modules.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lateen_tls::{Authority, ClientAuth, IdentityStore, LeafRequest, https};
use tokio::net::TcpListener;

use crate::cli::ProxyArgs;
use crate::config::AgentConfig;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The well-known files of a pod below a directory that goes away with this.
pub(crate) struct Pod {
    pub(crate) root: tempfile::TempDir,
    pub(crate) authority: Authority,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let authority = Authority::self_signed("cluster.local", DAY).expect("a root");
        let root = tempfile::tempdir().expect("a directory");
        let pod = Self { root, authority };
        pod.put(
            "var/run/secrets/istio/root-cert.pem",
            pod.authority.root_pem(),
        );
        pod.token("good\n");
        pod
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path: PathBuf = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
        std::fs::write(path, text).expect("writable");
    }

    pub(crate) fn token(&self, token: &str) {
        self.put("var/run/secrets/tokens/istio-token", token);
    }

    /// A TLS listener of the control plane on a free port of loopback, and its address.
    pub(crate) async fn control_plane(&self) -> (https::Listener, String) {
        self.control_plane_at("localhost:0").await
    }

    /// The same at a certain address.
    pub(crate) async fn control_plane_at(&self, address: &str) -> (https::Listener, String) {
        let leaf = LeafRequest::server(["localhost"], DAY);
        let serving = self.authority.identity(&leaf).expect("a leaf");
        let tcp = TcpListener::bind(address.replace("localhost", "127.0.0.1"))
            .await
            .expect("loopback");
        let port = tcp.local_addr().expect("bound").port();
        let store = Arc::new(IdentityStore::new(serving));
        let listener = https::Listener::http(vec![tcp], store, ClientAuth::None);
        (listener.expect("a listener"), format!("localhost:{port}"))
    }

    /// A configuration with the control plane at `address`.
    pub(crate) fn config(&self, address: &str, extra: &[(&str, &str)]) -> Arc<AgentConfig> {
        let proxy_config = format!("discoveryAddress: {address}");
        let env = [
            ("POD_NAME", "p"),
            ("POD_NAMESPACE", "default"),
            ("INSTANCE_IP", "127.0.0.1"),
            ("PROXY_CONFIG", &proxy_config),
        ];
        let env = env
            .iter()
            .chain(extra)
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let root = self.root.path().to_owned();
        let args = ProxyArgs {
            root,
            ..ProxyArgs::default()
        };
        Arc::new(AgentConfig::resolve(args, env.collect()).expect("a valid environment"))
    }
}
