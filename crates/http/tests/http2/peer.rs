//! The `h2` crate as the other side, in both roles.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use lateen_http::h2::{Code, Config, Connection, Event, Role, StreamId};
use lateen_http::{Headers, Method, RequestHead, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::raw::drain;

/// Moves bytes between a connection of ours and its peer, and shows each event.
async fn drive(
    connection: &mut Connection,
    io: &mut DuplexStream,
    mut on_event: impl FnMut(&mut Connection, Event),
    done: impl Fn(&Connection) -> bool,
) {
    let mut input = BytesMut::new();
    loop {
        while let Some(event) = connection.next_event() {
            on_event(connection, event);
        }
        let output = drain(connection);
        io.write_all(&output).await.expect("the peer is there");
        if connection.is_closed() || done(connection) {
            return;
        }
        if io.read_buf(&mut input).await.expect("the peer is there") == 0 {
            connection.receive_eof();
        } else {
            connection.receive(&mut input).expect("no protocol error");
        }
    }
}

/// Sends back what comes: the fields of the request, its body, its trailers.
fn echo(connection: &mut Connection, event: Event) {
    match event {
        Event::RequestHead { id, head, end } => {
            let mut response = ResponseHead::new(200);
            response.headers = head.headers.clone();
            response
                .headers
                .append("x-path", head.target())
                .expect("valid");
            let hint = ResponseHead::new(103);
            connection.send_informational(id, &hint).expect("open");
            connection.send_response(id, &response, end).expect("open");
        }
        Event::Data { id, data, end } => {
            connection.release(id, data.len());
            connection.send_data(id, data, end).expect("open");
        }
        Event::Trailers { id, headers } => {
            connection.send_trailers(id, &headers).expect("open");
        }
        _ => {}
    }
}

/// Sizes that meet every border: empty, small, a frame, more than a frame, more than a window.
const SIZES: [usize; 7] = [0, 1, 2049, 16_384, 16_385, 100_000, 700_000];

fn body(n: usize) -> Bytes {
    (0..n).map(|at| (at % 251) as u8).collect()
}

async fn ask(client: h2::client::SendRequest<Bytes>, n: usize, size: usize) {
    let mut client = client.ready().await.expect("open");
    let request = http::Request::post(format!("http://example.com/echo/{n}"))
        .header("x-number", n.to_string())
        .header("x-always", "the same")
        .header("cookie", "a=b")
        .body(())
        .expect("valid");
    let (response, mut stream) = client.send_request(request, false).expect("sent");
    stream.send_data(body(size), false).expect("sent");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-checksum", size.into());
    stream.send_trailers(trailers).expect("sent");
    let response = response.await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-number"], n.to_string());
    assert_eq!(response.headers()["x-path"], format!("/echo/{n}"));
    let mut incoming = response.into_body();
    let mut got = BytesMut::new();
    while let Some(data) = incoming.data().await {
        let data = data.expect("whole");
        incoming
            .flow_control()
            .release_capacity(data.len())
            .expect("taken");
        got.extend_from_slice(&data);
    }
    assert!(got == body(size), "{size}");
    let trailers = incoming.trailers().await.expect("whole").expect("some");
    assert_eq!(trailers["x-checksum"], size.to_string());
}

async fn serve_h2_client(builder: h2::client::Builder, config: Config) {
    let (ours, theirs) = tokio::io::duplex(10_000);
    let server = tokio::spawn(async move {
        let mut io = ours;
        let mut connection = Connection::new(Role::Server, config);
        drive(&mut connection, &mut io, echo, |_| false).await;
        assert_eq!(connection.active_streams(), 0);
    });
    let (client, connection) = builder.handshake(theirs).await.expect("settings");
    let connection = tokio::spawn(connection);
    for round in 0..3 {
        let asks = SIZES.iter().enumerate();
        let asks = asks.map(|(n, size)| ask(client.clone(), round * 10 + n, *size));
        futures::future::join_all(asks).await;
    }
    drop(client);
    connection.await.expect("no panic").expect("an orderly end");
    server.await.expect("no panic");
}

#[tokio::test]
async fn our_server_and_the_client_of_h2() {
    serve_h2_client(h2::client::Builder::new(), Config::default()).await;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(1000)
        .header_table_size(100)
        .max_frame_size(20_000);
    let config = Config {
        initial_window: 500,
        max_window: 500,
        header_table_size: 0,
        huffman: true,
        ..Config::default()
    };
    serve_h2_client(builder, config).await;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 22);
    let config = Config {
        header_table_size: 65_536,
        max_frame_size: 1 << 20,
        ..Config::default()
    };
    serve_h2_client(builder, config).await;
}

/// Answers as `echo` does, with the server of h2.
async fn h2_echo(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let mut response = http::Response::new(());
    *response.headers_mut() = request.headers().clone();
    let mut stream = respond.send_response(response, false).expect("open");
    let mut incoming = request.into_body();
    while let Some(data) = incoming.data().await {
        let data = data.expect("whole");
        incoming
            .flow_control()
            .release_capacity(data.len())
            .expect("taken");
        stream.send_data(data, false).expect("open");
    }
    match incoming.trailers().await.expect("whole") {
        Some(trailers) => stream.send_trailers(trailers).expect("open"),
        None => stream.send_data(Bytes::new(), true).expect("open"),
    }
}

fn ask_h2(connection: &mut Connection, n: usize, size: usize) -> StreamId {
    let mut request = RequestHead::new(Method::POST, "example.com", "/echo").expect("valid");
    for (name, value) in [
        ("x-number", n.to_string()),
        ("X-Always", "the same".to_owned()),
    ] {
        request.headers.append(name, value).expect("valid");
    }
    let id = connection
        .send_request(&request, false)
        .expect("there is room");
    let whole = body(size);
    for part in whole.chunks(30_000) {
        let part = Bytes::copy_from_slice(part);
        connection.send_data(id, part, false).expect("open");
    }
    let mut trailers = Headers::new();
    trailers
        .append("x-checksum", size.to_string())
        .expect("valid");
    connection.send_trailers(id, &trailers).expect("open");
    id
}

/// What came back on one stream.
#[derive(Debug, Default)]
struct Answer {
    number: String,
    body: BytesMut,
    checksum: String,
}

async fn call_h2_server(builder: h2::server::Builder, config: Config) {
    let (mut ours, theirs) = tokio::io::duplex(10_000);
    let server = tokio::spawn(async move {
        let mut connection = builder
            .handshake::<_, Bytes>(theirs)
            .await
            .expect("settings");
        while let Some(request) = connection.accept().await {
            let (request, respond) = request.expect("a request");
            tokio::spawn(h2_echo(request, respond));
        }
    });
    let mut connection = Connection::new(Role::Client, config);
    // The server of h2 holds us to its windows before we can know them.
    drive(
        &mut connection,
        &mut ours,
        |_, _| (),
        Connection::settings_known,
    )
    .await;
    for round in 0..3 {
        let mut answers: HashMap<StreamId, Answer> = HashMap::new();
        let asked: Vec<(StreamId, usize)> = SIZES
            .iter()
            .map(|size| (ask_h2(&mut connection, round, *size), *size))
            .collect();
        let take = |connection: &mut Connection, event: Event| match event {
            Event::ResponseHead { id, head, .. } => {
                let number = head.headers.get("x-number").expect("echoed");
                answers.entry(id).or_default().number = number.to_owned();
            }
            Event::Data { id, data, .. } => {
                connection.release(id, data.len());
                answers.entry(id).or_default().body.extend_from_slice(&data);
            }
            Event::Trailers { id, headers } => {
                let checksum = headers.get("x-checksum").expect("echoed");
                answers.entry(id).or_default().checksum = checksum.to_owned();
            }
            Event::Reset { id, code, .. } => panic!("{id} was reset: {code}"),
            _ => {}
        };
        drive(&mut connection, &mut ours, take, |c| {
            c.active_streams() == 0
        })
        .await;
        for event in std::iter::from_fn(|| connection.next_event()) {
            assert!(!matches!(event, Event::Reset { .. }));
        }
        for (id, size) in asked {
            let answer = &answers[&id];
            assert_eq!(answer.number, round.to_string());
            assert!(answer.body == body(size), "{size}");
            assert_eq!(answer.checksum, size.to_string());
        }
    }
    connection.go_away(Code::NO_ERROR);
    let output = drain(&mut connection);
    ours.write_all(&output).await.expect("the peer is there");
    assert!(connection.is_closed());
    drop(ours);
    server.await.expect("no panic");
}

#[tokio::test]
async fn our_client_and_the_server_of_h2() {
    call_h2_server(h2::server::Builder::new(), Config::default()).await;
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(1000)
        .max_frame_size(20_000)
        .enable_connect_protocol();
    let config = Config {
        initial_window: 500,
        max_window: 500,
        header_table_size: 100,
        huffman: true,
        ..Config::default()
    };
    call_h2_server(builder, config).await;
}
