use std::collections::BTreeSet;

use super::*;

fn names(options: &Options, kind: &str) -> Vec<String> {
    let all = manifests(options);
    let named = all.iter().filter(|m| m["kind"] == kind);
    named
        .map(|m| m["metadata"]["name"].as_str().expect("name").to_owned())
        .collect()
}

#[test]
fn profiles_differ_in_their_gateways() {
    for (profile, expect) in [
        (Profile::Default, vec!["istiod", "istio-ingressgateway"]),
        (
            Profile::Demo,
            vec!["istiod", "istio-ingressgateway", "istio-egressgateway"],
        ),
        (Profile::Minimal, vec!["istiod"]),
        (Profile::Empty, vec![]),
    ] {
        let options = Options {
            profile,
            ..Options::default()
        };
        assert_eq!(names(&options, "Deployment"), expect, "{profile:?}");
        assert_eq!(names(&options, "Service"), expect, "{profile:?}");
    }
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
    for manifest in manifests(&Options {
        profile: Profile::Demo,
        ..Options::default()
    }) {
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
            apps::v1::Deployment,
            core::v1::{ConfigMap, Service},
            rbac::v1::{ClusterRole, Role},
        },
        apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    };
    fn same<T: serde::de::DeserializeOwned + serde::Serialize>(manifest: &Value) {
        let typed: T = serde_json::from_value(manifest.clone()).expect("of its type");
        // What the type does not know would be missing from this.
        assert_eq!(serde_json::to_value(typed).expect("JSON"), *manifest);
    }
    for manifest in manifests(&Options {
        profile: Profile::Demo,
        ..Options::default()
    }) {
        match manifest["kind"].as_str().expect("kind") {
            "Deployment" => same::<Deployment>(&manifest),
            "Service" => same::<Service>(&manifest),
            "ConfigMap" => same::<ConfigMap>(&manifest),
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
    let all = manifests(&Options::default());
    let find = |kind: &str| {
        all.iter()
            .find(|m| m["kind"] == kind && m["metadata"]["name"] == "istio-ingressgateway")
            .expect("present")
    };
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
        let definition = crate::crds::all()
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
