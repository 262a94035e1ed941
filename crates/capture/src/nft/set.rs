//! Anonymous sets: the `{ … }` of a rule, which live and die with it.

use super::expr::{Verdict, write_verdict};
use super::wire::Writer;

/// The values that a rule compares one register with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AnonymousSet {
    /// A number by which `nft list` knows how to print the values; the kernel does not look at it.
    pub(super) key_type: u32,
    pub(super) key_len: u32,
    pub(super) elements: Elements,
}

/// A set of values, or a map from values to verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Elements {
    Values(Vec<Vec<u8>>),
    Verdicts(Vec<(Vec<u8>, Verdict)>),
}

/// `nft`'s numbers for the types of values.
pub(super) mod key_type {
    pub(in crate::nft) const INTEGER: u32 = 4;
    pub(in crate::nft) const PORT: u32 = 13;
}

impl AnonymousSet {
    /// The name under which the kernel makes up one of its own.
    pub(super) fn name(&self) -> &'static str {
        match self.elements {
            Elements::Values(_) => "__set%d",
            Elements::Verdicts(_) => "__map%d",
        }
    }

    /// The attributes of `NFT_MSG_NEWSET`.
    pub(super) fn write_definition(&self, w: &mut Writer, table: &str, id: u32) {
        const TABLE: u16 = 1;
        const NAME: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_TYPE: u16 = 4;
        const KEY_LEN: u16 = 5;
        const DATA_TYPE: u16 = 6;
        const ID: u16 = 10;
        const ANONYMOUS_CONSTANT: u32 = 0x3;
        const MAP: u32 = 0x8;
        const DATA_VERDICT: u32 = 0xffff_ff00;
        w.string(TABLE, table);
        w.string(NAME, self.name());
        let is_map = matches!(self.elements, Elements::Verdicts(_));
        w.be32(FLAGS, ANONYMOUS_CONSTANT | if is_map { MAP } else { 0 });
        w.be32(KEY_TYPE, self.key_type);
        w.be32(KEY_LEN, self.key_len);
        if is_map {
            w.be32(DATA_TYPE, DATA_VERDICT);
        }
        w.be32(ID, id);
    }

    /// The attributes of `NFT_MSG_NEWSETELEM`.
    pub(super) fn write_elements(&self, w: &mut Writer, table: &str, id: u32) {
        const TABLE: u16 = 1;
        const SET: u16 = 2;
        const ELEMENTS: u16 = 3;
        const SET_ID: u16 = 4;
        w.string(TABLE, table);
        w.string(SET, self.name());
        w.be32(SET_ID, id);
        w.nest(ELEMENTS, |w| match &self.elements {
            Elements::Values(values) => {
                for value in values {
                    write_element(w, value, None);
                }
            }
            Elements::Verdicts(pairs) => {
                for (value, verdict) in pairs {
                    write_element(w, value, Some(verdict));
                }
            }
        });
    }
}

fn write_element(w: &mut Writer, key: &[u8], verdict: Option<&Verdict>) {
    const LIST_ELEMENT: u16 = 1;
    const KEY: u16 = 1;
    const DATA: u16 = 2;
    const DATA_VALUE: u16 = 1;
    w.nest(LIST_ELEMENT, |w| {
        w.nest(KEY, |w| w.bytes(DATA_VALUE, key));
        if let Some(verdict) = verdict {
            w.nest(DATA, |w| write_verdict(w, verdict));
        }
    });
}
