//! Go's `text/template`, as far as injection templates use it: actions, pipelines, variables, `if`,
//! `with`, `range`, `define`, `template` and `block`, and Go's functions with Sprig's.
//!
//! Values are JSON. A field whose name starts with a capital is one of a Go struct: it is found by its
//! JSON name, and one that is not set is an empty text. What is not a function is told when a template is
//! read, with its line, not when a pod comes.

mod exec;
mod format;
mod functions;
mod lex;
mod parse;
mod sprig;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

pub(crate) use format::text;
pub(crate) use sprig::to_yaml;

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct TemplateError {
    /// Line of the template, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

/// Functions beside Go's and Sprig's, which are asked first.
pub(crate) trait Functions {
    /// Whether there is one of this name.
    fn has(name: &str) -> bool;
    /// Calls it; `None` where there is none.
    fn call(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>>;
}

/// No others.
pub(crate) struct NoFunctions;

impl Functions for NoFunctions {
    fn has(_: &str) -> bool {
        false
    }

    fn call(&self, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
        None
    }
}

/// What a template becomes that uses no functions but Go's and Sprig's, with `data` as the dot.
///
/// # Errors
/// What is wrong with the template, or with what it does, and in which line.
pub fn render_template(text: &str, data: &Value) -> Result<String, TemplateError> {
    GoTemplate::parse::<NoFunctions>(text)?.render(data, &NoFunctions)
}

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GoTemplate {
    root: Arc<[parse::Node]>,
    /// Templates that it defines, by name.
    named: Arc<BTreeMap<String, Arc<[parse::Node]>>>,
}

impl GoTemplate {
    /// Reads a template that may use functions of `F`.
    pub(crate) fn parse<F: Functions>(text: &str) -> Result<Self, TemplateError> {
        let is_function = |name: &str| F::has(name) || functions::has(name) || sprig::has(name);
        let (root, named) = parse::parse(lex::lex(text)?, &is_function)?;
        Ok(Self {
            root,
            named: Arc::new(named),
        })
    }

    /// What it becomes with `data` as the dot.
    pub(crate) fn render<F: Functions>(
        &self,
        data: &Value,
        functions: &F,
    ) -> Result<String, TemplateError> {
        exec::render(self, data, functions)
    }
}

#[cfg(test)]
mod tests;
