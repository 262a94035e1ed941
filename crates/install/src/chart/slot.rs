//! Marks that stand for settings of a chart while an installation is worked out, and show where they
//! come to lie in its objects.
//!
//! A mark passes for a name (letters of lower case and digits), as names are checked.

use serde_json::{Value, json};

/// What becomes of the place where a mark is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of a text.
    Text,
    /// A value of any type.
    Value,
    /// A value of any type; where it is empty, its field is left out.
    Optional,
    /// The items of a list, each in the form of the marked item.
    Each,
    /// The entries of a map beside the others, which it changes.
    Entries,
    /// The entries of a map beside the others, which count more.
    Defaults,
    /// The entries of a map as variables of an environment.
    Variables,
}

/// A setting of a chart.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) kind: Kind,
    /// How a template says it: one operand of Go's.
    pub(super) expression: String,
}

/// All settings of a chart that are marked.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Slot>);

const BEFORE: &str = "zzslot";
/// An image is not put together where there is a slash in it.
const BEFORE_IMAGE: &str = "zz/slot";
const AFTER: &str = "zz";
/// Numbers from here on are marks.
const NUMBERS: f64 = 770_000.0;
/// A mark has two digits.
const LIMIT: usize = 100;

impl Slots {
    fn add(&mut self, kind: Kind, expression: &str) -> usize {
        let n = self.0.len();
        assert!(n < LIMIT, "a mark has two digits");
        self.0.push(Slot {
            kind,
            expression: expression.to_owned(),
        });
        n
    }

    /// A mark for a text, or a part of one.
    pub(super) fn text(&mut self, expression: &str) -> String {
        self.mark(Kind::Text, expression)
    }

    /// A mark of a kind.
    pub(super) fn mark(&mut self, kind: Kind, expression: &str) -> String {
        format!("{BEFORE}{:02}{AFTER}", self.add(kind, expression))
    }

    /// A mark for a whole reference of an image.
    pub(super) fn image(&mut self, expression: &str) -> String {
        let n = self.add(Kind::Text, expression);
        format!("{BEFORE_IMAGE}{n:02}{AFTER}")
    }

    /// A mark that passes for a number.
    pub(super) fn number(&mut self, expression: &str) -> u32 {
        let n = self.add(Kind::Value, expression);
        NUMBERS as u32 + u32::try_from(n).expect("a mark has two digits")
    }

    /// A list whose items are a setting's.
    pub(super) fn each(&mut self, expression: &str) -> Value {
        json!([self.mark(Kind::Each, expression)])
    }

    /// A map whose entries are a setting's.
    pub(super) fn entries(&mut self, kind: Kind, expression: &str) -> Value {
        json!({self.mark(kind, expression): ""})
    }

    /// What a number is a mark of.
    pub(super) fn of_number(&self, value: &Value) -> Option<&Slot> {
        let n = value.as_f64()? - NUMBERS;
        // Marks are whole and few, so that nothing is lost.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        (n >= 0.0).then(|| self.0.get(n as usize)).flatten()
    }

    /// What a text as a whole is a mark of.
    pub(super) fn of_text(&self, text: &str) -> Option<&Slot> {
        match self.pieces(text)[..] {
            [Piece::Slot(slot)] => Some(slot),
            _ => None,
        }
    }

    /// A text in its pieces.
    pub(super) fn pieces<'t, 's>(&'s self, text: &'t str) -> Vec<Piece<'t, 's>> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((at, length, slot)) = self.first(rest) {
            if at > 0 {
                pieces.push(Piece::Text(&rest[..at]));
            }
            pieces.push(Piece::Slot(slot));
            rest = &rest[at + length..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        pieces
    }

    /// Where the first mark of a text is, and how long.
    fn first(&self, text: &str) -> Option<(usize, usize, &Slot)> {
        let found = [BEFORE, BEFORE_IMAGE].into_iter().filter_map(|before| {
            let at = text.find(before)?;
            let digits = text.get(at + before.len()..at + before.len() + 2)?;
            let slot = self.0.get(digits.parse::<usize>().ok()?)?;
            Some((at, before.len() + digits.len() + AFTER.len(), slot))
        });
        found.min_by_key(|(at, ..)| *at)
    }
}

/// A part of a text.
#[derive(Debug)]
pub(super) enum Piece<'t, 's> {
    Text(&'t str),
    Slot(&'s Slot),
}
