//! `lateen convert-ingress`: Ingresses as Gateways and VirtualServices, by the code by which the control
//! plane reads them.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::Args;
use lateen_api::{
    Object,
    kinds::{GATEWAY, Kind, VIRTUAL_SERVICE},
};
use lateen_explain::Platform;
use lateen_registry::Documents;
use serde::Serialize;
use serde_json::{Value, json};

use super::{analyze::documents, describe::DOMAIN, manifest::yaml};
use crate::output;

/// Write the Gateways and VirtualServices that stand for Ingresses.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lateen convert-ingress -f ingress.yaml\n  lateen convert-ingress -f ingress.yaml -f services.yaml -o routes.yaml"
)]
pub(crate) struct ConvertIngress {
    /// A file, a directory, or `-` for standard input: Ingresses, and the Services that they lead to,
    /// by which ports are known that have names only.
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// Where the result goes instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ConvertIngress {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let (objects, notes) = converted(&documents(&self.filename, false)?)?;
        for note in notes {
            eprintln!("lateen: {note}");
        }
        let text = yaml(&objects)?;
        match &self.output {
            Some(path) => {
                std::fs::write(path, text)
                    .map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?;
            }
            None => output::print(text),
        }
        Ok(())
    }
}

/// The objects that Ingresses become, and what is to be said of them.
fn converted(texts: &[Documents]) -> anyhow::Result<(Vec<Value>, Vec<String>)> {
    let platform = Platform::read(texts, DOMAIN);
    let platform = platform.map_err(|faults| anyhow!("{}", faults.join("\n")))?;
    let config = &platform.config;
    let gateways = config.gateways.iter().filter(|of| is_made(of));
    let routes = config.virtual_services.iter().filter(|of| is_made(of));
    let mut objects = Vec::new();
    for gateway in gateways {
        objects.push(written(&GATEWAY, gateway)?);
    }
    for route in routes {
        objects.push(written(&VIRTUAL_SERVICE, route)?);
    }
    if objects.is_empty() {
        bail!(
            "there is no Ingress of class istio in these files: set spec.ingressClassName, with an IngressClass of controller istio.io/ingress-controller, or the annotation kubernetes.io/ingress.class: istio"
        );
    }
    Ok((objects, platform.all_notes()))
}

/// Whether an object was made of Ingresses.
fn is_made<T>(object: &Object<T>) -> bool {
    let sources = lateen_galley::sources(&object.meta);
    let mut sources = sources.into_iter().flatten();
    sources.any(|source| source.kind == "Ingress")
}

/// As a user would write it.
fn written<T: Serialize>(kind: &Kind, object: &Object<T>) -> anyhow::Result<Value> {
    let meta = &object.meta;
    Ok(json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": {"name": meta.name, "namespace": meta.namespace},
        "spec": compact(serde_json::to_value(&object.spec)?),
    }))
}

/// Without what says nothing: empty lists, texts and objects. A condition that asks only for presence
/// is an empty object, and means something.
fn compact(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(name, value)| {
                let value = match name.as_str() {
                    "headers" | "queryParams" | "withoutHeaders" if !says_nothing(&value) => value,
                    _ => compact(value),
                };
                (!says_nothing(&value)).then_some((name, value))
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(compact).collect()),
        other => other,
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  namespace: default
  annotations: {kubernetes.io/ingress.class: istio}
spec:
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {name: web}}}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: default}
spec: {selector: {app: cart}, ports: [{name: web, port: 8080}]}
";

    #[test]
    fn ingresses_become_objects_that_the_webhook_takes() {
        let (objects, _) = converted(&[Documents::file("f.yaml", INGRESS)]).expect("objects");
        let kinds: Vec<&str> = objects
            .iter()
            .filter_map(|of| of["kind"].as_str())
            .collect();
        assert_eq!(kinds, ["Gateway", "VirtualService"]);
        for object in &objects {
            assert!(lateen_galley::validate(object).is_empty(), "{object}");
        }
        let route = &objects[1]["spec"];
        assert_eq!(route["hosts"], json!(["shop.example.com"]));
        let to = &route["http"][0]["route"][0]["destination"];
        assert_eq!(to["host"], "cart.default.svc.cluster.local");
        assert_eq!(to["port"], json!({"number": 8080}));
        assert!(
            !objects[1].to_string().contains("internal.istio.io"),
            "{}",
            objects[1]
        );
    }

    #[test]
    fn files_without_one_are_told_what_makes_one() {
        let other = INGRESS.replace("ingress.class: istio", "ingress.class: nginx");
        let error = converted(&[Documents::file("f.yaml", other)]).expect_err("none");
        assert!(
            error.to_string().contains("spec.ingressClassName"),
            "{error}"
        );
    }
}
