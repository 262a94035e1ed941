//! RFC 9112 as narrowly as it can be read, written apart from the engine that it judges: what this
//! takes can be framed in one way only.

/// A message as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The request line's or status line's parts.
    pub(super) line: [String; 3],
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// The first field of this name, written in small letters.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        find(&self.fields, name)
    }
}

fn find<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    let mut fields = fields.iter();
    let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_slice())
}

/// A message and its length, where it is complete.
pub(super) type Parsed<T> = Result<Option<(T, usize)>, String>;

/// The framing of a body.
enum Frame {
    Length(usize),
    Chunked,
    UntilEnd,
}

/// The request that the bytes begin with.
pub(super) fn request(bytes: &[u8]) -> Parsed<Message> {
    let Some((lines, start)) = head(bytes)? else {
        return Ok(None);
    };
    let mut message = fields(&lines)?;
    let parts: Vec<&[u8]> = lines[0].split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Err(format!("request line {}", lines[0].escape_ascii()));
    };
    let odd = |byte: &u8| !(0x21..0x7f).contains(byte) || *byte == b'#';
    if !is_token(method) || target.is_empty() || target.iter().any(odd) {
        return Err(format!("request line {}", lines[0].escape_ascii()));
    }
    if *version != b"HTTP/1.1" && *version != b"HTTP/1.0" {
        return Err(format!("version {}", version.escape_ascii()));
    }
    message.line = [method, target, version].map(|part| text(part));
    let n_hosts = count(&message, "host");
    if n_hosts > 1 || (n_hosts == 0 && *version == b"HTTP/1.1") {
        return Err(format!("{n_hosts} Host fields"));
    }
    if message
        .field("host")
        .is_some_and(|host| !is_authority(host))
    {
        return Err("Host is no authority".to_owned());
    }
    connection(&message)?;
    let frame = framing(&message, *version == b"HTTP/1.0")?.unwrap_or(Frame::Length(0));
    body(message, frame, bytes, start, false)
}

/// The response that the bytes begin with; `method` is its request's, `ended` says that no more
/// bytes come.
pub(super) fn response(bytes: &[u8], method: &str, ended: bool) -> Parsed<Message> {
    let Some((lines, start)) = head(bytes)? else {
        return Ok(None);
    };
    let mut message = fields(&lines)?;
    let mut parts = lines[0].splitn(3, |byte| *byte == b' ');
    let mut part = || text(parts.next().unwrap_or_default());
    message.line = [part(), part(), part()];
    let [version, status, _] = &message.line;
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    if !(version == "HTTP/1.1" || version == "HTTP/1.0") || !is_status {
        return Err(format!("status line {}", lines[0].escape_ascii()));
    }
    let frame = framing(&message, version == "HTTP/1.0")?;
    let bodiless = status.starts_with('1') || status == "204" || status == "304";
    let tunnel = method == "CONNECT" && status.starts_with('2');
    if bodiless && status != "304" && frame.is_some() {
        return Err(format!("{status} with a length"));
    }
    let frame = match frame {
        _ if method == "HEAD" || bodiless || tunnel => Frame::Length(0),
        frame => frame.unwrap_or(Frame::UntilEnd),
    };
    body(message, frame, bytes, start, ended)
}

/// The lines of a head and where it ends.
fn head(bytes: &[u8]) -> Parsed<Vec<&[u8]>> {
    let mut lines = Vec::new();
    let mut at = 0;
    loop {
        let Some((line, next)) = line(bytes, at)? else {
            return Ok(None);
        };
        at = next;
        if line.is_empty() && !lines.is_empty() {
            return Ok(Some((lines, at)));
        }
        lines.push(line);
    }
}

/// The line at a place and where the next begins.
fn line(bytes: &[u8], start: usize) -> Parsed<&[u8]> {
    for at in start..bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'\r', Some(b'\n')) => return Ok(Some((&bytes[start..at], at + 2))),
            (b'\r', Some(_)) => return Err("a CR alone".to_owned()),
            (b'\n', _) => return Err("an LF alone".to_owned()),
            _ => {}
        }
    }
    Ok(None)
}

/// A message of the fields behind the first line.
fn fields(lines: &[&[u8]]) -> Result<Message, String> {
    Ok(Message {
        line: Default::default(),
        fields: lines[1..]
            .iter()
            .map(|line| field(line))
            .collect::<Result<_, _>>()?,
        trailers: Vec::new(),
        body: Vec::new(),
    })
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let fault = || format!("field {}", line.escape_ascii());
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or_else(fault)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let forbidden = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f;
    if !is_token(name) || value.iter().any(forbidden) {
        return Err(fault());
    }
    Ok((text(name), value.to_vec()))
}

/// What `Connection` may not take away (RFC 9110, 7.6.1: fields for all recipients).
fn connection(message: &Message) -> Result<(), String> {
    for (name, value) in &message.fields {
        if !name.eq_ignore_ascii_case("connection") {
            continue;
        }
        for option in text(value).split(',').map(str::trim) {
            let end_to_end = [
                "host",
                "content-length",
                "transfer-encoding",
                "authorization",
            ];
            if end_to_end
                .iter()
                .any(|name| option.eq_ignore_ascii_case(name))
            {
                return Err(format!("Connection names {option}"));
            }
        }
    }
    Ok(())
}

fn framing(message: &Message, old: bool) -> Result<Option<Frame>, String> {
    let (n_lengths, n_codings) = (
        count(message, "content-length"),
        count(message, "transfer-encoding"),
    );
    if n_lengths + n_codings > 1 {
        return Err(format!("{n_lengths} lengths and {n_codings} codings"));
    }
    if let Some(coding) = message.field("transfer-encoding") {
        if old || !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(format!("coding {}", coding.escape_ascii()));
        }
        return Ok(Some(Frame::Chunked));
    }
    let Some(length) = message.field("content-length") else {
        return Ok(None);
    };
    let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    let length = text(length);
    let parsed = length
        .parse::<usize>()
        .ok()
        .filter(|length| digits && i64::try_from(*length).is_ok());
    let parsed = parsed.ok_or_else(|| format!("length {length}"))?;
    Ok(Some(Frame::Length(parsed)))
}

fn body(
    mut message: Message,
    frame: Frame,
    bytes: &[u8],
    start: usize,
    ended: bool,
) -> Parsed<Message> {
    match frame {
        Frame::Length(length) => {
            let Some(body) = bytes[start..].get(..length) else {
                return Ok(None);
            };
            message.body = body.to_vec();
            Ok(Some((message, start + length)))
        }
        Frame::UntilEnd => {
            message.body = bytes[start..].to_vec();
            Ok(ended.then_some((message, bytes.len())))
        }
        Frame::Chunked => chunks(message, bytes, start),
    }
}

fn chunks(mut message: Message, bytes: &[u8], mut at: usize) -> Parsed<Message> {
    loop {
        let Some((size, next)) = line(bytes, at)? else {
            return Ok(None);
        };
        at = next;
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default();
        let extension = &size[digits.len()..];
        let fault = || format!("chunk {}", size.escape_ascii());
        if extension.iter().any(|byte| *byte < 0x20) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(fault());
        }
        let size = usize::from_str_radix(&text(digits), 16).map_err(|_| fault())?;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at.saturating_add(size).saturating_add(2)) else {
            return Ok(None);
        };
        let (data, end) = data.split_at(size);
        if end != b"\r\n" {
            return Err("no line end behind a chunk".to_owned());
        }
        message.body.extend_from_slice(data);
        at += size + 2;
    }
    loop {
        let Some((trailer, next)) = line(bytes, at)? else {
            return Ok(None);
        };
        at = next;
        if trailer.is_empty() {
            return Ok(Some((message, at)));
        }
        let (name, value) = field(trailer)?;
        let framing = ["content-length", "transfer-encoding", "host"];
        if framing.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(format!("trailer {name}"));
        }
        message.trailers.push((name, value));
    }
}

fn count(message: &Message, name: &str) -> usize {
    let named = message.fields.iter();
    named
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .count()
}

fn is_token(bytes: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(token)
}

/// A host and a port; no user, no list.
fn is_authority(host: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    host.iter().all(known)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_frame_in_one_way_are_taken() {
        let check = |text: &str, body: &str, rest: usize| {
            let (message, length) = request(text.as_bytes()).expect(text).expect("complete");
            assert_eq!(
                (message.body.as_slice(), text.len() - length),
                (body.as_bytes(), rest)
            );
        };
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "", 3);
        check(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcd",
            "abc",
            1,
        );
        check(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx: 1\r\n\r\n",
            "ab",
            0,
        );
        assert_eq!(request(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_a_fault() {
        let fields = [
            "",
            "Host: a\r\nHost: a",
            "Host: a@b",
            "Host: a\nx: 1",
            "Host: a\rx: 1",
            "Host: a\r\n x: 1",
            "Host: a\r\nx : 1",
            "Host: a\r\nx: \0",
            "Host: a\r\nConnection: host",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 1",
            "Host: a\r\nContent-Length: +1",
            "Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
            "Host: a\r\nTransfer-Encoding: x, chunked",
        ];
        for fields in fields {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\na");
            assert!(request(text.as_bytes()).is_err(), "{text:?}");
        }
        for line in [
            "GET /",
            "GET  / HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET /# HTTP/1.1",
            "GET / HTTP/2.0",
        ] {
            let text = format!("{line}\r\nHost: a\r\n\r\n");
            assert!(request(text.as_bytes()).is_err(), "{text:?}");
        }
        for chunk in [
            "0x1\r\na\r\n",
            "1 \r\na\r\n",
            "1\na\r\n",
            "1\r\nab\r\n",
            "0\r\nHost: a\r\n\r\n",
        ] {
            let text =
                format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
            assert!(request(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn responses_end_where_their_request_says() {
        let check = |text: &str, method: &str, ended: bool, body: Option<&str>| {
            let parsed = response(text.as_bytes(), method, ended).expect(text);
            let seen = parsed.map(|(message, _)| message.body);
            assert_eq!(seen.as_deref(), body.map(str::as_bytes), "{text:?}");
        };
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "GET",
            false,
            Some("ab"),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
            "HEAD",
            false,
            Some(""),
        );
        check("HTTP/1.1 200 OK\r\n\r\nab", "GET", false, None);
        check("HTTP/1.1 200 OK\r\n\r\nab", "GET", true, Some("ab"));
        check(
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
            "GET",
            false,
            Some(""),
        );
        assert!(
            response(
                b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n",
                "GET",
                false
            )
            .is_err()
        );
        assert!(response(b"ab\r\n\r\n", "GET", false).is_err());
    }
}
