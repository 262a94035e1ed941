use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn installation(profile: &str, sets: &[&str]) -> Installation {
    let mut layers = Layers::default();
    layers.sets.push(format!("profile={profile}"));
    layers.sets.extend(sets.iter().map(|set| (*set).to_owned()));
    Installation::of(&layers).expect("an installation")
}

fn all(profile: &str, sets: &[&str]) -> Vec<Value> {
    manifests(&installation(profile, sets)).expect("manifests")
}

fn names(of: &[Value], kind: &str) -> Vec<String> {
    let named = of.iter().filter(|m| m["kind"] == kind);
    let name = |m: &Value| m["metadata"]["name"].as_str().expect("a name").to_owned();
    named.map(name).collect()
}

#[track_caller]
fn find<'a>(of: &'a [Value], kind: &str, name: &str) -> &'a Value {
    of.iter()
        .find(|m| m["kind"] == kind && m["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn profiles_differ_in_their_parts() {
    for (profile, parts) in [
        ("default", &["istiod", "istio-ingressgateway"][..]),
        ("preview", &["istiod", "istio-ingressgateway"]),
        (
            "demo",
            &["istiod", "istio-ingressgateway", "istio-egressgateway"],
        ),
        ("minimal", &["istiod"]),
        ("empty", &[]),
    ] {
        let all = all(profile, &[]);
        assert_eq!(names(&all, "Deployment"), parts, "{profile}");
        assert_eq!(all.is_empty(), profile == "empty", "{profile}");
    }
    for profile in ["remote", "external"] {
        let error = Installation::of_profile(profile)
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("spec.values.global.remotePilotAddress: Required"),
            "{error}"
        );
        assert!(
            error.contains("istiodRemote.injectionCABundle: Required"),
            "{error}"
        );
    }
    let error = Installation::of_profile("ambient").expect_err("refused");
    let error = error.to_string();
    assert!(
        error.starts_with("components.ztunnel is not supported: "),
        "{error}"
    );
}

#[test]
fn revisions_share_nothing_but_the_base() {
    let canary = installation("default", &["revision=canary"]);
    let default = installation("default", &[]);
    let of = |installation: &Installation, component: &str| {
        let parts = parts(installation).expect("parts");
        let part = parts.into_iter().find(|part| part.component == component);
        part.expect("the part").objects
    };
    assert_eq!(of(&canary, "Base"), of(&default, "Base"));
    let names = |installation| {
        let objects = of(installation, "Pilot").into_iter();
        let name = |object: Value| (object["kind"].clone(), object["metadata"]["name"].clone());
        objects
            .map(name)
            .map(|(kind, name)| format!("{kind} {name}"))
    };
    let held: BTreeSet<String> = names(&default).collect();
    let shared: Vec<String> = names(&canary).filter(|name| held.contains(name)).collect();
    assert_eq!(shared, [""; 0]);
    let objects = of(&canary, "Pilot");
    let deployment = find(&objects, "Deployment", "istiod-canary");
    assert_eq!(deployment["metadata"]["labels"]["istio.io/rev"], "canary");
    let service = find(&objects, "Service", "istiod-canary");
    let pod = &deployment["spec"]["template"]["metadata"]["labels"];
    // Neither revision's Service, budget or Deployment takes the other's pods for its own.
    let theirs = of(&default, "Pilot");
    let default_pod =
        &find(&theirs, "Deployment", "istiod")["spec"]["template"]["metadata"]["labels"];
    let selects = |service: &Value, pod: &Value| {
        let selector = service["spec"]["selector"].as_object().expect("a selector");
        selector.iter().all(|(key, value)| pod[key] == *value)
    };
    assert!(!selects(find(&theirs, "Service", "istiod"), pod));
    assert!(!selects(service, default_pod));
    for (key, value) in service["spec"]["selector"].as_object().expect("a selector") {
        assert_eq!(pod[key], *value);
    }
    // Only the default revision injects what names none.
    let hooks = find(
        &objects,
        "MutatingWebhookConfiguration",
        "istio-sidecar-injector-canary",
    );
    assert_eq!(hooks["webhooks"].as_array().map(Vec::len), Some(2));
}

#[test]
fn settings_reach_their_objects() {
    let all = all(
        "demo",
        &[
            "hub=h",
            "tag=v",
            "values.pilot.env.A=1",
            "values.pilot.tag=w",
            "values.global.imagePullSecrets={s}",
            "values.global.proxy.autoInject=disabled",
            "components.pilot.k8s.replicaCount=3",
            "components.pilot.k8s.nodeSelector.disk=ssd",
            "components.ingressGateways[0].k8s.service.type=NodePort",
            "components.ingressGateways[0].k8s.hpaSpec.maxReplicas=9",
            "values.gateways.istio-ingressgateway.autoscaleEnabled=true",
            "components.egressGateways[0].namespace=edge",
        ],
    );
    let pilot = &find(&all, "Deployment", "istiod")["spec"];
    assert_eq!(pilot["replicas"], 3);
    let pod = &pilot["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["disk"], "ssd");
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "s"}]));
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "h/pilot:w");
    assert_eq!(container["resources"]["requests"]["memory"], "100Mi");
    let env = container["env"].as_array().expect("a list");
    assert!(env.contains(&json!({"name": "A", "value": "1"})), "{env:?}");
    let config = &find(&all, "ConfigMap", "istio-sidecar-injector")["data"];
    assert!(
        config["config"]
            .as_str()
            .is_some_and(|text| text.contains("policy: disabled"))
    );
    assert!(
        config["values"]
            .as_str()
            .is_some_and(|text| text.contains("h/proxyv2:v"))
    );

    let gateway = "istio-ingressgateway";
    assert_eq!(find(&all, "Service", gateway)["spec"]["type"], "NodePort");
    let scaler = &find(&all, "HorizontalPodAutoscaler", gateway)["spec"];
    assert_eq!(
        (&scaler["minReplicas"], &scaler["maxReplicas"]),
        (&json!(1), &json!(9))
    );
    let deployment = find(&all, "Deployment", gateway);
    assert!(
        deployment["spec"].get("replicas").is_none(),
        "the autoscaler's"
    );
    let budget = &find(&all, "PodDisruptionBudget", gateway)["spec"];
    assert_eq!(budget["selector"], deployment["spec"]["selector"]);
    let edge = find(&all, "Namespace", "edge");
    assert!(
        edge["metadata"]["labels"].get(REVISION).is_none(),
        "it would ask for injection"
    );
    let egress = find(&all, "Deployment", "istio-egressgateway");
    assert_eq!(egress["metadata"]["namespace"], "edge");
}

#[test]
fn what_is_made_is_known_again() {
    for part in parts(&installation("demo", &[])).expect("parts") {
        for object in part.objects {
            let labels = &object["metadata"]["labels"];
            let kind = (&object["apiVersion"], &object["kind"]);
            assert!(
                KINDS
                    .iter()
                    .any(|known| kind == (&json!(known.0), &json!(known.1))),
                "{kind:?}"
            );
            assert_eq!(labels[OWNER], "unknown");
            assert_eq!(labels[OWNER_NAMESPACE], "istio-system");
            let map: BTreeMap<String, String> =
                serde_json::from_value(labels.clone()).expect("labels");
            assert!(is_owned(&map));
            assert_eq!(labels[COMPONENT], part.component);
            // What all revisions share must not go with one of them.
            assert_eq!(labels.get(REVISION).is_none(), part.component == "Base");
        }
    }
}

#[test]
fn overlays_come_last() {
    let file = "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  components:
    pilot:
      k8s:
        overlays:
        - kind: Deployment
          name: istiod
          patches:
          - path: spec.template.spec.containers.[name:discovery].args.[2]
            value: --domain=x
";
    let layers = Layers {
        files: vec![("f.yaml".into(), file.into())],
        ..Layers::default()
    };
    let installation = Installation::of(&layers).expect("an installation");
    let all = manifests(&installation).expect("manifests");
    let pilot = &find(&all, "Deployment", "istiod")["spec"]["template"]["spec"];
    assert_eq!(pilot["containers"][0]["args"][2], "--domain=x");
}

#[test]
fn a_cluster_without_its_control_plane_is_led_to_it() {
    let all = all(
        "remote",
        &[
            "values.global.remotePilotAddress=10.0.0.1",
            "values.istiodRemote.injectionCABundle=Um9vdA==",
        ],
    );
    let service = &find(&all, "Service", "istiod")["spec"];
    assert!(service.get("selector").is_none(), "{service}");
    let slice = find(&all, "EndpointSlice", "istiod-remote");
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
    let hooks = find(
        &all,
        "MutatingWebhookConfiguration",
        "istio-sidecar-injector",
    );
    assert_eq!(hooks["webhooks"][0]["clientConfig"]["caBundle"], "Um9vdA==");
}

#[test]
fn a_plugin_of_nodes_captures_where_it_is_asked_for() {
    let of = |sets: &[&str]| {
        let all = all("default", sets);
        let daemon = names(&all, "DaemonSet");
        let values = &find(&all, "ConfigMap", "istio-sidecar-injector")["data"]["values"];
        let values: Value = serde_json::from_str(values.as_str().expect("a text")).expect("JSON");
        (daemon, values["pilot"]["cni"]["enabled"].clone())
    };
    let node = vec!["istio-cni-node".to_owned()];
    assert_eq!(of(&[]), (vec![], json!(false)));
    assert_eq!(of(&["components.cni.enabled=true"]), (node, json!(true)));
    // Somebody else put it on the nodes.
    assert_eq!(
        of(&["values.pilot.cni.enabled=true"]),
        (vec![], json!(true))
    );
    assert_eq!(
        of(&["values.istio_cni.enabled=true"]),
        (vec![], json!(true))
    );
}

#[test]
fn nodes_have_their_folders_where_the_platform_has_them() {
    let folders = |sets: &[&str]| {
        let more = [
            "components.cni.enabled=true",
            "components.cni.k8s.strategy.type=OnDelete",
        ];
        let all = all("minimal", &[&more, sets].concat());
        let spec = &find(&all, "DaemonSet", "istio-cni-node")["spec"];
        assert_eq!(spec["updateStrategy"]["type"], "OnDelete");
        assert!(spec.get("strategy").is_none());
        let pod = find(&all, "DaemonSet", "istio-cni-node")["spec"]["template"]["spec"].clone();
        let path = |n: usize| pod["volumes"][n]["hostPath"]["path"].clone();
        let mounts = &pod["containers"][0]["volumeMounts"];
        for n in [0, 1] {
            let at = mounts[n]["mountPath"].as_str().expect("a path");
            assert_eq!(at.strip_prefix("/host"), path(n).as_str());
        }
        [path(0), path(1)].map(|path| path.as_str().expect("a path").to_owned())
    };
    assert_eq!(folders(&[]), ["/opt/cni/bin", "/etc/cni/net.d"]);
    let microk8s = folders(&[
        "values.global.platform=microk8s",
        "values.cni.cniBinDir=/own",
    ]);
    assert_eq!(
        microk8s,
        ["/own", "/var/snap/microk8s/current/args/cni-network"]
    );
    let error = Installation::of(&Layers {
        sets: vec!["values.global.platform=nonesuch".to_owned()],
        ..Layers::default()
    });
    let error = error.expect_err("refused").to_string();
    assert!(
        error.contains("spec.values.global.platform: \"nonesuch\" is not known"),
        "{error}"
    );
}

#[test]
fn openshift_has_a_network_that_pods_name() {
    let all = all("openshift", &[]);
    let daemon = find(&all, "DaemonSet", "istio-cni-node");
    assert_eq!(daemon["metadata"]["namespace"], "kube-system");
    let pod = &daemon["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        container["securityContext"]["seLinuxOptions"]["type"],
        "spc_t"
    );
    let env = container["env"].as_array().expect("a list");
    for (name, value) in [
        ("CHAINED_CNI_PLUGIN", "false"),
        ("CNI_CONF_NAME", "istio-cni.conf"),
        ("CNI_NET_DIR", "/etc/cni/multus/net.d"),
        ("MOUNTED_CNI_NET_DIR", "/host/etc/cni/multus/net.d"),
        ("MOUNTED_CNI_BIN_DIR", "/host/var/lib/cni/bin"),
        ("EXCLUDE_NAMESPACES", "kube-system"),
    ] {
        assert!(
            env.contains(&json!({"name": name, "value": value})),
            "{name}: {env:?}"
        );
    }
    let network = find(&all, "NetworkAttachmentDefinition", "istio-cni");
    assert_eq!(network["metadata"]["namespace"], "default");
    let role = &find(&all, "ClusterRole", "istio-cni")["rules"];
    assert_eq!(role[1]["resourceNames"], json!(["privileged"]));
    let values = &find(&all, "ConfigMap", "istio-sidecar-injector")["data"]["values"];
    assert!(
        values
            .as_str()
            .is_some_and(|text| text.contains("\"provider\": \"multus\""))
    );
}

#[test]
fn a_cluster_that_holds_the_configuration_has_its_settings() {
    let judge = "ValidatingWebhookConfiguration";
    let by_service = [
        "values.global.remotePilotAddress=10.0.0.1",
        "values.istiodRemote.injectionCABundle=Um9vdA==",
    ];
    let remote = all("remote", &by_service);
    assert_eq!(names(&remote, "ConfigMap"), ["istio-sidecar-injector"]);
    assert_eq!(names(&remote, judge), [""; 0]);
    let external = all("external", &by_service);
    assert_eq!(
        names(&external, "ConfigMap"),
        ["istio", "istio-sidecar-injector"]
    );
    let hook = &find(&external, judge, "istio-validator-istio-system")["webhooks"][0];
    assert_eq!(hook["clientConfig"]["caBundle"], "Um9vdA==");
    assert_eq!(hook["clientConfig"]["service"]["path"], "/validate");
    assert_eq!(hook["failurePolicy"], "Fail", "nobody closes it later");
    let injects = "values.istiodRemote.injectionURL=https://mesh.example.com/inject";
    let judges = "values.base.validationURL=https://mesh.example.com/validate";
    let by_url = all("external", &[injects, judges]);
    let hook = &find(&by_url, judge, "istio-validator-istio-system")["webhooks"][0];
    assert_eq!(
        hook["clientConfig"],
        json!({"url": "https://mesh.example.com/validate"})
    );
    assert_eq!(hook["failurePolicy"], "Fail");
    let unjudged = installation("external", &[injects]);
    assert!(unjudged.warnings()[0].contains("without values.base.validationURL"));
    let unjudged = manifests(&unjudged).expect("manifests");
    assert_eq!(names(&unjudged, judge), [""; 0]);
}

#[test]
fn every_object_is_named_once_and_placed() {
    let cluster_wide = [
        "Namespace",
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ];
    let mut seen = BTreeSet::new();
    let more = [
        "values.pilot.autoscaleEnabled=true",
        "components.cni.enabled=true",
    ];
    for manifest in all("demo", &more) {
        let kind = manifest["kind"].as_str().expect("kind").to_owned();
        let name = manifest["metadata"]["name"]
            .as_str()
            .expect("name")
            .to_owned();
        let placed = manifest["metadata"].get("namespace").is_some();
        assert_eq!(
            placed,
            !cluster_wide.contains(&kind.as_str()),
            "{kind} {name}"
        );
        assert!(seen.insert((kind, name)));
    }
}

#[test]
fn manifests_are_what_kubernetes_types_say() {
    use k8s_openapi::{
        api::{
            admissionregistration::v1::{
                MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
            },
            apps::v1::{DaemonSet, Deployment},
            autoscaling::v2::HorizontalPodAutoscaler,
            core::v1::{ConfigMap, Service, ServiceAccount},
            policy::v1::PodDisruptionBudget,
            rbac::v1::{ClusterRole, Role},
        },
        apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    };
    fn same<T: serde::de::DeserializeOwned + serde::Serialize>(manifest: &Value) {
        let typed: T = serde_json::from_value(manifest.clone()).expect("of its type");
        // What the type does not know would be missing from this.
        assert_eq!(serde_json::to_value(typed).expect("JSON"), *manifest);
    }
    let demo = all("demo", &["values.pilot.autoscaleEnabled=true"]);
    for manifest in demo.into_iter().chain(all("openshift", &[])) {
        match manifest["kind"].as_str().expect("kind") {
            "Deployment" => same::<Deployment>(&manifest),
            "DaemonSet" => same::<DaemonSet>(&manifest),
            "Service" => same::<Service>(&manifest),
            "ConfigMap" => same::<ConfigMap>(&manifest),
            "ServiceAccount" => same::<ServiceAccount>(&manifest),
            "HorizontalPodAutoscaler" => same::<HorizontalPodAutoscaler>(&manifest),
            "PodDisruptionBudget" => same::<PodDisruptionBudget>(&manifest),
            "Role" => same::<Role>(&manifest),
            "ClusterRole" => same::<ClusterRole>(&manifest),
            "CustomResourceDefinition" => same::<CustomResourceDefinition>(&manifest),
            "MutatingWebhookConfiguration" => same::<MutatingWebhookConfiguration>(&manifest),
            "ValidatingWebhookConfiguration" => same::<ValidatingWebhookConfiguration>(&manifest),
            _ => {}
        }
    }
}

#[test]
fn the_ingress_gateway_is_reached_as_documented() {
    let all = all("default", &[]);
    let find = |kind: &str| find(&all, kind, "istio-ingressgateway");
    let ports = find("Service")["spec"]["ports"].as_array().expect("ports");
    let ports: Vec<_> = ports
        .iter()
        .map(|p| (p["port"].as_u64(), p["targetPort"].as_u64()))
        .collect();
    assert_eq!(
        ports,
        [
            (Some(15021), Some(15021)),
            (Some(80), Some(8080)),
            (Some(443), Some(8443))
        ]
    );
    let pod = &find("Deployment")["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["istio"], "ingressgateway");
    let proxy = &pod["spec"]["containers"][0];
    assert_eq!(proxy["args"][1], "router");
    assert_eq!(
        proxy["image"],
        format!("docker.io/lateen/proxyv2:{}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(proxy["readinessProbe"]["httpGet"]["port"], 15021);
}

#[test]
fn crds_print_the_columns_that_istio_prints() {
    for (kind, expect) in [
        ("Gateway", &[][..]),
        ("VirtualService", &["Gateways", "Hosts", "Age"]),
        ("DestinationRule", &["Host", "Age"]),
        ("ServiceEntry", &["Hosts", "Location", "Resolution", "Age"]),
        ("WorkloadEntry", &["Age", "Address"]),
        ("PeerAuthentication", &["Mode", "Age"]),
        ("AuthorizationPolicy", &["Action", "Age"]),
        ("Sidecar", &[]),
    ] {
        let definition = crate::crds::all(&Installation::default())
            .find(|one| one["spec"]["names"]["kind"] == kind)
            .expect("defined");
        let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array();
        let names: Vec<_> = columns
            .into_iter()
            .flatten()
            .map(|column| column["name"].as_str().expect("named"))
            .collect();
        assert_eq!(names, expect, "{kind}");
    }
}

/// The API server compiles a rule against what it knows of the fields, and refuses the whole definition
/// where a rule names one that has no type.
#[test]
fn rules_of_definitions_name_typed_fields_alone() {
    let mut rules = 0;
    let installation = Installation::default();
    let definitions = crate::crds::all(&installation).chain(crate::crds::gateway_api());
    for definition in definitions {
        check_rules(&definition, &mut rules);
    }
    assert!(rules > 100, "{rules}");
}

fn check_rules(at: &Value, rules: &mut usize) {
    let validations = at["x-kubernetes-validations"].as_array();
    for validation in validations.into_iter().flatten() {
        *rules += 1;
        let rule = validation["rule"].as_str().expect("a rule");
        let named = rule.split("self.").skip(1);
        for field in named.filter(|rest| !rest.starts_with('?')) {
            let end = field.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let (name, rest) = field.split_at(end.unwrap_or(field.len()));
            // What is called is no field.
            if rest.starts_with('(') {
                continue;
            }
            let property = &at["properties"][name];
            let is_typed =
                property["type"].is_string() || property["x-kubernetes-int-or-string"] == true;
            assert!(is_typed, "{name} of {rule:?}: {property}");
        }
    }
    match at {
        Value::Object(map) => map.values().for_each(|inner| check_rules(inner, rules)),
        Value::Array(items) => items.iter().for_each(|inner| check_rules(inner, rules)),
        _ => {}
    }
}
