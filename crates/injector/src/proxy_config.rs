//! The settings of one pod's proxy: the mesh's, then those of ProxyConfigs, then the pod's own.

use std::sync::Arc;

use lateen_api::networking::ProxyConfig;
use lateen_api::{Object, annotations};
use serde_json::{Map, Value, json};

use crate::values::{annotation, object};
use crate::{Params, merge};

/// The type of image that has no name.
const DEFAULT_IMAGE: &str = "default";

/// What the pod's agent is told, in the fields of MeshConfig's `defaultConfig`.
pub(crate) fn of_pod(pod: &Value, namespace: &str, params: &Params) -> Map<String, Value> {
    let of_mesh = params.mesh.default_config.as_ref();
    let mut config = of_mesh
        .and_then(|config| serde_json::to_value(config).ok())
        .unwrap_or_else(|| json!({}));
    for object in chosen(pod, namespace, params) {
        lay(&mut config, &object.spec);
    }
    if let Some(text) = annotation(pod, annotations::PROXY_CONFIG)
        && let Ok(Value::Object(own)) = lateen_yaml::from_str::<Value>(text)
    {
        merge::merge(&mut config, &Value::Object(own));
    }
    config.as_object().cloned().unwrap_or_default()
}

/// One of each circle, the wider before the narrower: the root namespace, the pod's, and those that
/// pick the pod by its labels. The oldest counts.
fn chosen<'a>(
    pod: &Value,
    namespace: &str,
    params: &'a Params,
) -> impl Iterator<Item = &'a Arc<Object<ProxyConfig>>> {
    let root = params.mesh.root_namespace();
    let picks = |object: &ProxyConfig| {
        let wanted = object.selector.iter().flat_map(|of| &of.match_labels);
        let mut wanted = wanted.peekable();
        let all = wanted.peek().is_none();
        let label = |key: &str| pod["metadata"]["labels"][key].as_str();
        (all, wanted.all(|(key, value)| label(key) == Some(value)))
    };
    let find = |home: &str, all: bool| {
        let mut objects = params.proxy_configs.iter();
        objects.find(|object| object.meta.namespace == home && picks(&object.spec) == (all, true))
    };
    let own = (namespace != root).then(|| [find(namespace, true), find(namespace, false)]);
    let found = [find(root, true), find(root, false)];
    let found = found.into_iter().chain(own.into_iter().flatten());
    found.flatten().collect::<Vec<_>>().into_iter()
}

fn lay(config: &mut Value, over: &ProxyConfig) {
    let ProxyConfig {
        selector: _,
        concurrency,
        environment_variables,
        image,
    } = over;
    if let Some(threads) = concurrency {
        config["concurrency"] = json!(threads);
    }
    if !environment_variables.is_empty() {
        let metadata = object(config, "proxyMetadata");
        let texts = environment_variables.iter();
        metadata.extend(texts.map(|(name, text)| (name.clone(), json!(text))));
    }
    if let Some(image) = image {
        config["image"]["imageType"] = json!(image.image_type);
    }
}

/// The image of a pod's proxy: its own, or the mesh's of the type that is asked for.
pub(crate) fn image(pod: &Value, config: &Map<String, Value>, image: &str) -> String {
    if let Some(own) = annotation(pod, annotations::PROXY_IMAGE) {
        return own.to_owned();
    }
    let of_config = || config.get("image")?.get("imageType")?.as_str();
    let kind = annotation(pod, annotations::PROXY_IMAGE_TYPE).or_else(of_config);
    match kind {
        // A digest names one image, of whatever type.
        Some(kind) if !["", DEFAULT_IMAGE].contains(&kind) && !image.contains('@') => {
            format!("{image}-{kind}")
        }
        _ => image.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, spec: &Value) -> Arc<Object<ProxyConfig>> {
        let document = json!({"metadata": {"name": "a", "namespace": namespace}, "spec": spec});
        Arc::new(Object::from_value(&document).expect("a ProxyConfig"))
    }

    fn pod(annotations: &Value) -> Value {
        json!({"metadata": {"labels": {"app": "a"}, "annotations": annotations}})
    }

    #[track_caller]
    fn check(objects: &[(&str, Value)], annotations: &Value, want: &Value) {
        let mut params = Params::new("proxy:1");
        params.proxy_configs = objects
            .iter()
            .map(|(home, spec)| object(home, spec))
            .collect();
        let found = of_pod(&pod(annotations), "default", &params);
        for (key, want) in want.as_object().expect("fields") {
            assert_eq!(found.get(key), Some(want), "{objects:?}");
        }
    }

    #[test]
    fn the_narrower_counts() {
        let root = || {
            (
                "istio-system",
                json!({"concurrency": 1, "environmentVariables": {"A": "r", "B": "r"}}),
            )
        };
        let own = || {
            (
                "default",
                json!({"concurrency": 2, "environmentVariables": {"A": "n"}}),
            )
        };
        let picked = || {
            (
                "default",
                json!({"selector": {"matchLabels": {"app": "a"}}, "concurrency": 3}),
            )
        };
        let other = || {
            (
                "default",
                json!({"selector": {"matchLabels": {"app": "b"}}, "concurrency": 9}),
            )
        };
        let none = json!({});
        check(&[root()], &none, &json!({"concurrency": 1}));
        check(
            &[own(), root()],
            &none,
            &json!({"concurrency": 2, "proxyMetadata": {"A": "n", "B": "r"}}),
        );
        check(
            &[picked(), own(), other()],
            &none,
            &json!({"concurrency": 3}),
        );
        check(
            &[("elsewhere", json!({"concurrency": 9})), own()],
            &none,
            &json!({"concurrency": 2}),
        );
        let annotation = json!({annotations::PROXY_CONFIG: "concurrency: 4"});
        check(&[picked()], &annotation, &json!({"concurrency": 4}));
    }

    #[test]
    fn the_image_of_a_type() {
        let check = |of: &Value, annotations: &Value, base: &str, want: &str| {
            let config = of.as_object().expect("fields");
            assert_eq!(image(&pod(annotations), config, base), want);
        };
        let debug = json!({"image": {"imageType": "debug"}});
        let none = json!({});
        check(&none, &none, "proxy:1", "proxy:1");
        check(&debug, &none, "proxy:1", "proxy:1-debug");
        check(&debug, &none, "proxy@sha256:0", "proxy@sha256:0");
        let kind = json!({annotations::PROXY_IMAGE_TYPE: "default"});
        check(&debug, &kind, "proxy:1", "proxy:1");
        let own = json!({annotations::PROXY_IMAGE: "mine"});
        check(&debug, &own, "proxy:1", "mine");
    }
}
