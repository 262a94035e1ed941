//! A kubeconfig for one cluster and one user.

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

/// How a cluster is reached, and as whom.
pub(super) struct Access<'a> {
    /// What everything in it is called.
    pub(super) cluster: &'a str,
    /// The API server's URL.
    pub(super) server: &'a str,
    /// The name in its certificate, where it is another.
    pub(super) tls_server_name: Option<&'a str>,
    /// Its root certificates, PEM.
    pub(super) ca: &'a [u8],
    /// As whom.
    pub(super) auth: Auth<'a>,
}

/// How a client proves who it is.
pub(super) enum Auth<'a> {
    /// By a token.
    Token(&'a str),
    /// By a plugin, with what it is told.
    Plugin(&'a str, Vec<(&'a str, &'a str)>),
}

impl Access<'_> {
    /// The document.
    pub(super) fn kubeconfig(&self) -> anyhow::Result<Value> {
        let name = self.cluster;
        let mut cluster = json!({
            "certificate-authority-data": serde_json::to_value(ByteString(self.ca.to_vec()))?,
            "server": self.server,
        });
        if let Some(tls) = self.tls_server_name {
            cluster["tls-server-name"] = tls.into();
        }
        let user = match &self.auth {
            Auth::Token(token) => json!({"token": token}),
            Auth::Plugin(plugin, pairs) => {
                let pairs = pairs.iter();
                let config: Map<String, Value> = pairs
                    .map(|(key, value)| ((*key).to_owned(), (*value).into()))
                    .collect();
                json!({"auth-provider": {"name": plugin, "config": config}})
            }
        };
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Config",
            "preferences": {},
            "clusters": [{"name": name, "cluster": cluster}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
            "users": [{"name": name, "user": user}],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_tokens_or_plugins() {
        let of = |auth| {
            let access = Access {
                cluster: "c",
                server: "https://h",
                tls_server_name: Some("n"),
                ca: b"root",
                auth,
            };
            access.kubeconfig().expect("a kubeconfig")
        };
        let told = of(Auth::Token("t"));
        assert_eq!(told["users"][0]["user"], json!({"token": "t"}));
        let expect = json!({"certificate-authority-data": "cm9vdA==", "server": "https://h",
            "tls-server-name": "n"});
        assert_eq!(told["clusters"][0]["cluster"], expect);
        let told = of(Auth::Plugin("gcp", vec![("k", "v")]));
        let expect = json!({"auth-provider": {"name": "gcp", "config": {"k": "v"}}});
        assert_eq!(told["users"][0]["user"], expect);
    }
}
