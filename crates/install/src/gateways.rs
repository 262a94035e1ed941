//! Gateways: a Deployment of proxies and the Service before it.

use std::sync::Arc;

use lateen_api::install::{KubernetesResources, PortValues};
use lateen_injector::{Owner, Params, inject_gateway};
use serde_json::{Value, json};

use crate::{
    Installation,
    installation::{Gateway, Source, first_text},
    labels::REVISION,
    ports, rbac,
    scale::{self, Bounds},
    settings,
};

pub(crate) fn all(
    installation: &Installation,
    gateway: &Gateway<'_>,
    own: &KubernetesResources,
) -> Vec<Value> {
    let place = Place {
        installation,
        gateway,
        own,
    };
    let mut service = place.service();
    settings::of_service(&mut service, own);
    let mut deployment = place.deployment();
    settings::of_deployment(&mut deployment, own, installation);
    let values = gateway.values;
    let bounds = Bounds {
        is_on: values.autoscale_enabled,
        least: values.autoscale_min,
        most: values.autoscale_max,
        replicas: None,
        behavior: None,
    };
    let beside = scale::beside(&mut deployment, &bounds, &values.cpu, own, installation);
    let mut all = rbac::gateway(gateway.name, place.namespace());
    all.extend([service, deployment]);
    all.extend(beside);
    all
}

/// A gateway in its installation.
struct Place<'a> {
    installation: &'a Installation,
    gateway: &'a Gateway<'a>,
    own: &'a KubernetesResources,
}

impl Place<'_> {
    fn namespace(&self) -> &str {
        let own = self.gateway.component.namespace.as_deref();
        first_text([own]).unwrap_or(self.installation.namespace())
    }

    /// `istio: ingressgateway` is what Gateways select, unless the gateway says otherwise.
    fn labels(&self) -> Value {
        let mut labels = match self.gateway.is_ingress {
            true => json!({"app": "istio-ingressgateway", "istio": "ingressgateway"}),
            false => json!({"app": "istio-egressgateway", "istio": "egressgateway"}),
        };
        let own = [&self.gateway.values.labels, &self.gateway.component.label];
        for (key, value) in own.into_iter().flatten() {
            labels[key] = json!(value);
        }
        labels
    }

    fn meta(&self) -> Value {
        let name = self.gateway.name;
        json!({"name": name, "namespace": self.namespace(), "labels": self.labels()})
    }

    /// Ports of the Service; what the file says of the Service replaces them.
    fn ports(&self) -> Vec<Value> {
        let own = self.own.service.as_ref().map(|service| &service["ports"]);
        if let Some(ports) = own.and_then(Value::as_array) {
            return ports.clone();
        }
        self.gateway.values.ports.iter().map(port).collect()
    }

    fn service(&self) -> Value {
        let values = self.gateway.values;
        let default = if self.gateway.is_ingress {
            "LoadBalancer"
        } else {
            "ClusterIP"
        };
        let kind = first_text([values.service_type.as_deref()]).unwrap_or(default);
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.meta(),
            "spec": {"type": kind, "selector": self.labels(), "ports": self.ports()},
        });
        settings::add(
            &mut service["metadata"],
            "annotations",
            &values.service_annotations,
        );
        let spec = &mut service["spec"];
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        settings::replace(spec, "loadBalancerIP", text(&values.load_balancer_ip));
        settings::replace(
            spec,
            "externalTrafficPolicy",
            text(&values.external_traffic_policy),
        );
        let list = |items| Some(items).filter(|items: &&Vec<String>| !items.is_empty());
        settings::replace(spec, "externalIPs", list(&values.external_ips));
        let ranges = list(&values.load_balancer_source_ranges);
        settings::replace(spec, "loadBalancerSourceRanges", ranges);
        service
    }

    fn deployment(&self) -> Value {
        let values = self.gateway.values;
        let name = self.gateway.name;
        let mut labels = self.labels();
        labels[REVISION] = json!(self.installation.revision());
        // The webhook must leave it alone: it is complete.
        labels["sidecar.istio.io/inject"] = json!("false");
        let params = self.params();
        let mut pod = json!({
            "metadata": {
                "labels": labels,
                "annotations": {
                    "prometheus.io/port": params.metrics_port().to_string(),
                    "prometheus.io/scrape": "true",
                    "prometheus.io/path": "/stats/prometheus",
                },
            },
            "spec": {
                "serviceAccountName": format!("{name}-service-account"),
                "containers": [self.container()],
            },
        });
        let owner = Owner {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: name.into(),
            namespace: self.namespace().to_owned(),
        };
        inject_gateway(&mut pod, &owner, &params);
        forget_injection(&mut pod);
        settings::add(&mut pod["metadata"], "annotations", &values.pod_annotations);
        settings::add(&mut pod["spec"], "nodeSelector", &values.node_selector);
        let tolerations = Some(&values.tolerations).filter(|list| !list.is_empty());
        settings::replace(&mut pod["spec"], "tolerations", tolerations);
        let surge = values.rolling_max_surge.clone();
        let unavailable = values.rolling_max_unavailable.clone();
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.meta(),
            "spec": {
                "selector": {"matchLabels": self.labels()},
                "strategy": {"rollingUpdate": {
                    "maxSurge": surge.unwrap_or_else(|| json!("100%")),
                    "maxUnavailable": unavailable.unwrap_or_else(|| json!("25%")),
                }},
                "template": pod,
            },
        })
    }

    fn container(&self) -> Value {
        let ports = ports::of_container(&self.ports());
        let resources = self.gateway.values.resources.as_ref();
        let resources = resources.or(self.installation.values().global.default_resources.as_ref());
        let mut container = proxy(ports, resources.unwrap_or(&Value::Null));
        if let Some(env) = container["env"].as_array_mut() {
            settings::set_env(env, &self.gateway.values.env);
        }
        container
    }

    fn params(&self) -> Params {
        let installation = self.installation;
        let source = Source {
            hub: self.gateway.component.hub.as_deref(),
            tag: self.gateway.component.tag.as_ref(),
        };
        let address = format!("{}:15012", installation.control_plane());
        let params = Params {
            revision: installation.revision().to_owned(),
            ca_address: address,
            cluster_id: installation.cluster_id().to_owned(),
            mesh: Arc::new(installation.typed_mesh_config()),
            ..Params::default()
        };
        // What sidecars are told holds for gateways as well, but for the image.
        Params {
            image: installation.proxy_image(source),
            ..params.with_config(Arc::new(installation.injector_config()))
        }
    }
}

fn port(port: &PortValues) -> Value {
    let mut out = json!({
        "name": port.name,
        "port": port.port,
        "targetPort": port.target_port.clone().unwrap_or_else(|| json!(port.port)),
        "protocol": port.protocol.as_deref().unwrap_or("TCP"),
    });
    settings::replace(&mut out, "nodePort", port.node_port);
    settings::replace(&mut out, "appProtocol", port.app_protocol.as_ref());
    out
}

/// Nobody injected anything into a pod that was made whole, so nothing is to be taken out again.
pub(crate) fn forget_injection(pod: &mut Value) {
    if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove("proxy.istio.io/overrides");
        annotations.shift_remove("sidecar.istio.io/status");
    }
}

/// The container, to be filled in by the injector.
pub(crate) fn proxy(ports: Vec<Value>, resources: &Value) -> Value {
    json!({
        "name": "istio-proxy",
        "image": "auto",
        "ports": ports,
        "env": [{"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"}],
        "readinessProbe": {"failureThreshold": 30, "periodSeconds": 1, "timeoutSeconds": 1},
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
        },
    })
}
