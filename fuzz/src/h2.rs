//! Connections of HTTP/2, one for each role.

use std::io::IoSlice;

use bytes::BytesMut;
use lateen_http::h2::{Config, Connection, Event, PREFACE, Role};
use lateen_http::{Method, RequestHead, ResponseHead};

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
pub fn server(input: &[u8]) {
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
pub fn client(input: &[u8]) {
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
