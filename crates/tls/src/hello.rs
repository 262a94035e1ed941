//! Reads a ClientHello without answering it: what the TLS inspector of a listener needs.
//!
//! The input is whatever has arrived so far; the answer is "need more" until the hello is whole.
//! Nothing is kept between calls, so that a peeked buffer may simply be offered again as it grows.

/// What a ClientHello asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The server name (RFC 6066, section 3), lower case.
    pub sni: Option<String>,
    /// The application protocols (RFC 7301), client's preference first.
    pub alpn: Vec<Vec<u8>>,
}

/// The state of a peeked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelloParse {
    /// It can still become TLS; more bytes are needed.
    NeedMore,
    /// It is not TLS.
    NotTls,
    /// It is TLS, and this is its first message.
    Hello(ClientHello),
}

const RECORD_HANDSHAKE: u8 = 22;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
/// RFC 8446, section 5.1: the longest plaintext record.
const MAX_RECORD: usize = 1 << 14;
/// Envoy's inspector gives up at 64 KiB as well; hybrid key shares make hellos of about 2 KiB.
const MAX_HELLO: usize = 64 << 10;

/// Parses the first bytes of a connection.
pub fn peek_client_hello(bytes: &[u8]) -> HelloParse {
    match message(bytes) {
        Ok(Some(message)) => match hello(&message) {
            Some(hello) => HelloParse::Hello(hello),
            None => HelloParse::NotTls,
        },
        Ok(None) => HelloParse::NeedMore,
        Err(NotTls) => HelloParse::NotTls,
    }
}

struct NotTls;

/// Joins the handshake fragments of as many records as the ClientHello takes, and returns its body.
fn message(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    let mut joined = Vec::new();
    loop {
        check_record_start(bytes)?;
        let Some((header, rest)) = bytes.split_at_checked(5) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > MAX_RECORD {
            return Err(NotTls);
        }
        let Some((fragment, rest)) = rest.split_at_checked(length) else {
            // The type of the message may be known before the record is whole.
            return match joined.first().or(rest.first()) {
                Some(&kind) if kind != MESSAGE_CLIENT_HELLO => Err(NotTls),
                _ => Ok(None),
            };
        };
        joined.extend_from_slice(fragment);
        if let Some(body) = whole_hello(&joined)? {
            return Ok(Some(body));
        }
        bytes = rest;
    }
}

fn check_record_start(bytes: &[u8]) -> Result<(), NotTls> {
    // Record type, and major version 3 of every TLS and of SSL 3.
    let expected = [RECORD_HANDSHAKE, 3];
    let known = bytes.len().min(expected.len());
    if bytes[..known] == expected[..known] {
        Ok(())
    } else {
        Err(NotTls)
    }
}

fn whole_hello(joined: &[u8]) -> Result<Option<Vec<u8>>, NotTls> {
    if joined
        .first()
        .is_some_and(|kind| *kind != MESSAGE_CLIENT_HELLO)
    {
        return Err(NotTls);
    }
    let Some((header, rest)) = joined.split_at_checked(4) else {
        return Ok(None);
    };
    let length =
        usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    if length > MAX_HELLO {
        return Err(NotTls);
    }
    Ok(rest.get(..length).map(<[u8]>::to_vec))
}

/// RFC 8446, section 4.1.2.
fn hello(body: &[u8]) -> Option<ClientHello> {
    let mut input = Input(body);
    input.take(2 + 32)?;
    input.vector8()?;
    input.vector16()?;
    input.vector8()?;
    let mut hello = ClientHello::default();
    if input.0.is_empty() {
        // TLS 1.2 without extensions.
        return Some(hello);
    }
    let mut extensions = Input(input.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = Input(extensions.vector16()?);
        match kind {
            EXTENSION_SERVER_NAME => hello.sni = server_name(data),
            EXTENSION_ALPN => hello.alpn = protocols(data)?,
            _ => {}
        }
    }
    Some(hello)
}

fn server_name(mut data: Input<'_>) -> Option<String> {
    let mut list = Input(data.vector16()?);
    let host_name = list.take(1)? == [0];
    let name = std::str::from_utf8(list.vector16()?).ok()?;
    (host_name && !name.is_empty()).then(|| name.to_ascii_lowercase())
}

fn protocols(mut data: Input<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = Input(data.vector16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector8()?.to_vec());
    }
    Some(protocols)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use super::*;

    fn sample(alpn: &[&[u8]]) -> Vec<u8> {
        let mut config = rustls::ClientConfig::builder_with_provider(crate::suites::provider())
            .with_safe_default_protocol_versions()
            .expect("versions fit the provider")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let name = "outbound_.9080_._.Reviews.default.svc.cluster.local";
        let name = name.try_into().expect("a valid name");
        let mut client =
            rustls::ClientConnection::new(Arc::new(config), name).expect("a valid configuration");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("a vector takes all");
        bytes.flush().expect("a vector takes all");
        bytes
    }

    #[test]
    fn a_hello_is_read_at_once_and_needs_more_at_every_cut() {
        let bytes = sample(&[b"istio", b"h2"]);
        let expect = ClientHello {
            sni: Some("outbound_.9080_._.reviews.default.svc.cluster.local".to_owned()),
            alpn: vec![b"istio".to_vec(), b"h2".to_vec()],
        };
        assert_eq!(peek_client_hello(&bytes), HelloParse::Hello(expect));
        for cut in 0..bytes.len() {
            assert_eq!(
                peek_client_hello(&bytes[..cut]),
                HelloParse::NeedMore,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_hello_may_be_spread_over_records() {
        let whole = sample(&[]);
        let mut split = Vec::new();
        for fragment in whole[5..].chunks(100) {
            split.extend_from_slice(&[22, 3, 1, 0, u8::try_from(fragment.len()).expect("small")]);
            split.extend_from_slice(fragment);
        }
        assert_eq!(peek_client_hello(&split), peek_client_hello(&whole));
    }

    #[test]
    fn no_damage_is_fatal() {
        let bytes = sample(&[b"h2"]);
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                // Any answer is right; there must be one.
                let _ = peek_client_hello(&damaged);
            }
        }
    }

    #[test]
    fn other_protocols_are_told_from_their_first_bytes() {
        for bytes in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n",
            &[22, 2],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0, 10, 2],
            // A hello that says that it is longer than any that we would hold.
            &[22, 3, 1, 0, 4, 1, 1, 0, 1],
            &[21, 3, 1],
        ] {
            assert_eq!(peek_client_hello(bytes), HelloParse::NotTls, "{bytes:?}");
        }
        assert_eq!(peek_client_hello(b""), HelloParse::NeedMore);
    }
}
