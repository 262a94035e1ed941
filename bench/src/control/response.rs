//! Responses as they come in, in pieces: each resource is looked at as soon as it is complete, and
//! nothing is kept of it but its number.

use anyhow::{Result, ensure};

use super::catalog::{Catalog, Content, Kind, Name, Raw};
use super::protobuf::{Field, field, fields};

/// The prefix of a message in a gRPC stream: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Which discovery protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Delta,
    StateOfTheWorld,
}

/// A whole response.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) type_url: String,
    pub(super) nonce: String,
    /// State of the world only.
    pub(super) version: String,
    pub(super) resources: Vec<Content>,
    pub(super) removed: Vec<Name>,
}

/// Bytes of a gRPC stream that becomes responses.
#[derive(Debug)]
pub(super) struct Reader {
    protocol: Protocol,
    bytes: Vec<u8>,
    /// Bytes of the message that are still to come or to be read.
    left: Option<usize>,
    response: Response,
}

impl Reader {
    pub(super) fn new(protocol: Protocol) -> Self {
        Reader {
            protocol,
            bytes: Vec::new(),
            left: None,
            response: Response::default(),
        }
    }

    /// Takes what has arrived; what became complete goes to `done`.
    pub(super) fn take(
        &mut self,
        more: &[u8],
        catalog: &mut Catalog,
        mut done: impl FnMut(Response, &mut Catalog),
    ) -> Result<()> {
        self.bytes.extend_from_slice(more);
        let mut at = 0;
        loop {
            let rest = &self.bytes[at..];
            let Some(left) = self.left else {
                let Some(prefix) = rest.first_chunk::<PREFIX>() else {
                    break;
                };
                let [compressed, length @ ..] = *prefix;
                ensure!(compressed == 0, "a compressed message");
                self.left = Some(u32::from_be_bytes(length) as usize);
                at += PREFIX;
                continue;
            };
            if left == 0 {
                self.left = None;
                done(std::mem::take(&mut self.response), catalog);
                continue;
            }
            let Some((number, value, length)) = field(rest) else {
                break;
            };
            ensure!(length <= left, "a field that is longer than its message");
            self.left = Some(left - length);
            match self.protocol {
                Protocol::Delta => delta(&mut self.response, number, value, catalog),
                Protocol::StateOfTheWorld => whole(&mut self.response, number, value, catalog),
            }
            at += length;
        }
        self.bytes.drain(..at);
        if self.bytes.is_empty() {
            self.bytes.shrink_to(0);
        }
        Ok(())
    }
}

/// A field of `DeltaDiscoveryResponse`.
fn delta(response: &mut Response, number: u64, value: Field<'_>, catalog: &mut Catalog) {
    match number {
        2 => {
            let (mut name, mut version, mut any) = ("", "", &[][..]);
            for (number, field) in fields(value.bytes()) {
                match number {
                    1 => version = field.text(),
                    2 => any = field.bytes(),
                    3 => name = field.text(),
                    _ => {}
                }
            }
            let (kind, body) = open(any);
            if let Some(kind) = kind {
                let content = catalog.content(Raw {
                    kind,
                    name,
                    version,
                    body,
                });
                response.resources.push(content);
            }
        }
        4 => value.text().clone_into(&mut response.type_url),
        5 => value.text().clone_into(&mut response.nonce),
        6 => response.removed.push(catalog.name(value.text())),
        _ => {}
    }
}

/// A field of `DiscoveryResponse`.
fn whole(response: &mut Response, number: u64, value: Field<'_>, catalog: &mut Catalog) {
    match number {
        1 => value.text().clone_into(&mut response.version),
        2 => {
            let (kind, body) = open(value.bytes());
            if let Some(kind) = kind {
                let content = catalog.content(Raw {
                    kind,
                    name: "",
                    version: "",
                    body,
                });
                response.resources.push(content);
            }
        }
        4 => value.text().clone_into(&mut response.type_url),
        5 => value.text().clone_into(&mut response.nonce),
        _ => {}
    }
}

/// What is in an `Any`.
fn open(any: &[u8]) -> (Option<Kind>, &[u8]) {
    let (mut kind, mut body) = (None, &[][..]);
    for (number, field) in fields(any) {
        match number {
            1 => kind = Kind::of(field.text()),
            2 => body = field.bytes(),
            _ => {}
        }
    }
    (kind, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protobuf::put;

    fn message(body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(body.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_response_in_pieces_of_any_size() {
        let mut any = Vec::new();
        put(&mut any, 1, Kind::Endpoint.url().as_bytes());
        put(&mut any, 2, b"\x0a\x01a10.250.0.9");
        let mut resource = Vec::new();
        put(&mut resource, 1, b"v1");
        put(&mut resource, 2, &any);
        put(&mut resource, 3, b"a");
        let mut body = Vec::new();
        put(&mut body, 2, &resource);
        put(&mut body, 4, Kind::Endpoint.url().as_bytes());
        put(&mut body, 5, b"nonce");
        put(&mut body, 6, b"gone");
        let bytes = [message(&body), message(&[]), message(&body)].concat();
        for size in 1..bytes.len() {
            let mut catalog = Catalog::default();
            let mut reader = Reader::new(Protocol::Delta);
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                let taken = reader.take(piece, &mut catalog, |response, _| found.push(response));
                taken.expect("well formed");
            }
            assert_eq!(found.len(), 3);
            assert_eq!((&*found[0].nonce, &*found[1].nonce), ("nonce", ""));
            let known = catalog.known(found[2].resources[0]);
            assert_eq!((&*known.version, known.change), ("v1", 9));
            assert_eq!(catalog.text(found[2].removed[0]), "gone");
            assert!(reader.bytes.is_empty());
        }
    }
}
