//! What the engine's codecs make of bytes, driven as connections drive them.

use bytes::BytesMut;
use lateen_http::h1::{BodyDecoder, Decoded, Framing, HeadParser, Limits, ParseError};
use lateen_http::{Headers, Method, RequestHead, ResponseHead, Version};

pub(super) type Fields = Vec<(String, Vec<u8>)>;

/// Who reads.
pub(super) enum Side {
    Server,
    /// With the method of its requests.
    Client(Method),
}

#[derive(Debug)]
pub(super) enum Head {
    Request(RequestHead),
    Response(ResponseHead),
}

impl Head {
    /// What the first line says, and the authority of a request.
    pub(super) fn line(&self) -> [String; 3] {
        match self {
            Head::Request(head) => {
                [head.method.as_str(), head.authority(), head.target()].map(str::to_owned)
            }
            Head::Response(head) => [head.status.to_string(), String::new(), String::new()],
        }
    }

    pub(super) fn version(&self) -> Version {
        match self {
            Head::Request(head) => head.version,
            Head::Response(head) => head.version,
        }
    }

    pub(super) fn headers(&self) -> &Headers {
        match self {
            Head::Request(head) => &head.headers,
            Head::Response(head) => &head.headers,
        }
    }

    pub(super) fn fields(&self) -> Fields {
        copy(self.headers())
    }

    /// What follows is no HTTP any more, if the other side agrees.
    fn switches(&self, side: &Side) -> bool {
        match (self, side) {
            (Head::Request(head), _) => head.upgrade_type().is_some(),
            (Head::Response(head), Side::Client(method)) => {
                head.status == 101 || (*method == Method::CONNECT && head.status / 100 == 2)
            }
            (Head::Response(_), Side::Server) => false,
        }
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.line() == other.line()
            && self.version() == other.version()
            && self.fields() == other.fields()
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) head: Head,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Fields,
    /// Where it ends, if it does.
    pub(super) end: Option<usize>,
}

/// Why reading ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// No more bytes came, between two messages or within a head.
    Bytes,
    /// No more bytes came, within a body.
    Truncated,
    Refused(ParseError),
    /// The last message closes the connection, or it leaves HTTP.
    Last,
}

#[derive(Debug, PartialEq)]
pub(super) struct Trace {
    pub(super) messages: Vec<Message>,
    pub(super) end: End,
}

/// Reads bytes that arrive in pieces.
pub(super) fn read(side: &Side, limits: &Limits, pieces: &[&[u8]]) -> Trace {
    let mut reader = Reader {
        side,
        limits,
        parser: HeadParser::default(),
        body: None,
        input: BytesMut::new(),
        n_read: 0,
        messages: Vec::new(),
    };
    let mut end = None;
    for piece in pieces {
        reader.input.extend_from_slice(piece);
        reader.n_read += piece.len();
        end = reader.advance();
        if end.is_some() {
            break;
        }
    }
    Trace {
        end: end.unwrap_or_else(|| reader.finish()),
        messages: reader.messages,
    }
}

struct Reader<'a> {
    side: &'a Side,
    limits: &'a Limits,
    parser: HeadParser,
    /// Of the last message, while it lasts.
    body: Option<BodyDecoder>,
    input: BytesMut,
    n_read: usize,
    messages: Vec<Message>,
}

impl Reader<'_> {
    /// Reads what is there.
    fn advance(&mut self) -> Option<End> {
        loop {
            let step = match self.body.take() {
                Some(body) => self.content(body),
                None => self.head(),
            };
            match step {
                Ok(true) => {}
                Ok(false) => return None,
                Err(end) => return Some(end),
            }
        }
    }

    fn finish(&mut self) -> End {
        let Some(mut body) = self.body.take() else {
            return End::Bytes;
        };
        match body.end_of_input() {
            Ok(()) => self.ended(),
            Err(ParseError::Truncated) => End::Truncated,
            Err(error) => End::Refused(error),
        }
    }

    /// False where more bytes are needed.
    fn head(&mut self) -> Result<bool, End> {
        let (head, framing, keep_alive) = match self.side {
            Side::Server => {
                let parsed = self.parser.request(&mut self.input, self.limits);
                let Some(parsed) = parsed.map_err(End::Refused)? else {
                    return Ok(false);
                };
                let head = Head::Request(parsed.head);
                (head, parsed.framing, parsed.keep_alive)
            }
            Side::Client(method) => {
                let parsed = self.parser.response(&mut self.input, self.limits, method);
                let Some(parsed) = parsed.map_err(End::Refused)? else {
                    return Ok(false);
                };
                let head = Head::Response(parsed.head);
                (head, parsed.framing, parsed.keep_alive)
            }
        };
        self.messages.push(Message {
            head,
            framing,
            keep_alive,
            body: Vec::new(),
            trailers: Vec::new(),
            end: None,
        });
        self.body = Some(BodyDecoder::new(framing));
        Ok(true)
    }

    fn content(&mut self, mut body: BodyDecoder) -> Result<bool, End> {
        let message = self.messages.last_mut().expect("whose body it is");
        let done = body.is_done();
        let decoded = body.decode(&mut self.input).map_err(End::Refused)?;
        assert!(!done || matches!(decoded, Decoded::End));
        let more = match decoded {
            Decoded::Data(data) => {
                assert!(!data.is_empty(), "data that is none");
                message.body.extend_from_slice(&data);
                true
            }
            Decoded::Trailers(trailers) => {
                assert!(body.is_done());
                message.trailers = copy(&trailers);
                true
            }
            Decoded::More => false,
            Decoded::End => {
                assert!(body.is_done());
                return match self.ended() {
                    End::Bytes => Ok(true),
                    end => Err(end),
                };
            }
        };
        self.body = Some(body);
        Ok(more)
    }

    /// The message is complete; `End::Bytes` where another may follow.
    fn ended(&mut self) -> End {
        let message = self.messages.last_mut().expect("the one that has ended");
        message.end = Some(self.n_read - self.input.len());
        let interim = matches!(&message.head, Head::Response(head) if head.is_informational());
        if message.head.switches(self.side) || !(message.keep_alive || interim) {
            End::Last
        } else {
            End::Bytes
        }
    }
}

fn copy(headers: &Headers) -> Fields {
    headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect()
}
