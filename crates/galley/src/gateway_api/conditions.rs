//! Conditions, and why they do not hold.

use lateen_api::status::Condition;

/// Why something is not as asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// In one word, of the specification's where it has one.
    pub(super) reason: &'static str,
    /// In a sentence, for people.
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// That the condition does not hold.
    pub(super) fn no(&self, r#type: &str, generation: i64) -> Condition {
        condition(r#type, "False", self.reason, &self.message, generation)
    }

    /// That the condition holds for this reason.
    pub(super) fn yes(&self, r#type: &str, generation: i64) -> Condition {
        condition(r#type, "True", self.reason, &self.message, generation)
    }
}

/// That a condition holds, or why it does not.
pub(super) fn holds(
    r#type: &str,
    fault: Option<&Verdict>,
    yes: (&'static str, &str),
    generation: i64,
) -> Condition {
    match fault {
        Some(fault) => fault.no(r#type, generation),
        None => condition(r#type, "True", yes.0, yes.1, generation),
    }
}

/// A condition without a time.
pub(super) fn condition(
    r#type: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: i64,
) -> Condition {
    Condition {
        r#type: r#type.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: generation,
        ..Condition::default()
    }
}
