//! What the fields of the builtin kinds are called and hold, as `k8s-openapi` knows them.
//!
//! Bodies are decoded by these schemas, and OpenAPI documents are made of them, so that what the
//! documents say is what the server does.

pub(super) mod decode;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authentication,
    authorization::v1 as authorization, autoscaling::v2 as autoscaling, batch::v1 as batch,
    coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    events::v1 as events, networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use k8s_openapi::schemars::JsonSchema;
use k8s_openapi::schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::kinds::Resource;
use super::patch::strategic;

/// Where references between the schemas point.
pub(super) const REFERENCE: &str = "#/definitions/";

/// The name of the schema of `metadata`.
pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The name of the schema of a value of any type.
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";

/// The schemas of all builtin kinds and of what they are made of.
#[derive(Debug)]
pub(super) struct Types {
    /// By full name, as `io.k8s.api.core.v1.Pod`.
    pub(super) definitions: Map<String, Value>,
    /// By group and kind.
    kinds: BTreeMap<(&'static str, &'static str), String>,
}

/// The schemas, made at the first use.
pub(super) fn types() -> &'static Types {
    static TYPES: LazyLock<Types> = LazyLock::new(Types::new);
    &TYPES
}

struct Collector {
    generator: SchemaGenerator,
    kinds: BTreeMap<(&'static str, &'static str), String>,
}

impl Collector {
    fn add<T: JsonSchema + k8s_openapi::Resource>(&mut self) {
        self.generator.subschema_for::<T>();
        let name = T::schema_name().into_owned();
        self.kinds.insert((T::GROUP, T::KIND), name);
    }
}

/// Collects many types by their names.
macro_rules! add_all {
    ($collector:expr, $($kind:ty),+ $(,)?) => { $($collector.add::<$kind>();)+ };
}

impl Types {
    fn new() -> Self {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = "/definitions".into();
        });
        let mut all = Collector {
            generator: settings.into_generator(),
            kinds: BTreeMap::new(),
        };
        add_all!(
            all,
            core::ConfigMap,
            core::Endpoints,
            core::Event,
            core::LimitRange,
            core::Namespace,
            core::Node,
            core::Pod,
            core::ResourceQuota,
            core::Secret,
            core::Service,
            core::ServiceAccount,
            admission::MutatingWebhookConfiguration,
            admission::ValidatingWebhookConfiguration,
            apps::Deployment,
            apps::ReplicaSet,
            authentication::SelfSubjectReview,
            authentication::TokenRequest,
            authentication::TokenReview,
            authorization::LocalSubjectAccessReview,
            authorization::SelfSubjectAccessReview,
            authorization::SelfSubjectRulesReview,
            authorization::SubjectAccessReview,
            autoscaling::HorizontalPodAutoscaler,
            batch::Job,
            coordination::Lease,
            discovery::EndpointSlice,
            events::Event,
            extensions::CustomResourceDefinition,
            networking::Ingress,
            networking::IngressClass,
            policy::PodDisruptionBudget,
            rbac::ClusterRole,
            rbac::ClusterRoleBinding,
            rbac::Role,
            rbac::RoleBinding,
        );
        let Collector {
            mut generator,
            kinds,
        } = all;
        let mut definitions = generator.take_definitions(false);
        // `JSON` is called an object, and may be any value.
        if let Some(json) = definitions.get_mut(JSON).and_then(Value::as_object_mut) {
            json.shift_remove("type");
        }
        note_merge_keys(&mut definitions);
        Self { definitions, kinds }
    }

    /// The name of the schema of a builtin kind.
    pub(super) fn name(&self, resource: &Resource) -> Option<&str> {
        let is_this =
            |(group, kind): &(&str, &str)| resource.group == *group && resource.kind == *kind;
        let found = self.kinds.iter().find(|(of, _)| is_this(of));
        found.map(|(_, name)| name.as_str())
    }

    /// The schema that a property's schema stands for, with its name if it is a reference.
    pub(super) fn resolve<'a>(&'a self, schema: &'a Value) -> (Option<&'a str>, &'a Value) {
        let reference = schema.get("$ref").and_then(Value::as_str);
        match reference.and_then(|reference| reference.strip_prefix(REFERENCE)) {
            Some(name) => (
                Some(name),
                self.definitions.get(name).unwrap_or(&Value::Null),
            ),
            None => (None, schema),
        }
    }

    /// The named schemas with all that they refer to.
    pub(super) fn closure<'a>(
        &'a self,
        roots: impl IntoIterator<Item = &'a str>,
    ) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = roots.into_iter().collect();
        while let Some(name) = open.pop() {
            if let Some((name, schema)) = self.definitions.get_key_value(name)
                && found.insert(name.as_str())
            {
                references(schema, &mut open);
            }
        }
        found
    }
}

fn references<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
    match schema {
        Value::Object(members) => {
            let reference = members.get("$ref").and_then(Value::as_str);
            found.extend(reference.and_then(|reference| reference.strip_prefix(REFERENCE)));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// Says of each list how patches merge it, which `kubectl` before 1.24 goes by.
fn note_merge_keys(definitions: &mut Map<String, Value>) {
    let members: BTreeMap<String, Vec<String>> = definitions
        .iter()
        .map(|(name, schema)| {
            let properties = schema.get("properties").and_then(Value::as_object);
            (
                name.clone(),
                properties
                    .into_iter()
                    .flat_map(Map::keys)
                    .cloned()
                    .collect(),
            )
        })
        .collect();
    for schema in definitions.values_mut() {
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        for (field, property) in properties.into_iter().flatten() {
            if let Some((strategy, key)) = merging(&members, field, property) {
                property["x-kubernetes-patch-strategy"] = strategy.into();
                if let Some(key) = key {
                    property["x-kubernetes-patch-merge-key"] = key.into();
                }
            }
        }
    }
}

fn merging(
    members: &BTreeMap<String, Vec<String>>,
    field: &str,
    property: &Value,
) -> Option<(&'static str, Option<&'static str>)> {
    let target = |schema: &Value| {
        let reference = schema.get("$ref").and_then(Value::as_str)?;
        reference.strip_prefix(REFERENCE).map(str::to_owned)
    };
    if target(property).is_some_and(|name| name.ends_with(".DeploymentStrategy")) {
        return Some(("retainKeys", None));
    }
    let items = property.get("items")?;
    if strategic::SETS.contains(&field) {
        return Some(("merge", None));
    }
    let name = target(items)?;
    // The rules go by the members of items; what a schema's items may have stands for them.
    let sample = match name.rsplit('.').next() {
        Some("EndpointPort") => return None,
        _ => members
            .get(&name)?
            .iter()
            .map(|key| (key.clone(), Value::Null)),
    };
    let sample: Map<String, Value> = sample.collect();
    let key = strategic::merge_key(field, &[Value::Object(sample.clone())])?;
    let strategy = match field {
        "volumes" | "resourceClaims" => "merge,retainKeys",
        _ => "merge",
    };
    sample.contains_key(key).then_some((strategy, Some(key)))
}

/// Group, version and kind as an extension says them.
pub(super) fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::Kinds;

    #[test]
    fn every_builtin_kind_has_a_schema() {
        for resource in &Kinds::new(&[]).all {
            assert!(types().name(resource).is_some(), "{}", resource.kind);
        }
    }

    #[test]
    fn lists_say_how_they_are_merged() {
        let check = |kind: &str, field: &str, expect: Option<&str>| {
            let schema = &types().definitions[kind]["properties"][field];
            let key = schema["x-kubernetes-patch-merge-key"].as_str();
            assert_eq!(key, expect, "{kind}.{field}");
        };
        check("io.k8s.api.core.v1.PodSpec", "containers", Some("name"));
        check("io.k8s.api.core.v1.PodSpec", "tolerations", None);
        check(
            "io.k8s.api.core.v1.Container",
            "ports",
            Some("containerPort"),
        );
        check(
            "io.k8s.api.core.v1.Container",
            "volumeMounts",
            Some("mountPath"),
        );
        check("io.k8s.api.core.v1.ServiceSpec", "ports", Some("port"));
        check("io.k8s.api.core.v1.EndpointSubset", "ports", None);
        check("io.k8s.api.core.v1.EndpointSubset", "addresses", None);
        check("io.k8s.api.core.v1.NodeStatus", "addresses", Some("type"));
    }

    #[test]
    fn a_closure_holds_what_is_referred_to() {
        let all = types().closure(["io.k8s.api.apps.v1.Deployment"]);
        assert!(
            all.contains("io.k8s.api.core.v1.Probe") && !all.contains("io.k8s.api.core.v1.Node")
        );
    }
}
