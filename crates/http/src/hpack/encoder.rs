//! Fields to header blocks.
//!
//! What enters the dynamic table is decided by what repeats: a field is sent as a literal the first
//! time, enters the table the second time and is one or two bytes from the third time on. Request
//! identifiers, dates and the like thus never push out what is worth keeping, without a list of
//! their names. A name that is in neither table enters it with its value when it comes again.
//!
//! Strings are sent without Huffman code unless asked for: it saves a quarter of the bytes that are
//! not indexed, and costs both ends more time than a link inside a data centre gives back.

use super::name::NameId;
use super::static_table;
use super::table::Table;
use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, huffman, integer};

/// Lists of entries by hash, for fields and as many for names.
const BUCKETS: usize = 64;
/// Fields and names that came once are remembered in so many places.
const SEEN: usize = 64;
/// How far a list is followed. Longer lists are made by somebody who tries to be slow.
const MAX_STEPS: usize = 16;
/// The largest part of the table that one entry may take.
const LARGEST_PART: usize = 4;

/// Whether a field may enter the dynamic table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indexing {
    /// If it repeats.
    Adaptive,
    /// Not here and at no later hop (RFC 7541, section 7.1.3).
    Never,
}

/// What links an entry to the older ones of its lists.
#[derive(Debug, Clone, Copy)]
struct Links {
    id: NameId,
    hash: u32,
    older: u32,
    name_hash: u32,
    older_name: u32,
}

/// The encoding side of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table<Links>,
    /// The number of the newest entry of each list, of fields and then of names; entries are
    /// counted from one. A number whose entry was evicted ends the list.
    heads: Vec<u32>,
    /// Hashes of fields and names that came once.
    seen: Vec<u32>,
    /// The size to be announced, and the smallest since the last block.
    update: Option<(usize, usize)>,
    huffman: bool,
}

impl Encoder {
    /// An encoder with the default table size, which Huffman-codes literals or does not.
    pub fn new(huffman: bool) -> Self {
        Encoder {
            table: Table::new(DEFAULT_TABLE_SIZE),
            heads: Vec::new(),
            seen: Vec::new(),
            update: None,
            huffman,
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. More than the default is not made use of.
    pub fn set_limit(&mut self, limit: usize) {
        let size = limit.min(DEFAULT_TABLE_SIZE);
        if size == self.table.max() && self.update.is_none() {
            return;
        }
        let smallest = self.update.map_or(size, |(_, smallest)| smallest.min(size));
        self.update = Some((size, smallest));
        self.table.set_max(size);
    }

    /// Begins a header block.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((size, smallest)) = self.update.take() {
            if smallest < size {
                integer::encode(out, 0x20, 5, smallest);
            }
            integer::encode(out, 0x20, 5, size);
        }
    }

    /// Appends one field. The name is in lower case, and `id` is its number.
    #[inline]
    pub fn field(
        &mut self,
        out: &mut Vec<u8>,
        (id, name): (NameId, &[u8]),
        value: &[u8],
        indexing: Indexing,
    ) {
        if indexing == Indexing::Never {
            let index = self.name_index(id, name, name_hash(id, name));
            return self.literal(out, (0x10, 4), index, (name, value));
        }
        if let Some(index) = static_table::exact(id, value) {
            return integer::encode(out, 0x80, 7, index);
        }
        let name_hash = name_hash(id, name);
        let hash = field_hash(name_hash, value);
        match self.find(hash, (id, name), value) {
            Some(index) => integer::encode(out, 0x80, 7, index),
            None => self.unindexed(out, (id, name, name_hash), value, hash),
        }
    }

    /// A field that is in no table.
    fn unindexed(
        &mut self,
        out: &mut Vec<u8>,
        (id, name, name_hash): (NameId, &[u8], u32),
        value: &[u8],
        hash: u32,
    ) {
        let index = self.name_index(id, name, name_hash);
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        let fits = size <= self.table.max() / LARGEST_PART;
        let enters = fits && (self.seen_before(hash) || index == 0 && self.seen_before(name_hash));
        if !enters {
            return self.literal(out, (0, 4), index, (name, value));
        }
        self.literal(out, (0x40, 6), index, (name, value));
        self.insert((id, name, name_hash), value, hash);
    }

    fn literal(
        &self,
        out: &mut Vec<u8>,
        (pattern, prefix): (u8, u32),
        index: usize,
        (name, value): (&[u8], &[u8]),
    ) {
        integer::encode(out, pattern, prefix, index);
        if index == 0 {
            self.string(out, name);
        }
        self.string(out, value);
    }

    #[inline]
    fn string(&self, out: &mut Vec<u8>, text: &[u8]) {
        if self.huffman {
            let length = huffman::encoded_len(text);
            if length < text.len() {
                integer::encode(out, 0x80, 7, length);
                return huffman::encode(text, out);
            }
        }
        integer::encode(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }

    /// True from the second time on, as long as nothing else took its place.
    fn seen_before(&mut self, hash: u32) -> bool {
        if self.seen.is_empty() {
            self.seen.resize(SEEN, 0);
        }
        let place = &mut self.seen[hash as usize % SEEN];
        std::mem::replace(place, hash) == hash
    }

    /// The index of the newest entry with this name and value.
    #[inline]
    fn find(&self, hash: u32, (id, name): (NameId, &[u8]), value: &[u8]) -> Option<usize> {
        let mut number = *self.heads.get(hash as usize % BUCKETS)?;
        let mut last_age = None;
        for _ in 0..MAX_STEPS {
            let age = self.age(number, last_age)?;
            let entry = self.table.entry(age)?;
            if entry.extra.hash == hash && entry.extra.id == id {
                let (its_name, its_value) = self.table.field(entry);
                // A name with a number of its own needs no second look.
                if its_value == value && (id.is_exact() || its_name == name) {
                    return Some(static_table::LEN + 1 + age);
                }
            }
            number = entry.extra.older;
            last_age = Some(age);
        }
        None
    }

    /// The index of an entry with this name, or zero.
    fn name_index(&self, id: NameId, name: &[u8], hash: u32) -> usize {
        match static_table::first(id) {
            0 => self.find_name(hash, name).unwrap_or(0),
            index => index,
        }
    }

    fn find_name(&self, hash: u32, name: &[u8]) -> Option<usize> {
        let mut number = *self.heads.get(BUCKETS + hash as usize % BUCKETS)?;
        let mut last_age = None;
        for _ in 0..MAX_STEPS {
            let age = self.age(number, last_age)?;
            let entry = self.table.entry(age)?;
            if entry.extra.name_hash == hash && self.table.field(entry).0 == name {
                return Some(static_table::LEN + 1 + age);
            }
            number = entry.extra.older_name;
            last_age = Some(age);
        }
        None
    }

    /// How many entries are newer than the one with this number. None for no entry, and for one
    /// that is not older than the last of the list: its number is one of a former round of 2³².
    #[inline]
    fn age(&self, number: u32, last: Option<usize>) -> Option<usize> {
        if number == 0 {
            return None;
        }
        let age = self.table.n_inserted().wrapping_sub(number) as usize;
        (age < self.table.len() && last.is_none_or(|last| age > last)).then_some(age)
    }

    fn insert(&mut self, (id, name, name_hash): (NameId, &[u8], u32), value: &[u8], hash: u32) {
        if self.heads.is_empty() {
            self.heads.resize(2 * BUCKETS, 0);
        }
        let number = self.table.n_inserted().wrapping_add(1);
        let head = &mut self.heads[hash as usize % BUCKETS];
        let older = std::mem::replace(head, number);
        let name_head = &mut self.heads[BUCKETS + name_hash as usize % BUCKETS];
        let older_name = std::mem::replace(name_head, number);
        let pending = self.table.begin();
        self.table.tail().extend_from_slice(name);
        self.table.tail().extend_from_slice(value);
        let links = Links {
            id,
            hash,
            older,
            name_hash,
            older_name,
        };
        self.table.finish(pending, name.len(), links);
    }

    /// Gives back memory that no entry needs.
    pub fn shrink(&mut self) {
        self.table.shrink();
        self.seen = Vec::new();
        if self.table.len() == 0 {
            self.heads = Vec::new();
        }
    }

    /// Bytes of memory owned.
    pub fn memory(&self) -> usize {
        self.table.memory() + (self.heads.capacity() + self.seen.capacity()) * size_of::<u32>()
    }
}

/// Folds two words into one.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Up to eight bytes as a word.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*chunk);
    }
    if let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*head)) << 32 | u64::from(u32::from_le_bytes(*tail));
    }
    match *bytes {
        [] => 0,
        [first, .., last] => {
            u64::from(first) << 16 | u64::from(last) << 8 | u64::from(bytes[bytes.len() / 2])
        }
        [only] => u64::from(only),
    }
}

#[inline]
fn name_hash(id: NameId, name: &[u8]) -> u32 {
    if id != NameId::OTHER {
        return mix(u64::from(id.number()), 1) as u32 | 1;
    }
    let tail = word(&name[name.len().saturating_sub(8)..]);
    mix(word(name) ^ name.len() as u64, tail) as u32 | 1
}

/// From the value's length, ends and middle. Two fields with the same hash cost a comparison.
#[inline]
fn field_hash(name_hash: u32, value: &[u8]) -> u32 {
    let length = value.len();
    let seed = u64::from(name_hash) << 32 | length as u64;
    let ends = mix(word(value) ^ seed, word(&value[length.saturating_sub(8)..]));
    if length <= 16 {
        return ends as u32 | 1;
    }
    mix(ends, word(&value[length / 2 - 4..])) as u32 | 1
}
