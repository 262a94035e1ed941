//! The control plane's chart.

use lateen_api::{Schema, install::Values};
use serde_json::{Value, json};

use super::{
    Chart, Common, Contents, Kind, Switch, assemble, block, folded, image,
    node::{Entry, Node},
    only, values,
};
use crate::{InstallError, merge::merge};

/// Of a revision by name.
pub(super) const IS_REVISION: &str =
    "(and $.Values.revision (ne (toString $.Values.revision) \"default\"))";
/// Of the pods of the control plane.
const AUTOSCALES: &str = "$.Values.pilot.autoscaleEnabled";
/// Where statuses are told what analysis finds: the environment says it before the settings, in the forms
/// that [`crate::flag`] knows.
const ANALYSES: &str = "(eq (toString (default \
    (dig \"global\" \"istiod\" \"enableAnalysis\" false (omit $.Values \"\")) \
    (get (default (dict) $.Values.pilot.env) \"PILOT_ENABLE_ANALYSIS\"))) \
    \"true\" \"True\" \"TRUE\" \"t\" \"T\" \"1\")";
const KEEPALIVE: &str = "$.Values.pilot.keepaliveMaxServerConnectionAge";
pub(super) const LOGS_JSON: &str = "$.Values.global.logAsJson";
pub(super) const CLUSTER: &str =
    "(default \"Kubernetes\" $.Values.global.multiCluster.clusterName)";

/// Whether a plugin of nodes captures traffic, as the charts say it now and said it before.
const USES_CNI: &str = "(not (not (or $.Values.pilot.cni.enabled \
    (dig \"istio_cni\" \"enabled\" false (omit $.Values \"\")))))";

/// What the injector's settings leave out, which is other parts'.
const PARTS: &str = "\"pilot\" \"gateways\" \"base\" \"cni\" \"meshConfig\" \"istiodRemote\"";

pub(super) fn chart() -> Result<Chart, InstallError> {
    let mut common = Common::new();
    let spec = spec(&mut common);
    let suffix = "(ternary \"\" (printf \"-%s\" $.Release.Namespace) (eq $.Release.Namespace \"istio-system\"))";
    let suffix = common.slots.text(suffix);
    let switches = switches(&mut common);
    let finish = |object: &mut Entry| {
        common.sign(object);
        finish(object, &common.namespace, &suffix);
    };
    let objects = folded(&spec, &switches, &finish)?;
    let values = values::of_profile(&["global", "pilot", "sidecarInjectorWebhook"]);
    let mut settings = json!({"revision": "", "meshConfig": {}});
    merge(&mut settings, &values);
    merge(&mut settings, &defaults());
    let contents = Contents {
        name: "istiod",
        description: "The control plane of the Lateen service mesh",
        values: settings,
        known: known(),
        ignored: &IGNORED,
        notes: NOTES,
        objects,
    };
    Ok(assemble(&contents, &common.slots))
}

const NOTES: &str = "\
The control plane runs in namespace {{ $.Release.Namespace }}.

Label namespaces for injection, then restart what runs in them:

  kubectl label namespace NAME {{ if and $.Values.revision (ne (toString $.Values.revision) \"default\") }}istio.io/rev={{ $.Values.revision }}{{ else }}istio-injection=enabled{{ end }}
";

/// Parts whose settings may be there without effect.
const IGNORED: [&str; 14] = [
    "cni",
    "compatibilityVersion",
    "defaultRevision",
    "experimental",
    "global",
    "istio-cni",
    "istio_cni",
    "pilot",
    "profile",
    "revisionTags",
    "sidecarInjectorWebhook",
    "sidecarInjectorWebhookAnnotations",
    "telemetry",
    "ztunnel",
];

/// What an installation knows of the parts that the chart has. Some of it is the injector's.
fn known() -> Value {
    let mut known = Values::schema();
    if let Some(parts) = known["properties"].as_object_mut() {
        let own = ["global", "istio_cni", "pilot", "sidecarInjectorWebhook"];
        parts.retain(|part, _| own.contains(&&**part));
    }
    known
}

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
        flag(AUTOSCALES, "values.pilot.autoscaleEnabled"),
        flag(
            "$.Values.sidecarInjectorWebhook.enableNamespacesByDefault",
            "values.sidecarInjectorWebhook.enableNamespacesByDefault",
        ),
        flag(LOGS_JSON, "values.global.logAsJson"),
        flag(ANALYSES, "values.global.istiod.enableAnalysis"),
        Switch {
            condition: KEEPALIVE,
            path: "values.pilot.keepaliveMaxServerConnectionAge",
            yes: json!(slots.text(KEEPALIVE)),
            no: json!(""),
        },
    ]
}

/// An installation of the control plane alone, with marks.
fn spec(common: &mut Common) -> Value {
    let namespace = common.namespace.clone();
    let slots = &mut common.slots;
    let hub = "(default $.Values.global.hub $.Values.pilot.hub)";
    let tag = "(default $.Values.global.tag $.Values.pilot.tag)";
    let pilot = json!({
        "image": slots.image(&image("$.Values.pilot.image", hub, tag)),
        "autoscaleMin": slots.number("$.Values.pilot.autoscaleMin"),
        // Never less than the least.
        "autoscaleMax": slots.number("(max $.Values.pilot.autoscaleMax $.Values.pilot.autoscaleMin)"),
        "autoscaleBehavior": slots.mark(Kind::Optional, "$.Values.pilot.autoscaleBehavior"),
        "replicaCount": slots.number("$.Values.pilot.replicaCount"),
        "rollingMaxSurge": slots.mark(Kind::Value, "$.Values.pilot.rollingMaxSurge"),
        "rollingMaxUnavailable": slots.mark(Kind::Value, "$.Values.pilot.rollingMaxUnavailable"),
        "traceSampling": slots.number("$.Values.pilot.traceSampling"),
        "resources": slots.mark(
            Kind::Optional,
            "(default $.Values.global.defaultResources $.Values.pilot.resources)",
        ),
        "env": slots.entries(Kind::Variables, "$.Values.pilot.env"),
        "cpu": {"targetAverageUtilization": slots.number("$.Values.pilot.cpu.targetAverageUtilization")},
        "deploymentLabels": slots.entries(Kind::Entries, "$.Values.pilot.deploymentLabels"),
        "podAnnotations": slots.entries(Kind::Entries, "$.Values.pilot.podAnnotations"),
        "podLabels": slots.entries(Kind::Entries, "$.Values.pilot.podLabels"),
        "serviceAnnotations": slots.entries(Kind::Entries, "$.Values.pilot.serviceAnnotations"),
        "serviceAccountAnnotations": slots.entries(Kind::Entries, "$.Values.pilot.serviceAccountAnnotations"),
        "nodeSelector": slots.entries(Kind::Entries, "$.Values.pilot.nodeSelector"),
        "affinity": slots.mark(Kind::Optional, "$.Values.pilot.affinity"),
        "tolerations": slots.each(
            "(default $.Values.global.defaultTolerations $.Values.pilot.tolerations)",
        ),
        "topologySpreadConstraints": slots.each("$.Values.pilot.topologySpreadConstraints"),
        "extraContainerArgs": slots.each("$.Values.pilot.extraContainerArgs"),
    });
    let webhook = "$.Values.sidecarInjectorWebhook";
    json!({
        "profile": "minimal",
        "namespace": namespace,
        "components": {"base": {"enabled": false}},
        "values": {
            "global": {
                "imagePullPolicy": slots.mark(Kind::Optional, "$.Values.global.imagePullPolicy"),
                "imagePullSecrets": slots.each("$.Values.global.imagePullSecrets"),
                "logging": {"level": slots.text("(default \"default:info\" $.Values.global.logging.level)")},
                "meshID": slots.mark(Kind::Optional, "$.Values.global.meshID"),
                "multiCluster": {"clusterName": slots.text(CLUSTER)},
                "defaultNodeSelector": slots.entries(Kind::Defaults, "$.Values.global.defaultNodeSelector"),
                "priorityClassName": slots.mark(Kind::Optional, "$.Values.global.priorityClassName"),
                "pilotCertProvider": slots.text("(default \"istiod\" $.Values.global.pilotCertProvider)"),
                "sds": {"token": {"aud": slots.text("(default \"istio-ca\" $.Values.global.sds.token.aud)")}},
                "proxy": {"clusterDomain": slots.text("(default \"cluster.local\" $.Values.global.proxy.clusterDomain)")},
            },
            "pilot": pilot,
            "sidecarInjectorWebhook": {
                "reinvocationPolicy": slots.text(&format!("(default \"Never\" {webhook}.reinvocationPolicy)")),
            },
        },
    })
}

/// Settings that the profile does not name, and that people look for. What is not there is empty to a
/// template; `global` is written into the injector's settings, and so has no more than it needs.
fn defaults() -> Value {
    json!({
        "global": {"hub": values::HUB, "tag": values::version()},
        "pilot": {
            "affinity": {},
            "autoscaleBehavior": {},
            "deploymentLabels": {},
            "env": {},
            "extraContainerArgs": [],
            "hub": "",
            "nodeSelector": {},
            "podAnnotations": {},
            "podLabels": {},
            "serviceAccountAnnotations": {},
            "serviceAnnotations": {},
            "tag": "",
            "tolerations": [],
            "topologySpreadConstraints": [],
        },
    })
}

/// Conditions of whole objects, texts within texts, and names.
fn finish(object: &mut Entry, namespace: &str, suffix: &str) {
    let name = object.node.text(&["metadata", "name"]).unwrap_or_default();
    match object.key.as_str() {
        "poddisruptionbudget" => {
            object.conditions = only("$.Values.global.defaultPodDisruptionBudget.enabled");
        }
        "validatingwebhookconfiguration" => {
            object.conditions = only("$.Values.global.configValidation");
        }
        // Its name has the namespace only where it is another than the usual.
        "mutatingwebhookconfiguration" => {
            let name = name.replace(&format!("-{namespace}"), suffix);
            object
                .node
                .put(&["metadata", "name"], Node::Leaf(json!(name)));
        }
        "configmap" => mesh(object),
        "configmap-2" => injector(object),
        _ => {}
    }
}

/// The mesh's configuration, over which the chart's `meshConfig` is laid.
fn mesh(object: &mut Entry) {
    object.conditions = only("$.Values.pilot.configMap");
    let text = object.node.text(&["data", "mesh"]).unwrap_or_default();
    let mesh: Value = serde_yaml_ng::from_str(&text).expect("written by ourselves");
    let laid = "mergeOverwrite @ (default (dict) $.Values.meshConfig) | toYaml";
    object.node.put(&["data", "mesh"], block(laid, mesh.into()));
    let networks = "dict \"networks\" (default (dict) $.Values.global.meshNetworks) | toYaml";
    let nothing = Node::Leaf(Value::Null);
    object
        .node
        .put(&["data", "meshNetworks"], block(networks, nothing));
}

/// The injector's two texts: whom to inject how, and all settings.
fn injector(object: &mut Entry) {
    let webhook = "$.Values.sidecarInjectorWebhook";
    let lists = ["neverInjectSelector", "alwaysInjectSelector"]
        .map(|name| format!(" \"{name}\" (default (list) {webhook}.{name})"));
    let maps = ["templates", "injectedAnnotations"]
        .map(|name| format!(" \"{name}\" (default (dict) {webhook}.{name})"));
    let config = format!(
        "dict \"policy\" (ternary \"disabled\" \"enabled\" (eq (toString $.Values.global.proxy.autoInject) \"disabled\")) \
         \"defaultTemplates\" (default (list \"sidecar\") {webhook}.defaultTemplates){}{} | toYaml",
        lists.concat(),
        maps.concat(),
    );
    let image = image(
        "$.Values.global.proxy.image",
        "$.Values.global.hub",
        "$.Values.global.tag",
    );
    let values = format!(
        "mergeOverwrite (omit (deepCopy $.Values) {PARTS}) (dict \
         \"pilot\" (dict \"cni\" (dict \"enabled\" {USES_CNI} \"provider\" (default \"default\" $.Values.pilot.cni.provider))) \
         \"revision\" (ternary (toString $.Values.revision) \"default\" (not (not {IS_REVISION}))) \
         \"global\" (dict \"istioNamespace\" $.Release.Namespace \"proxy\" (dict \"image\" {image}) \
         \"multiCluster\" (dict \"clusterName\" {CLUSTER}))) | toPrettyJson"
    );
    let nothing = || Node::Leaf(Value::Null);
    object
        .node
        .put(&["data", "config"], block(&config, nothing()));
    object
        .node
        .put(&["data", "values"], block(&values, nothing()));
}
