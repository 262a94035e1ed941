//! What is told of a pod by its own object.

use lateen_api::{annotations, labels};
use lateen_explain::DescribedService;
use serde_json::Value;

/// The name of the sidecar's container.
const SIDECAR: &str = "istio-proxy";

/// Containers, native sidecars among them.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["containers", "initContainers"];
    let lists = lists.into_iter().map(move |list| &pod["spec"][list]);
    lists
        .filter_map(Value::as_array)
        .flatten()
        .filter(move |container| {
            let mut inits = pod["spec"]["initContainers"]
                .as_array()
                .into_iter()
                .flatten();
            let is_init = inits.any(|init| init["name"] == container["name"]);
            !is_init || container["restartPolicy"] == "Always"
        })
}

/// Whether the pod has a proxy of the mesh.
pub(super) fn has_sidecar(pod: &Value) -> bool {
    containers(pod).any(|container| container["name"] == SIDECAR)
}

/// The ports that containers declare, with the containers' names.
fn ports(pod: &Value) -> Vec<(u64, &str, &str)> {
    let each = containers(pod).flat_map(|container| {
        let name = container["name"].as_str().unwrap_or_default();
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(move |port| {
            let number = port["containerPort"].as_u64()?;
            Some((number, port["name"].as_str().unwrap_or_default(), name))
        })
    });
    each.collect()
}

/// Name, revision, ports, and what the pod lacks.
pub(super) fn head(pod: &Value) -> String {
    let meta = &pod["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut told = format!(
        "Pod: {}.{}\n",
        text(&meta["name"]),
        text(&meta["namespace"])
    );
    if let Some(revision) = revision(pod) {
        told.push_str(&format!("   Pod Revision: {revision}\n"));
    }
    let ports = ports(pod);
    let listed: Vec<String> = ports
        .iter()
        .map(|(number, _, container)| format!("{number} ({container})"))
        .collect();
    told.push_str(&match listed.is_empty() {
        true => "   Pod does not expose ports\n".to_owned(),
        false => format!("   Pod Ports: {}\n", listed.join(", ")),
    });
    let phase = text(&pod["status"]["phase"]);
    if phase != "Running" {
        told.push_str(&format!("   WARNING: pod is {phase}, not Running\n"));
    }
    if pod["spec"]["hostNetwork"] == true {
        told.push_str("   WARNING: pod is on the host's network, which is never captured\n");
    } else if !has_sidecar(pod) {
        told.push_str(
            "   WARNING: pod has no sidecar and is no part of the mesh; label its namespace \
             istio-injection=enabled and start it anew\n",
        );
    }
    for label in [labels::APP, labels::VERSION] {
        if meta["labels"][label].as_str().is_none() {
            told.push_str(&format!(
                "   Suggestion: add '{label}' label to pod for Istio telemetry.\n"
            ));
        }
    }
    told
}

/// The revision that injected the pod.
fn revision(pod: &Value) -> Option<String> {
    let meta = &pod["metadata"];
    let status = meta["annotations"][annotations::STATUS].as_str();
    let status: Option<Value> = status.and_then(|text| serde_json::from_str(text).ok());
    let said = status.and_then(|status| Some(status["revision"].as_str()?.to_owned()));
    let label = || Some(meta["labels"][labels::REVISION].as_str()?.to_owned());
    said.filter(|said| !said.is_empty()).or_else(label)
}

/// Ports that a service leads to and no container declares. Kubernetes does not mind; often the number
/// is wrong.
pub(super) fn undeclared(pod: &Value, service: &DescribedService) -> Vec<String> {
    let ports = ports(pod);
    let missing = service.ports.iter().filter(|port| {
        let number: Option<u64> = port.target.parse().ok();
        let mut ports = ports.iter();
        match number {
            Some(number) => !ports.any(|(declared, ..)| *declared == number),
            None => !ports.any(|(_, name, _)| *name == port.target),
        }
    });
    let line = |port: &lateen_explain::DescribedPort| match port.target.parse::<u16>() {
        Ok(number) => format!("   WARNING: no container declares port {number}"),
        Err(_) => format!(
            "   WARNING: no container has a port named {:?}, so nothing answers",
            port.target
        ),
    };
    missing.map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: Value, labels: Value, annotations: Value) -> Value {
        json!({
            "metadata": {"name": "p", "namespace": "n", "labels": labels, "annotations": annotations},
            "spec": spec, "status": {"phase": "Running"},
        })
    }

    #[test]
    fn heads_say_what_is_there_and_what_is_not() {
        let whole = json!({"app": "a", "version": "v1"});
        let own = json!({"name": "app", "ports": [{"containerPort": 9080}]});
        let proxy = json!({"name": "istio-proxy", "restartPolicy": "Always",
            "ports": [{"containerPort": 15090}]});
        let init = json!({"name": "istio-init"});
        let status = json!({"sidecar.istio.io/status": "{\"revision\": \"canary\"}"});
        let check = |spec: Value, labels: &Value, annotations: Value, expect: &str| {
            let told = head(&pod(spec, labels.clone(), annotations));
            assert_eq!(told, format!("Pod: p.n\n{expect}"));
        };
        check(
            json!({"containers": [own], "initContainers": [init, proxy]}),
            &whole,
            status,
            "   Pod Revision: canary\n   Pod Ports: 9080 (app), 15090 (istio-proxy)\n",
        );
        let no_sidecar = "   WARNING: pod has no sidecar and is no part of the mesh; label its \
             namespace istio-injection=enabled and start it anew\n";
        check(
            json!({"containers": [{"name": "app"}]}),
            &whole,
            json!({}),
            &format!("   Pod does not expose ports\n{no_sidecar}"),
        );
        check(
            json!({"containers": [own], "hostNetwork": true}),
            &json!({"app": "a"}),
            json!({}),
            "   Pod Ports: 9080 (app)\n   WARNING: pod is on the host's network, which is never \
             captured\n   Suggestion: add 'version' label to pod for Istio telemetry.\n",
        );
    }

    #[test]
    fn ports_that_no_container_declares_are_told() {
        let ports = json!([{"containerPort": 9080, "name": "web"}]);
        let pod = pod(
            json!({"containers": [{"name": "c", "ports": ports}]}),
            json!({}),
            json!({}),
        );
        let check = |target: &str, expect: &[&str]| {
            let port = lateen_explain::DescribedPort {
                name: String::new(),
                number: 80,
                protocol: lateen_core::Protocol::Http,
                target: target.to_owned(),
            };
            let service = DescribedService {
                ports: vec![port],
                ..DescribedService::default()
            };
            assert_eq!(undeclared(&pod, &service), expect, "{target}");
        };
        check("9080", &[]);
        check("web", &[]);
        check("9081", &["   WARNING: no container declares port 9081"]);
        check(
            "gone",
            &["   WARNING: no container has a port named \"gone\", so nothing answers"],
        );
    }
}
