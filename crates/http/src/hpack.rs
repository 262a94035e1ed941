//! Header compression for HTTP/2 (RFC 7541), both directions.
//!
//! It works on byte slices and knows no head type: the decoder hands each field to a [`Sink`], the
//! encoder takes a name and a value. Each field carries the interned number of its name, which the
//! tables remember, so that a field that the peer sends by index costs no lookup and no second
//! validation.
//!
//! Invariant: the dynamic tables are the only state, they own no memory before their first entry,
//! and nothing is allocated for a single field.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod name;
mod static_table;
mod table;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Field, Sink};
pub use encoder::{Encoder, Indexing};
pub use huffman::{decode as huffman_decode, encode as huffman_encode};
pub use name::NameId;

/// The size of the dynamic table before any setting (RFC 9113, section 6.5.2).
pub const DEFAULT_TABLE_SIZE: usize = 4096;

/// What the size of an entry counts beyond its name and value (RFC 7541, section 4.1).
pub const ENTRY_OVERHEAD: usize = 32;

/// A header block that cannot be decoded. The dynamic table is out of step from here on, so the
/// connection must end with COMPRESSION_ERROR (RFC 9113, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("header block is truncated")]
    Truncated,
    /// An integer does not fit 32 bits, or is padded with needless bytes.
    #[error("integer out of range")]
    Integer,
    /// An index names no entry, or is zero.
    #[error("index names no entry")]
    Index,
    /// A Huffman string has a wrong padding or holds the end-of-string symbol.
    #[error("invalid Huffman string")]
    Huffman,
    /// A table size update is larger than what we announced, or stands after a field, or is one too
    /// many, or is missing after we lowered the size.
    #[error("invalid table size update")]
    SizeUpdate,
}
