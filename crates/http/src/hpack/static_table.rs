//! The static table of RFC 7541, appendix A.

use super::name::NameId;
use crate::names::Known;

/// Name and value of each entry; the first one has index 1.
#[rustfmt::skip]
pub(super) static ENTRIES: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// How many entries there are; the dynamic table's indices begin after it.
pub(super) const LEN: usize = ENTRIES.len();

/// The number of each entry's name.
static IDS: [NameId; LEN] = ids();

/// The number of the name of the entry in this slot, which is its index less one.
#[inline]
pub(super) fn id(slot: usize) -> NameId {
    IDS[slot]
}

/// The first index whose entry has the name with this number, by the number; zero for none.
static FIRST: [u8; 256] = {
    let mut first = [0; 256];
    let mut slot = LEN;
    while slot > 0 {
        slot -= 1;
        first[IDS[slot].number() as usize] = slot as u8 + 1;
    }
    first[NameId::OTHER.number() as usize] = 0;
    first
};

/// The first index whose entry has the name with this number; zero for none.
#[inline]
pub(super) fn first(id: NameId) -> usize {
    usize::from(FIRST[usize::from(id.number())])
}

/// The index of the entry with this name and value. Only pseudo-headers and one field have values
/// here; empty values are left to the dynamic table.
#[inline]
pub(super) fn exact(id: NameId, value: &[u8]) -> Option<usize> {
    if !id.is_pseudo() {
        let is_gzip = id.known().number() == Known::ACCEPT_ENCODING.number();
        return (is_gzip && value == b"gzip, deflate").then_some(16);
    }
    let first = first(id);
    let last = match first {
        2 | 4 | 6 => first + 1,
        8 => 14,
        _ => return None,
    };
    (first..=last).find(|index| ENTRIES[index - 1].1.as_bytes() == value)
}

const fn ids() -> [NameId; LEN] {
    let mut ids = [NameId::OTHER; LEN];
    let mut slot = 0;
    while slot < LEN {
        ids[slot] = NameId::of_static(ENTRIES[slot].0.as_bytes());
        slot += 1;
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_number_and_is_found_by_it() {
        for (slot, (name, value)) in ENTRIES.iter().enumerate() {
            assert_eq!(id(slot), NameId::of(name.as_bytes()), "{name}");
            assert_ne!(id(slot), NameId::OTHER, "{name}");
            assert_eq!(ENTRIES[first(id(slot)) - 1].0, *name);
            if !value.is_empty() {
                assert_eq!(exact(id(slot), value.as_bytes()), Some(slot + 1));
            }
        }
        assert_eq!(first(NameId::OTHER), 0);
        assert_eq!(first(NameId::PROTOCOL), 0);
        assert_eq!(exact(NameId::STATUS, b"201"), None);
    }
}
