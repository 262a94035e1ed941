//! Transport protocols and their ports.

use std::fmt;
use std::ops::RangeInclusive;

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl L4 {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The ports that a test names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Exactly one.
    One(u16),
    /// From the first to the last, both included.
    Range(u16, u16),
    /// Any of these.
    AnyOf(Vec<u16>),
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self::One(port)
    }
}

impl From<RangeInclusive<u16>> for Ports {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self::Range(*range.start(), *range.end())
    }
}

impl From<Vec<u16>> for Ports {
    fn from(mut ports: Vec<u16>) -> Self {
        ports.sort_unstable();
        ports.dedup();
        match ports.as_slice() {
            [port] => Self::One(*port),
            _ => Self::AnyOf(ports),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => write!(f, "{port}"),
            Self::Range(from, to) => write!(f, "{from}-{to}"),
            Self::AnyOf(ports) => {
                let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
                write!(f, "{{ {} }}", ports.join(", "))
            }
        }
    }
}
