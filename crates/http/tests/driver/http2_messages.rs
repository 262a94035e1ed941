//! Messages from end to end: heads, small bodies, trailers, informational responses.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use lateen_http::h2::{Config, Connection, Event, Role};
use lateen_http::{
    Abort, Body, Interim, Known, Method, Request, Response, ResponseHead, ServerConfig, Value,
    Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::support::{
    Client, echo, fields, get, head, http2_only, http2_pair, pattern, post, read_all, serve_on,
    within,
};

/// Our own client does not tell of 100, so that the codec alone is the client.
#[tokio::test]
async fn continue_is_said_when_the_body_is_wanted() {
    let (go_tx, go) = tokio::sync::watch::channel(false);
    let handler = move |request: Request| {
        let mut go = go.clone();
        async move {
            go.wait_for(|go| *go).await.expect("the test goes on");
            let body = request.body.collect(10).await.map_err(|_| Abort)?;
            Ok(Response::new(200, body))
        }
    };
    let (mut near, far) = duplex(64 * 1024);
    let _served = serve_on(far, http2_only(), handler);
    let mut codec = Connection::new(Role::Client, Config::default());
    let mut request = post("/");
    let expect = "100-Continue";
    request.headers.append("expect", expect).expect("valid");
    let id = codec.send_request(&request, false).expect("first");
    let (mut heads, mut data) = (Vec::new(), Vec::new());
    let mut input = BytesMut::new();
    while data != b"abc" {
        let mut slices = [IoSlice::new(&[]); 16];
        let n = codec.output_slices(&mut slices);
        let output: Vec<u8> = slices[..n]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        within(near.write_all(&output)).await.expect("open");
        codec.advance_output(output.len());
        if !*go_tx.borrow() && codec.settings_known() {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(heads.is_empty(), "nobody has asked for the body");
            go_tx.send(true).expect("the handler waits");
        }
        within(near.read_buf(&mut input)).await.expect("open");
        codec.receive(&mut input).expect("in order");
        while let Some(event) = codec.next_event() {
            match event {
                Event::Informational { head, .. } => {
                    heads.push(head.status);
                    codec.send_data(id, "abc".into(), true).expect("open");
                }
                Event::ResponseHead { head, .. } => heads.push(head.status),
                Event::Data { data: piece, .. } => data.extend_from_slice(&piece),
                _ => {}
            }
        }
    }
    assert_eq!(heads, [100, 200]);
}

#[tokio::test]
async fn a_request_and_its_response() {
    let handler = |request: Request| async move {
        let head = &request.head;
        assert_eq!(head.version, Version::Http2);
        assert_eq!(head.authority(), "test.example");
        assert_eq!(head.target(), "/a?b=c");
        assert_eq!(head.headers.get("x-one"), Some("1"));
        assert!(request.body.is_end());
        let mut response = Response::text(201, "made");
        response.head.headers.append("X-Two", "2").expect("valid");
        Ok::<_, Abort>(response)
    };
    // Told by its preface.
    let (client, _served) = http2_pair(ServerConfig::default(), handler).await;
    let mut head = get("/a?b=c");
    head.headers.append("X-One", "1").expect("valid");
    let response = within(client.send(&head, Body::empty())).await;
    let response = response.expect("answered");
    assert_eq!(response.head.status, 201);
    assert_eq!(response.head.headers.get("x-two"), Some("2"));
    assert!(response.body.is_whole());
    let body = response.body.collect(10).await.expect("whole");
    assert_eq!(body, "made");
}

#[tokio::test]
async fn small_messages_come_as_a_whole_with_their_trailers() {
    let handler = |request: Request| async move {
        assert!(request.body.is_whole());
        let trailers = request.body.whole_trailers().expect("sent");
        assert_eq!(trailers.get("x-sum"), Some("9"));
        let data = request.body.collect(1 << 20).await.expect("whole");
        let trailers = fields(&[("grpc-status", "0"), ("Connection", "x"), ("host", "no")]);
        Ok::<_, Abort>(Response::new(200, Body::whole(data, Some(trailers))))
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    for length in [1, 255, 5000, 60_000] {
        let data = pattern(length);
        let body = Body::whole(data.clone(), Some(fields(&[("x-sum", "9")])));
        let response = within(client.send(&post("/"), body)).await;
        let response = response.expect("answered");
        assert!(response.body.is_whole(), "{length}");
        let (got, trailers) = read_all(response.body).await.expect("whole");
        assert!(got == data);
        let trailers = trailers.expect("sent");
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        assert_eq!(trailers.get("grpc-status"), Some("0"));
    }
}

#[tokio::test]
async fn trailers_alone() {
    let handler = |_: Request| async {
        let trailers = fields(&[("grpc-status", "5")]);
        Ok::<_, Abort>(Response::new(
            200,
            Body::whole(Bytes::new(), Some(trailers)),
        ))
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let response = within(client.send(&get("/"), Body::empty())).await;
    let (data, trailers) = read_all(response.expect("answered").body)
        .await
        .expect("whole");
    assert!(data.is_empty());
    assert_eq!(trailers.expect("sent").get("grpc-status"), Some("5"));
}

#[tokio::test]
async fn responses_without_a_body_keep_its_length() {
    let handler = |request: Request| async move {
        let status = match request.head.path() {
            "/none" => 204,
            "/same" => 304,
            _ => 200,
        };
        let mut response = Response::new(status, "not to be seen");
        if status != 204 {
            response.head.headers.set_number(Known::CONTENT_LENGTH, 14);
        }
        Ok::<_, Abort>(response)
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    for (method, target, length) in [
        (Method::HEAD, "/", Some("14")),
        (Method::GET, "/none", None),
        (Method::GET, "/same", Some("14")),
    ] {
        let response = within(client.send(&head(method, target), Body::empty())).await;
        let response = response.expect("answered");
        assert_eq!(response.head.headers.get(Known::CONTENT_LENGTH), length);
        assert!(response.body.is_end(), "{target}");
    }
}

#[tokio::test]
async fn informational_responses_come_before_the_response() {
    let upstream = |request: Request| async move {
        let interim = request.interim.expect("set");
        let mut early = ResponseHead::new(103);
        early.headers.append("link", "</a>").expect("valid");
        interim.send(&early);
        interim.send(&ResponseHead::new(100));
        let response = Response::text(200, "late");
        Ok::<_, Abort>(response)
    };
    let (client, _served) = http2_pair(http2_only(), upstream).await;
    // What an interim head is given to is a request's own way back: so a proxy in between.
    let client = std::sync::Arc::new(client);
    let proxy = move |request: Request| {
        let client = client.clone();
        async move {
            let interim: Option<Interim> = request.interim;
            let sent = client.send_with(&request.head, request.body, interim.as_ref());
            Ok::<_, Abort>(sent.await.expect("answered"))
        }
    };
    let (near, far) = tokio::io::duplex(4096);
    let _proxy = serve_on(far, ServerConfig::default(), proxy);
    let mut raw = super::support::Raw(near);
    raw.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    let text = raw.read_rest().await;
    let early = text.find("HTTP/1.1 103").expect("sent");
    let last = text.find("HTTP/1.1 200").expect("sent");
    assert!(early < last && text.contains("link: </a>"), "{text}");
    assert!(
        !text.contains("HTTP/1.1 100"),
        "100 is for each hop: {text}"
    );
}

#[tokio::test]
async fn heads_may_be_large_but_not_too_large() {
    let handler = |request: Request| async move {
        let mut response = Response::text(200, "fine");
        let big = request.head.headers.value("x-big").expect("sent");
        response.head.headers.set_value("x-big", &big);
        Ok::<_, Abort>(response)
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    for (length, status) in [(50_000, 200), (61_380, 431), (50_000, 200)] {
        let mut head = get("/");
        let big = "x".repeat(length);
        head.headers.append("x-big", &big).expect("valid");
        let response = within(client.send(&head, Body::empty())).await;
        let response = response.expect("answered");
        assert_eq!(response.head.status, status);
        if status == 200 {
            assert_eq!(response.head.headers.get("x-big"), Some(big.as_str()));
        }
    }
}

#[tokio::test]
async fn many_streams_share_a_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let connecting = TcpStream::connect(address);
    let (near, far) = tokio::join!(connecting, listener.accept());
    let _served = serve_on(far.expect("accepted").0, http2_only(), echo);
    let client = Client::http2(near.expect("connected")).await;
    let client = std::sync::Arc::new(client);
    for round in 0..5 {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..90usize {
            let client = client.clone();
            tasks.spawn(async move {
                let data = pattern(n * 700 + round);
                let sent = client.send(&post("/"), Body::from(data.clone())).await;
                let (got, _) = read_all(sent.expect("answered").body).await.expect("whole");
                assert!(got == data, "{n}");
            });
        }
        while let Some(result) = within(tasks.join_next()).await {
            result.expect("no panic");
        }
    }
}

#[tokio::test]
async fn values_that_must_not_be_sent_are_not() {
    let handler = |request: Request| async move {
        let head = &request.head.headers;
        for name in [
            "connection",
            "upgrade",
            "keep-alive",
            "transfer-encoding",
            "host",
        ] {
            assert!(!head.contains(name), "{name}");
        }
        assert_eq!(head.get("te"), Some("trailers"));
        let mut response = Response::text(200, "");
        let value = Value::from_static("keep-alive");
        response.head.headers.set_value(Known::CONNECTION, &value);
        response.head.headers.set_value("Keep-Alive", &value);
        Ok::<_, Abort>(response)
    };
    let (client, _served) = http2_pair(http2_only(), handler).await;
    let mut head = get("/");
    for (name, value) in [
        ("Connection", "keep-alive"),
        ("Keep-Alive", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Host", "test.example"),
        ("TE", "trailers"),
    ] {
        head.headers.append(name, value).expect("valid");
    }
    let response = within(client.send(&head, Body::empty())).await;
    let headers = response.expect("answered").head.headers;
    assert!(!headers.contains(Known::CONNECTION) && !headers.contains("keep-alive"));
}
