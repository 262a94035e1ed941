//! Tables and chains as values, and their text for people.

use std::fmt;

use super::Rule;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    Ip,
    /// IPv6 only.
    Ip6,
    /// Both.
    Inet,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        })
    }
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// Judges packets.
    Filter,
    /// Sees the first packet of a connection and may translate its addresses.
    Nat,
    /// Like `Filter`, and routes anew if a packet was changed.
    Route,
}

impl ChainType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

/// Where in a packet's way a base chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing, for packets that arrive.
    Prerouting,
    /// For packets to this machine.
    Input,
    /// For packets that pass through.
    Forward,
    /// For packets that this machine makes.
    Output,
    /// After routing, for packets that leave.
    Postrouting,
}

impl Hook {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

/// The places that the kernel's own hooks take among the base chains of a hook (lower runs first).
pub mod priority {
    /// Before connection tracking.
    pub const RAW: i32 = -300;
    /// Where packets are marked.
    pub const MANGLE: i32 = -150;
    /// Where destinations are translated.
    pub const DSTNAT: i32 = -100;
    /// Where packets are judged.
    pub const FILTER: i32 = 0;
    /// Where sources are translated.
    pub const SRCNAT: i32 = 100;
}

/// What happens to a packet that reaches the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) kind: ChainType,
    pub(super) hook: Hook,
    pub(super) priority: i32,
    pub(super) policy: Policy,
}

/// A list of rules, called by the kernel (a base chain) or by other chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub(super) name: String,
    pub(super) base: Option<Base>,
}

impl Chain {
    /// A chain that the kernel calls at `hook`. Its policy is to accept.
    #[must_use]
    pub fn base(name: &str, kind: ChainType, hook: Hook, priority: i32) -> Self {
        let base = Base {
            kind,
            hook,
            priority,
            policy: Policy::Accept,
        };
        Self {
            name: name.to_owned(),
            base: Some(base),
        }
    }

    /// A chain that other chains jump to.
    #[must_use]
    pub fn regular(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            base: None,
        }
    }

    /// Sets the policy of a base chain; regular chains have none.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        if let Some(base) = &mut self.base {
            base.policy = policy;
        }
        self
    }

    /// The chain's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A table with its chains and rules, to be written as a whole.
///
/// Its `Display` is the ruleset in the syntax of `nft`.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) family: Family,
    pub(super) name: String,
    pub(super) chains: Vec<(Chain, Vec<Rule>)>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(family: Family, name: &str) -> Self {
        Self {
            family,
            name: name.to_owned(),
            chains: Vec::new(),
        }
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The table's family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether the table has a chain of this name.
    #[must_use]
    pub fn has_chain(&self, name: &str) -> bool {
        self.chains.iter().any(|(chain, _)| chain.name == name)
    }

    /// Adds a chain; one of the same name keeps its rules and takes the new definition.
    pub fn add_chain(&mut self, chain: Chain) -> &mut Self {
        match self
            .chains
            .iter_mut()
            .find(|(known, _)| known.name == chain.name)
        {
            Some((known, _)) => *known = chain,
            None => self.chains.push((chain, Vec::new())),
        }
        self
    }

    /// Adds a rule at the end of a chain, which is made as a regular chain if it is not there yet.
    pub fn add_rule(&mut self, chain: &str, rule: Rule) -> &mut Self {
        match self
            .chains
            .iter_mut()
            .find(|(known, _)| known.name == chain)
        {
            Some((_, rules)) => rules.push(rule),
            None => self.chains.push((Chain::regular(chain), vec![rule])),
        }
        self
    }

    /// The texts of a chain's rules, in order.
    #[must_use]
    pub fn rule_texts(&self, chain: &str) -> Vec<String> {
        let rules = self.chains.iter().find(|(known, _)| known.name == chain);
        rules.map_or_else(Vec::new, |(_, rules)| {
            rules.iter().map(ToString::to_string).collect()
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        for (chain, rules) in &self.chains {
            writeln!(f, "\tchain {} {{", chain.name)?;
            if let Some(base) = &chain.base {
                let policy = match base.policy {
                    Policy::Accept => "accept",
                    Policy::Drop => "drop",
                };
                let (kind, hook) = (base.kind.name(), base.hook.name());
                writeln!(
                    f,
                    "\t\ttype {kind} hook {hook} priority {}; policy {policy};",
                    base.priority
                )?;
            }
            for rule in rules {
                writeln!(f, "\t\t{rule}")?;
            }
            writeln!(f, "\t}}")?;
        }
        f.write_str("}")
    }
}
