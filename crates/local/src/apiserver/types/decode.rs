//! Decoding of builtin kinds: wrong types are refused in the words of Kubernetes, which are those of
//! Go's decoder; unknown members and nulls go, as they go where objects are structs.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::{Map, Value};

use super::{OBJECT_META, REFERENCE, Types, types};
use crate::apiserver::kinds::Resource;

/// Amounts, as `apimachinery`'s `resource.Quantity` reads them.
static QUANTITY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$")
        .expect("a constant")
});

/// Checks an object of a builtin kind and takes out what it cannot hold; of a custom kind only the
/// metadata, which all kinds share.
///
/// Returns the paths of the members that are not known.
///
/// # Errors
/// What the first value of a wrong type is, and where.
pub(in crate::apiserver) fn decode(
    resource: &Resource,
    object: &mut Value,
) -> Result<Vec<String>, String> {
    let mut decoder = Decoder {
        types: types(),
        unknown: Vec::new(),
    };
    match decoder.types.name(resource) {
        Some(name) if resource.custom.is_none() => {
            let schema = &decoder.types.definitions[name];
            let at = At::root(&resource.kind);
            decoder.value(schema, Some(name), object, &at)?;
        }
        _ => decoder.metadata(resource, object)?,
    }
    Ok(decoder.unknown)
}

/// Where a value is.
struct At {
    /// The struct whose field this is.
    holder: String,
    /// The fields that lead here, as Go names the place.
    fields: String,
    /// The same with indices, for members that are not known.
    path: String,
}

impl At {
    fn root(kind: &str) -> Self {
        Self {
            holder: kind.to_owned(),
            fields: String::new(),
            path: String::new(),
        }
    }

    fn member(&self, holder: &str, key: &str) -> Self {
        let join = |path: &str| match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        Self {
            holder: holder.to_owned(),
            fields: join(&self.fields),
            path: join(&self.path),
        }
    }

    /// A value of a map, whose key Go does not name.
    fn entry(&self, key: &str) -> Self {
        Self {
            holder: self.holder.clone(),
            fields: self.fields.clone(),
            path: format!("{}.{key}", self.path),
        }
    }

    fn item(&self, index: usize) -> Self {
        Self {
            holder: self.holder.clone(),
            fields: self.fields.clone(),
            path: format!("{}[{index}]", self.path),
        }
    }
}

struct Decoder {
    types: &'static Types,
    unknown: Vec<String>,
}

impl Decoder {
    fn metadata(&mut self, resource: &Resource, object: &mut Value) -> Result<(), String> {
        let Some(metadata) = object.get_mut("metadata").filter(|given| !given.is_null()) else {
            return Ok(());
        };
        let schema = &self.types.definitions[OBJECT_META];
        let at = At::root(&resource.kind).member(&resource.kind, "metadata");
        self.value(schema, Some(OBJECT_META), metadata, &at)
    }

    fn value(
        &mut self,
        schema: &'static Value,
        name: Option<&str>,
        value: &mut Value,
        at: &At,
    ) -> Result<(), String> {
        if schema.get("x-kubernetes-int-or-string").is_some() {
            return int_or_string(name, value, at);
        }
        let Some(kind) = schema.get("type").and_then(Value::as_str) else {
            return Ok(());
        };
        let fits = match (kind, &mut *value) {
            ("object", Value::Object(members)) => return self.members(schema, name, members, at),
            ("array", Value::Array(items)) => return self.items(schema, items, at),
            ("string", Value::String(text)) => return check_text(schema, text, at),
            ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => true,
            ("integer", Value::Number(number)) => {
                let number = number.as_i64();
                number.is_some_and(|number| {
                    schema["format"] != "int32" || i32::try_from(number).is_ok()
                })
            }
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(mismatch(value, at, &go_type(schema, name)))
        }
    }

    fn members(
        &mut self,
        schema: &'static Value,
        name: Option<&str>,
        members: &mut Map<String, Value>,
        at: &At,
    ) -> Result<(), String> {
        if let Some(each) = schema.get("additionalProperties") {
            let (name, each) = self.types.resolve(each);
            for (key, value) in members.iter_mut() {
                zero_if_null(each, value);
                self.value(each, name, value, &at.entry(key))?;
            }
            return Ok(());
        }
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return Ok(());
        };
        let holder = name.map_or(at.holder.as_str(), short);
        let mut failed = None;
        members.retain(|key, value| {
            let place = at.member(holder, key);
            let Some(property) = properties.get(key) else {
                self.unknown.push(place.path);
                return false;
            };
            if value.is_null() {
                return false;
            }
            let (name, property) = self.types.resolve(property);
            if failed.is_none() {
                failed = self.value(property, name, value, &place).err();
            }
            true
        });
        failed.map_or(Ok(()), Err)
    }

    fn items(
        &mut self,
        schema: &'static Value,
        items: &mut [Value],
        at: &At,
    ) -> Result<(), String> {
        let Some(each) = schema.get("items") else {
            return Ok(());
        };
        let (name, each) = self.types.resolve(each);
        for (index, item) in items.iter_mut().enumerate() {
            zero_if_null(each, item);
            self.value(each, name, item, &at.item(index))?;
        }
        Ok(())
    }
}

/// `Container` of `io.k8s.api.core.v1.Container`.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// In a list or a map a null stands for the zero value of its type.
fn zero_if_null(schema: &Value, value: &mut Value) {
    if !value.is_null() {
        return;
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => *value = Value::Object(Map::new()),
        Some("string") => *value = "".into(),
        Some("boolean") => *value = false.into(),
        Some("integer" | "number") => *value = 0.into(),
        _ => {}
    }
}

fn int_or_string(name: Option<&str>, value: &Value, at: &At) -> Result<(), String> {
    let is_quantity = name.is_some_and(|name| name.ends_with(".Quantity"));
    match (value, is_quantity) {
        (Value::Number(_), true) => Ok(()),
        (Value::String(text), true) if QUANTITY.is_match(text) => Ok(()),
        (Value::String(text), true) => Err(format!(
            "{}: {text:?}: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            at.path
        )),
        (Value::String(_), false) => Ok(()),
        (Value::Number(number), false)
            if number
                .as_i64()
                .is_some_and(|one| i32::try_from(one).is_ok()) =>
        {
            Ok(())
        }
        (_, true) => Err(mismatch(value, at, "resource.Quantity")),
        (_, false) => Err(mismatch(value, at, "intstr.IntOrString")),
    }
}

fn check_text(schema: &Value, text: &str, at: &At) -> Result<(), String> {
    match schema.get("format").and_then(Value::as_str) {
        Some("byte") if STANDARD.decode(text).is_err() => {
            Err(format!("{}: illegal base64 data", at.path))
        }
        Some("date-time") if text.parse::<jiff::Timestamp>().is_err() => Err(format!(
            "{}: parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse it",
            at.path
        )),
        _ => Ok(()),
    }
}

fn mismatch(value: &Value, at: &At, wanted: &str) -> String {
    let given = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        // Go tells the number only where a number was due.
        Value::Number(number) if wanted.starts_with("int") => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    match at.fields.as_str() {
        "" => format!("json: cannot unmarshal {given} into Go value of type {wanted}"),
        fields => format!(
            "json: cannot unmarshal {given} into Go struct field {}.{fields} of type {wanted}",
            at.holder
        ),
    }
}

/// What Go calls the type of a schema.
fn go_type(schema: &Value, name: Option<&str>) -> String {
    if let Some(name) = name {
        let mut parts = name.rsplitn(3, '.');
        let (kind, package) = (parts.next(), parts.next());
        return format!(
            "{}.{}",
            package.unwrap_or_default(),
            kind.unwrap_or_default()
        );
    }
    let inner = |schema: &Value| {
        let reference = schema.get("$ref").and_then(Value::as_str);
        go_type(
            schema,
            reference.and_then(|one| one.strip_prefix(REFERENCE)),
        )
    };
    let format = schema.get("format").and_then(Value::as_str);
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => "bool".to_owned(),
        Some("integer") => format.unwrap_or("int64").to_owned(),
        Some("number") => "float64".to_owned(),
        Some("string") if format == Some("byte") => "[]uint8".to_owned(),
        Some("array") => format!("[]{}", inner(&schema["items"])),
        Some("object") => match schema.get("additionalProperties") {
            Some(each) => format!("map[string]{}", inner(each)),
            None => "object".to_owned(),
        },
        other => other.unwrap_or("any").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::kinds::Kinds;

    fn decoded(
        group: &str,
        plural: &str,
        mut object: Value,
    ) -> (Value, Result<Vec<String>, String>) {
        let kinds = Kinds::new(&[]);
        let resource = kinds.find(group, "v1", plural).expect("builtin");
        let result = decode(&resource, &mut object);
        (object, result)
    }

    fn deployment(pod: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"selector": {}, "template": {"spec": pod}}})
    }

    #[test]
    fn wrong_types_are_named_with_their_place() {
        let check = |pod: Value, expect: &str| {
            let (_, result) = decoded("apps", "deployments", deployment(pod));
            assert_eq!(result.expect_err("a wrong type"), expect);
        };
        let field = "into Go struct field Container.spec.template.spec.containers";
        check(
            json!({"containers": [{"name": "a"}, {"name": "c", "command": [true]}]}),
            &format!("json: cannot unmarshal bool {field}.command of type string"),
        );
        check(
            json!({"containers": [{"name": "c", "args": "x"}]}),
            &format!("json: cannot unmarshal string {field}.args of type []string"),
        );
        check(
            json!({"containers": {"name": "c"}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        );
        check(
            json!({"containers": ["c"]}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
        );
        check(
            json!({"nodeSelector": {"a": 1}}),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.template.spec.nodeSelector of type string",
        );
        check(
            json!({"priority": 3_000_000_000_i64}),
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.template.spec.priority of type int32",
        );
        check(
            json!({"containers": [{"resources": {"limits": {"cpu": "much"}}}]}),
            "spec.template.spec.containers[0].resources.limits.cpu: \"much\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        );
        check(
            json!(1),
            "json: cannot unmarshal number into Go struct field PodTemplateSpec.spec.template.spec of type v1.PodSpec",
        );
    }

    #[test]
    fn what_is_unknown_or_null_goes() {
        let pod = json!({"containers": [{"name": "c", "imagee": "x", "env": null,
            "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}, "ports": [{"containerPort": 1}]}]});
        let mut object = deployment(pod);
        object["metadata"]["creationTimestamp"] = Value::Null;
        object["metadata"]["labels"] = json!({"a": null});
        object["extra"] = json!(1);
        let (object, unknown) = decoded("apps", "deployments", object);
        let unknown = unknown.expect("decodes");
        assert_eq!(
            unknown,
            ["spec.template.spec.containers[0].imagee", "extra"]
        );
        assert_eq!(
            object["metadata"],
            json!({"name": "d", "labels": {"a": ""}})
        );
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container.get("env"), None);
    }

    #[test]
    fn schemas_hold_values_of_any_type() {
        let schema =
            json!({"type": "object", "properties": {"a": {"default": "x", "enum": ["x", 1]}}});
        let version = json!({"name": "v1", "schema": {"openAPIV3Schema": schema}});
        let definition = json!({"spec": {"versions": [version]}});
        let plural = "customresourcedefinitions";
        let (object, result) = decoded("apiextensions.k8s.io", plural, definition.clone());
        assert_eq!((object, result), (definition, Ok(Vec::new())));
    }

    #[test]
    fn amounts_and_ports_of_either_type() {
        for amount in ["100m", "1.5Gi", ".5", "1e3", "5E", "2Ki", "-1"] {
            assert!(QUANTITY.is_match(amount), "{amount}");
        }
        for amount in ["", "1 Gi", "Gi", "1ki", "--1"] {
            assert!(!QUANTITY.is_match(amount), "{amount}");
        }
        let service =
            |target: Value| json!({"spec": {"ports": [{"port": 80, "targetPort": target}]}});
        assert!(decoded("", "services", service(json!("http"))).1.is_ok());
        assert!(decoded("", "services", service(json!(80))).1.is_ok());
        assert!(decoded("", "services", service(json!(true))).1.is_err());
        let secret = json!({"data": {"key": "%"}});
        assert_eq!(
            decoded("", "secrets", secret).1.expect_err("not base64"),
            "data.key: illegal base64 data"
        );
    }
}
