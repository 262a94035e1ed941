//! The dynamic table (RFC 7541, section 2.3.2): a queue of entries over one block of bytes.
//!
//! New entries are appended to the block, old ones are cut off its front by moving an offset; the
//! block is closed up only when its dead front outgrows what lives, so that an insertion costs a
//! copy of its own bytes and, on average, of as many others.

use std::collections::VecDeque;

use super::ENTRY_OVERHEAD;

/// The dead front of the block that is tolerated however little lives.
const DEAD_BYTES: usize = 512;

/// One entry: where its bytes are, and what the table's user keeps beside them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<T> {
    /// Where the name begins, counted from the first byte ever inserted, modulo 2³².
    start: u32,
    name_len: u32,
    value_len: u32,
    pub(super) extra: T,
}

impl<T> Entry<T> {
    fn size(&self) -> usize {
        self.name_len as usize + self.value_len as usize + ENTRY_OVERHEAD
    }
}

/// The table, with `T` kept for each entry.
#[derive(Debug)]
pub(super) struct Table<T> {
    bytes: Vec<u8>,
    /// What `Entry::start` would be for `bytes[0]`.
    origin: u32,
    /// Oldest first.
    entries: VecDeque<Entry<T>>,
    size: usize,
    max: usize,
    n_inserted: u32,
}

impl<T: Copy> Table<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            origin: 0,
            entries: VecDeque::new(),
            size: 0,
            max,
            n_inserted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many entries were ever inserted, modulo 2³².
    pub(super) fn n_inserted(&self) -> u32 {
        self.n_inserted
    }

    /// Changes the limit and evicts what exceeds it.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
        self.evict_to(max);
    }

    /// The entry that was inserted `age` insertions before the newest one.
    #[inline]
    pub(super) fn entry(&self, age: usize) -> Option<&Entry<T>> {
        let newest = self.entries.len().checked_sub(1)?;
        self.entries.get(newest.checked_sub(age)?)
    }

    /// Name and value of an entry of this table.
    #[inline]
    pub(super) fn field(&self, entry: &Entry<T>) -> (&[u8], &[u8]) {
        let start = entry.start.wrapping_sub(self.origin) as usize;
        let middle = start + entry.name_len as usize;
        let end = middle + entry.value_len as usize;
        (&self.bytes[start..middle], &self.bytes[middle..end])
    }

    /// Begins a new entry: what follows is appended to the returned bytes, then `finish`ed.
    pub(super) fn begin(&mut self) -> Pending {
        let dead = match self.entries.front() {
            Some(entry) => entry.start.wrapping_sub(self.origin) as usize,
            None => self.bytes.len(),
        };
        if dead > DEAD_BYTES.max(self.bytes.len() - dead) {
            self.bytes.drain(..dead);
            self.origin = self.origin.wrapping_add(dead as u32);
        }
        Pending {
            start: self.bytes.len(),
        }
    }

    /// The bytes to append to between `begin` and `finish`.
    #[inline]
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends the name of an existing entry to the tail.
    pub(super) fn append_name(&mut self, entry: Entry<T>) {
        let start = entry.start.wrapping_sub(self.origin) as usize;
        self.bytes
            .extend_from_within(start..start + entry.name_len as usize);
    }

    /// Name and value of the entry being made.
    #[inline]
    pub(super) fn pending(&self, pending: &Pending, name_len: usize) -> (&[u8], &[u8]) {
        self.bytes[pending.start..].split_at(name_len)
    }

    /// Makes the appended bytes an entry, evicting older ones; one that is larger than the table
    /// empties it and is not kept (RFC 7541, section 4.4).
    pub(super) fn finish(&mut self, pending: Pending, name_len: usize, extra: T) {
        let value_len = self.bytes.len() - pending.start - name_len;
        let entry = Entry {
            start: self.origin.wrapping_add(pending.start as u32),
            name_len: name_len as u32,
            value_len: value_len as u32,
            extra,
        };
        let size = entry.size();
        if size > self.max {
            self.evict_to(0);
            self.bytes.clear();
            return;
        }
        self.evict_to(self.max - size);
        self.size += size;
        self.n_inserted = self.n_inserted.wrapping_add(1);
        self.entries.push_back(entry);
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.size -= entry.size();
        }
    }

    /// Gives back memory that no entry needs.
    pub(super) fn shrink(&mut self) {
        let live = match self.entries.front() {
            Some(entry) => entry.start.wrapping_sub(self.origin) as usize,
            None => self.bytes.len(),
        };
        self.bytes.drain(..live);
        self.origin = self.origin.wrapping_add(live as u32);
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// Bytes of memory owned.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry<T>>()
    }
}

/// An entry whose bytes are being appended.
#[derive(Debug)]
pub(super) struct Pending {
    start: usize,
}
