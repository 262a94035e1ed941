//! What a Gateway of the Gateway API runs on: an account, a Deployment of proxies and the Service
//! before it, named and labelled as Istio does.

use lateen_api::gateway_api::GatewayDeployment;
use lateen_api::labels::GATEWAY_NAME;
use lateen_injector::{Owner, Params, inject_gateway};
use serde_json::{Value, json};

use crate::{gateways, ports};

/// On everything that is made for a Gateway: the name of its class.
const CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
/// On everything that is made for a Gateway: who makes it.
const MANAGED: &str = "gateway.istio.io/managed";
/// The protocol of listeners for datagrams.
const UDP: &str = "udp";
/// Where the gateway says that it is ready.
const STATUS_PORT: u16 = 15021;

/// The objects, in an order in which they can be applied one after the other.
pub fn gateway_manifests(of: &GatewayDeployment, params: &Params) -> Vec<Value> {
    let mut account = object(of, "v1", "ServiceAccount");
    account["metadata"]["name"] = json!(of.account());
    vec![account, deployment(of, params), service(of)]
}

/// What Kubernetes calls what a listener's protocol is carried by.
fn transport(protocol: &str) -> &'static str {
    match protocol {
        UDP => "UDP",
        _ => "TCP",
    }
}

fn labels(of: &GatewayDeployment) -> Value {
    let mut all = json!(of.labels);
    all[GATEWAY_NAME] = json!(of.gateway);
    all[CLASS_NAME] = json!(of.class);
    all[MANAGED] = json!("istio.io-gateway-controller");
    all
}

/// An object that goes when the Gateway goes.
fn object(of: &GatewayDeployment, api_version: &str, kind: &str) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": of.name,
            "namespace": of.namespace,
            "labels": labels(of),
            "annotations": of.annotations,
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "name": of.gateway,
                "uid": of.uid,
            }],
        },
    })
}

fn service_ports(of: &GatewayDeployment) -> Vec<Value> {
    let status = json!({"name": "status-port", "port": STATUS_PORT, "protocol": "TCP", "appProtocol": "tcp"});
    let listeners = of.ports.iter().map(|(name, port, protocol)| {
        let mut listener = json!({"name": name, "port": port, "protocol": transport(protocol)});
        // Of datagrams, nobody asks what is in them.
        if protocol != UDP {
            listener["appProtocol"] = json!(protocol);
        }
        listener
    });
    [status].into_iter().chain(listeners).collect()
}

fn service(of: &GatewayDeployment) -> Value {
    let kind = match of.service_type.as_str() {
        "" => "LoadBalancer",
        named => named,
    };
    let mut service = object(of, "v1", "Service");
    service["spec"] = json!({
        "type": kind,
        "selector": {GATEWAY_NAME: of.gateway},
        "ports": service_ports(of),
    });
    if !of.address.is_empty() {
        service["spec"]["loadBalancerIP"] = json!(of.address);
    }
    service
}

fn deployment(of: &GatewayDeployment, params: &Params) -> Value {
    let mut pod_labels = labels(of);
    pod_labels["service.istio.io/canonical-name"] = json!(of.name);
    pod_labels["service.istio.io/canonical-revision"] = json!("latest");
    // The webhook must leave it alone: it is complete.
    pod_labels["sidecar.istio.io/inject"] = json!("false");
    let mut annotations = json!(of.annotations);
    annotations["prometheus.io/port"] = json!(params.metrics_port().to_string());
    annotations["prometheus.io/scrape"] = json!("true");
    annotations["prometheus.io/path"] = json!("/stats/prometheus");
    let ports = ports::of_container(&service_ports(of));
    let resources = json!({
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "2000m", "memory": "1024Mi"},
    });
    let mut pod = json!({
        "metadata": {"labels": pod_labels, "annotations": annotations},
        "spec": {
            "serviceAccountName": of.account(),
            "containers": [gateways::proxy(ports, &resources)],
        },
    });
    let owner = Owner {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: of.name.clone(),
        namespace: of.namespace.clone(),
    };
    inject_gateway(&mut pod, &owner, params);
    gateways::forget_injection(&mut pod);
    let mut deployment = object(of, "apps/v1", "Deployment");
    deployment["spec"] = json!({
        "selector": {"matchLabels": {GATEWAY_NAME: of.gateway}},
        "template": pod,
    });
    deployment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> GatewayDeployment {
        GatewayDeployment {
            namespace: "default".into(),
            gateway: "edge".into(),
            uid: "u1".into(),
            class: "istio".into(),
            name: "edge-istio".into(),
            ports: vec![
                ("http-80".into(), 80, "http".into()),
                ("udp-80".into(), 80, "udp".into()),
            ],
            labels: [("team".to_owned(), "x".to_owned())].into(),
            annotations: [("note".to_owned(), "y".to_owned())].into(),
            ..GatewayDeployment::default()
        }
    }

    #[test]
    fn everything_belongs_to_its_gateway() {
        let all = gateway_manifests(&edge(), &Params::default());
        let kinds: Vec<_> = all
            .iter()
            .map(|o| o["kind"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(kinds, ["ServiceAccount", "Deployment", "Service"]);
        for object in &all {
            let meta = &object["metadata"];
            assert_eq!(
                (&meta["name"], &meta["namespace"]),
                (&json!("edge-istio"), &json!("default"))
            );
            assert_eq!(meta["labels"][GATEWAY_NAME], "edge");
            assert_eq!(meta["labels"]["team"], "x");
            assert_eq!(meta["annotations"]["note"], "y");
            assert_eq!(meta["ownerReferences"][0]["uid"], "u1");
        }
    }

    #[test]
    fn proxies_run_as_the_account_that_is_named() {
        let of = GatewayDeployment {
            account: "own".into(),
            ..edge()
        };
        let all = gateway_manifests(&of, &Params::default());
        assert_eq!(all[0]["metadata"]["name"], "own");
        let pod = &all[1]["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], "own");
        assert_eq!(all[1]["metadata"]["name"], "edge-istio");
    }

    #[test]
    fn the_service_leads_to_the_pods_at_the_listeners_ports() {
        let of = GatewayDeployment {
            service_type: "ClusterIP".into(),
            ..edge()
        };
        let service = service(&of);
        assert_eq!(service["spec"]["type"], "ClusterIP");
        let ports: Vec<_> = service["spec"]["ports"]
            .as_array()
            .expect("ports")
            .iter()
            .map(|p| (p["port"].as_u64(), p["protocol"].as_str()))
            .collect();
        let port = |number: u64, protocol| (Some(number), Some(protocol));
        assert_eq!(
            ports,
            [port(15021, "TCP"), port(80, "TCP"), port(80, "UDP")]
        );
        assert_eq!(service["spec"]["ports"][1]["appProtocol"], "http");
        assert!(service["spec"]["ports"][2].get("appProtocol").is_none());
        let deployment = deployment(&of, &Params::default());
        let pod = &deployment["spec"]["template"];
        for (key, value) in service["spec"]["selector"].as_object().expect("labels") {
            assert_eq!(&pod["metadata"]["labels"][key], value);
        }
        assert_eq!(pod["spec"]["serviceAccountName"], "edge-istio");
        let ports = pod["spec"]["containers"][0]["ports"].as_array();
        let ports: Vec<_> = ports
            .expect("ports")
            .iter()
            .map(|p| (p["containerPort"].as_u64(), p["protocol"].as_str()))
            .collect();
        let own = [port(80, "TCP"), port(80, "UDP"), port(15021, "TCP")];
        assert!(own.iter().all(|port| ports.contains(port)), "{ports:?}");
        let sysctl = &pod["spec"]["securityContext"]["sysctls"][0];
        assert_eq!(sysctl["name"], "net.ipv4.ip_unprivileged_port_start");
        assert!(
            pod["metadata"]["annotations"]
                .get("sidecar.istio.io/status")
                .is_none()
        );
    }
}
