//! Looking at the first bytes of a connection: is it TLS, and for whom; is it HTTP?

use std::io;
use std::net::SocketAddr;

use arcstr::ArcStr;
use bytes::{Buf, Bytes, BytesMut};
use lateen_core::proxy_protocol::{self, Parse, Version};
use lateen_decode::ProxyHeader;
use lateen_tls::{HelloParse, peek_client_hello};
use tokio::io::AsyncReadExt;

use super::Listener;
use crate::socket::Stream;

/// What the first bytes say.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub tls: bool,
    pub sni: Option<ArcStr>,
    /// By ALPN, or `http/1.1` or `h2c` by inspection of plain text.
    pub application: Vec<String>,
}

/// A request line longer than this is not recognised.
const MAX_LINE: usize = 8 * 1024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Takes a PROXY header off the beginning of a connection: the addresses that it names. What came
/// after it stays in `seen`.
///
/// # Errors
/// On anything but the header that is asked for.
pub(crate) async fn proxy_header(
    wanted: ProxyHeader,
    stream: &mut Stream,
    seen: &mut BytesMut,
) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let fault = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
    loop {
        if stream.read_buf(seen).await? == 0 {
            return Err(fault("the connection ended before its PROXY header"));
        }
        match proxy_protocol::parse(seen) {
            Parse::NeedMore => {}
            Parse::NotProxy if wanted.optional => return Ok(None),
            Parse::NotProxy => return Err(fault("there is no PROXY header")),
            Parse::Malformed => return Err(fault("the PROXY header is malformed")),
            Parse::Done(header) => {
                let (taken, name) = match header.version {
                    Version::V1 => (wanted.v1, "1"),
                    Version::V2 => (wanted.v2, "2"),
                };
                if !taken {
                    let text = format!("PROXY headers of version {name} are not taken");
                    return Err(fault(&text));
                }
                seen.advance(header.length);
                return Ok(header.addresses);
            }
        }
    }
}

/// Reads until the question is answered. The bytes are in `seen` also when the caller gives up
/// waiting.
pub(crate) async fn inspect(
    listener: &Listener,
    stream: &mut Stream,
    seen: &mut BytesMut,
) -> io::Result<Findings> {
    let mut findings = Findings::default();
    if !listener.inspect_tls && !listener.inspect_http {
        return Ok(findings);
    }
    // What came with a PROXY header is looked at first.
    let mut fresh = !seen.is_empty();
    loop {
        if !std::mem::take(&mut fresh) && stream.read_buf(seen).await? == 0 {
            return Ok(findings);
        }
        if listener.inspect_tls {
            match peek_client_hello(seen) {
                HelloParse::NeedMore => continue,
                HelloParse::NotTls => {}
                HelloParse::Hello(hello) => {
                    findings.tls = true;
                    findings.sni = hello.sni.map(ArcStr::from);
                    let names = hello.alpn.into_iter();
                    findings.application = names
                        .filter_map(|name| String::from_utf8(name).ok())
                        .collect();
                    return Ok(findings);
                }
            }
        }
        if !listener.inspect_http {
            return Ok(findings);
        }
        match http(seen) {
            Some(Some(protocol)) => {
                findings.application = vec![protocol.to_owned()];
                return Ok(findings);
            }
            Some(None) => return Ok(findings),
            None => {}
        }
    }
}

/// The HTTP version of a plain-text connection, once it can be told.
fn http(bytes: &[u8]) -> Option<Option<&'static str>> {
    let length = bytes.len().min(PREFACE.len());
    if bytes[..length] == PREFACE[..length] {
        return (length == PREFACE.len()).then_some(Some("h2c"));
    }
    let token = |b: &u8| b.is_ascii_alphabetic() || *b == b'-' || *b == b'_';
    match bytes.iter().position(|b| !token(b)) {
        None if bytes.len() <= 32 => return None,
        None | Some(0) => return Some(None),
        Some(space) if bytes[space] != b' ' => return Some(None),
        Some(_) => {}
    }
    match bytes.iter().position(|b| *b == b'\n') {
        None if bytes.len() < MAX_LINE => None,
        None => Some(None),
        Some(end) => {
            let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
            let version = line.rsplit(|b| *b == b' ').next().unwrap_or(b"");
            Some(matches!(version, b"HTTP/1.1" | b"HTTP/1.0").then_some("http/1.1"))
        }
    }
}

/// The bytes that were read, to be read again.
pub(crate) fn prefix(seen: BytesMut) -> Bytes {
    seen.freeze()
}

#[cfg(test)]
mod tests {
    use super::http;

    #[test]
    fn http_is_told_from_other_protocols() {
        let check = |bytes: &[u8], expect: Option<Option<&str>>| {
            assert_eq!(http(bytes), expect, "{}", String::from_utf8_lossy(bytes));
        };
        check(b"GET", None);
        check(b"GET /x HTTP/1.1", None);
        check(b"GET /x HTTP/1.1\r\n", Some(Some("http/1.1")));
        check(b"PRI * HTT", None);
        check(b"PRI * HTTP/2.0\r\n\r\nSM", Some(Some("h2c")));
        check(b"\x00\x01", Some(None));
        check(b"*1\r\n$4\r\nPING\r\n", Some(None));
        check(b"GET /x\r\n", Some(None));
    }
}
