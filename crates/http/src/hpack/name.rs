//! The number of a field's name inside HPACK: a well-known name, a pseudo-header, or neither.

use crate::names::{Known, lookup};

/// A field name as one byte. What a table entry remembers of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameId(u8);

/// Above all numbers of well-known names.
const PSEUDO: u8 = 0xf0;

impl NameId {
    /// Neither a well-known name nor a pseudo-header.
    pub const OTHER: NameId = NameId(0);
    /// `:authority`
    pub const AUTHORITY: NameId = NameId(PSEUDO);
    /// `:method`
    pub const METHOD: NameId = NameId(PSEUDO + 1);
    /// `:path`
    pub const PATH: NameId = NameId(PSEUDO + 2);
    /// `:scheme`
    pub const SCHEME: NameId = NameId(PSEUDO + 3);
    /// `:status`
    pub const STATUS: NameId = NameId(PSEUDO + 4);
    /// `:protocol`
    pub const PROTOCOL: NameId = NameId(PSEUDO + 5);
    /// A name that begins with a colon and is none of these.
    pub const OTHER_PSEUDO: NameId = NameId(PSEUDO + 6);

    /// The number of a name in lower case.
    #[inline]
    pub fn of(name: &[u8]) -> NameId {
        if name.first() == Some(&b':') {
            return Self::pseudo(name);
        }
        NameId(lookup(name).number())
    }

    /// [`of`](Self::of) while compiling.
    pub(super) const fn of_static(name: &[u8]) -> NameId {
        match name {
            b":authority" => Self::AUTHORITY,
            b":method" => Self::METHOD,
            b":path" => Self::PATH,
            b":scheme" => Self::SCHEME,
            b":status" => Self::STATUS,
            _ => NameId(Known::find_static(name).number()),
        }
    }

    fn pseudo(name: &[u8]) -> NameId {
        match name {
            b":authority" => Self::AUTHORITY,
            b":method" => Self::METHOD,
            b":path" => Self::PATH,
            b":scheme" => Self::SCHEME,
            b":status" => Self::STATUS,
            b":protocol" => Self::PROTOCOL,
            _ => Self::OTHER_PSEUDO,
        }
    }

    /// True where no other name has this number.
    #[inline]
    pub(super) fn is_exact(self) -> bool {
        self != Self::OTHER && self != Self::OTHER_PSEUDO
    }

    /// True where the name begins with a colon.
    #[inline]
    pub const fn is_pseudo(self) -> bool {
        self.0 >= PSEUDO
    }

    /// The well-known name, [`Known::NONE`] for others.
    #[inline]
    pub(crate) fn known(self) -> Known {
        if self.is_pseudo() {
            Known::NONE
        } else {
            Known::from_number(self.0)
        }
    }

    #[inline]
    pub(super) const fn number(self) -> u8 {
        self.0
    }
}

impl From<Known> for NameId {
    #[inline]
    fn from(known: Known) -> Self {
        NameId(known.number())
    }
}
