//! Hands out addresses, the least recently used first, so that a new pod rarely inherits an old one's traffic.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Subnets;

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

    /// The fewest networks that have the range's addresses and no others.
    pub(crate) fn networks(&self) -> Ipv4Subnets {
        Ipv4Subnets::new(self.first.into(), self.last.into(), 0)
    }

    /// Takes a free address.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        for _ in self.first..=self.last {
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
    fn networks_hold_the_range_and_nothing_beside_it() {
        let check = |text: &str, expect: &[&str]| {
            let networks = Pool::parse(text).unwrap().networks();
            let shown: Vec<String> = networks.map(|net| net.to_string()).collect();
            assert_eq!(shown, expect);
        };
        check(
            "10.10.99.148-10.10.99.155",
            &["10.10.99.148/30", "10.10.99.152/30"],
        );
        check("10.0.0.127-10.0.0.128", &["10.0.0.127/32", "10.0.0.128/32"]);
        check("10.0.0.1", &["10.0.0.1/32"]);
    }

    #[test]
    fn a_pool_may_be_as_large_as_can_be() {
        let mut pool = Pool::parse("0.0.0.0-255.255.255.255").unwrap();
        assert_eq!(pool.take(), Some(Ipv4Addr::UNSPECIFIED));
    }

    #[test]
    fn bad_ranges() {
        for text in ["", "x", "10.0.0.2-10.0.0.1", "10.0.0.1-"] {
            assert!(Pool::parse(text).is_none(), "{text}");
        }
    }
}
