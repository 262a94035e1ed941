//! Nodes as YAML with a template's actions.
//!
//! Every line begins with its end of line, so that an action that eats what is before it
//! (`{{- if … }}`) leaves no empty line behind. What settings say is written as JSON, which is YAML.

use serde_json::Value;

use super::{
    expression::{self, quoted},
    node::{Condition, Entry, Item, Node},
    slot::{Kind, Piece, Slot, Slots},
};

/// An object as a template of its own.
pub(super) fn document(object: &Entry, slots: &Slots) -> String {
    let mut writer = Writer {
        slots,
        out: String::new(),
    };
    let condition = expression::all(&object.conditions);
    writer.guarded(condition, |writer| {
        writer.line(0, "---");
        if let Node::Map(entries) = &object.node {
            writer.entries(entries, 0);
        }
    });
    format!("{}\n", writer.out.trim_start_matches('\n'))
}

struct Writer<'a> {
    slots: &'a Slots,
    out: String,
}

impl Writer<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        self.out.push('\n');
        self.out.push_str(&" ".repeat(indent));
        self.out.push_str(text);
    }

    fn action(&mut self, text: &str) {
        self.line(0, &format!("{{{{- {text} }}}}"));
    }

    fn guarded(&mut self, condition: Option<Condition>, inside: impl FnOnce(&mut Self)) {
        let Some(condition) = condition else {
            return inside(self);
        };
        self.action(&format!("if {condition}"));
        inside(self);
        self.action("end");
    }

    fn entries(&mut self, entries: &[Entry], indent: usize) {
        for entry in entries {
            let mut conditions = entry.conditions.clone();
            conditions.extend(self.presence(&entry.node));
            let prefix = format!("{}:", scalar(&entry.key));
            self.guarded(expression::all(&conditions), |writer| {
                writer.value(&prefix, &entry.node, indent);
            });
        }
    }

    /// On what it depends that there is anything at all.
    fn presence(&self, node: &Node) -> Option<Condition> {
        let of_settings: Vec<&str> = match node {
            Node::Leaf(_) => return expression::presence(node, self.slots),
            Node::Map(entries) if !entries.is_empty() => {
                let slots = entries.iter().map(|entry| self.slots.of_text(&entry.key));
                let slots = slots.collect::<Option<Vec<_>>>()?;
                slots.iter().map(|slot| &*slot.expression).collect()
            }
            Node::List(items) if !items.is_empty() => {
                let slots = items.iter().map(|item| self.repeated(&item.node));
                let slots = slots.collect::<Option<Vec<_>>>()?;
                slots.iter().map(|slot| &*slot.expression).collect()
            }
            _ => return None,
        };
        Some(match of_settings[..] {
            [one] => one.to_owned(),
            _ => format!("(or {})", of_settings.join(" ")),
        })
    }

    /// The setting whose items an item of a list stands for.
    fn repeated(&self, node: &Node) -> Option<&Slot> {
        let is_repeated = |slot: &&Slot| [Kind::Each, Kind::Variables].contains(&slot.kind);
        match node {
            Node::Leaf(Value::String(text)) => self.slots.of_text(text).filter(is_repeated),
            Node::Map(entries) => entries.iter().find_map(|entry| self.repeated(&entry.node)),
            _ => None,
        }
    }

    fn value(&mut self, prefix: &str, node: &Node, indent: usize) {
        match node {
            Node::Leaf(value) => {
                let text = self.leaf(value);
                self.line(indent, &format!("{prefix} {text}"));
            }
            Node::Map(entries) if entries.is_empty() => {
                self.line(indent, &format!("{prefix} {{}}"));
            }
            Node::Map(entries) if self.has_settings(entries) => {
                let map = expression::of_node(node, self.slots);
                self.line(indent, &format!("{prefix} {{{{ {map} | toJson }}}}"));
            }
            Node::Map(entries) => {
                self.line(indent, prefix);
                self.entries(entries, indent + 2);
            }
            Node::List(items) if items.is_empty() => self.line(indent, &format!("{prefix} []")),
            Node::List(items) => {
                self.line(indent, prefix);
                self.items(items, indent);
            }
            Node::Choice(condition, yes, no) => {
                self.action(&format!("if {condition}"));
                self.value(prefix, yes, indent);
                self.action("else");
                self.value(prefix, no, indent);
                self.action("end");
            }
            Node::Expression { is_block: true, .. } => {
                let text = expression::of_node(node, self.slots);
                // With the end of its last line, which may be a line of a text within the text.
                let block = format!("{prefix} | {{{{- {text} | nindent {} }}}}", indent + 2);
                self.line(indent, &block);
            }
            Node::Expression { .. } => {
                let text = expression::of_node(node, self.slots);
                self.line(indent, &format!("{prefix} {{{{ {text} | toJson }}}}"));
            }
            Node::Lines(lines) => {
                self.line(indent, prefix);
                for line in lines.lines() {
                    let is_action = line.starts_with("{{-");
                    self.line(if is_action { 0 } else { indent }, line);
                }
            }
        }
    }

    /// Whether settings add entries.
    fn has_settings(&self, entries: &[Entry]) -> bool {
        entries
            .iter()
            .any(|entry| self.slots.of_text(&entry.key).is_some())
    }

    fn items(&mut self, items: &[Item], indent: usize) {
        let variables = items.iter().filter_map(|item| self.repeated(&item.node));
        let variables: Vec<String> = variables
            .filter(|slot| slot.kind == Kind::Variables)
            .map(|slot| slot.expression.clone())
            .collect();
        for item in items {
            let mut conditions = item.conditions.clone();
            if let Some(slot) = self.repeated(&item.node).cloned() {
                self.guarded(expression::all(&conditions), |writer| {
                    writer.repeat(&slot, &item.node, indent);
                });
                continue;
            }
            // A variable that a setting has is there once.
            if let Some(name) = name(&item.node) {
                let name = quoted(name);
                let elsewhere = variables
                    .iter()
                    .map(|of| format!("(not (hasKey (default (dict) {of}) {name}))"));
                conditions.extend(elsewhere);
            }
            self.guarded(expression::all(&conditions), |writer| {
                writer.item(&item.node, indent);
            });
        }
    }

    /// One item for each of a setting's.
    fn repeat(&mut self, slot: &Slot, node: &Node, indent: usize) {
        let of = &slot.expression;
        if slot.kind == Kind::Variables {
            self.action(&format!("range $name, $value := {of}"));
            self.line(indent, "- name: {{ $name | toJson }}");
            self.line(indent + 2, "value: {{ $value | toString | toJson }}");
        } else {
            self.action(&format!("range {of}"));
            self.item(node, indent);
        }
        self.action("end");
    }

    /// An item, whose first field is beside its dash where it is there in any case.
    fn item(&mut self, node: &Node, indent: usize) {
        let Node::Map(entries) = node else {
            return self.value("-", node, indent);
        };
        if entries.is_empty() || self.has_settings(entries) {
            return self.value("-", node, indent);
        }
        let mut inner = Writer {
            slots: self.slots,
            out: String::new(),
        };
        inner.entries(entries, indent + 2);
        let first = format!("\n{}", " ".repeat(indent + 2));
        match inner.out.strip_prefix(&first) {
            Some(rest) => self.line(indent, &format!("- {rest}")),
            None => {
                self.line(indent, "-");
                self.out.push_str(&inner.out);
            }
        }
    }

    fn leaf(&self, value: &Value) -> String {
        let is_plain = match value {
            Value::String(text) => {
                let pieces = self.slots.pieces(text);
                pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
                    // What looks like an action must not become one.
                    && !text.contains("{{")
            }
            value => self.slots.of_number(value).is_none(),
        };
        match value {
            Value::String(text) if is_plain => scalar(text),
            value if is_plain => value.to_string(),
            value => {
                let said = expression::leaf(value, self.slots);
                format!("{{{{ {said} | toJson }}}}")
            }
        }
    }
}

/// The name of an item of a list.
fn name(node: &Node) -> Option<&str> {
    let Node::Map(entries) = node else {
        return None;
    };
    let named = entries.iter().find(|entry| entry.key == "name")?;
    match &named.node {
        Node::Leaf(Value::String(name)) => Some(name),
        _ => None,
    }
}

/// A text in YAML: bare where nobody can take it for anything else.
pub(super) fn scalar(text: &str) -> String {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let is_bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(is_inner)
        && lateen_yaml::is_plain(text);
    match is_bare {
        true => text.to_owned(),
        false => quoted(text),
    }
}
