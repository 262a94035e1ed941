//! What an application's own gRPC needs of the agent: a bootstrap that leads to the agent's relay,
//! and the workload's certificate as files.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lateen_tls::{Identity, IdentityStore};
use serde_json::{Value, json};

use crate::config::AgentConfig;
use crate::{Error, bootstrap};

const CHAIN: &str = "cert-chain.pem";
const KEY: &str = "key.pem";
const ROOTS: &str = "root-cert.pem";
/// How often gRPC looks whether the files have changed.
const REFRESH: &str = "900s";
/// How servers ask for the listener of an address.
const SERVER_LISTENER: &str = "xds.istio.io/grpc/lds/inbound/%s";

/// Writes the bootstrap, where one is asked for.
pub(crate) fn write_bootstrap(config: &AgentConfig) -> Result<(), Error> {
    let Some(path) = &config.grpc.bootstrap else {
        return Ok(());
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
    }
    let text = format!("{:#}\n", build(config));
    replace(path, &text, 0o644)
}

fn build(config: &AgentConfig) -> Value {
    let mut node = bootstrap::node(config);
    node["metadata"]["GENERATOR"] = json!("grpc");
    let mut bootstrap = json!({
        "xds_servers": [{
            "server_uri": format!("unix://{}", config.paths.xds_socket.display()),
            "channel_creds": [{ "type": "insecure" }],
            "server_features": ["xds_v3"],
        }],
        "node": node,
        "server_listener_resource_name_template": SERVER_LISTENER,
    });
    if let Some(folder) = &config.grpc.certificates {
        bootstrap["certificate_providers"] = json!({ "default": {
            "plugin_name": "file_watcher",
            "config": {
                "certificate_file": folder.join(CHAIN),
                "private_key_file": folder.join(KEY),
                "ca_certificate_file": folder.join(ROOTS),
                "refresh_interval": REFRESH,
            },
        } });
    }
    bootstrap
}

/// Keeps the files of a folder equal to the newest certificate; never returns.
pub(crate) async fn keep_certificates(folder: PathBuf, store: Arc<IdentityStore>) {
    let mut changes = store.subscribe();
    loop {
        if let Ok(identity) = store.current()
            && let Err(error) = write_certificates(&folder, &identity)
        {
            tracing::error!(%error, "the application does not get its certificate");
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The key comes first: whoever sees the new certificate finds its key.
fn write_certificates(folder: &Path, identity: &Identity) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
    replace(&folder.join(ROOTS), identity.roots_pem(), 0o644)?;
    replace(&folder.join(KEY), identity.key_pem(), 0o600)?;
    replace(&folder.join(CHAIN), identity.chain_pem(), 0o644)
}

/// A reader sees the old text or the new one, never a part.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&beside).map_err(Error::file(&beside))?;
    file.write_all(text.as_bytes())
        .map_err(Error::file(&beside))?;
    std::fs::rename(&beside, path).map_err(Error::file(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::tests::sample;

    #[test]
    fn a_bootstrap_leads_to_the_relay() {
        let config = sample(&[("OUTPUT_CERTS", "/data"), ("GRPC_XDS_BOOTSTRAP", "/b.json")]);
        let bootstrap = build(&config);
        assert_eq!(
            bootstrap["xds_servers"][0]["server_uri"],
            "unix:///nonexistent/etc/istio/proxy/XDS"
        );
        assert_eq!(bootstrap["node"]["id"], config.node_id());
        assert_eq!(bootstrap["node"]["metadata"]["GENERATOR"], "grpc");
        let files = &bootstrap["certificate_providers"]["default"]["config"];
        assert_eq!(files["private_key_file"], "/nonexistent/data/key.pem");
        let without = build(&sample(&[("GRPC_XDS_BOOTSTRAP", "/b.json")]));
        assert_eq!(without.get("certificate_providers"), None);
    }

    #[test]
    fn an_agent_without_a_proxy_always_writes_it() {
        let of = |env: &[(&'static str, &'static str)]| sample(env).grpc.bootstrap;
        let usual = PathBuf::from("/nonexistent/etc/istio/proxy/grpc-bootstrap.json");
        assert_eq!(of(&[("DISABLE_ENVOY", "true")]), Some(usual));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.pem");
        for text in ["one, and longer", "two"] {
            replace(&path, text, 0o600).expect("written");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
        }
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
