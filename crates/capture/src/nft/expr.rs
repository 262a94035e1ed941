//! The expressions that rules are made of, and their encoding.
//!
//! Every expression that loads a value loads it into register 1, and every expression that compares
//! reads register 1, so no allocation of registers is needed; only address translation uses
//! register 2 beside it, for the port.

use std::fmt;

use super::set::AnonymousSet;
use super::wire::Writer;

const REG_VERDICT: u32 = 0;
pub(super) const REG_1: u32 = 1;
pub(super) const REG_2: u32 = 2;

/// Keys of the `meta` expression.
pub(super) mod meta {
    pub(in crate::nft) const MARK: u32 = 3;
    pub(in crate::nft) const IIFNAME: u32 = 6;
    pub(in crate::nft) const OIFNAME: u32 = 7;
    pub(in crate::nft) const SKUID: u32 = 10;
    pub(in crate::nft) const SKGID: u32 = 11;
    pub(in crate::nft) const NFPROTO: u32 = 15;
    pub(in crate::nft) const L4PROTO: u32 = 16;
}

/// Keys of the `ct` expression.
pub(super) mod ct {
    pub(in crate::nft) const STATE: u32 = 0;
    pub(in crate::nft) const DIRECTION: u32 = 1;
    pub(in crate::nft) const STATUS: u32 = 2;
    pub(in crate::nft) const MARK: u32 = 3;
    pub(in crate::nft) const ZONE: u32 = 17;
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the next hook.
    Accept,
    /// It is dropped without a word.
    Drop,
    /// The calling chain goes on, or the policy of the base chain decides.
    Return,
    /// The named chain is run, and then this one goes on.
    Jump(String),
    /// The named chain is run in place of this one.
    Goto(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadBase {
    Network,
    Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NatKind {
    Source,
    Destination,
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    Meta {
        key: u32,
    },
    SetMeta {
        key: u32,
    },
    Payload {
        base: PayloadBase,
        offset: u32,
        len: u32,
    },
    Ct {
        key: u32,
    },
    SetCt {
        key: u32,
    },
    Mask {
        mask: Vec<u8>,
    },
    Compare {
        equal: bool,
        value: Vec<u8>,
    },
    Range {
        inside: bool,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    Lookup {
        set: AnonymousSet,
        inside: bool,
    },
    VerdictMap {
        map: AnonymousSet,
    },
    Immediate {
        register: u32,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    Nat {
        kind: NatKind,
        family: u32,
        port: bool,
    },
    Redirect,
    Masquerade,
    Random {
        modulus: u32,
    },
    RejectTcp,
    RejectAny,
    Counter,
}

impl Expr {
    /// The set that has to exist before a rule with this expression can.
    pub(super) fn set(&self) -> Option<&AnonymousSet> {
        match self {
            Self::Lookup { set, .. } | Self::VerdictMap { map: set } => Some(set),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::SetMeta { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Ct { .. } | Self::SetCt { .. } => "ct",
            Self::Mask { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Lookup { .. } | Self::VerdictMap { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Nat { .. } => "nat",
            Self::Redirect => "redir",
            Self::Masquerade => "masq",
            Self::Random { .. } => "numgen",
            Self::RejectTcp | Self::RejectAny => "reject",
            Self::Counter => "counter",
        }
    }

    /// Writes the expression as an element of a rule's list. `set_id` is that of its anonymous set.
    pub(super) fn write(&self, w: &mut Writer, set_id: u32) {
        const LIST_ELEMENT: u16 = 1;
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        w.nest(LIST_ELEMENT, |w| {
            w.string(NAME, self.name());
            w.nest(DATA, |w| self.write_data(w, set_id));
        });
    }

    fn write_data(&self, w: &mut Writer, set_id: u32) {
        match self {
            Self::Meta { key } => numbers(w, &[(1, REG_1), (2, *key)]),
            Self::SetMeta { key } => numbers(w, &[(2, *key), (3, REG_1)]),
            Self::Payload { base, offset, len } => {
                let base = match base {
                    PayloadBase::Network => 1,
                    PayloadBase::Transport => 2,
                };
                numbers(w, &[(1, REG_1), (2, base), (3, *offset), (4, *len)]);
            }
            Self::Ct { key } => {
                numbers(w, &[(1, REG_1), (2, *key)]);
            }
            Self::SetCt { key } => numbers(w, &[(2, *key), (4, REG_1)]),
            Self::Mask { mask } => {
                numbers(w, &[(1, REG_1), (2, REG_1), (3, length(mask))]);
                value(w, 4, mask);
                value(w, 5, &vec![0; mask.len()]);
            }
            Self::Compare {
                equal,
                value: operand,
            } => {
                numbers(w, &[(1, REG_1), (2, u32::from(!equal))]);
                value(w, 3, operand);
            }
            Self::Range { inside, from, to } => {
                numbers(w, &[(1, REG_1), (2, u32::from(!inside))]);
                value(w, 3, from);
                value(w, 4, to);
            }
            Self::Lookup { set, inside } => {
                w.string(1, set.name());
                numbers(w, &[(2, REG_1), (4, set_id), (5, u32::from(!inside))]);
            }
            Self::VerdictMap { map } => {
                w.string(1, map.name());
                numbers(w, &[(2, REG_1), (3, REG_VERDICT), (4, set_id)]);
            }
            Self::Immediate {
                register,
                value: operand,
            } => {
                numbers(w, &[(1, *register)]);
                value(w, 2, operand);
            }
            Self::Verdict(verdict) => {
                numbers(w, &[(1, REG_VERDICT)]);
                w.nest(2, |w| write_verdict(w, verdict));
            }
            Self::Nat { kind, family, port } => write_nat(w, *kind, *family, *port),
            Self::Redirect => numbers(w, &[(1, REG_1), (2, REG_1)]),
            Self::Masquerade | Self::Counter => {}
            Self::Random { modulus } => {
                const NG_RANDOM: u32 = 1;
                numbers(w, &[(1, REG_1), (2, *modulus), (3, NG_RANDOM), (4, 0)]);
            }
            Self::RejectTcp => numbers(w, &[(1, 1)]),
            Self::RejectAny => {
                const ICMPX_UNREACHABLE: u32 = 2;
                const PORT_UNREACHABLE: u8 = 1;
                numbers(w, &[(1, ICMPX_UNREACHABLE)]);
                w.bytes(2, &[PORT_UNREACHABLE]);
            }
        }
    }
}

fn numbers(w: &mut Writer, pairs: &[(u16, u32)]) {
    for (kind, number) in pairs {
        w.be32(*kind, *number);
    }
}

fn value(w: &mut Writer, kind: u16, bytes: &[u8]) {
    const DATA_VALUE: u16 = 1;
    w.nest(kind, |w| w.bytes(DATA_VALUE, bytes));
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn write_nat(w: &mut Writer, kind: NatKind, family: u32, port: bool) {
    let kind = match kind {
        NatKind::Source => 0,
        NatKind::Destination => 1,
    };
    numbers(w, &[(1, kind), (2, family), (3, REG_1), (4, REG_1)]);
    if port {
        numbers(w, &[(5, REG_2), (6, REG_2)]);
    }
}

/// The data attribute that holds a verdict.
pub(super) fn write_verdict(w: &mut Writer, verdict: &Verdict) {
    const DATA_VERDICT: u16 = 2;
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    let (code, chain) = match verdict {
        Verdict::Drop => (0_i32, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    w.nest(DATA_VERDICT, |w| {
        w.be32(CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            w.string(CHAIN, chain);
        }
    });
}
