//! What all addons are made of: a Deployment of one pod that may do little, its account, its files and
//! its Services.

use std::hash::{DefaultHasher, Hash, Hasher};

use lateen_api::install::KubernetesResources;
use serde_json::{Value, json};

use crate::{Installation, settings};

/// One container of one pod.
pub(super) struct Server {
    /// Of the Deployment, the account and the labels.
    pub(super) name: &'static str,
    pub(super) image: &'static str,
    /// The user of the image, which is not root.
    pub(super) user: u32,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(&'static str, String)>,
    pub(super) ports: &'static [(&'static str, u16)],
    /// What says that it can be used, and where.
    pub(super) ready: (&'static str, u16),
    /// Processor time and memory that it asks for, and the memory that it may take.
    pub(super) resources: [&'static str; 3],
    /// Whether it speaks to the API server.
    pub(super) needs_token: bool,
    /// ConfigMaps, and where each of them is mounted.
    pub(super) files: Vec<(Value, &'static str)>,
    /// Folders that it writes to, with the most that they hold. They are gone with the pod.
    pub(super) folders: &'static [(&'static str, &'static str, &'static str)],
}

impl Server {
    /// The account, the ConfigMaps and the Deployment.
    pub(super) fn objects(&self, installation: &Installation) -> Vec<Value> {
        let mut all = vec![self.account(installation)];
        all.extend(self.files.iter().map(|(map, _)| map.clone()));
        all.push(self.deployment(installation));
        all
    }

    fn account(&self, installation: &Installation) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": meta(installation, self.name, self.name),
            "automountServiceAccountToken": self.needs_token,
        })
    }

    fn deployment(&self, installation: &Installation) -> Value {
        let pod_labels = json!({
            "app": self.name,
            "app.kubernetes.io/name": self.name,
            "sidecar.istio.io/inject": "false",
        });
        let mut deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta(installation, self.name, self.name),
            "spec": {
                "replicas": 1,
                // Two of them at once would be two stores.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {
                        "labels": pod_labels,
                        // Other files are another pod, as servers read them when they start.
                        "annotations": {"lateen.dev/files": self.fingerprint()},
                    },
                    "spec": self.pod(),
                },
            },
        });
        let settings = KubernetesResources::default();
        settings::of_deployment(&mut deployment, &settings, installation);
        deployment
    }

    fn pod(&self) -> Value {
        let mut volumes = Vec::new();
        for (map, _) in &self.files {
            let name = &map["metadata"]["name"];
            volumes.push(json!({"name": name, "configMap": {"name": name}}));
        }
        for (name, _, most) in self.folders {
            volumes.push(json!({"name": name, "emptyDir": {"sizeLimit": most}}));
        }
        json!({
            "serviceAccountName": self.name,
            "automountServiceAccountToken": self.needs_token,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": self.user,
                "runAsGroup": self.user,
                "fsGroup": self.user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self.container()],
            "volumes": volumes,
        })
    }

    fn container(&self) -> Value {
        let [cpu, memory, most] = self.resources;
        let port = |&(name, port): &(&str, u16)| json!({"name": name, "containerPort": port, "protocol": "TCP"});
        let mut mounts = Vec::new();
        for (map, path) in &self.files {
            let name = &map["metadata"]["name"];
            mounts.push(json!({"name": name, "mountPath": path, "readOnly": true}));
        }
        for (name, path, _) in self.folders {
            mounts.push(json!({"name": name, "mountPath": path}));
        }
        let (path, probed) = self.ready;
        let env = self.env.iter();
        json!({
            "name": self.name,
            "image": self.image,
            "args": self.args,
            "env": env.map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
            "ports": self.ports.iter().map(port).collect::<Vec<_>>(),
            "readinessProbe": {
                "httpGet": {"path": path, "port": probed},
                "periodSeconds": 5,
                "timeoutSeconds": 5,
            },
            "resources": {
                "requests": {"cpu": cpu, "memory": memory},
                "limits": {"memory": most},
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": mounts,
        })
    }

    /// Differs where the files differ. Another compiler may make another one of the same files, which
    /// costs a restart of the pod and nothing else.
    fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        for (map, _) in &self.files {
            map["data"].to_string().hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    }
}

/// Files by their names.
pub(super) fn config_map(
    installation: &Installation,
    app: &str,
    name: &str,
    files: &[(&str, String)],
) -> Value {
    let files = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), json!(text)));
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(installation, app, name),
        "data": files.collect::<serde_json::Map<_, _>>(),
    })
}

/// A Service of the pods of `app`: its ports, each with the pod's own.
pub(super) fn service(
    installation: &Installation,
    app: &str,
    name: &str,
    ports: &[(&str, u16, u16)],
) -> Value {
    let port = |&(name, port, target): &(&str, u16, u16)| json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(installation, app, name),
        "spec": {
            "type": "ClusterIP",
            "selector": {"app": app},
            "ports": ports.iter().map(port).collect::<Vec<_>>(),
        },
    })
}

/// A ClusterRole and its binding to the account of `app`. Its name has the namespace in it, as several
/// meshes may be in one cluster.
pub(super) fn cluster_role(installation: &Installation, app: &str, rules: Value) -> [Value; 2] {
    let namespace = installation.namespace();
    let name = format!("{app}-{namespace}");
    let meta = json!({"name": name, "labels": labels(app)});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": meta,
        "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": app, "namespace": namespace}],
    });
    [role, binding]
}

fn meta(installation: &Installation, app: &str, name: &str) -> Value {
    json!({"name": name, "namespace": installation.namespace(), "labels": labels(app)})
}

fn labels(app: &str) -> Value {
    json!({"app": app, "app.kubernetes.io/name": app})
}
