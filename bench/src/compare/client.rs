//! The client's end: a case's bytes out, whatever comes back in.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;

use super::recorder::MARK;
use super::strict;

/// Silence after which a proxy is held to wait for more. Only what others did differently depends
/// on it, never whether a rule holds.
const QUIET: Duration = Duration::from_millis(500);

/// A final response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Which of the recorder's requests it answers.
    pub(super) mark: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// What a proxy said on one connection.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) answers: Vec<Answer>,
    /// The proxy closed, where it did not fall silent.
    pub(super) closed: bool,
    /// What could be read in several ways.
    pub(super) fault: Option<String>,
    /// Bytes of a response that did not come to its end.
    pub(super) unfinished: Vec<u8>,
}

/// Sends bytes and listens. `methods` are those of the requests in them; further ones are GET.
pub(super) fn exchange(port: u16, bytes: &[u8], methods: &[&str]) -> Result<Heard> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(QUIET))?;
    // A proxy that has refused the beginning may have closed already.
    let _ = stream.write_all(bytes);
    let mut input = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(n_read) => input.extend_from_slice(&buffer[..n_read]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => break false,
                ErrorKind::Interrupted => {}
                _ => break true,
            },
        }
    };
    Ok(parse(&input, methods, closed))
}

fn parse(mut input: &[u8], methods: &[&str], closed: bool) -> Heard {
    let mut heard = Heard {
        closed,
        ..Heard::default()
    };
    while !input.is_empty() {
        let method = methods.get(heard.answers.len()).unwrap_or(&"GET");
        match strict::response(input, method, closed) {
            Ok(Some((message, length))) => {
                input = &input[length..];
                let status = message.line[1].parse().unwrap_or_default();
                if (100..200).contains(&status) && status != 101 {
                    continue;
                }
                let mark = message.field(MARK).map(String::from_utf8_lossy);
                let mark = mark.and_then(|mark| mark.parse().ok());
                heard.answers.push(Answer {
                    status,
                    mark,
                    body: message.body,
                });
            }
            Ok(None) => {
                heard.unfinished = input.to_vec();
                break;
            }
            Err(fault) => {
                heard.fault = Some(format!("{fault} in {}", input.escape_ascii()));
                break;
            }
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let text = "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nx-seen: 7\r\ncontent-length: 5\r\n\r\n\
                    HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab";
        let heard = parse(text.as_bytes(), &["HEAD"], true);
        let short: Vec<_> = heard.answers.iter().map(|a| (a.status, a.mark)).collect();
        assert_eq!(short, [(200, Some(7)), (400, None)]);
        assert!(heard.unfinished.ends_with(b"ab") && heard.fault.is_none());
        assert!(parse(b"what\r\n\r\n", &[], true).fault.is_some());
    }
}
