//! A peer that writes frames by hand, illegal ones too, and reads what the codec answers.

use std::io::IoSlice;

use bytes::BytesMut;
use lateen_http::h2::{Code, Config, Connection, ConnectionError, Event, PREFACE, Role, StreamId};
use lateen_http::{Headers, Method, RequestHead, ResponseHead};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const PRIORITY_UPDATE: u8 = 16;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 0x20;

pub(crate) fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals that enter no table.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

fn string(block: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 127 {
        block.push(rest as u8);
    } else {
        rest -= 127;
        block.push(127);
        while rest >= 128 {
            block.push(128 | (rest & 127) as u8);
            rest >>= 7;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text.as_bytes());
}

pub(crate) const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "example.com"),
];

pub(crate) const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "example.com"),
];

pub(crate) fn with(
    fields: &[(&'static str, &'static str)],
    more: &[(&'static str, &'static str)],
) -> Vec<u8> {
    block(&[fields, more].concat())
}

/// HEADERS of a whole block.
pub(crate) fn head(id: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let flags = END_HEADERS | if end { END_STREAM } else { 0 };
    frame(HEADERS, flags, id, &block(fields))
}

pub(crate) fn word(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// What the codec wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrote {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u32,
    pub(crate) payload: Vec<u8>,
}

impl Wrote {
    pub(crate) fn number(&self) -> u32 {
        u32::from_be_bytes(
            self.payload[self.payload.len() - 4..]
                .try_into()
                .expect("four bytes"),
        )
    }
}

pub(crate) fn parse(mut bytes: &[u8]) -> Vec<Wrote> {
    let mut frames = Vec::new();
    if let Some(rest) = bytes.strip_prefix(&PREFACE[..]) {
        bytes = rest;
    }
    while !bytes.is_empty() {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        frames.push(Wrote {
            kind: bytes[3],
            flags: bytes[4],
            id: u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]),
            payload: bytes[9..9 + length].to_vec(),
        });
        bytes = &bytes[9 + length..];
    }
    frames
}

/// Everything that the connection has to write.
pub(crate) fn drain(connection: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.has_output() {
        let mut slices = [IoSlice::new(&[]); 16];
        let n = connection.output_slices(&mut slices);
        assert!(n > 0, "has output and shows none");
        let before = bytes.len();
        for slice in &slices[..n] {
            bytes.extend_from_slice(slice);
        }
        connection.advance_output(bytes.len() - before);
    }
    bytes
}

/// A connection under test, whose peer is the test.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) connection: Connection,
}

impl Peer {
    /// A server to which nothing was sent yet.
    pub(crate) fn fresh(config: Config) -> Self {
        let connection = Connection::new(Role::Server, config);
        Peer { connection }
    }

    /// A server after the exchange of settings.
    pub(crate) fn server_with(config: Config) -> Self {
        let mut peer = Peer::fresh(config);
        peer.send(PREFACE).expect("the preface");
        peer.send(&frame(SETTINGS, 0, 0, &[])).expect("settings");
        peer.send(&frame(SETTINGS, ACK, 0, &[])).expect("settings");
        peer.output();
        peer.events();
        peer
    }

    pub(crate) fn server() -> Self {
        Peer::server_with(Config::default())
    }

    /// A client after the exchange of settings.
    pub(crate) fn client() -> Self {
        let connection = Connection::new(Role::Client, Config::default());
        let mut peer = Peer { connection };
        peer.send(&frame(SETTINGS, 0, 0, &[])).expect("settings");
        peer.send(&frame(SETTINGS, ACK, 0, &[])).expect("settings");
        peer.output();
        peer.events();
        peer
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let mut input = BytesMut::from(bytes);
        self.connection.receive(&mut input)
    }

    pub(crate) fn ok(&mut self, bytes: &[u8]) {
        self.send(bytes).expect("no connection error");
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.next_event()).collect()
    }

    pub(crate) fn output(&mut self) -> Vec<Wrote> {
        parse(&drain(&mut self.connection))
    }

    /// Opens a stream with a request without a body.
    pub(crate) fn get(&mut self, method: &str) -> StreamId {
        let method = Method::new(method.as_bytes()).expect("valid");
        let request = RequestHead::new(method, "example.com", "/").expect("valid");
        self.connection
            .send_request(&request, true)
            .expect("there is room")
    }

    pub(crate) fn respond(&mut self, id: u32, status: u16, end: bool) {
        self.connection
            .send_response(StreamId::from(id), &ResponseHead::new(status), end)
            .expect("sendable");
    }
}

pub(crate) fn goaway_code(frames: &[Wrote]) -> Option<Code> {
    let goaway = frames.iter().find(|frame| frame.kind == GOAWAY)?;
    Some(Code(u32::from_be_bytes(
        goaway.payload[4..8].try_into().expect("four bytes"),
    )))
}

pub(crate) fn rst_code(frames: &[Wrote], id: u32) -> Option<Code> {
    let reset = frames
        .iter()
        .find(|frame| frame.kind == RST_STREAM && frame.id == id)?;
    Some(Code(reset.number()))
}

pub(crate) fn fields(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(*name, value).expect("valid");
    }
    headers
}
