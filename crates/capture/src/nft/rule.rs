//! A builder for rules: each call adds a test or an action, in the order in which they run.
//!
//! Tests that look into a header first make sure that it is there, as `nft` does, so a rule on a
//! port never reads the middle of another protocol's header.

mod acting;
mod matching;
mod ports;

use std::fmt;

use super::expr::{Expr, meta};

pub use matching::{Direction, ct_state};
pub use ports::{L4, Ports};

const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;
/// The kernel's limit for what a rule may carry for its user.
const MAX_COMMENT: usize = 250;

/// A rule under construction. Its `Display` is the rule in the syntax of `nft`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    pub(super) exprs: Vec<Expr>,
    pub(super) comment: Option<String>,
    text: Vec<String>,
}

impl Rule {
    /// A rule that matches every packet and does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A note that `nft list ruleset` shows; longer ones are cut.
    #[must_use]
    pub fn comment(mut self, comment: &str) -> Self {
        let end = (0..=MAX_COMMENT.min(comment.len()))
            .rev()
            .find(|end| comment.is_char_boundary(*end));
        self.comment = Some(comment[..end.unwrap_or(0)].to_owned());
        self
    }
}

impl Rule {
    fn say(mut self, text: impl Into<String>) -> Self {
        self.text.push(text.into());
        self
    }

    fn load(&mut self, register: u32, value: &[u8]) {
        self.exprs.push(Expr::Immediate {
            register,
            value: value.to_vec(),
        });
    }

    fn require(&mut self, key: u32, value: Vec<u8>) {
        let test = [Expr::Meta { key }, Expr::Compare { equal: true, value }];
        if !self.exprs.windows(2).any(|pair| *pair == test) {
            self.exprs.extend(test);
        }
    }

    fn require_family(&mut self, family: u32) {
        self.require(
            meta::NFPROTO,
            vec![u8::try_from(family).unwrap_or_default()],
        );
    }

    fn require_protocol(&mut self, protocol: L4) {
        self.require(meta::L4PROTO, vec![protocol.number()]);
    }

    fn has_protocol(&self, protocol: L4) -> bool {
        let test = [
            Expr::Meta { key: meta::L4PROTO },
            Expr::Compare {
                equal: true,
                value: vec![protocol.number()],
            },
        ];
        self.exprs.windows(2).any(|pair| *pair == test)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.join(" "))?;
        if let Some(comment) = &self.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        Ok(())
    }
}
