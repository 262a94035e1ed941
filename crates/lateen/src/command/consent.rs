//! Asking before something is done that cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

/// Asks for a yes, which is not the default. Any other answer is an error, and so is none: whoever
/// goes on by the exit status must not take it for done.
pub(crate) fn ask(question: &str) -> anyhow::Result<()> {
    let mut err = std::io::stderr().lock();
    write!(err, "{question} (y/N) ")?;
    err.flush()?;
    let stdin = std::io::stdin();
    let heard = hear(&mut stdin.lock());
    if !stdin.is_terminal() {
        writeln!(err)?;
    }
    heard
}

fn hear(answers: &mut impl BufRead) -> anyhow::Result<()> {
    let mut answer = String::new();
    let length = answers.read_line(&mut answer);
    let length = length.context("cannot read the answer")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ if length == 0 => bail!("nobody answered, so nothing was done; with -y nothing is asked"),
        _ => bail!("cancelled, nothing was done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for yes in ["y\n", "Y\n", "yes\n", " Yes \n", "y"] {
            hear(&mut yes.as_bytes()).expect("a yes");
        }
        let refused = |answer: &str| {
            let error = hear(&mut answer.as_bytes()).expect_err("no yes");
            error.to_string()
        };
        for no in ["\n", "n\n", "no\n", "yess\n"] {
            assert!(refused(no).starts_with("cancelled"), "{no:?}");
        }
        let nobody = refused("");
        assert!(
            nobody.contains("nobody answered") && nobody.contains("-y"),
            "{nobody}"
        );
    }
}
