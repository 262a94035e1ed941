//! What is wrong with an object, or without effect, for the status of every object concerned.

use std::fmt;

use arcstr::ArcStr;

use crate::ObjectRef;

/// One thing about an object that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// Whose it is. Where two objects are at odds, each has a problem of its own.
    pub on: ObjectRef,
    /// The other object, where there is one.
    pub with: Option<ObjectRef>,
    /// Where in the object: `spec.http[0].route[1].weight`; empty for the whole of it.
    pub field: ArcStr,
    /// Of what kind it is.
    pub kind: ProblemKind,
    /// What is wrong, why, and what to do, in a sentence without a full stop.
    pub text: String,
}

/// What a problem means for its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProblemKind {
    /// It is not valid; the last valid form is in force, if there was one.
    Invalid,
    /// Another object says something else about the same thing; one of the two is not in force.
    Conflict,
    /// It is valid, and has no effect where it stands.
    Ignored,
    /// It names something that its namespace has no right to.
    NotPermitted,
    /// It names something that is not there.
    Unresolved,
    /// It is in Istio's API and has no effect here.
    NotSupported,
}

impl ProblemKind {
    /// All, the gravest first.
    pub const ALL: [ProblemKind; 6] = [
        ProblemKind::Invalid,
        ProblemKind::Conflict,
        ProblemKind::NotPermitted,
        ProblemKind::Unresolved,
        ProblemKind::Ignored,
        ProblemKind::NotSupported,
    ];

    /// The word for reasons of conditions.
    pub const fn as_str(self) -> &'static str {
        match self {
            ProblemKind::Invalid => "Invalid",
            ProblemKind::Conflict => "Conflict",
            ProblemKind::Ignored => "Ignored",
            ProblemKind::NotPermitted => "NotPermitted",
            ProblemKind::Unresolved => "Unresolved",
            ProblemKind::NotSupported => "NotSupported",
        }
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `field: text (kind namespace/name)`, without what is not there.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)?;
        match &self.with {
            Some(with) => write!(f, " ({with})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_where_what_and_with_whom() {
        let on = ObjectRef::new("VirtualService", "a", "one");
        let mut problem = Problem {
            with: Some(ObjectRef::new("VirtualService", "a", "two")),
            on,
            field: "spec.hosts[0]".into(),
            kind: ProblemKind::Conflict,
            text: "the older object holds this host".to_owned(),
        };
        assert_eq!(
            problem.to_string(),
            "spec.hosts[0]: the older object holds this host (VirtualService a/two)"
        );
        problem.with = None;
        problem.field = "".into();
        assert_eq!(problem.to_string(), "the older object holds this host");
    }
}
