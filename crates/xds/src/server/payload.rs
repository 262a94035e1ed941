//! The `resources` of responses, as bytes that are shared by all streams that send them.
//!
//! A response to thousands of resources is not thousands of small writes, and not one copy per
//! stream either. Resources that follow each other are joined to pieces, and a piece is made once,
//! whichever lists it occurs in: where one ends is decided by the names, so that two lists that
//! differ in a few resources (each workload has clusters of its own) share nearly all pieces.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::Resource;
use super::recent::Recent;

/// A piece ends after one name in so many.
const NAMES_PER_PIECE: u64 = 16;
/// What is at least as large as this stands alone, uncopied.
const LARGE: usize = 16 << 10;
/// A piece has no more bytes than this, or one resource.
const PIECE_MAX: usize = 128 << 10;

/// The `resources` of one response.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub(super) pieces: Arc<[Bytes]>,
    pub(super) n_resources: usize,
    /// Bytes in all pieces.
    pub(super) len: usize,
}

/// How a resource is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Of a delta response.
    Delta,
    /// Of a state-of-the-world response.
    Any,
}

impl Form {
    fn of(self, resource: &Resource) -> Bytes {
        match self {
            Form::Delta => resource.delta_field(),
            Form::Any => resource.any_field(),
        }
    }
}

impl Payload {
    /// The resources one after the other.
    pub(super) fn new<'a>(form: Form, resources: impl Iterator<Item = &'a Resource>) -> Payload {
        let mut pieces = Vec::new();
        let mut n_resources = 0;
        let mut piece: Vec<&Resource> = Vec::new();
        let mut piece_len = 0;
        for resource in resources {
            n_resources += 1;
            let len = resource.value().len();
            if len >= LARGE || piece_len + len > PIECE_MAX {
                pieces.extend(join(form, &mut piece));
                piece_len = 0;
            }
            piece.push(resource);
            piece_len += len;
            if len >= LARGE || xxh3_64(resource.name.as_bytes()).is_multiple_of(NAMES_PER_PIECE) {
                pieces.extend(join(form, &mut piece));
                piece_len = 0;
            }
        }
        pieces.extend(join(form, &mut piece));
        Payload {
            len: pieces.iter().map(Bytes::len).sum(),
            pieces: pieces.into(),
            n_resources,
        }
    }
}

/// One piece of some resources, none of none.
fn join(form: Form, resources: &mut Vec<&Resource>) -> Option<Bytes> {
    let joined = match resources[..] {
        [] => return None,
        [only] => form.of(only),
        _ => shared(form, resources),
    };
    resources.clear();
    Some(joined)
}

/// The pieces made of late, by what is in them.
static PIECES: Recent<u128, Bytes> = Recent::new();

fn shared(form: Form, resources: &[&Resource]) -> Bytes {
    let mut digest = Xxh3::new();
    digest.update(&[u8::from(form == Form::Any)]);
    for resource in resources {
        // Equal names and versions of two types would be a wonder, but cost nothing to tell apart.
        digest.update(&resource.hash.to_ne_bytes());
        digest.update(&(resource.value().len() as u64).to_ne_bytes());
        digest.update(resource.name.as_bytes());
        digest.update(&[0]);
        digest.update(resource.type_url());
    }
    let digest = digest.digest128();
    PIECES.get(digest, || {
        let parts: Vec<Bytes> = resources.iter().map(|r| form.of(r)).collect();
        let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        for part in &parts {
            joined.extend_from_slice(part);
        }
        joined.freeze()
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::types::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};
    use crate::types::endpoint::ClusterLoadAssignment;

    fn resources(n: usize) -> Vec<Resource> {
        let resource = |i: usize| {
            let message = ClusterLoadAssignment {
                // One in a hundred is large.
                cluster_name: "c".repeat(if i % 100 == 7 { LARGE } else { i }),
                ..ClusterLoadAssignment::default()
            };
            Resource::new(format!("payload {i}"), &message)
        };
        (0..n).map(resource).collect()
    }

    fn bytes(payload: &Payload) -> Vec<u8> {
        payload.pieces.concat()
    }

    #[test]
    fn a_payload_is_the_resources_in_their_order() {
        let resources = resources(500);
        let payload = Payload::new(Form::Delta, resources.iter());
        assert_eq!(payload.n_resources, 500);
        assert_eq!(payload.len, bytes(&payload).len());
        let read = DeltaDiscoveryResponse::decode(&*bytes(&payload)).expect("a response");
        let names: Vec<_> = read.resources.iter().map(|r| r.name.as_str()).collect();
        let wanted: Vec<_> = resources.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, wanted);
        let payload = Payload::new(Form::Any, resources.iter());
        let read = DiscoveryResponse::decode(&*bytes(&payload)).expect("a response");
        let wanted: Vec<_> = resources.iter().map(Resource::body).collect();
        assert_eq!(read.resources, wanted);
        assert!(payload.pieces.len() < 100, "{}", payload.pieces.len());
    }

    #[test]
    fn lists_that_differ_a_little_share_their_pieces() {
        let resources = resources(500);
        let all = Payload::new(Form::Delta, resources.iter());
        let one_less = resources.iter().enumerate().filter(|(i, _)| *i != 250);
        let one_less = Payload::new(Form::Delta, one_less.map(|(_, r)| r));
        let addresses: std::collections::HashSet<_> =
            all.pieces.iter().map(|piece| piece.as_ptr()).collect();
        let is_shared = |piece: &&Bytes| addresses.contains(&piece.as_ptr());
        let n_shared = one_less.pieces.iter().filter(is_shared).count();
        assert!(
            n_shared + 2 >= all.pieces.len(),
            "{n_shared} of {}",
            all.pieces.len()
        );
    }
}
