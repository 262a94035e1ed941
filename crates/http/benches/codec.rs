//! What one HTTP/2 message costs the codec, in steady state: the tables are warm, as they are on a
//! connection that a proxy keeps.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use divan::{Bencher, black_box};
use lateen_http::h2::{Config, Connection, Event, Role, StreamId};
use lateen_http::hpack::{Decoder, Encoder, Field, Indexing, NameId, Sink};
use lateen_http::{Method, RequestHead, ResponseHead};

fn main() {
    divan::main();
}

/// A request as it goes from sidecar to sidecar; the identifiers change with each.
fn fields(n: u64) -> Vec<(&'static str, String)> {
    let text = |text: &str| text.to_owned();
    vec![
        (":method", text("GET")),
        (":scheme", text("http")),
        (":path", text("/productpage?user=normal")),
        (
            ":authority",
            text("productpage.default.svc.cluster.local:9080"),
        ),
        (
            "user-agent",
            text("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0"),
        ),
        (
            "accept",
            text("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ),
        ("accept-encoding", text("gzip, deflate, br")),
        ("accept-language", text("en-US,en;q=0.5")),
        ("x-forwarded-proto", text("http")),
        ("x-envoy-attempt-count", text("1")),
        ("x-request-id", format!("6f0a1c52-7d5e-4c0f-9a53-{n:012x}")),
        ("traceparent", format!("00-{n:032x}-{n:016x}-01")),
    ]
}

#[derive(Default)]
struct Sum(usize);

impl Sink for Sum {
    fn field(&mut self, field: Field<'_>) {
        self.0 += field.name.len() + field.value.len();
    }
}

fn encode(encoder: &mut Encoder, out: &mut Vec<u8>, fields: &[(&'static str, String)]) {
    encoder.begin(out);
    for (name, value) in fields {
        let name = name.as_bytes();
        encoder.field(
            out,
            (NameId::of(name), name),
            value.as_bytes(),
            Indexing::Adaptive,
        );
    }
}

#[divan::bench(args = [false, true])]
fn hpack_decode_12_fields(bencher: Bencher<'_, '_>, huffman: bool) {
    let (mut encoder, mut decoder) = (Encoder::new(huffman), Decoder::new());
    let mut block = Vec::new();
    for n in 0..4 {
        block.clear();
        encode(&mut encoder, &mut block, &fields(n));
        decoder.decode(&block, &mut Sum::default()).expect("valid");
    }
    bencher.bench_local(|| {
        let mut sum = Sum::default();
        decoder.decode(black_box(&block), &mut sum).expect("valid");
        sum.0
    });
}

#[divan::bench(args = [false, true])]
fn hpack_encode_12_fields(bencher: Bencher<'_, '_>, huffman: bool) {
    let mut encoder = Encoder::new(huffman);
    let mut out = Vec::with_capacity(4096);
    let rounds: Vec<_> = (0..1024).map(fields).collect();
    let mut n = 0;
    bencher.bench_local(|| {
        out.clear();
        n += 1;
        encode(&mut encoder, &mut out, black_box(&rounds[n % 1024]));
        out.len()
    });
}

#[divan::bench]
fn huffman_decode_64_bytes(bencher: Bencher<'_, '_>) {
    let text = b"/api/v1/namespaces/default/services/productpage?watch=true&a=42x";
    let (mut encoded, mut out) = (Vec::new(), Vec::new());
    lateen_http::hpack::huffman_encode(text, &mut encoded);
    bencher.bench_local(|| {
        out.clear();
        lateen_http::hpack::huffman_decode(black_box(&encoded), &mut out).expect("valid");
        out.len()
    });
}

fn carry(from: &mut Connection, to: &mut Connection, wire: &mut BytesMut) {
    while from.has_output() {
        let mut slices = [IoSlice::new(&[]); 16];
        let n = from.output_slices(&mut slices);
        let mut total = 0;
        for slice in &slices[..n] {
            wire.extend_from_slice(slice);
            total += slice.len();
        }
        from.advance_output(total);
    }
    to.receive(wire).expect("valid");
}

struct Pair {
    client: Connection,
    server: Connection,
    wire: BytesMut,
    heads: Vec<RequestHead>,
    response: ResponseHead,
    body: Bytes,
    n: usize,
}

impl Pair {
    fn new(body: usize) -> Self {
        let head = |n| {
            let mut all = fields(n);
            let (path, authority) = (all[2].1.clone(), all[3].1.clone());
            let mut head = RequestHead::new(Method::GET, &authority, &path).expect("valid");
            for (name, value) in all.drain(4..) {
                head.headers.append(name, value).expect("valid");
            }
            head
        };
        let mut response = ResponseHead::new(200);
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", &body.to_string()),
            ("server", "istio-envoy"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("x-envoy-upstream-service-time", "3"),
        ] {
            response.headers.append(name, value).expect("valid");
        }
        let mut pair = Pair {
            client: Connection::new(Role::Client, Config::default()),
            server: Connection::new(Role::Server, Config::default()),
            wire: BytesMut::with_capacity(1 << 16),
            heads: (0..1024).map(head).collect(),
            response,
            body: Bytes::from(vec![0; body]),
            n: 0,
        };
        for _ in 0..2 {
            carry(&mut pair.client, &mut pair.server, &mut pair.wire);
            carry(&mut pair.server, &mut pair.client, &mut pair.wire);
        }
        pair
    }

    /// `streams` requests and their responses, all of them both sent and received.
    fn turn(&mut self, streams: usize) {
        self.client.clock(self.n as u64);
        for _ in 0..streams {
            self.n += 1;
            let head = &self.heads[self.n % 1024];
            self.client.send_request(head, true).expect("there is room");
        }
        carry(&mut self.client, &mut self.server, &mut self.wire);
        while let Some(event) = self.server.next_event() {
            if let Event::RequestHead { id, head, .. } = event {
                black_box(&head);
                self.server
                    .send_response(id, &self.response, false)
                    .expect("open");
                self.server
                    .send_data(id, self.body.clone(), true)
                    .expect("open");
            }
        }
        carry(&mut self.server, &mut self.client, &mut self.wire);
        while let Some(event) = self.client.next_event() {
            if let Event::Data { id, data, .. } = &event {
                self.client.release(StreamId::from(id.get()), data.len());
            }
            black_box(&event);
        }
        carry(&mut self.client, &mut self.server, &mut self.wire);
    }
}

/// A whole exchange: request encoded and decoded, response encoded and decoded, a body of 1 KiB.
/// A proxy does this once for each request, in two halves.
#[divan::bench(args = [1, 32])]
fn turn_with_1_kib(bencher: Bencher<'_, '_>, streams: usize) {
    let mut pair = Pair::new(1024);
    bencher
        .counter(divan::counter::ItemsCount::new(streams))
        .bench_local(|| pair.turn(streams));
}
