//! Nodes as expressions of Go's templates.

use serde_json::Value;

use super::{
    node::{Condition, Entry, Item, Node},
    slot::{Kind, Piece, Slot, Slots},
};

/// A text as Go writes it, and as YAML reads it.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// All conditions together; none is no condition.
pub(super) fn all(conditions: &[Condition]) -> Option<Condition> {
    match conditions {
        [] => None,
        [one] => Some(one.clone()),
        all => Some(format!("(and {})", all.join(" "))),
    }
}

/// One that is true or false, where conditions may be anything that is there or not.
fn truth(condition: &str) -> String {
    format!("(not (not {condition}))")
}

/// A leaf as one operand.
pub(super) fn leaf(value: &Value, slots: &Slots) -> String {
    match value {
        Value::String(text) => self::text(text, slots),
        Value::Null => "nil".to_owned(),
        value => match slots.of_number(value) {
            Some(slot) => slot.expression.clone(),
            None => value.to_string(),
        },
    }
}

/// A text as one operand.
fn text(text: &str, slots: &Slots) -> String {
    let pieces = slots.pieces(text);
    match &pieces[..] {
        [Piece::Slot(slot)] => of_slot(slot),
        _ if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) => quoted(text),
        pieces => {
            let mut format = String::new();
            let mut args = String::new();
            for piece in pieces {
                match piece {
                    Piece::Text(text) => format.push_str(&text.replace('%', "%%")),
                    Piece::Slot(slot) => {
                        format.push_str("%s");
                        args.push(' ');
                        args.push_str(&of_slot(slot));
                    }
                }
            }
            format!("(printf {}{args})", quoted(&format))
        }
    }
}

fn of_slot(slot: &Slot) -> String {
    match slot.kind {
        // A version may look like a number.
        Kind::Text => format!("(toString {})", slot.expression),
        Kind::Each => ".".to_owned(),
        _ => slot.expression.clone(),
    }
}

/// A node as one operand.
pub(super) fn of_node(node: &Node, slots: &Slots) -> String {
    match node {
        Node::Leaf(value) => leaf(value, slots),
        Node::Map(entries) => of_map(entries, slots),
        Node::List(items) => of_list(items, slots),
        Node::Choice(condition, yes, no) => format!(
            "(ternary {} {} {})",
            of_node(yes, slots),
            of_node(no, slots),
            truth(condition)
        ),
        Node::Expression { around, of, .. } => {
            format!("({})", around.replace('@', &of_node(of, slots)))
        }
        Node::Lines(_) => unreachable!("lines stand alone"),
    }
}

fn of_map(entries: &[Entry], slots: &Slots) -> String {
    let (mut defaults, mut more) = (Vec::new(), Vec::new());
    let mut fixed = String::new();
    for entry in entries {
        let of_key = slots.of_text(&entry.key);
        let map = match of_key.map(|slot| (slot.kind, &slot.expression)) {
            Some((Kind::Entries, map)) => format!("(default (dict) {map})"),
            Some((Kind::Defaults, map)) => {
                defaults.push(format!("(default (dict) {map})"));
                continue;
            }
            _ => format!(
                "(dict {} {})",
                quoted(&entry.key),
                of_node(&entry.node, slots)
            ),
        };
        let mut conditions = entry.conditions.clone();
        conditions.extend(presence(&entry.node, slots));
        match (all(&conditions), of_key) {
            (Some(condition), _) => {
                more.push(format!("(ternary {map} (dict) {})", truth(&condition)));
            }
            (None, Some(_)) => more.push(map),
            (None, None) => {
                let value = of_node(&entry.node, slots);
                fixed.push_str(&format!(" {} {value}", quoted(&entry.key)));
            }
        }
    }
    let fixed = format!("(dict{fixed})");
    if defaults.is_empty() && more.is_empty() {
        return fixed;
    }
    // The first one is changed, so that it must be new.
    let first = if defaults.is_empty() { "" } else { " (dict)" };
    let layers = defaults.into_iter().chain([fixed]).chain(more);
    let layers: Vec<String> = layers.collect();
    format!("(mergeOverwrite{first} {})", layers.join(" "))
}

/// On what it depends that a field is there.
pub(super) fn presence(node: &Node, slots: &Slots) -> Option<Condition> {
    let Node::Leaf(Value::String(text)) = node else {
        return None;
    };
    let slot = slots.of_text(text)?;
    (slot.kind == Kind::Optional).then(|| slot.expression.clone())
}

fn of_list(items: &[Item], slots: &Slots) -> String {
    let of_item = |item: &Item| of_node(&item.node, slots);
    let items: Vec<String> = items.iter().map(of_item).collect();
    match items.is_empty() {
        true => "(list)".to_owned(),
        false => format!("(list {})", items.join(" ")),
    }
}
