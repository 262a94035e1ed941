//! `--set PATH=VALUE`.

use lateen_api::{
    fault::{Faults, Path},
    shape::{self, suggestion},
};
use serde_json::Value;

use crate::{
    InstallError,
    path::{self, Step},
};

/// A flag, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    /// As it was written.
    flag: String,
    path: Vec<Step>,
    value: Value,
}

impl Set {
    /// `PATH=VALUE`, where `schema` says what there is below `spec`. A text stays a text where one is
    /// wanted, though it may look like a number.
    pub(crate) fn parse(flag: &str, schema: &Value) -> Result<Self, InstallError> {
        let refuse = |reason: String| InstallError::Set {
            flag: flag.to_owned(),
            reason,
        };
        let Some((path, value)) = flag.split_once('=') else {
            return Err(refuse("write PATH=VALUE, as in profile=demo".into()));
        };
        let path = path::parse(path.strip_prefix("spec.").unwrap_or(path)).map_err(refuse)?;
        let wanted = look_up(&path, schema).map_err(refuse)?;
        let value = match is_text(&path) {
            true => Value::from(value),
            false => read(value, wanted),
        };
        let (name, _) = flag.split_once('=').unwrap_or_default();
        let mut faults = Faults::default();
        shape::check(&value, wanted, &Path::root(name), &mut faults);
        if let Some(fault) = faults.0.first() {
            return Err(refuse(fault.to_string()));
        }
        Ok(Set {
            flag: flag.to_owned(),
            path,
            value,
        })
    }

    /// The profile that the flag asks for.
    pub(crate) fn profile(&self) -> Option<&str> {
        let of_profile = self.path == [Step::Field("profile".into())];
        of_profile.then(|| self.value.as_str()).flatten()
    }

    pub(crate) fn apply(&self, spec: &mut Value) -> Result<(), InstallError> {
        path::set(spec, &self.path, self.value.clone()).map_err(|reason| InstallError::Set {
            flag: self.flag.clone(),
            reason,
        })
    }
}

/// Whether what stands there is never a number, though it may look like one: 1.10 is another version
/// than 1.1, and variables are texts.
fn is_text(path: &[Step]) -> bool {
    let field = |n: usize| match path.len().checked_sub(n).and_then(|at| path.get(at)) {
        Some(Step::Field(name)) => name.as_str(),
        _ => "",
    };
    field(1) == "tag" || field(2) == "env"
}

/// What the schema says of a path; null where it says nothing.
fn look_up<'a>(path: &[Step], schema: &'a Value) -> Result<&'a Value, String> {
    let mut at = schema;
    let mut walked = Vec::new();
    for step in path {
        let next = match step {
            Step::Field(name) => match at["properties"].as_object() {
                Some(properties) => {
                    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                    properties.get(name).ok_or_else(|| {
                        walked.push(name.as_str());
                        format!(
                            "{}: unknown field; {}",
                            walked.join("."),
                            suggestion(name, &known)
                        )
                    })?
                }
                None => &at["additionalProperties"],
            },
            _ => &at["items"],
        };
        if let Step::Field(name) = step {
            walked.push(name);
        }
        at = next;
    }
    Ok(at)
}

/// A value as the schema wants it; where it says nothing, as YAML would read it.
fn read(text: &str, wanted: &Value) -> Value {
    if wanted["type"] == "string" {
        return Value::from(text);
    }
    // `{a,b}` is a list, as the public charts' tool has it.
    if let Some(items) = text.strip_prefix('{').and_then(|of| of.strip_suffix('}'))
        && wanted["type"] != "object"
    {
        let items = items.split(',').filter(|item| !item.is_empty());
        return items.map(|item| read(item, &wanted["items"])).collect();
    }
    serde_saphyr::from_str(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operator::schema;

    fn put(flag: &str) -> Result<Value, String> {
        let mut spec = Value::Null;
        let set = Set::parse(flag, schema()).map_err(|error| error.to_string())?;
        set.apply(&mut spec).map_err(|error| error.to_string())?;
        Ok(spec)
    }

    #[test]
    fn values_have_the_type_that_is_wanted() {
        for (flag, want) in [
            ("profile=demo", json!({"profile": "demo"})),
            ("spec.profile=demo", json!({"profile": "demo"})),
            ("revision=1-22", json!({"revision": "1-22"})),
            ("revision=122", json!({"revision": "122"})),
            ("tag=1.10", json!({"tag": "1.10"})),
            (
                "values.pilot.autoscaleEnabled=false",
                json!({"values": {"pilot": {"autoscaleEnabled": false}}}),
            ),
            (
                "values.pilot.env.X=3",
                json!({"values": {"pilot": {"env": {"X": "3"}}}}),
            ),
            (
                "values.pilot.env.X=",
                json!({"values": {"pilot": {"env": {"X": ""}}}}),
            ),
            (
                "components.ingressGateways[0].k8s.replicaCount=3",
                json!({"components": {"ingressGateways": [{"k8s": {"replicaCount": 3}}]}}),
            ),
            (
                "components.ingressGateways.[name:a].enabled=true",
                json!({"components": {"ingressGateways": [{"name": "a", "enabled": true}]}}),
            ),
            (
                r"values.pilot.podLabels.a\.b/c=d",
                json!({"values": {"pilot": {"podLabels": {"a.b/c": "d"}}}}),
            ),
            (
                "values.global.imagePullSecrets={a,b}",
                json!({"values": {"global": {"imagePullSecrets": ["a", "b"]}}}),
            ),
            (
                "meshConfig.accessLogFile=",
                json!({"meshConfig": {"accessLogFile": ""}}),
            ),
        ] {
            assert_eq!(put(flag), Ok(want), "{flag}");
        }
    }

    #[test]
    fn what_there_is_not_is_told_with_the_nearest() {
        for (flag, want) in [
            (
                "values.global.hubb=x",
                "--set values.global.hubb=x: values.global.hubb: unknown field; did you mean hub?",
            ),
            (
                "meshConfig.acessLogFile=x",
                "--set meshConfig.acessLogFile=x: meshConfig.acessLogFile: unknown field; did you \
                 mean accessLogFile?",
            ),
            (
                "values.pilot.autoscaleMin=abc",
                "--set values.pilot.autoscaleMin=abc: values.pilot.autoscaleMin: is a text; must be \
                 a whole number",
            ),
            (
                "profile",
                "--set profile: write PATH=VALUE, as in profile=demo",
            ),
            ("a[=b", "--set a[=b: \"a[\" has a [ without its ]"),
            ("=b", "--set =b: the path is empty"),
        ] {
            assert_eq!(put(flag), Err(want.to_owned()), "{flag}");
        }
    }
}
