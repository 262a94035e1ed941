//! HTTP/1.1 messages that are framed by Content-Length, which is all that the measurement uses.

use anyhow::{Context, Result, bail, ensure};

const MAX_HEADERS: usize = 48;

/// A request that takes the route which the peers' configurations have last: by path and header.
pub(crate) fn request(body: usize, close: bool) -> Vec<u8> {
    let method = if body > 0 { "POST" } else { "GET" };
    let mut text = format!(
        "{method} /api/v1/items/42 HTTP/1.1\r\nhost: items.default.svc.cluster.local:8080\r\n\
         user-agent: lateen-bench\r\naccept: */*\r\nx-tenant: blue\r\n"
    );
    if body > 0 {
        text += &format!("content-type: application/octet-stream\r\ncontent-length: {body}\r\n");
    }
    if close {
        text += "connection: close\r\n";
    }
    text += "\r\n";
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    bytes
}

/// The length of the first message in `bytes`, once it is complete: its head, and its body.
fn framed(head: Option<usize>, headers: &[httparse::Header<'_>]) -> Result<Option<(usize, usize)>> {
    let Some(head) = head else { return Ok(None) };
    let mut length = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).context("content-length")?;
            length = Some(text.trim().parse().context("content-length")?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a transfer coding where a length was expected");
        }
    }
    Ok(Some((head, length.unwrap_or(0))))
}

/// Reads a response. Gives its length in `bytes` when it is complete.
///
/// # Errors
/// When it is not 200 with a body of `expect` bytes.
pub(crate) fn response(bytes: &[u8], expect: usize) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).context("not a response")?;
    let head = match parsed {
        httparse::Status::Complete(head) => Some(head),
        httparse::Status::Partial => None,
    };
    let Some((head, body)) = framed(head, response.headers)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    ensure!(status == 200, "status {status} where 200 was expected");
    ensure!(body == expect, "{body} bytes where {expect} were expected");
    Ok((bytes.len() >= head + body).then_some(head + body))
}

/// Reads a request. Gives the lengths of its head and its body when it is complete.
///
/// # Errors
/// When it is not a request framed by a length.
pub(crate) fn request_frame(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).context("not a request")?;
    let head = match parsed {
        httparse::Status::Complete(head) => Some(head),
        httparse::Status::Partial => None,
    };
    let frame = framed(head, request.headers)?;
    Ok(frame.filter(|(head, body)| bytes.len() >= head + body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_expected_answer_passes() {
        let check = |text: &str, expect: Result<Option<usize>, &str>| {
            let found = response(text.as_bytes(), 3).map_err(|error| error.to_string());
            match expect {
                Ok(length) => assert_eq!(found, Ok(length), "{text}"),
                Err(part) => assert!(found.expect_err(text).contains(part), "{text}"),
            }
        };
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            Ok(Some(41)),
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", Ok(None));
        check("HTTP/1.1 200 OK\r\nContent-Le", Ok(None));
        check(
            "HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nabc",
            Err("503"),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
            Err("4 bytes"),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err("coding"),
        );
        check("nonsense\r\n\r\n", Err("not a response"));
    }

    #[test]
    fn requests_are_framed_as_written() {
        for body in [0, 5] {
            let bytes = request(body, false);
            let head = bytes.len() - body;
            assert_eq!(request_frame(&bytes).expect("valid"), Some((head, body)));
            assert_eq!(
                request_frame(&bytes[..bytes.len() - 1]).expect("valid"),
                None
            );
        }
    }
}
