//! Rules in CEL (`x-kubernetes-validations`).
//!
//! They are compiled when the definition comes into force. A rule that does not compile, or that uses
//! what this server lacks, refuses the definition: it would else look as if it were in force.

mod compile;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Program, Value as Cel, extensions};
use serde_json::Value;

use crate::apiserver::error::FieldError;
use crate::apiserver::meta;

pub(in crate::apiserver) use compile::faults;

const RULES: &str = "x-kubernetes-validations";

/// The compiled rules of a schema, by their text.
#[derive(Debug, Default)]
pub(crate) struct Rules(BTreeMap<String, Program>);

/// What rules are run on.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Itself(&'a Value),
    Change { old: &'a Value, new: &'a Value },
}

impl<'a> Subject<'a> {
    fn value(self) -> &'a Value {
        match self {
            Self::Itself(value) | Self::Change { new: value, .. } => value,
        }
    }
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)
        .expect("the standard library has none of these names");
    Arc::new(env)
});

impl Rules {
    /// Compiles all rules of a schema; what does not compile is left out, and refuses every object.
    pub(super) fn of(schema: &Value) -> Self {
        let mut programs = BTreeMap::new();
        collect(schema, &mut programs);
        Self(programs)
    }

    /// What an object does against the rules about itself.
    pub(in crate::apiserver) fn check(&self, schema: &Value, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if !self.0.is_empty() {
            self.check_at(schema, Subject::Itself(object), "", &mut errors);
        }
        errors
    }

    /// What an update does against the rules about changes.
    pub(in crate::apiserver) fn check_change(
        &self,
        schema: &Value,
        old: &Value,
        new: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if !self.0.is_empty() {
            self.check_at(schema, Subject::Change { old, new }, "", &mut errors);
        }
        errors
    }

    fn check_at(
        &self,
        schema: &Value,
        subject: Subject<'_>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        if subject.value().is_null() {
            return;
        }
        for rule in meta::list(schema, &format!("/{RULES}")) {
            self.run(rule, schema, subject, path, errors);
        }
        match subject.value() {
            Value::Array(items) => {
                // Which item of old an item was is not known: no rule may compare them.
                let (Some(each), Subject::Itself(_)) = (schema.get("items"), subject) else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    let at = format!("{path}[{index}]");
                    self.check_at(each, Subject::Itself(item), &at, errors);
                }
            }
            Value::Object(members) => {
                for (key, member) in members {
                    let member = match subject {
                        Subject::Itself(_) => Some(Subject::Itself(member)),
                        // A rule about a change has nothing to say of what is new.
                        Subject::Change { old, .. } => {
                            old.get(key).map(|old| Subject::Change { old, new: member })
                        }
                    };
                    if let (Some(schema), Some(member)) = (property(schema, key), member) {
                        let dot = if path.is_empty() { "" } else { "." };
                        self.check_at(schema, member, &format!("{path}{dot}{key}"), errors);
                    }
                }
            }
            _ => {}
        }
    }

    fn run(
        &self,
        rule: &Value,
        schema: &Value,
        subject: Subject<'_>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        let text = meta::text(rule, "/rule").unwrap_or_default();
        let value = subject.value();
        let mut refuse = |detail: String| {
            let field = meta::text(rule, "/fieldPath").unwrap_or_default();
            let field = match format!("{path}{field}") {
                field if field.is_empty() => "<nil>".to_owned(),
                field => field.trim_start_matches('.').to_owned(),
            };
            let mut error = FieldError::invalid(field, &shown(value), detail);
            error.reason = reason(rule);
            errors.push(error);
        };
        let Some(program) = self.0.get(text) else {
            return refuse(format!("the rule {text:?} cannot be compiled"));
        };
        let about_change = program.references().has_variable("oldSelf");
        if about_change != matches!(subject, Subject::Change { .. }) {
            return;
        }
        let mut context = Context::with_env(ENV.clone());
        compile::add_functions(&mut context);
        context.add_variable_from_value("self", to_cel(schema, value, path.is_empty()));
        if let Subject::Change { old, .. } = subject {
            context.add_variable_from_value("oldSelf", to_cel(schema, old, path.is_empty()));
        }
        match program.execute(&context) {
            Ok(Cel::Bool(true)) => {}
            Ok(Cel::Bool(false)) => refuse(message(rule, &context)),
            Ok(_) => refuse(format!("the rule {text:?} is neither true nor false")),
            Err(error) => refuse(format!("{error} evaluating rule: {text}")),
        }
    }
}

fn collect(schema: &Value, programs: &mut BTreeMap<String, Program>) {
    for rule in meta::list(schema, &format!("/{RULES}")) {
        if let Some(text) = meta::text(rule, "/rule")
            && let Ok(program) = ENV.compile(text)
        {
            programs.insert(text.to_owned(), program);
        }
    }
    for_each_part(schema, |_, part| collect(part, programs));
}

/// The schemas within a schema, and where they are.
fn for_each_part<'a>(schema: &'a Value, mut then: impl FnMut(String, &'a Value)) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        then(format!(".properties[{name}]"), property);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(part) = schema.get(inner).filter(|part| part.is_object()) {
            then(format!(".{inner}"), part);
        }
    }
}

fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let known = schema.get("properties").and_then(|all| all.get(key));
    known.or_else(|| {
        schema
            .get("additionalProperties")
            .filter(|each| each.is_object())
    })
}

fn message(rule: &Value, context: &Context<'_, '_>) -> String {
    let computed = meta::text(rule, "/messageExpression")
        .and_then(|text| ENV.compile(text).ok())
        .and_then(|program| program.execute(context).ok());
    match computed {
        Some(Cel::String(text)) if !text.trim().is_empty() => text.to_string(),
        _ => match meta::text(rule, "/message") {
            Some(message) => message.to_owned(),
            None => format!(
                "failed rule: {}",
                meta::text(rule, "/rule").unwrap_or_default()
            ),
        },
    }
}

fn reason(rule: &Value) -> &'static str {
    match meta::text(rule, "/reason").unwrap_or_default() {
        "FieldValueRequired" => "FieldValueRequired",
        "FieldValueForbidden" => "FieldValueForbidden",
        "FieldValueDuplicate" => "FieldValueDuplicate",
        _ => "FieldValueInvalid",
    }
}

fn shown(value: &Value) -> Value {
    match value {
        Value::Object(_) => "object".into(),
        Value::Array(_) => "array".into(),
        other => other.clone(),
    }
}

/// A value as rules see it: of an object only what the schema declares, and numbers as it says.
fn to_cel(schema: &Value, value: &Value, root: bool) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::String(text) => Cel::from(text.as_str()),
        Value::Number(number) => {
            let fraction = schema.get("type").is_some_and(|kind| kind == "number");
            match number.as_i64().filter(|_| !fraction) {
                Some(whole) => Cel::Int(whole),
                None => Cel::Float(number.as_f64().unwrap_or_default()),
            }
        }
        Value::Array(items) => {
            let each = schema.get("items").unwrap_or(&Value::Null);
            let items: Vec<Cel> = items.iter().map(|item| to_cel(each, item, false)).collect();
            Cel::from(items)
        }
        Value::Object(members) => {
            let declared = schema.get("properties").is_some();
            let mut fields: HashMap<String, Cel> = HashMap::new();
            for (key, member) in members.iter().filter(|(_, member)| !member.is_null()) {
                let known = property(schema, key);
                let own = root && matches!(key.as_str(), "apiVersion" | "kind" | "metadata");
                if known.is_none() && declared && !own {
                    continue;
                }
                let is_field = schema
                    .get("properties")
                    .is_some_and(|all| all.get(key).is_some());
                let name = if is_field {
                    compile::escaped(key)
                } else {
                    key.clone()
                };
                fields.insert(name, to_cel(known.unwrap_or(&Value::Null), member, false));
            }
            Cel::from(fields)
        }
    }
}

#[cfg(test)]
mod tests;
