//! Failures of a command that goes on with the rest: each is kept, and all of them end the command.

use std::error::Error;
use std::fmt;

/// What went wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<anyhow::Error>);

impl Failures {
    /// The value where it went well; else the reason is kept.
    pub(crate) fn note<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// Whether nothing went wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the command.
    ///
    /// # Errors
    /// With every reason on a line of its own, where there is one.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        match self.0.len() {
            0 => Ok(()),
            // As if it had been the only thing to do.
            1 => Err(self.0.remove(0)),
            _ => Err(Several(self.0).into()),
        }
    }
}

/// More than one.
#[derive(Debug)]
struct Several(Vec<anyhow::Error>);

impl fmt::Display for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failures:", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|error| write!(f, "\n  {error:#}"))
    }
}

impl Error for Several {}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn every_failure_is_told() {
        let mut failures = Failures::default();
        assert_eq!(failures.note(Ok(1)), Some(1));
        assert!(failures.end().is_ok());

        let fault = || Err::<(), _>(anyhow!("no rights")).context("cannot create a");
        let mut failures = Failures::default();
        assert_eq!(failures.note(fault()), None);
        let only = failures.end().expect_err("it failed");
        assert_eq!(format!("{only:#}"), "cannot create a: no rights");

        let mut failures = Failures::default();
        failures.note(fault());
        failures.note(Ok(()));
        failures.note(Err::<(), _>(anyhow!("b is there already")));
        let all = failures.end().expect_err("two failed");
        assert_eq!(
            format!("{all:#}"),
            "2 failures:\n  cannot create a: no rights\n  b is there already"
        );
    }
}
