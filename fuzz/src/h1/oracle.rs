//! RFC 9112 as narrowly as it can be read, of bytes that are all there: what this takes can be
//! framed in one way only.

use lateen_http::h1::Framing;
use lateen_http::{Method, Version};

use super::reader::{Head, Message, Side};

type Field<'a> = (&'a [u8], &'a [u8]);

/// A message as another party sees it.
pub(super) struct Seen<'a> {
    line: Vec<&'a [u8]>,
    fields: Vec<Field<'a>>,
    framing: Framing,
    keep_alive: bool,
    pub(super) body: Vec<u8>,
    trailers: Vec<Field<'a>>,
    /// Where it ends, if it does.
    pub(super) end: Option<usize>,
}

impl Seen<'_> {
    /// Panics where the engine has seen something else.
    pub(super) fn agrees(&self, message: &Message) {
        match &message.head {
            Head::Request(head) => {
                assert_eq!(head.method.as_str().as_bytes(), self.line[0]);
                self.agrees_on_target(head.authority(), head.target());
            }
            Head::Response(head) => assert_eq!(head.status.to_string().as_bytes(), self.line[1]),
        }
        let absolute = matches!(message.head, Head::Request(_)) && is_absolute(self.line[1]);
        let fields = message.head.fields();
        assert_eq!(fields.len(), self.fields.len());
        for ((name, value), seen) in fields.iter().zip(&self.fields) {
            assert_eq!(name.as_bytes(), seen.0);
            // The authority of an absolute target replaces it.
            if !(absolute && name.eq_ignore_ascii_case("host")) {
                assert_eq!(value, seen.1);
            }
        }
        assert_eq!(message.framing, self.framing);
        assert_eq!(message.keep_alive, self.keep_alive);
        if message.end.is_some() {
            assert_eq!((message.end, &message.body), (self.end, &self.body));
            let trailers = message.trailers.iter();
            let trailers = trailers.map(|(name, value)| (name.as_bytes(), value.as_slice()));
            assert!(trailers.eq(self.trailers.iter().copied()));
        }
    }

    fn agrees_on_target(&self, authority: &str, target: &str) {
        let said = self.line[1];
        if self.line[0] == b"CONNECT" {
            assert_eq!((authority.as_bytes(), target), (said, ""));
        } else if is_absolute(said) {
            let path = match target.strip_prefix(['/', '*']).unwrap_or_default() {
                // What an absolute target may leave out.
                rest if rest.is_empty() || rest.starts_with('?') => rest,
                _ => target,
            };
            let [full, short] = [target, path].map(|path| format!("://{authority}{path}"));
            assert!(said.ends_with(full.as_bytes()) || said.ends_with(short.as_bytes()));
        } else {
            let host = value(&self.fields, b"host").unwrap_or_default();
            assert_eq!((authority.as_bytes(), target.as_bytes()), (host, said));
        }
    }
}

/// The message that begins at this place.
pub(super) fn message<'a>(
    side: &Side,
    wire: &'a [u8],
    mut start: usize,
) -> Result<Seen<'a>, String> {
    while matches!(side, Side::Server) && wire[start..].starts_with(b"\r\n") {
        start += 2;
    }
    let length = find(&wire[start..], b"\r\n\r\n").ok_or("no end of the head")?;
    let mut lines = Vec::new();
    let mut head = &wire[start..start + length + 2];
    while !head.is_empty() {
        lines.push(line(&mut head).ok_or("no end of a line")?);
    }
    let fields: Vec<Field<'_>> = lines[1..]
        .iter()
        .map(|line| field(line))
        .collect::<Result<_, _>>()?;
    let (line, version) = match side {
        Side::Server => request_line(lines[0])?,
        Side::Client(_) => status_line(lines[0])?,
    };
    let framing = match (side, framing(&fields, version)?) {
        (Side::Server, framing) => framing.unwrap_or(Framing::None),
        (Side::Client(method), _) if has_no_body(method, line[1]) => Framing::None,
        (Side::Client(_), framing) => framing.unwrap_or(Framing::UntilClose),
    };
    if let Side::Server = side {
        check_host(line[1], version, &fields)?;
    }
    let keep_alive = keeps_alive(&fields, version) && framing != Framing::UntilClose;
    let mut seen = Seen {
        line,
        fields,
        framing,
        keep_alive,
        body: Vec::new(),
        trailers: Vec::new(),
        end: None,
    };
    seen.take_body(wire, start + length + 4);
    Ok(seen)
}

fn request_line(line: &[u8]) -> Result<(Vec<&[u8]>, Version), String> {
    let parts: Vec<_> = line.split(|byte| *byte == b' ').collect();
    let fault = || format!("request line {}", line.escape_ascii());
    let [method, target, version] = parts[..] else {
        return Err(fault());
    };
    let visible = |byte: &u8| (0x21..0x7f).contains(byte) && *byte != b'#';
    let form = match target {
        _ if method == b"CONNECT" => target.contains(&b':') && !target.contains(&b'/'),
        b"*" => method == b"OPTIONS",
        _ => target.starts_with(b"/") || is_absolute(target),
    };
    if !is_token(method) || !form || !target.iter().all(visible) {
        return Err(fault());
    }
    let version = version_of(version).ok_or_else(fault)?;
    Ok((parts, version))
}

fn status_line(line: &[u8]) -> Result<(Vec<&[u8]>, Version), String> {
    let parts: Vec<_> = line.splitn(3, |byte| *byte == b' ').collect();
    let fault = || format!("status line {}", line.escape_ascii());
    let [version, status, ref phrase @ ..] = parts[..] else {
        return Err(fault());
    };
    let is_status = status.len() == 3 && status.iter().all(u8::is_ascii_digit);
    if !is_status || status[0] == b'0' || !phrase.iter().all(|phrase| is_text(phrase)) {
        return Err(fault());
    }
    let version = version_of(version).ok_or_else(fault)?;
    Ok((parts, version))
}

fn version_of(text: &[u8]) -> Option<Version> {
    match text {
        b"HTTP/1.0" => Some(Version::Http10),
        b"HTTP/1.1" => Some(Version::Http11),
        _ => None,
    }
}

fn check_host(target: &[u8], version: Version, fields: &[Field<'_>]) -> Result<(), String> {
    let needs = version == Version::Http11 && (target.starts_with(b"/") || target == b"*");
    match values(fields, b"host").count() {
        0 if needs => Err("no Host".to_owned()),
        0 | 1 => Ok(()),
        n_hosts => Err(format!("{n_hosts} Hosts")),
    }
}

fn has_no_body(method: &Method, status: &[u8]) -> bool {
    *method == Method::HEAD
        || (*method == Method::CONNECT && status[0] == b'2')
        || matches!(status, [b'1', ..] | b"204" | b"304")
}

/// One length or one coding.
fn framing(fields: &[Field<'_>], version: Version) -> Result<Option<Framing>, String> {
    let lengths: Vec<_> = values(fields, b"content-length").collect();
    let codings: Vec<_> = values(fields, b"transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([], [coding]) if version == Version::Http11 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Some(Framing::Chunked))
        }
        ([length], [])
            if (1..20).contains(&length.len()) && length.iter().all(u8::is_ascii_digit) =>
        {
            let length = String::from_utf8_lossy(length).parse::<i64>();
            Ok(Some(match length.map_err(|error| error.to_string())? {
                0 => Framing::None,
                length => Framing::Length(length.unsigned_abs()),
            }))
        }
        _ => Err("lengths and codings".to_owned()),
    }
}

fn keeps_alive(fields: &[Field<'_>], version: Version) -> bool {
    let has = |wanted: &[u8]| {
        values(fields, b"connection")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|option| trim(option).eq_ignore_ascii_case(wanted))
    };
    !has(b"close") && (version == Version::Http11 || has(b"keep-alive"))
}

impl<'a> Seen<'a> {
    fn take_body(&mut self, wire: &'a [u8], start: usize) {
        let rest = &wire[start..];
        match self.framing {
            Framing::None => self.end = Some(start),
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.body = rest[..length.min(rest.len())].to_vec();
                self.end = (length <= rest.len()).then(|| start + length);
            }
            Framing::UntilClose => {
                self.body = rest.to_vec();
                self.end = Some(wire.len());
            }
            Framing::Chunked => {
                let mut left = rest;
                if self.take_chunks(&mut left).is_some() {
                    self.end = Some(wire.len() - left.len());
                }
            }
        }
    }

    /// Nothing where there is no further chunk, or where it is faulty.
    fn take_chunks(&mut self, rest: &mut &'a [u8]) -> Option<()> {
        loop {
            let line = line(rest)?;
            let n_digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
            let (digits, extension) = line.split_at(n_digits.count());
            if !extension.is_empty() && !trim(extension).starts_with(b";")
                || !is_text(extension)
                || digits.len() > 16
            {
                return None;
            }
            let digits = std::str::from_utf8(digits).ok()?;
            let size = i64::from_str_radix(digits, 16).ok()?;
            let size = usize::try_from(size).ok()?;
            if size == 0 {
                break;
            }
            let here = size.min(rest.len());
            self.body.extend_from_slice(&rest[..here]);
            *rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
        }
        loop {
            match line(rest)? {
                [] => return Some(()),
                line => self.trailers.push(field(line).ok()?),
            }
        }
    }
}

/// A line without its end, which is taken out of the input. A CR or LF that stands alone makes it
/// none.
fn line<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = find(input, b"\r\n")?;
    let line = &input[..end];
    *input = &input[end + 2..];
    (!line.contains(&b'\r') && !line.contains(&b'\n')).then_some(line)
}

fn field(line: &[u8]) -> Result<Field<'_>, String> {
    let fault = || format!("field {}", line.escape_ascii());
    let colon = find(line, b":").ok_or_else(fault)?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    if is_token(name) && is_text(value) {
        Ok((name, value))
    } else {
        Err(fault())
    }
}

fn values<'a>(fields: &[Field<'a>], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let named = fields
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| *value)
}

fn value<'a>(fields: &[Field<'a>], name: &[u8]) -> Option<&'a [u8]> {
    values(fields, name).next()
}

fn is_absolute(target: &[u8]) -> bool {
    let target = target.to_ascii_lowercase();
    target.starts_with(b"http://") || target.starts_with(b"https://")
}

fn is_token(bytes: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(fits)
}

/// No control character but tab.
fn is_text(bytes: &[u8]) -> bool {
    let fits = |byte: &u8| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f);
    bytes.iter().all(fits)
}

/// Without the white space of RFC 9110, 5.6.3 around it.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
