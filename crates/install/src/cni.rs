//! The plugin of nodes that captures traffic: who puts it on each node, as whom, and the network that
//! pods name where the plugin is a network by itself.

use lateen_api::install::{CniValues, Component, KubernetesResources};
use serde_json::{Value, json};

use crate::{
    Installation,
    installation::{Source, first_text},
    rbac, settings,
};

/// The DaemonSet, by the name that people know.
const NAME: &str = "istio-cni-node";
/// Its account, its roles and the network that pods name.
const ACCOUNT: &str = "istio-cni";
/// Where the container sees the node's folders.
const HOST: &str = "/host";

/// Where nodes have plugins and networks.
const FOLDERS: (&str, &str) = ("/opt/cni/bin", "/etc/cni/net.d");
/// The same on platforms that have them elsewhere, as `values.global.platform` calls these.
const PLATFORMS: &[(&str, (&str, &str))] = &[
    ("gke", ("/home/kubernetes/bin", "/etc/cni/net.d")),
    ("k3d", ("/bin", "/var/lib/rancher/k3s/agent/etc/cni/net.d")),
    (
        "k3s",
        (
            "/var/lib/rancher/k3s/data/cni",
            "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        ),
    ),
    (
        "microk8s",
        (
            "/var/snap/microk8s/current/opt/cni/bin",
            "/var/snap/microk8s/current/args/cni-network",
        ),
    ),
    ("minikube", FOLDERS),
    (OPENSHIFT, ("/var/lib/cni/bin", "/etc/cni/multus/net.d")),
];
/// The platform that asks more of whoever touches nodes.
const OPENSHIFT: &str = "openshift";

/// Whether a platform is one whose nodes are known.
pub(crate) fn is_known(platform: &str) -> bool {
    PLATFORMS.iter().any(|(name, _)| *name == platform)
}

pub(crate) fn all(
    installation: &Installation,
    component: &Component,
    own: &KubernetesResources,
) -> Vec<Value> {
    let place = Place {
        installation,
        component,
        values: &installation.values().cni,
    };
    let mut daemon = place.daemon();
    // What a DaemonSet calls it otherwise than a Deployment.
    let mut own = own.clone();
    if let Some(strategy) = own.strategy.take() {
        daemon["spec"]["updateStrategy"] = strategy;
    }
    settings::of_deployment(&mut daemon, &own, installation);
    let mut all = rbac::cni(ACCOUNT, place.namespace(), place.is_openshift());
    all.push(daemon);
    if first_text([place.values.provider.as_deref()]) == Some("multus") {
        all.push(json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": ACCOUNT, "namespace": "default"},
        }));
    }
    all
}

struct Place<'a> {
    installation: &'a Installation,
    component: &'a Component,
    values: &'a CniValues,
}

impl Place<'_> {
    fn namespace(&self) -> &str {
        let own = self.component.namespace.as_deref();
        first_text([own]).unwrap_or(self.installation.namespace())
    }

    fn platform(&self) -> Option<&str> {
        first_text([self.installation.values().global.platform.as_deref()])
    }

    fn is_openshift(&self) -> bool {
        self.platform() == Some(OPENSHIFT)
    }

    /// The node's folders of plugins and of networks.
    fn folders(&self) -> (&str, &str) {
        let of_platform = PLATFORMS
            .iter()
            .find(|(name, _)| self.platform() == Some(name));
        let usual = of_platform.map_or(FOLDERS, |(_, folders)| *folders);
        (
            first_text([self.values.cni_bin_dir.as_deref()]).unwrap_or(usual.0),
            first_text([self.values.cni_conf_dir.as_deref()]).unwrap_or(usual.1),
        )
    }

    fn daemon(&self) -> Value {
        let values = self.values;
        let unavailable = values.rolling_max_unavailable.clone();
        let mut daemon = json!({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {
                "name": NAME,
                "namespace": self.namespace(),
                "labels": {"k8s-app": NAME},
            },
            "spec": {
                "selector": {"matchLabels": {"k8s-app": NAME}},
                "updateStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": unavailable.unwrap_or_else(|| json!(1))},
                },
                "template": self.pod(),
            },
        });
        let pod = &mut daemon["spec"]["template"];
        settings::add(&mut pod["metadata"], "annotations", &values.pod_annotations);
        settings::add(&mut pod["metadata"], "labels", &values.pod_labels);
        settings::replace(&mut pod["spec"], "affinity", values.affinity.as_ref());
        daemon
    }

    fn pod(&self) -> Value {
        let (plugins, networks) = self.folders();
        let folder = |name: &str, path: &str| json!({"name": name, "hostPath": {"path": path}});
        json!({
            "metadata": {
                "labels": {
                    "k8s-app": NAME,
                    "sidecar.istio.io/inject": "false",
                    "istio.io/dataplane-mode": "none",
                },
                "annotations": {
                    "sidecar.istio.io/inject": "false",
                    // It enters the networks of pods, which profiles of containers forbid.
                    "container.apparmor.security.beta.kubernetes.io/install-cni": "unconfined",
                    "prometheus.io/port": "15014",
                    "prometheus.io/scrape": "true",
                    "prometheus.io/path": "/metrics",
                },
            },
            "spec": {
                "serviceAccountName": ACCOUNT,
                "priorityClassName": "system-node-critical",
                // The processes of pods, by which their networks are found, are seen from the node alone.
                "hostPID": self.repairs(),
                // What is not undone in this time is undone by the next one.
                "terminationGracePeriodSeconds": 5,
                "nodeSelector": {"kubernetes.io/os": "linux"},
                // Every node has pods of the mesh, or may have.
                "tolerations": [
                    {"effect": "NoSchedule", "operator": "Exists"},
                    {"effect": "NoExecute", "operator": "Exists"},
                    {"key": "CriticalAddonsOnly", "operator": "Exists"},
                ],
                "containers": [self.container()],
                "volumes": [folder("cni-bin-dir", plugins), folder("cni-net-dir", networks)],
            },
        })
    }

    fn container(&self) -> Value {
        let values = self.values;
        let (plugins, networks) = self.folders();
        let source = Source {
            hub: first_text([self.component.hub.as_deref(), values.hub.as_deref()]),
            tag: self.component.tag.as_ref().or(values.tag.as_ref()),
        };
        let image = first_text([values.image.as_deref()]).unwrap_or("install-cni");
        let probe = |path: &str| json!({"path": path, "port": 8000});
        let mount =
            |name: &str, path: &str| json!({"name": name, "mountPath": format!("{HOST}{path}")});
        let mut context = json!({
            "allowPrivilegeEscalation": values.privileged == Some(true),
            "privileged": values.privileged == Some(true),
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            // Rules of a pod, its network by one of its processes, and the node's folders.
            "capabilities": {
                "drop": ["ALL"],
                "add": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "DAC_OVERRIDE"],
            },
        });
        if self.is_openshift() {
            context["seLinuxOptions"] = json!({"type": "spc_t"});
        }
        let mut container = json!({
            "name": "install-cni",
            "image": self.installation.image(image, source),
            "command": ["install-cni"],
            "ports": [
                {"name": "metrics", "containerPort": 15014, "protocol": "TCP"},
                {"name": "readiness", "containerPort": 8000, "protocol": "TCP"},
            ],
            "livenessProbe": {"httpGet": probe("/healthz"), "initialDelaySeconds": 5},
            "readinessProbe": {"httpGet": probe("/readyz"), "periodSeconds": 2},
            "env": self.env(plugins, networks),
            "securityContext": context,
            "volumeMounts": [mount("cni-bin-dir", plugins), mount("cni-net-dir", networks)],
        });
        settings::replace(&mut container, "resources", values.resources.as_ref());
        container
    }

    fn env(&self, plugins: &str, networks: &str) -> Value {
        let values = self.values;
        let level = first_text([values.logging.level.as_deref()]);
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
        let text = |name: &str, value: &str| json!({"name": name, "value": value});
        let flag = |name: &str, is_on: bool| text(name, if is_on { "true" } else { "false" });
        let file = first_text([values.cni_conf_file_name.as_deref()]).unwrap_or_default();
        let mut env = vec![
            field("KUBERNETES_NODE_NAME", "spec.nodeName"),
            field("POD_NAMESPACE", "metadata.namespace"),
            text("CNI_NET_DIR", networks),
            text("MOUNTED_CNI_NET_DIR", &format!("{HOST}{networks}")),
            text("MOUNTED_CNI_BIN_DIR", &format!("{HOST}{plugins}")),
            text("CNI_CONF_NAME", file),
            flag("CHAINED_CNI_PLUGIN", values.chained != Some(false)),
            text("EXCLUDE_NAMESPACES", &values.exclude_namespaces.join(",")),
            flag("REPAIR_ENABLED", self.repairs()),
            text("LOG_LEVEL", level.unwrap_or("default:info")),
        ];
        settings::set_env(&mut env, &values.env);
        env.into()
    }

    fn repairs(&self) -> bool {
        let repair = &self.values.repair;
        repair.enabled != Some(false) && repair.repair_pods != Some(false)
    }
}
