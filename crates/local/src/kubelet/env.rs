//! A container's environment.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector,
    Secret,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, ResourceExt};

use super::NODE_NAME;
use super::pod::PodContext;
use crate::Error;
use crate::net::{API_IP, NODE_IP};

/// Search path of a container whose pod sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole environment, in order; later names win.
pub(super) async fn resolve(
    context: &PodContext,
    container: &Container,
) -> Result<Vec<(String, String)>, Error> {
    let mut env = Env::default();
    let api = API_IP.to_string();
    env.set("PATH", PATH);
    env.set("HOSTNAME", &context.pod.name_any());
    env.set("HOME", "/root");
    env.set("KUBERNETES_SERVICE_HOST", &api);
    env.set("KUBERNETES_SERVICE_PORT", "443");
    env.set("KUBERNETES_SERVICE_PORT_HTTPS", "443");
    env.set("KUBERNETES_PORT", &format!("tcp://{api}:443"));
    let source = Source { context, container };
    for from in container.env_from.iter().flatten() {
        source.all_of(from, &mut env).await?;
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = source.value(var, &env.0).await? {
            env.set(&var.name, &value);
        }
    }
    Ok(env.0)
}

#[derive(Default)]
struct Env(Vec<(String, String)>);

impl Env {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

struct Source<'a> {
    context: &'a PodContext,
    container: &'a Container,
}

impl Source<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        let namespace = self.context.pod.namespace().unwrap_or_default();
        Api::namespaced(self.context.kubelet.client.clone(), &namespace)
    }

    async fn config_map(
        &self,
        name: &str,
        optional: bool,
    ) -> Result<Option<BTreeMap<String, String>>, Error> {
        let found = self.api::<ConfigMap>().get_opt(name).await?;
        match found {
            Some(map) => Ok(Some(map.data.unwrap_or_default())),
            None if optional => Ok(None),
            None => Err(Error::Container(format!("configmap {name:?} not found"))),
        }
    }

    async fn secret(
        &self,
        name: &str,
        optional: bool,
    ) -> Result<Option<BTreeMap<String, String>>, Error> {
        let found = self.api::<Secret>().get_opt(name).await?;
        match found {
            Some(secret) => Ok(Some(
                secret
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
                    .collect(),
            )),
            None if optional => Ok(None),
            None => Err(Error::Container(format!("secret {name:?} not found"))),
        }
    }

    async fn all_of(
        &self,
        from: &k8s_openapi::api::core::v1::EnvFromSource,
        env: &mut Env,
    ) -> Result<(), Error> {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut data = BTreeMap::new();
        if let Some(map) = &from.config_map_ref {
            let found = self
                .config_map(&map.name, map.optional == Some(true))
                .await?;
            data.extend(found.unwrap_or_default());
        }
        if let Some(secret) = &from.secret_ref {
            let found = self
                .secret(&secret.name, secret.optional == Some(true))
                .await?;
            data.extend(found.unwrap_or_default());
        }
        for (key, value) in data {
            env.set(&format!("{prefix}{key}"), &value);
        }
        Ok(())
    }

    async fn value(&self, var: &EnvVar, env: &[(String, String)]) -> Result<Option<String>, Error> {
        match &var.value_from {
            None => Ok(Some(expand(var.value.as_deref().unwrap_or_default(), env))),
            Some(from) => self.value_from(from).await,
        }
    }

    async fn value_from(&self, from: &EnvVarSource) -> Result<Option<String>, Error> {
        if let Some(field) = &from.field_ref {
            let ip = Some(self.context.net.ip.to_string());
            return pod_field(&self.context.pod, field, ip.as_deref()).map(Some);
        }
        if let Some(resource) = &from.resource_field_ref {
            return resource_field(self.container, resource).map(Some);
        }
        let (kind, name, key, optional, data) = if let Some(key) = &from.config_map_key_ref {
            let optional = key.optional == Some(true);
            (
                "configmap",
                &key.name,
                &key.key,
                optional,
                self.config_map(&key.name, optional).await?,
            )
        } else if let Some(key) = &from.secret_key_ref {
            let optional = key.optional == Some(true);
            (
                "secret",
                &key.name,
                &key.key,
                optional,
                self.secret(&key.name, optional).await?,
            )
        } else {
            return Err(Error::Container(
                "this kind of valueFrom is not supported".into(),
            ));
        };
        match data.and_then(|mut data| data.remove(key)) {
            Some(value) => Ok(Some(value)),
            None if optional => Ok(None),
            None => Err(Error::Container(format!(
                "couldn't find key {key} in {kind} {name}"
            ))),
        }
    }
}

/// A field of the pod as the downward API names it.
pub(super) fn pod_field(
    pod: &Pod,
    field: &ObjectFieldSelector,
    ip: Option<&str>,
) -> Result<String, Error> {
    let spec = pod.spec.as_ref();
    let path = field.field_path.as_str();
    let value = match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "metadata.labels" => Some(listing(pod.metadata.labels.as_ref())),
        "metadata.annotations" => Some(listing(pod.metadata.annotations.as_ref())),
        "spec.nodeName" => Some(NODE_NAME.to_owned()),
        "spec.serviceAccountName" => Some(
            spec.and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_else(|| "default".into()),
        ),
        "status.podIP" | "status.podIPs" => ip.map(str::to_owned),
        "status.hostIP" | "status.hostIPs" => Some(NODE_IP.to_string()),
        _ => return keyed_field(pod, path),
    };
    Ok(value.unwrap_or_default())
}

/// `metadata.labels['x']` and `metadata.annotations['x']`.
fn keyed_field(pod: &Pod, path: &str) -> Result<String, Error> {
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
    let (map, key) = if let Some(key) = keyed("metadata.labels['") {
        (pod.metadata.labels.as_ref(), key)
    } else if let Some(key) = keyed("metadata.annotations['") {
        (pod.metadata.annotations.as_ref(), key)
    } else {
        return Err(Error::Container(format!("field {path:?} is not supported")));
    };
    Ok(map
        .and_then(|map| map.get(key))
        .cloned()
        .unwrap_or_default())
}

/// `key="value"` lines with Go's escapes, as the downward API writes them.
fn listing(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A limit or request; what is not limited is what the machine has.
pub(super) fn resource_field(
    container: &Container,
    field: &ResourceFieldSelector,
) -> Result<String, Error> {
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, name) = field.resource.split_once('.').ok_or_else(|| {
        Error::Container(format!("resource {:?} is not supported", field.resource))
    })?;
    let list = if kind == "limits" {
        resources.limits
    } else {
        resources.requests
    };
    let base = match list.and_then(|list| list.get(name).cloned()) {
        Some(quantity) => parse_quantity(&quantity)
            .ok_or_else(|| Error::Container(format!("quantity {:?} is malformed", quantity.0)))?,
        None if name == "cpu" => {
            std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
        }
        None => 0.0,
    };
    let divisor = field
        .divisor
        .as_ref()
        .and_then(parse_quantity)
        .filter(|divisor| *divisor > 0.0)
        .unwrap_or(1.0);
    Ok(format!("{}", (base / divisor).ceil()))
}

fn parse_quantity(quantity: &Quantity) -> Option<f64> {
    const UNITS: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = quantity.0.trim();
    let unit = UNITS.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (number, factor) = unit.map_or((text, 1.0), |(suffix, factor)| {
        (&text[..text.len() - suffix.len()], *factor)
    });
    number.parse::<f64>().ok().map(|number| number * factor)
}

/// Replaces `$(NAME)`; `$$` is a dollar sign, and what is not defined stays as written.
pub(super) fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'));
        let value = reference.and_then(|(name, _)| env.iter().find(|(key, _)| key == name));
        match (reference, value) {
            (Some((_, after)), Some((_, value))) => {
                out.push_str(value);
                rest = after;
            }
            _ => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expansion() {
        let env = [("A".to_owned(), "1".to_owned())];
        for (text, expect) in [
            ("$(A)b", "1b"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("x$", "x$"),
            ("$(A)$(A)", "11"),
        ] {
            assert_eq!(expand(text, &env), expect, "{text}");
        }
    }

    #[test]
    fn downward_fields() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"app": "a", "x/y": "z"}},
            "spec": {"containers": []},
        }))
        .unwrap();
        let field = |path: &str| {
            let selector = ObjectFieldSelector {
                field_path: path.into(),
                api_version: None,
            };
            pod_field(&pod, &selector, Some("10.0.0.1"))
        };
        assert_eq!(field("metadata.name").unwrap(), "p");
        assert_eq!(field("metadata.labels['x/y']").unwrap(), "z");
        assert_eq!(field("metadata.labels").unwrap(), "app=\"a\"\nx/y=\"z\"");
        assert_eq!(field("status.podIP").unwrap(), "10.0.0.1");
        assert_eq!(field("spec.serviceAccountName").unwrap(), "default");
        assert!(field("status.nonsense").is_err());
    }

    #[test]
    fn resources_round_up() {
        let container: Container = serde_json::from_value(json!({
            "name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}},
        }))
        .unwrap();
        let field = |resource: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: divisor.map(|divisor| Quantity(divisor.into())),
                container_name: None,
            };
            resource_field(&container, &selector).unwrap()
        };
        assert_eq!(field("limits.cpu", None), "2");
        assert_eq!(field("limits.cpu", Some("1m")), "1500");
        assert_eq!(field("limits.memory", Some("1Mi")), "64");
    }
}
