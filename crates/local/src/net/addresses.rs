//! Hands out addresses, the least recently used first, so that a new pod rarely inherits an old one's traffic.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// A range of addresses of which some are taken.
#[derive(Debug)]
pub(crate) struct Pool {
    first: u32,
    last: u32,
    next: u32,
    taken: BTreeSet<u32>,
}

impl Pool {
    /// The range `first..=last`.
    pub(crate) fn new(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        let first = u32::from(first);
        Self {
            first,
            last: u32::from(last),
            next: first,
            taken: BTreeSet::new(),
        }
    }

    /// Parses `first-last`, or one address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then(|| Self::new(first, last))
    }

    /// The smallest prefix that covers the range.
    pub(crate) fn prefix(&self) -> (Ipv4Addr, u8) {
        let shared = (self.first ^ self.last).leading_zeros().min(32);
        let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
        (
            (self.first & mask).into(),
            u8::try_from(shared).unwrap_or(32),
        )
    }

    /// Takes a free address.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let size = self.last - self.first + 1;
        for _ in 0..size {
            let candidate = self.next;
            self.next = if candidate == self.last {
                self.first
            } else {
                candidate + 1
            };
            if self.taken.insert(candidate) {
                return Some(candidate.into());
            }
        }
        None
    }

    /// Takes this address, if it is in the range and free.
    pub(crate) fn take_exactly(&mut self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        (self.first..=self.last).contains(&address) && self.taken.insert(address)
    }

    /// Gives an address back.
    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        self.taken.remove(&u32::from(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_and_ends() {
        let mut pool = Pool::parse("10.0.0.1-10.0.0.2").unwrap();
        let one = pool.take().unwrap();
        pool.give_back(one);
        assert_eq!(pool.take(), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(pool.take(), Some(one));
        assert_eq!(pool.take(), None);
        pool.give_back(one);
        assert!(pool.take_exactly(one));
        assert!(!pool.take_exactly(Ipv4Addr::new(10, 0, 0, 3)));
    }

    #[test]
    fn prefix_covers() {
        let prefix = |text: &str| Pool::parse(text).unwrap().prefix();
        assert_eq!(
            prefix("10.10.99.148-10.10.99.155"),
            (Ipv4Addr::new(10, 10, 99, 144), 28)
        );
        assert_eq!(prefix("10.0.0.1"), (Ipv4Addr::new(10, 0, 0, 1), 32));
    }

    #[test]
    fn bad_ranges() {
        for text in ["", "x", "10.0.0.2-10.0.0.1", "10.0.0.1-"] {
            assert!(Pool::parse(text).is_none(), "{text}");
        }
    }
}
