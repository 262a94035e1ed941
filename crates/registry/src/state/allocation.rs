//! Addresses for hosts of ServiceEntries that were given none.
//!
//! An application that connects to a host by its name needs some address, and a proxy tells hosts on
//! one port apart by nothing else. Who has which address follows from the entries alone, in whatever
//! order they came, so that all replicas and every restart agree: each host tries addresses in an
//! order of its own, and where two want the same, the stronger one has it. One whose address stands
//! in the status of its entry is stronger than others, and the older one than the younger.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use lateen_core::ServiceId;

/// Hosts have their addresses from 240.240.0.0/16, and the same number in 2001:2::/48: ranges that
/// nothing is reached by.
const NETWORK: [u8; 2] = [240, 240];
const NETWORK_6: [u16; 2] = [0x2001, 2];
/// Neither the first nor the last address of the range is anybody's.
const SLOTS: u16 = u16::MAX - 1;

/// An address of the range, as the number of its host part.
pub(super) type Slot = u16;

/// The number of an address of the range.
pub(super) fn slot_of(address: &str) -> Option<Slot> {
    let [a, b, c, d] = address.parse::<Ipv4Addr>().ok()?.octets();
    let slot = Slot::from_be_bytes([c, d]);
    ([a, b] == NETWORK && (1..=SLOTS).contains(&slot)).then_some(slot)
}

fn addresses(slot: Slot) -> Vec<IpAddr> {
    let ([a, b], [c, d]) = (NETWORK, slot.to_be_bytes());
    let [e, f] = NETWORK_6;
    vec![
        Ipv4Addr::new(a, b, c, d).into(),
        Ipv6Addr::new(e, f, 0, 0, 0, 0, 0, slot).into(),
    ]
}

/// What decides which address a host gets. The lesser claim is the stronger one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    is_new: bool,
    undated: bool,
    created: Option<Timestamp>,
    service: ServiceId,
    /// The address that it has in the status of its entry.
    kept: Option<Slot>,
}

impl Claim {
    /// The address that it tries after `n` others; `None` when it has tried all.
    fn choice(&self, n: u32, slots: u16) -> Option<Slot> {
        let slots = u32::from(slots);
        let first = (hash(&self.service) % u64::from(slots)) as u32;
        let step = match self.kept {
            Some(kept) if n == 0 => return Some(kept),
            // It is not tried a second time where its turn would be.
            Some(kept) if n <= (u32::from(kept) + slots - 1 - first) % slots => n - 1,
            _ => n,
        };
        let slot = (first + step) % slots + 1;
        (n < slots).then_some(slot as Slot)
    }
}

/// FNV-1a: replicas of two releases must agree, which no hasher of a library promises.
fn hash(service: &ServiceId) -> u64 {
    let (namespace, host) = (service.namespace.bytes(), service.hostname.bytes());
    let bytes = namespace.chain([b'/']).chain(host);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Where a claim came to rest.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    claim: Claim,
    /// How many addresses it tried before; all of them, where it has none.
    tried: u32,
    slot: Option<Slot>,
}

/// Who has which address.
#[derive(Debug, PartialEq)]
pub(super) struct Allocation {
    slots: u16,
    holders: BTreeMap<Slot, Claim>,
    /// Those who tried an address that a stronger one has.
    refused: BTreeMap<Slot, BTreeSet<Claim>>,
    places: BTreeMap<ServiceId, Place>,
}

impl Default for Allocation {
    fn default() -> Self {
        Allocation::of(SLOTS)
    }
}

impl Allocation {
    fn of(slots: u16) -> Self {
        Allocation {
            slots,
            holders: BTreeMap::new(),
            refused: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// The addresses of a service, the IPv4 one first.
    pub(super) fn addresses(&self, service: &ServiceId) -> Vec<IpAddr> {
        let slot = self.places.get(service).and_then(|place| place.slot);
        slot.map_or_else(Vec::new, addresses)
    }

    /// Sets what a service wants: `None` for no address, else when it was made and the address that
    /// it is known to have. The services whose address is another one now.
    pub(super) fn set(
        &mut self,
        service: &ServiceId,
        wish: Option<(Option<Timestamp>, Option<Slot>)>,
    ) -> BTreeSet<ServiceId> {
        let claim = wish.map(|(created, kept)| Claim {
            is_new: kept.is_none(),
            undated: created.is_none(),
            created,
            service: service.clone(),
            kept,
        });
        let mut moved = BTreeSet::new();
        let known = self.places.get(service).map(|place| &place.claim);
        if known == claim.as_ref() {
            return moved;
        }
        self.withdraw(service, &mut moved);
        if let Some(claim) = claim {
            self.seek(claim, 0, &mut moved);
        }
        moved
    }

    /// Finds a place for a claim, and one for whom it displaces.
    fn seek(&mut self, mut claim: Claim, mut tried: u32, moved: &mut BTreeSet<ServiceId>) {
        loop {
            let slot = claim.choice(tried, self.slots);
            let holder = slot.and_then(|slot| self.holders.get(&slot));
            if let (Some(slot), Some(holder)) = (slot, holder)
                && *holder < claim
            {
                self.refused.entry(slot).or_default().insert(claim.clone());
                tried += 1;
                continue;
            }
            let displaced = slot.and_then(|slot| self.holders.insert(slot, claim.clone()));
            self.settle(claim, tried, slot, moved);
            let (Some(slot), Some(weaker)) = (slot, displaced) else {
                return;
            };
            tried = self.places[&weaker.service].tried + 1;
            self.refused.entry(slot).or_default().insert(weaker.clone());
            claim = weaker;
        }
    }

    fn settle(
        &mut self,
        claim: Claim,
        tried: u32,
        slot: Option<Slot>,
        moved: &mut BTreeSet<ServiceId>,
    ) {
        let service = claim.service.clone();
        moved.insert(service.clone());
        let place = Place { claim, tried, slot };
        self.places.insert(service, place);
    }

    /// Gives up a service's place. Who wanted it more than their own move there.
    fn withdraw(&mut self, service: &ServiceId, moved: &mut BTreeSet<ServiceId>) {
        let Some(place) = self.places.remove(service) else {
            return;
        };
        moved.insert(service.clone());
        self.forget_refusals(&place.claim, 0..place.tried);
        let mut free = place.slot;
        while let Some(slot) = free {
            self.holders.remove(&slot);
            let Some(next) = self.strongest_refused(slot) else {
                return;
            };
            let was = self.places[&next.service].clone();
            let mut choices = 0..was.tried;
            let tried = choices.find(|n| next.choice(*n, self.slots) == Some(slot));
            let tried = tried.expect("it was refused what it tried");
            self.forget_refusals(&next, tried..was.tried);
            self.holders.insert(slot, next.clone());
            self.settle(next, tried, Some(slot), moved);
            free = was.slot;
        }
    }

    fn strongest_refused(&self, slot: Slot) -> Option<Claim> {
        self.refused.get(&slot)?.first().cloned()
    }

    fn forget_refusals(&mut self, claim: &Claim, tries: std::ops::Range<u32>) {
        for slot in tries.filter_map(|n| claim.choice(n, self.slots)) {
            if let Some(refused) = self.refused.get_mut(&slot) {
                refused.remove(claim);
                if refused.is_empty() {
                    self.refused.remove(&slot);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> ServiceId {
        ServiceId::new("ns", format!("h{n}.example.com"))
    }

    #[test]
    fn addresses_are_of_the_range() {
        assert_eq!(slot_of("240.240.0.1"), Some(1));
        assert_eq!(slot_of("240.240.255.254"), Some(SLOTS));
        for other in [
            "240.240.0.0",
            "240.240.255.255",
            "10.0.0.1",
            "2001:2::1",
            "",
        ] {
            assert_eq!(slot_of(other), None, "{other}");
        }
        let texts = addresses(0x0102).into_iter().map(|ip| ip.to_string());
        assert_eq!(texts.collect::<Vec<_>>(), ["240.240.1.2", "2001:2::102"]);
    }

    #[test]
    fn an_address_that_was_told_is_kept() {
        let mut of = Allocation::default();
        of.set(&id(1), Some((None, None)));
        let own = of.places[&id(1)].slot;
        let moved = of.set(&id(2), Some((None, own)));
        assert_eq!(moved, [id(1), id(2)].into());
        assert_eq!(of.places[&id(2)].slot, own);
        assert_ne!(of.addresses(&id(1)), of.addresses(&id(2)));
        assert_eq!(of.set(&id(2), None), [id(1), id(2)].into());
        assert_eq!(of.places[&id(1)].slot, own);
    }

    #[test]
    fn everybody_has_an_address_while_there_are_some() {
        let mut of = Allocation::of(3);
        (0..4).for_each(|n| drop(of.set(&id(n), Some((None, None)))));
        let none = |of: &Allocation| (0..4).filter(|n| of.addresses(&id(*n)).is_empty()).count();
        assert_eq!(none(&of), 1);
        of.set(&id(0), None);
        assert_eq!(none(&of), 1, "only the one that is gone has none");
        assert!(of.addresses(&id(0)).is_empty());
    }

    proptest! {
        /// With fewer addresses than hosts, so that they meet.
        #[test]
        fn same_end_from_any_path(
            changes in prop::collection::vec(
                (0..9u8, prop::option::of((prop::option::of(0..3i64), prop::option::of(1..6u16)))),
                0..40,
            )
        ) {
            let mut travelled = Allocation::of(6);
            let mut last = BTreeMap::new();
            for (n, wish) in changes {
                let wish = wish.map(|(created, kept)| {
                    (created.map(|s| Timestamp::from_second(s).expect("a time")), kept)
                });
                let before: Vec<_> = (0..9).map(|n| travelled.addresses(&id(n))).collect();
                let moved = travelled.set(&id(n), wish);
                for n in 0..9 {
                    let same = before[usize::from(n)] == travelled.addresses(&id(n));
                    prop_assert!(same || moved.contains(&id(n)), "all that move are told");
                }
                last.insert(n, wish);
            }
            let mut fresh = Allocation::of(6);
            for (n, wish) in last {
                fresh.set(&id(n), wish);
            }
            prop_assert_eq!(travelled, fresh);
        }
    }
}
