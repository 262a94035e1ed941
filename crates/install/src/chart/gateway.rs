//! The chart of one gateway, which has the name of its release.

use lateen_api::{Schema, mesh::MeshConfig};
use serde_json::{Value, json};

use super::{
    Chart, Common, Contents, Kind, Switch, assemble, folded, image,
    istiod::{CLUSTER, IS_REVISION, LOGS_JSON},
    node::{Entry, Node},
    only, values,
};
use crate::{InstallError, merge::merge};

const NAME: &str = "(default $.Release.Name $.Values.name)";
const PROXY_CONFIG: &str = "$.Values.meshConfig.defaultConfig";
const TRUST_DOMAIN: &str = "(default \"cluster.local\" $.Values.meshConfig.trustDomain)";
const CONCURRENCY: &str = "$.Values.meshConfig.defaultConfig.concurrency";
const NETWORK: &str = "$.Values.global.network";
/// With `defaultPodDisruptionBudget` alone, one pod stays.
const BUDGET: &str = "(default (dict \"minAvailable\" 1) $.Values.podDisruptionBudget)";

/// Ports of the container: its metrics', those that the Service leads to, and its readiness'. A name
/// that the Service leads to stands for the number that clients ask for, and no port is there twice.
const CONTAINER_PORTS: &str = "\
- containerPort: 15090
  name: http-envoy-prom
  protocol: TCP
{{- $names := dict }}
{{- $given := dict \"http-envoy-prom\" \"15090/TCP\" }}
{{- range $.Values.service.ports }}
{{- if kindIs \"string\" .targetPort }}
{{- $key := printf \"%d/%s\" (int .port) (default \"TCP\" .protocol) }}
{{- $given = merge $given (dict .targetPort $key) }}
{{- if eq (get $given .targetPort) $key }}{{- $names = merge $names (dict $key .targetPort) }}{{- end }}
{{- end }}
{{- end }}
{{- $held := dict \"15090/TCP\" true }}
{{- range append $.Values.service.ports (dict \"port\" 15021) }}
{{- $isName := kindIs \"string\" .targetPort }}
{{- $target := int (ternary .port (default .port .targetPort) $isName) }}
{{- $protocol := default \"TCP\" .protocol }}
{{- $key := printf \"%d/%s\" $target $protocol }}
{{- $isElsewhere := and $isName (ne (get $given .targetPort) $key) }}
{{- if not (or (hasKey $held $key) $isElsewhere) }}
{{- $held = merge $held (dict $key true) }}
- containerPort: {{ $target }}
{{- with get $names $key }}
  name: {{ . | toJson }}
{{- end }}
  protocol: {{ $protocol }}
{{- end }}
{{- end }}";

/// Ports of the Service, whole.
const SERVICE_PORTS: &str = "\
{{- range $.Values.service.ports }}
- name: {{ .name | toJson }}
  port: {{ .port | toJson }}
  targetPort: {{ default .port .targetPort | toJson }}
  protocol: {{ default \"TCP\" .protocol }}
{{- with .nodePort }}
  nodePort: {{ . | toJson }}
{{- end }}
{{- with .appProtocol }}
  appProtocol: {{ . | toJson }}
{{- end }}
{{- end }}";

/// Marks that are looked for in the objects.
struct Marks {
    name: String,
    account: String,
    account_annotations: Value,
    concurrency: String,
}

pub(super) fn chart() -> Result<Chart, InstallError> {
    let mut common = Common::new();
    let slots = &mut common.slots;
    let account =
        format!("(default (printf \"%s-service-account\" {NAME}) $.Values.serviceAccount.name)");
    let marks = Marks {
        name: slots.text(NAME),
        account: slots.text(&account),
        account_annotations: slots.entries(Kind::Entries, "$.Values.serviceAccount.annotations"),
        concurrency: slots.text(CONCURRENCY),
    };
    let switches = switches(&mut common);
    let spec = spec(&mut common, &marks.name);
    let finish = |object: &mut Entry| {
        common.sign(object);
        finish(object, &marks);
    };
    let objects = folded(&spec, &switches, &finish)?;
    let contents = Contents {
        name: "gateway",
        description: "A gateway of the Lateen service mesh",
        values: settings(),
        known: known(),
        ignored: &["compatibilityVersion", "global", "profile"],
        notes: NOTES,
        objects,
    };
    Ok(assemble(&contents, &common.slots))
}

const NOTES: &str = "\
Gateways select it by the label istio: {{ default (trimPrefix \"istio-\" (default $.Release.Name $.Values.name)) $.Values.labels.istio }}.

  kubectl get service {{ default $.Release.Name $.Values.name }} -n {{ $.Release.Namespace }}
";

fn switches(common: &mut Common) -> Vec<Switch> {
    let slots = &mut common.slots;
    let flag = |condition, path| Switch {
        condition,
        path,
        yes: json!(true),
        no: json!(false),
    };
    vec![
        Switch {
            condition: IS_REVISION,
            path: "revision",
            yes: json!(slots.text("$.Values.revision")),
            no: json!(""),
        },
        flag(
            "$.Values.autoscaling.enabled",
            "values.gateways.istio-ingressgateway.autoscaleEnabled",
        ),
        flag(LOGS_JSON, "values.global.logAsJson"),
        Switch {
            condition: NETWORK,
            path: "values.global.network",
            yes: json!(slots.text(NETWORK)),
            no: json!(""),
        },
        Switch {
            condition: CONCURRENCY,
            path: "meshConfig.defaultConfig.concurrency",
            yes: json!(1),
            no: Value::Null,
        },
    ]
}

/// An installation of one gateway alone, with marks.
fn spec(common: &mut Common, name: &str) -> Value {
    let namespace = common.namespace.clone();
    let slots = &mut common.slots;
    let global =
        |name: &str, default: &str| format!("(default \"{default}\" $.Values.global.{name})");
    let mut labels = slots.entries(Kind::Entries, "$.Values.labels");
    labels["app"] = json!(name);
    labels["istio"] = json!(slots.text(&format!("(trimPrefix \"istio-\" {NAME})")));
    let image = image(
        "$.Values.global.proxy.image",
        "$.Values.global.hub",
        "$.Values.global.tag",
    );
    let least = slots.number("$.Values.autoscaling.minReplicas");
    // Never less than the least.
    let most = "(max $.Values.autoscaling.maxReplicas $.Values.autoscaling.minReplicas)";
    let most = slots.number(most);
    let gateway = json!({
        "labels": labels,
        "cpu": {"targetAverageUtilization": slots.number("$.Values.autoscaling.targetCPUUtilizationPercentage")},
        "env": slots.entries(Kind::Variables, "$.Values.env"),
        "externalIPs": slots.each("$.Values.service.externalIPs"),
        "externalTrafficPolicy": slots.mark(Kind::Optional, "$.Values.service.externalTrafficPolicy"),
        "loadBalancerIP": slots.mark(Kind::Optional, "$.Values.service.loadBalancerIP"),
        "loadBalancerSourceRanges": slots.each("$.Values.service.loadBalancerSourceRanges"),
        "nodeSelector": slots.entries(Kind::Entries, "$.Values.nodeSelector"),
        "podAnnotations": slots.entries(Kind::Entries, "$.Values.podAnnotations"),
        "resources": slots.mark(Kind::Optional, "$.Values.resources"),
        "serviceAnnotations": slots.entries(Kind::Entries, "$.Values.service.annotations"),
        "tolerations": slots.each("$.Values.tolerations"),
        "type": slots.text("$.Values.service.type"),
    });
    let k8s = json!({
        "affinity": slots.mark(Kind::Optional, "$.Values.affinity"),
        // Where load decides, the chart's number of pods says nothing, as with the public charts.
        "hpaSpec": {
            "minReplicas": least,
            "maxReplicas": most,
            "behavior": slots.mark(Kind::Optional, "$.Values.autoscaling.autoscaleBehavior"),
        },
        "imagePullPolicy": slots.mark(
            Kind::Optional,
            "(default $.Values.global.imagePullPolicy $.Values.imagePullPolicy)",
        ),
        "podDisruptionBudget": slots.entries(Kind::Entries, BUDGET),
        "priorityClassName": slots.mark(Kind::Optional, "$.Values.priorityClassName"),
        "replicaCount": slots.number("$.Values.replicaCount"),
        "securityContext": slots.entries(Kind::Entries, "$.Values.securityContext"),
        "topologySpreadConstraints": slots.each("$.Values.topologySpreadConstraints"),
        "volumes": slots.each("$.Values.volumes"),
        "volumeMounts": slots.each("$.Values.volumeMounts"),
    });
    let mesh_id = format!("(default {TRUST_DOMAIN} {PROXY_CONFIG}.meshId)");
    json!({
        "profile": "minimal",
        "namespace": slots.text("$.Values.global.istioNamespace"),
        "meshConfig": {
            "trustDomain": slots.text(TRUST_DOMAIN),
            "defaultConfig": {
                "meshId": slots.text(&mesh_id),
                "proxyMetadata": slots.entries(Kind::Variables, &format!("{PROXY_CONFIG}.proxyMetadata")),
            },
        },
        "components": {
            "base": {"enabled": false},
            "pilot": {"enabled": false},
            "ingressGateways": [{"name": name, "enabled": true, "namespace": namespace, "k8s": k8s}],
        },
        "values": {
            "global": {
                "imagePullSecrets": slots.each("$.Values.global.imagePullSecrets"),
                "logging": {"level": slots.text(&global("logging.level", "default:info"))},
                "multiCluster": {"clusterName": slots.text(CLUSTER)},
                "pilotCertProvider": slots.text(&global("pilotCertProvider", "istiod")),
                "proxy": {
                    "image": slots.image(&image),
                    "clusterDomain": slots.text(&global("proxy.clusterDomain", "cluster.local")),
                    "logLevel": slots.text(&global("proxy.logLevel", "warning")),
                    "componentLogLevel": slots.text(&global("proxy.componentLogLevel", "misc:error")),
                    "lifecycle": slots.mark(Kind::Optional, "$.Values.global.proxy.lifecycle"),
                },
                "sds": {"token": {"aud": slots.text(&global("sds.token.aud", "istio-ca"))}},
            },
            "gateways": {"istio-ingressgateway": gateway},
        },
    })
}

/// The chart's settings, under the names that the public gateway chart has.
fn settings() -> Value {
    let profile = values::of_profile(&["global", "gateways"]);
    let (all, gateway) = (
        &profile["global"],
        &profile["gateways"]["istio-ingressgateway"],
    );
    let mut global = json!({"hub": values::HUB, "tag": values::version()});
    for name in [
        "defaultPodDisruptionBudget",
        "imagePullPolicy",
        "imagePullSecrets",
        "istioNamespace",
        "logAsJson",
        "logging",
        "multiCluster",
        "network",
        "pilotCertProvider",
        "sds",
    ] {
        global[name] = all[name].clone();
    }
    for name in ["clusterDomain", "componentLogLevel", "image", "logLevel"] {
        global["proxy"][name] = all["proxy"][name].clone();
    }
    global["proxy"]["lifecycle"] = json!({});
    let ports = gateway["ports"].as_array().into_iter().flatten();
    let ports = ports.map(|port| {
        let mut port = port.clone();
        port["protocol"] = json!("TCP");
        port
    });
    let mut settings = json!({
        "name": "",
        "revision": "",
        "replicaCount": 1,
        "rbac": {"enabled": true},
        "serviceAccount": {"create": true, "name": "", "annotations": {}},
        "service": {
            "type": gateway["type"],
            "annotations": {},
            "externalIPs": [],
            "externalTrafficPolicy": "",
            "loadBalancerIP": "",
            "loadBalancerSourceRanges": [],
            "ports": ports.collect::<Vec<Value>>(),
        },
        "resources": gateway["resources"],
        "autoscaling": {
            "enabled": gateway["autoscaleEnabled"],
            "minReplicas": gateway["autoscaleMin"],
            "maxReplicas": gateway["autoscaleMax"],
            "targetCPUUtilizationPercentage": gateway["cpu"]["targetAverageUtilization"],
            "autoscaleBehavior": {},
        },
    });
    for name in [
        "podDisruptionBudget",
        "env",
        "labels",
        "podAnnotations",
        "securityContext",
        "nodeSelector",
        "affinity",
    ] {
        settings[name] = json!({});
    }
    for name in [
        "tolerations",
        "topologySpreadConstraints",
        "volumes",
        "volumeMounts",
    ] {
        settings[name] = json!([]);
    }
    for name in ["imagePullPolicy", "priorityClassName"] {
        settings[name] = json!("");
    }
    let sampling = values::of_profile(&["pilot"])["pilot"]["traceSampling"].take();
    let mesh = json!({"trustDomain": "", "defaultConfig": {"tracing": {"sampling": sampling}}});
    merge(
        &mut settings,
        &json!({"global": global, "meshConfig": mesh}),
    );
    settings
}

/// MeshConfig has more fields than the file names, and what resources there are is Kubernetes' to say.
fn known() -> Value {
    json!({"properties": {"meshConfig": MeshConfig::schema(), "resources": {}}})
}

/// Conditions of whole objects, and what marks cannot stand for.
fn finish(object: &mut Entry, marks: &Marks) {
    let usual = format!("{}-service-account", marks.name);
    object.node.replace(&usual, &marks.account);
    match object.key.as_str() {
        "serviceaccount" => {
            object.conditions = only("$.Values.serviceAccount.create");
            if let Some(Node::Map(meta)) = object.node.at(&["metadata"]) {
                meta.push(Entry {
                    conditions: Vec::new(),
                    key: "annotations".to_owned(),
                    node: marks.account_annotations.clone().into(),
                });
            }
        }
        "role" | "rolebinding" => object.conditions = only("$.Values.rbac.enabled"),
        "service" => {
            object.conditions = only("(ne (toString $.Values.service.type) \"None\")");
            let ports = Node::Lines(SERVICE_PORTS.to_owned());
            object.node.put(&["spec", "ports"], ports);
        }
        "poddisruptionbudget" => {
            let global = "$.Values.global.defaultPodDisruptionBudget.enabled";
            object.conditions = only(&format!("(or {global} $.Values.podDisruptionBudget)"));
        }
        "deployment" => {
            let container = ["spec", "template", "spec", "containers", "0"];
            if let Some(container) = object.node.at(&container) {
                container.put(&["ports"], Node::Lines(CONTAINER_PORTS.to_owned()));
                configure(container);
                concurrency(container, &marks.concurrency);
            }
        }
        _ => {}
    }
}

fn inline(around: &str, of: Node) -> Node {
    Node::Expression {
        around: around.to_owned(),
        of: Box::new(of),
        is_block: false,
    }
}

/// `PROXY_CONFIG`: where the control plane is, over which the mesh's configuration is laid.
fn configure(container: &mut Node) {
    let Some(Node::List(env)) = container.at(&["env"]) else {
        return;
    };
    for item in env {
        if item.node.text(&["name"]).as_deref() != Some("PROXY_CONFIG") {
            continue;
        }
        let text = item.node.text(&["value"]).unwrap_or_default();
        let config: Value = serde_json::from_str(&text).expect("written by ourselves");
        let own = json!({"discoveryAddress": config["discoveryAddress"]});
        let laid = format!("mergeOverwrite @ (default (dict) {PROXY_CONFIG}) | toJson");
        item.node.put(&["value"], inline(&laid, own.into()));
    }
}

fn concurrency(container: &mut Node, mark: &str) {
    let Some(Node::List(args)) = container.at(&["args"]) else {
        return;
    };
    let flag = "--concurrency=";
    for arg in args {
        if arg.node.text(&[]).is_some_and(|arg| arg.starts_with(flag)) {
            arg.node = Node::Leaf(json!(format!("{flag}{mark}")));
        }
    }
}
