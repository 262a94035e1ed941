//! Objects of an installation as a tree that says on which settings its parts depend.
//!
//! Installations that differ in one switch are folded into one tree: where they are the same it says
//! so once, and where they are not it has both, with the condition. What comes out is therefore what
//! an installation with these switches would be, whatever they have to do with each other.

use serde_json::Value;

/// A condition as a template says it; one operand of Go's.
pub(super) type Condition = String;

/// A value that depends on settings.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Leaf(Value),
    Map(Vec<Entry>),
    List(Vec<Item>),
    /// The one where the condition holds, else the other.
    Choice(Condition, Box<Node>, Box<Node>),
    /// An expression; `@` in it is the node's.
    Expression {
        around: String,
        of: Box<Node>,
        /// Whether it is a text of several lines.
        is_block: bool,
    },
    /// Lines of a template, which are the value.
    Lines(String),
}

/// An entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// All must hold, else it is left out.
    pub(super) conditions: Vec<Condition>,
    pub(super) key: String,
    pub(super) node: Node,
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// All must hold, else it is left out.
    pub(super) conditions: Vec<Condition>,
    pub(super) node: Node,
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        match value {
            Value::Object(map) => Node::Map(
                map.into_iter()
                    .map(|(key, value)| Entry {
                        conditions: Vec::new(),
                        key,
                        node: value.into(),
                    })
                    .collect(),
            ),
            Value::Array(items) => Node::List(items.into_iter().map(Item::from).collect()),
            leaf => Node::Leaf(leaf),
        }
    }
}

impl<T: Into<Node>> From<T> for Item {
    fn from(node: T) -> Self {
        Item {
            conditions: Vec::new(),
            node: node.into(),
        }
    }
}

impl Node {
    /// What is at a path of fields and of indices.
    pub(super) fn at(&mut self, path: &[&str]) -> Option<&mut Node> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        let child = match self {
            Node::Map(entries) => {
                let mut entries = entries.iter_mut();
                &mut entries.find(|entry| entry.key == *first)?.node
            }
            Node::List(items) => &mut items.get_mut(first.parse::<usize>().ok()?)?.node,
            _ => return None,
        };
        child.at(rest)
    }

    /// A text at a path.
    pub(super) fn text(&mut self, path: &[&str]) -> Option<String> {
        match self.at(path)? {
            Node::Leaf(Value::String(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// Replaces a part of every text that has it.
    pub(super) fn replace(&mut self, from: &str, to: &str) {
        match self {
            Node::Leaf(Value::String(text)) => *text = text.replace(from, to),
            Node::Map(entries) => entries
                .iter_mut()
                .for_each(|entry| entry.node.replace(from, to)),
            Node::List(items) => items
                .iter_mut()
                .for_each(|item| item.node.replace(from, to)),
            _ => {}
        }
    }

    /// Puts a node in place of what is at a path; what is not there stays so.
    pub(super) fn put(&mut self, path: &[&str], node: Node) {
        if let Some(place) = self.at(path) {
            *place = node;
        }
    }
}

/// One tree of two: `yes` is what there is where the condition holds, `no` where it does not.
pub(super) fn fold(condition: &str, yes: Node, no: Node) -> Node {
    match (yes, no) {
        (yes, no) if yes == no => yes,
        // What is empty is written as such, which an entry less is not.
        (Node::Map(yes), Node::Map(no)) if !yes.is_empty() && !no.is_empty() => {
            Node::Map(fold_maps(condition, yes, no))
        }
        (Node::List(yes), Node::List(no)) if !yes.is_empty() && !no.is_empty() => {
            Node::List(fold_lists(condition, yes, no))
        }
        (
            Node::Expression {
                around,
                of,
                is_block,
            },
            Node::Expression {
                around: other,
                of: no,
                ..
            },
        ) if around == other => Node::Expression {
            around,
            of: Box::new(fold(condition, *of, *no)),
            is_block,
        },
        (yes, no) => Node::Choice(condition.to_owned(), Box::new(yes), Box::new(no)),
    }
}

/// What does not hold.
pub(super) fn negated(condition: &str) -> Condition {
    format!("(not {condition})")
}

fn fold_maps(condition: &str, yes: Vec<Entry>, mut no: Vec<Entry>) -> Vec<Entry> {
    let mut folded = Vec::new();
    for mut entry in yes {
        let same = no
            .iter()
            .position(|other| other.key == entry.key && other.conditions == entry.conditions);
        match same {
            Some(at) => {
                let other = no.remove(at);
                entry.node = fold(condition, entry.node, other.node);
            }
            None => entry.conditions.insert(0, condition.to_owned()),
        }
        folded.push(entry);
    }
    let rest = no.into_iter().map(|mut entry| {
        entry.conditions.insert(0, negated(condition));
        entry
    });
    folded.extend(rest);
    folded
}

/// Items in the same place are folded; of lists of different lengths, those in the middle are parted.
fn fold_lists(condition: &str, mut yes: Vec<Item>, mut no: Vec<Item>) -> Vec<Item> {
    let is_alike = yes.len() == no.len()
        && yes
            .iter()
            .zip(&no)
            .all(|(yes, no)| yes.conditions == no.conditions);
    if is_alike {
        let pairs = yes.into_iter().zip(no);
        return pairs
            .map(|(yes, no)| Item {
                conditions: yes.conditions,
                node: fold(condition, yes.node, no.node),
            })
            .collect();
    }
    let shorter = yes.len().min(no.len());
    let pairs = yes.iter().zip(&no);
    let before = pairs.take_while(|(yes, no)| yes == no).count();
    let pairs = yes.iter().rev().zip(no.iter().rev());
    let after = pairs
        .take_while(|(yes, no)| yes == no)
        .count()
        .min(shorter - before);
    let tail = yes.split_off(yes.len() - after);
    let only_no = no.drain(before..no.len() - after);
    let only_no = only_no.map(|item| with(negated(condition), item));
    let only_yes = yes.split_off(before);
    let only_yes = only_yes
        .into_iter()
        .map(|item| with(condition.to_owned(), item));
    let mut folded = yes;
    folded.extend(only_yes);
    folded.extend(only_no);
    folded.extend(tail);
    folded
}

fn with(condition: Condition, mut item: Item) -> Item {
    item.conditions.insert(0, condition);
    item
}
