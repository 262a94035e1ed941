//! What the fuzz targets do with their input; the tests replay their corpora through the same.

use std::io::IoSlice;

use bytes::BytesMut;
use lateen_http::h2::{Config, Connection, Event, PREFACE, Role};
use lateen_http::hpack::{Decoder, Encoder, Field, Indexing, NameId, Sink};
use lateen_http::{Method, RequestHead, ResponseHead};

#[derive(Default)]
struct Fields(Vec<(Vec<u8>, Vec<u8>, bool)>);

impl Sink for Fields {
    fn field(&mut self, field: Field<'_>) {
        self.0
            .push((field.name.to_vec(), field.value.to_vec(), field.sensitive));
    }
}

/// Blocks, each after its length in two bytes. What can be decoded is encoded and decoded again.
pub fn hpack_decode(mut input: &[u8]) {
    let (mut decoder, mut again) = (Decoder::new(), Decoder::new());
    let mut encoder = Encoder::new(input.len().is_multiple_of(2));
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (block, rest) = rest.split_at(length);
        input = rest;
        let mut fields = Fields::default();
        if decoder.decode(block, &mut fields).is_err() {
            return;
        }
        let mut encoded = Vec::new();
        encoder.begin(&mut encoded);
        for (name, value, sensitive) in &fields.0 {
            let how = match sensitive {
                true => Indexing::Never,
                false => Indexing::Adaptive,
            };
            encoder.field(&mut encoded, (NameId::of(name), name), value, how);
        }
        let mut copy = Fields::default();
        again
            .decode(&encoded, &mut copy)
            .expect("our own encoding is valid");
        assert!(fields.0 == copy.0, "encoding and decoding is the identity");
    }
}

/// The first byte chooses the size of the pieces in which the rest arrives.
fn feed(connection: &mut Connection, input: &[u8], respond: impl Fn(&mut Connection, &Event)) {
    let Some((&step, rest)) = input.split_first() else {
        return;
    };
    let mut buffer = BytesMut::new();
    for piece in rest.chunks(usize::from(step) * 8 + 1) {
        buffer.extend_from_slice(piece);
        let alive = connection.receive(&mut buffer).is_ok();
        while let Some(event) = connection.next_event() {
            if let Event::Data { id, data, .. } = &event {
                connection.release(*id, data.len());
            }
            respond(connection, &event);
        }
        write(connection);
        if !alive {
            assert!(connection.is_closed());
            assert_eq!(connection.active_streams(), 0);
            return;
        }
    }
    connection.receive_eof();
    assert_eq!(connection.active_streams(), 0);
}

fn write(connection: &mut Connection) {
    while connection.has_output() {
        let mut slices = [IoSlice::new(&[]); 4];
        let n = connection.output_slices(&mut slices);
        assert!(n > 0, "output that is none");
        let length = slices[..n].iter().map(|slice| slice.len()).sum();
        connection.advance_output(length);
    }
}

/// A server that answers every request with its own fields and body.
pub fn h2_server(input: &[u8]) {
    let mut connection = Connection::new(Role::Server, Config::default());
    let mut preface = BytesMut::from(&PREFACE[..]);
    connection.receive(&mut preface).expect("the preface");
    feed(&mut connection, input, |connection, event| match event {
        Event::RequestHead { id, head, end } => {
            let mut response = ResponseHead::new(200);
            response.headers = head.headers.clone();
            let _ = connection.send_response(*id, &response, *end);
        }
        Event::Data { id, data, end } => {
            let _ = connection.send_data(*id, data.clone(), *end);
        }
        Event::Trailers { id, headers } => {
            let _ = connection.send_trailers(*id, headers);
        }
        _ => {}
    });
}

/// A client that has asked thrice.
pub fn h2_client(input: &[u8]) {
    let mut connection = Connection::new(Role::Client, Config::default());
    for (method, end) in [
        (Method::GET, true),
        (Method::POST, false),
        (Method::HEAD, true),
    ] {
        let request = RequestHead::new(method, "example.com", "/").expect("valid");
        connection
            .send_request(&request, end)
            .expect("there is room");
    }
    feed(&mut connection, input, |_, _| ());
}
