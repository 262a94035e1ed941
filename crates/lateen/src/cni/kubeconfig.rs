//! How the plugin comes to the API server: with the token of the pod that put it on the node.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Its name beside the networks, behind all of them and with an end that no runtime reads.
pub(super) const FILE: &str = "ZZZ-istio-cni-kubeconfig";

/// Whom to ask, as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// As the pods of the cluster are told it.
    pub(super) host: String,
    pub(super) port: String,
    /// The API server's root, in PEM.
    pub(super) root: Vec<u8>,
    pub(super) token: String,
}

impl Access {
    /// The file; YAML that is JSON too.
    pub(super) fn file(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let name = "local";
        let file: Value = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {
                "server": format!("https://{host}:{}", self.port),
                "certificate-authority-data": STANDARD.encode(&self.root),
            }}],
            "users": [{"name": "istio-cni", "user": {"token": self.token}}],
            "contexts": [{"name": "istio-cni-context", "context": {"cluster": name, "user": "istio-cni"}}],
            "current-context": "istio-cni-context",
        });
        format!("{file:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn clients_read_it() {
        let access = Access {
            host: "fd00::1".into(),
            port: "443".into(),
            root: b"PEM".to_vec(),
            token: "t".into(),
        };
        let file = Kubeconfig::from_yaml(&access.file()).expect("a kubeconfig");
        let cluster = file.clusters[0].cluster.clone().expect("a cluster");
        assert_eq!(cluster.server.as_deref(), Some("https://[fd00::1]:443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("UEVN"));
        assert_eq!(file.current_context.as_deref(), Some("istio-cni-context"));
        assert!(
            file.auth_infos[0]
                .auth_info
                .as_ref()
                .is_some_and(|it| it.token.is_some())
        );
    }
}
