//! One request, read where it lies.
//!
//! A client that comes back names all that it holds, thousands of resources twice over, and thousands
//! of clients come back together. So names go from the request's bytes to the [`Name`]s that are
//! there already, and versions to numbers, without a text or a map in between.

use prost::Message;
use tonic::Status;

use super::super::name::Name;
use super::super::protocol::{Fields, Incoming, Wants};
use super::super::resource::parse_version;
use super::super::{MAX_NAMES, too_much};
use crate::TypeUrl;
use crate::canonical::next_field;
use crate::types::core::Node;

/// Of an entry in the map of versions.
const KEY: u32 = 1;
const VALUE: u32 = 2;

/// Of `google.rpc.Status`.
const MESSAGE: u32 = 2;

/// Reads a request whose fields have these numbers. What else there is in it is passed over.
///
/// # Errors
/// When it is no such message, or names more than one stream may ask for.
pub(super) fn read(fields: &Fields, request: &[u8]) -> Result<Incoming, Status> {
    let mut node = None;
    let mut type_url = "";
    let mut nonce = "";
    let mut refused = None;
    let (mut subscribe, mut unsubscribe, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for_each(request, |number, body| {
        if subscribe.len() + unsubscribe.len() + held.len() > 2 * MAX_NAMES {
            return Err(too_much("resource names"));
        }
        match number {
            of if of == fields.subscribe => subscribe.push(Name::new(text(body)?)),
            of if of == fields.type_url => type_url = text(body)?,
            of if of == fields.nonce => nonce = text(body)?,
            of if of == fields.node => {
                node = Some(Node::decode(body).map_err(|error| malformed(&error))?);
            }
            of if of == fields.error => refused = Some(reason(body)?),
            of => match fields.delta {
                Some([number, _]) if of == number => unsubscribe.push(Name::new(text(body)?)),
                Some([_, number]) if of == number => held.push(version(body)?),
                _ => {}
            },
        }
        Ok(())
    })?;
    Ok(Incoming {
        node,
        type_url: TypeUrl::new(type_url),
        nonce: nonce.to_owned(),
        refused,
        wants: match fields.delta {
            Some(_) => Wants::Change {
                subscribe,
                unsubscribe,
                held,
            },
            None => Wants::Exactly(subscribe),
        },
    })
}

/// An entry of a map from names to versions.
fn version(entry: &[u8]) -> Result<(Name, u64), Status> {
    let (mut name, mut version) = ("", "");
    for_each(entry, |number, body| {
        match number {
            KEY => name = text(body)?,
            VALUE => version = text(body)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((Name::new(name), parse_version(version)))
}

fn reason(status: &[u8]) -> Result<String, Status> {
    let mut reason = "";
    for_each(status, |number, body| {
        if number == MESSAGE {
            reason = text(body)?;
        }
        Ok(())
    })?;
    Ok(reason.to_owned())
}

/// All fields that have a length. No other field of a request means anything here.
fn for_each<'a>(
    message: &'a [u8],
    mut field: impl FnMut(u32, &'a [u8]) -> Result<(), Status>,
) -> Result<(), Status> {
    let mut at = 0;
    while at < message.len() {
        let found = next_field(message, at).ok_or_else(|| malformed(&"a field is cut off"))?;
        if let Some(body) = found.body {
            field(found.number, &message[body..found.end])?;
        }
        at = found.end;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, Status> {
    std::str::from_utf8(bytes).map_err(|error| malformed(&error))
}

fn malformed(error: &dyn std::fmt::Display) -> Status {
    Status::internal(format!("the request cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::super::protocol::{Delta, Protocol, StateOfTheWorld};
    use super::*;
    use crate::google::rpc;
    use crate::types::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};

    fn names(of: &[String]) -> Vec<Name> {
        of.iter().map(Name::new).collect()
    }

    fn node(id: &str) -> Option<Node> {
        (!id.is_empty()).then(|| Node {
            id: id.to_owned(),
            ..Node::default()
        })
    }

    fn error(reason: &Option<String>) -> Option<rpc::Status> {
        reason.as_ref().map(|reason| rpc::Status {
            code: 3,
            message: reason.clone(),
            ..rpc::Status::default()
        })
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[a-z|é]{0,5}", 0..6)
    }

    proptest! {
        /// As prost, which wrote it, would read it.
        #[test]
        fn requests_of_both_protocols(
            (id, url, nonce) in ("[a-z]{0,3}", "[a-z./]{0,4}", "[0-9-]{0,4}"),
            refused in prop::option::of("[a-z ]{0,9}"),
            (subscribe, unsubscribe) in (texts(), texts()),
            held in prop::collection::hash_map("[a-z]{0,3}", any::<u64>(), 0..5),
        ) {
            let versions: HashMap<_, _> = held
                .iter()
                .map(|(name, version)| (name.clone(), format!("{version:016x}")))
                .collect();
            let request = DeltaDiscoveryRequest {
                node: node(&id),
                type_url: url.clone(),
                resource_names_subscribe: subscribe.clone(),
                resource_names_unsubscribe: unsubscribe.clone(),
                initial_resource_versions: versions,
                response_nonce: nonce.clone(),
                error_detail: error(&refused),
                ..DeltaDiscoveryRequest::default()
            };
            let mut read_back = read(&Delta::REQUEST, &request.encode_to_vec()).expect("well formed");
            let mut wanted = Incoming {
                node: node(&id),
                type_url: TypeUrl::new(&url),
                nonce: nonce.clone(),
                refused: refused.clone(),
                wants: Wants::Change {
                    subscribe: names(&subscribe),
                    unsubscribe: names(&unsubscribe),
                    held: held.iter().map(|(name, version)| (Name::new(name), *version)).collect(),
                },
            };
            for incoming in [&mut read_back, &mut wanted] {
                if let Wants::Change { held, .. } = &mut incoming.wants {
                    held.sort();
                }
            }
            prop_assert_eq!(&read_back, &wanted);

            let request = DiscoveryRequest {
                version_info: "7".into(),
                node: node(&id),
                type_url: url,
                resource_names: subscribe.clone(),
                response_nonce: nonce,
                error_detail: error(&refused),
                ..DiscoveryRequest::default()
            };
            let read_back = read(&StateOfTheWorld::REQUEST, &request.encode_to_vec());
            wanted.wants = Wants::Exactly(names(&subscribe));
            prop_assert_eq!(read_back.expect("well formed"), wanted);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&Delta::REQUEST, &bytes);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let check = |bytes: &[u8]| {
            let status = read(&Delta::REQUEST, bytes).expect_err("not a request");
            assert_eq!(status.code(), tonic::Code::Internal, "{bytes:?}");
        };
        check(&[0x12, 5, b'a']);
        check(&[0x1a, 1, 0xff]);
        check(&[0x0a, 2, 0x0a, 9]);
        check(&[0x2a, 2, 0x0a, 9]);
    }
}
