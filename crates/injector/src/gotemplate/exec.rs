//! A tree and data into text.

use serde_json::{Map, Value};

use super::{
    Functions, GoTemplate, TemplateError, format, functions,
    parse::{Command, Node, Operand, Pipeline},
    sprig,
};

/// How deep templates may call each other: one that calls itself must end some time.
const MAX_DEPTH: usize = 100;
/// How much may be written, since a loop may not end soon either.
const MAX_OUTPUT: usize = 4 << 20;
/// How many nodes may be looked at.
const MAX_STEPS: usize = 1_000_000;

pub(super) fn render<F: Functions>(
    template: &GoTemplate,
    data: &Value,
    functions: &F,
) -> Result<String, TemplateError> {
    let mut run = Run {
        template,
        functions,
        out: String::new(),
        variables: vec![("$".to_owned(), data.clone())],
        depth: 0,
        steps: 0,
    };
    run.nodes(&template.root, data)?;
    Ok(run.out)
}

/// Whether `if` takes its first branch: nothing, zero and what is empty are false.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// What a list of nodes ended with.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'a, F> {
    template: &'a GoTemplate,
    functions: &'a F,
    out: String,
    /// The innermost last.
    variables: Vec<(String, Value)>,
    depth: usize,
    steps: usize,
}

impl<F: Functions> Run<'_, F> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            match self.node(node, dot)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                self.step(pipeline.line)?;
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&format::text(&value));
                }
            }
            Node::If(pipeline, then, otherwise) => {
                return self.scoped(|run| {
                    let value = run.pipeline(pipeline, dot)?;
                    let branch = if is_true(&value) { then } else { otherwise };
                    run.nodes(branch, dot)
                });
            }
            Node::With(pipeline, then, otherwise) => {
                return self.scoped(|run| {
                    let value = run.pipeline(pipeline, dot)?;
                    if is_true(&value) {
                        run.nodes(then, &value)
                    } else {
                        run.nodes(otherwise, dot)
                    }
                });
            }
            Node::Range(pipeline, body, otherwise) => {
                return self.scoped(|run| run.range(pipeline, body, otherwise, dot));
            }
            Node::Template {
                line,
                name,
                dot: of,
            } => self.call_template(*line, name, of, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn step(&mut self, line: usize) -> Result<(), TemplateError> {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.out.len() > MAX_OUTPUT {
            return fail(line, "the template does too much: it may not end at all");
        }
        Ok(())
    }

    /// Variables that are declared inside end with it.
    fn scoped<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        let n_outside = self.variables.len();
        let result = inside(self);
        self.variables.truncate(n_outside);
        result
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let over = self.commands(pipeline, dot)?;
        let pairs: Vec<(Value, Value)> = match over {
            Value::Array(items) => (0u64..).map(Value::from).zip(items).collect(),
            Value::Object(map) => {
                let mut pairs: Vec<_> = map.into_iter().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                let pairs = pairs.into_iter();
                pairs.map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Number(n) => {
                let n = n.as_u64().unwrap_or_default().min(MAX_STEPS as u64);
                (0..n).map(|n| (n.into(), n.into())).collect()
            }
            Value::Null => Vec::new(),
            Value::String(text) if text.is_empty() => Vec::new(),
            other => {
                let reason = format!("range goes over lists and maps, not over {}", kind(&other));
                return fail(pipeline.line, reason);
            }
        };
        if pairs.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in pairs {
            self.step(pipeline.line)?;
            let n_outside = self.variables.len();
            match &pipeline.variables[..] {
                [] => {}
                [one] => self.set(pipeline, one, value.clone())?,
                [first, second, ..] => {
                    self.set(pipeline, first, key)?;
                    self.set(pipeline, second, value.clone())?;
                }
            }
            let flow = self.nodes(body, &value)?;
            self.variables.truncate(n_outside);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn call_template(
        &mut self,
        line: usize,
        name: &str,
        of: &Option<Pipeline>,
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let Some(nodes) = self.template.named.get(name) else {
            return fail(line, format!("there is no template {name:?}"));
        };
        self.step(line)?;
        if self.depth == MAX_DEPTH {
            let reason = format!("template {name:?} calls itself more than {MAX_DEPTH} times");
            return fail(line, reason);
        }
        let dot = match of {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Null,
        };
        // A template sees no variables but `$`, which is its dot.
        let outside = std::mem::replace(&mut self.variables, vec![("$".to_owned(), dot.clone())]);
        self.depth += 1;
        let result = self.nodes(nodes, &dot);
        self.depth -= 1;
        self.variables = outside;
        result.map(|_| ())
    }

    /// The value of a pipeline, which the variables that it names get.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            self.set(pipeline, name, value.clone())?;
        }
        Ok(value)
    }

    fn set(&mut self, pipeline: &Pipeline, name: &str, value: Value) -> Result<(), TemplateError> {
        if pipeline.declares {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let mut held = self.variables.iter_mut().rev();
        match held.find(|(held, _)| held == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => fail(pipeline.line, format!("there is no variable {name}")),
        }
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let line = command.line;
        let (first, rest) = command.operands.split_first().expect("a command has one");
        let Operand::Function(name) = first else {
            if !rest.is_empty() || piped.is_some() {
                return fail(line, "only functions take arguments");
            }
            return self.operand(line, first, dot);
        };
        if let "and" | "or" = name.as_str() {
            return self.short_circuit(line, name == "and", rest, dot, piped);
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            args.push(self.operand(line, operand, dot)?);
        }
        args.extend(piped);
        self.call(line, name, &args)
    }

    /// The first argument that decides; those after it are not worked out.
    fn short_circuit(
        &mut self,
        line: usize,
        is_and: bool,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(line, operand, dot)?;
            if is_true(&value) != is_and {
                return Ok(value);
            }
            last = Some(value);
        }
        match piped.or(last) {
            Some(value) => Ok(value),
            None => fail(line, "and and or need an argument"),
        }
    }

    fn call(&self, line: usize, name: &str, args: &[Value]) -> Result<Value, TemplateError> {
        let result = self.functions.call(name, args);
        let result = result.or_else(|| functions::call(name, args));
        let result = result.or_else(|| sprig::call(name, args));
        match result {
            Some(Ok(value)) => Ok(value),
            Some(Err(reason)) => fail(line, format!("{name}: {reason}")),
            None => fail(line, format!("there is no function {name}")),
        }
    }

    fn operand(
        &mut self,
        line: usize,
        operand: &Operand,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Nested(pipeline) => self.pipeline(pipeline, dot),
            Operand::Function(name) => self.call(line, name, &[]),
            Operand::Variable(_) | Operand::Field(..) => {
                if let Some(found) = self.look(line, operand, dot)? {
                    return Ok(found.clone());
                }
                let Operand::Field(of, name) = operand else {
                    return Ok(Value::Null);
                };
                let of = self.operand(line, of, dot)?;
                field(&of, name)
                    .cloned()
                    .map_err(|reason| located(line, reason))
            }
        }
    }

    /// What a path leads to, without a copy of what is on the way; `None` where it begins elsewhere
    /// than at the dot or at a variable.
    fn look<'v>(
        &'v self,
        line: usize,
        operand: &Operand,
        dot: &'v Value,
    ) -> Result<Option<&'v Value>, TemplateError> {
        match operand {
            Operand::Dot => Ok(Some(dot)),
            Operand::Variable(name) => {
                let mut held = self.variables.iter().rev();
                match held.find(|(held, _)| held == name) {
                    Some((_, value)) => Ok(Some(value)),
                    None => fail(line, format!("there is no variable {name}")),
                }
            }
            Operand::Field(of, name) => match self.look(line, of, dot)? {
                Some(of) => match field(of, name) {
                    Ok(found) => Ok(Some(found)),
                    Err(reason) => fail(line, reason),
                },
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

fn located(line: usize, reason: String) -> TemplateError {
    TemplateError { line, reason }
}

fn fail<T>(line: usize, reason: impl Into<String>) -> Result<T, TemplateError> {
    Err(located(line, reason.into()))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A map's entry, or the field of a Go struct.
fn field<'a>(of: &'a Value, name: &str) -> Result<&'a Value, String> {
    static UNSET: Value = Value::String(String::new());
    static NOTHING: Value = Value::Null;
    let is_of_struct = name.starts_with(|first: char| first.is_ascii_uppercase());
    match of {
        Value::Object(map) => Ok(match map.get(name) {
            Some(found) => found,
            None if is_of_struct => of_struct(map, name).unwrap_or(&UNSET),
            None => &NOTHING,
        }),
        // What is not set has no fields either.
        Value::Null => Ok(&NOTHING),
        Value::String(text) if text.is_empty() && is_of_struct => Ok(&UNSET),
        // Wrapped numbers and truth values are themselves here.
        other if ["GetValue", "Value"].contains(&name) => Ok(other),
        other => Err(format!("{} has no field {name}", kind(other))),
    }
}

/// By its JSON name; `GetName` is Go's way to say `Name`.
fn of_struct<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let find = |name: &str| {
        let mut all = map.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    find(name).or_else(|| find(name.strip_prefix("Get")?))
}
