//! Whether the rules of a definition can be compiled: their syntax, functions and fields.

use std::net::IpAddr;
use std::sync::Arc;

use cel::Context;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr};
use ipnet::IpNet;
use serde_json::Value;

use super::{ENV, RULES, for_each_part, property};
use crate::apiserver::error::FieldError;
use crate::apiserver::meta;

/// Functions that are not operators, beside those of [`add_functions`].
const FUNCTIONS: [&str; 27] = [
    "bool",
    "bytes",
    "charAt",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "format",
    "indexOf",
    "int",
    "isCIDR",
    "isIP",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "replace",
    "reverse",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "trim",
    "type",
    "uint",
    "upperAscii",
];

/// Names of types, which a rule may compare with.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Functions that Kubernetes adds to CEL.
pub(super) fn add_functions(context: &mut Context<'_, '_>) {
    let is_ip = |text: Arc<String>| text.parse::<IpAddr>().is_ok();
    let is_cidr = |text: Arc<String>| text.parse::<IpNet>().is_ok();
    context
        .add_function("isIP", is_ip)
        .and_then(|()| context.add_function("isCIDR", is_cidr))
        .expect("the library has neither");
}

/// What is wrong with the rules of a schema that is at `path` of a definition.
pub(in crate::apiserver) fn faults(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    faults_at(schema, path, false, &mut errors);
    errors
}

fn faults_at(schema: &Value, path: &str, in_list: bool, errors: &mut Vec<FieldError>) {
    for (index, rule) in meta::list(schema, &format!("/{RULES}")).iter().enumerate() {
        let at = format!("{path}.{RULES}[{index}].rule");
        let text = meta::text(rule, "/rule").unwrap_or_default();
        if text.trim().is_empty() {
            errors.push(FieldError::required(at, "rule is not specified"));
            continue;
        }
        for detail in compilation_errors(text, schema, in_list) {
            let detail = format!("compilation failed: {detail}");
            errors.push(FieldError::invalid(&at, &text.into(), detail));
        }
    }
    for_each_part(schema, |step, part| {
        let in_list = in_list || step == ".items";
        faults_at(part, &format!("{path}{step}"), in_list, errors);
    });
}

fn compilation_errors(text: &str, schema: &Value, in_list: bool) -> Vec<String> {
    match ENV.compile(text) {
        Err(error) => vec![error.to_string()],
        Ok(program) => {
            let mut check = Check {
                scope: vec![("self", Some(schema)), ("oldSelf", Some(schema))],
                errors: Vec::new(),
            };
            check.visit(program.expression());
            if in_list && program.references().has_variable("oldSelf") {
                let error = "oldSelf cannot be used within the items of a list";
                check.errors.push(error.to_owned());
            }
            check.errors
        }
    }
}

/// A walk over a rule. Where the schema of a part is known, its fields are checked.
struct Check<'a> {
    scope: Vec<(&'a str, Option<&'a Value>)>,
    errors: Vec<String>,
}

impl<'a> Check<'a> {
    fn visit(&mut self, expression: &'a IdedExpr) -> Option<&'a Value> {
        match &expression.expr {
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                let schema = self.visit(&select.operand)?;
                self.field(schema, &select.field)
            }
            Expr::Call(call) => {
                let operator = !call.func_name.starts_with(char::is_alphabetic);
                if !operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    let error = format!("the function {:?} is not supported", call.func_name);
                    self.errors.push(error);
                }
                if let Some(target) = &call.target {
                    self.visit(target);
                }
                let arguments: Vec<_> = call.args.iter().map(|one| self.visit(one)).collect();
                let indexed = (call.func_name == "_[_]").then(|| arguments.first().copied());
                indexed.flatten().flatten().and_then(item)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => {
                for element in &list.elements {
                    self.visit(element);
                }
                None
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.visit(&entry.key);
                        self.visit(&entry.value);
                    }
                }
                None
            }
            Expr::Struct(made) => {
                let error = format!("the type {:?} is not known", made.type_name);
                self.errors.push(error);
                None
            }
            Expr::Literal(_) | Expr::Unspecified => None,
        }
    }

    fn variable(&mut self, name: &str) -> Option<&'a Value> {
        let found = self.scope.iter().rev().find(|(known, _)| *known == name);
        if let Some((_, schema)) = found {
            return *schema;
        }
        if !name.starts_with('@') && !TYPES.contains(&name) {
            self.errors
                .push(format!("undeclared reference to '{name}'"));
        }
        None
    }

    fn field(&mut self, schema: &'a Value, field: &str) -> Option<&'a Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let known = properties
            .into_iter()
            .flatten()
            .find(|(name, _)| escaped(name) == field)
            .map(|(_, property)| property);
        let known = known.or_else(|| property(schema, field));
        let own = matches!(field, "apiVersion" | "kind" | "metadata");
        let open = schema.get("type").is_none()
            || (properties.is_none() && schema.get("additionalProperties").is_none());
        if known.is_none() && !own && !open {
            self.errors.push(format!("undefined field '{field}'"));
        }
        known
    }

    fn comprehension(&mut self, comprehension: &'a ComprehensionExpr) -> Option<&'a Value> {
        let range = self.visit(&comprehension.iter_range);
        self.visit(&comprehension.accu_init);
        let depth = self.scope.len();
        // Over a map the variable is a key.
        let each = range.and_then(|range| range.get("items"));
        let second = range.and_then(item);
        match &comprehension.iter_var2 {
            Some(name) => {
                self.scope.push((&comprehension.iter_var, None));
                self.scope.push((name, second));
            }
            None => self.scope.push((&comprehension.iter_var, each)),
        }
        self.scope.push((&comprehension.accu_var, None));
        self.visit(&comprehension.loop_cond);
        self.visit(&comprehension.loop_step);
        self.visit(&comprehension.result);
        self.scope.truncate(depth);
        None
    }
}

/// The schema of what a list or a map holds.
fn item(schema: &Value) -> Option<&Value> {
    let item = schema
        .get("items")
        .or_else(|| schema.get("additionalProperties"));
    item.filter(|item| item.is_object())
}

/// A property's name as rules write it: what is no identifier in CEL is spelled out.
pub(super) fn escaped(name: &str) -> String {
    const RESERVED: [&str; 20] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let name = name.replace("__", "__underscores__");
    let name = name.replace('.', "__dot__").replace('-', "__dash__");
    name.replace('/', "__slash__")
}
