//! Over real sockets: splice needs them.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::pipe::kept;
use super::*;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connected = TcpStream::connect(address).await.expect("a listener");
    (connected, listener.accept().await.expect("a client").0)
}

/// A block that repeats with no power of two, so that a piece out of place is seen.
fn block(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

async fn check(prefix: &'static [u8], up: usize, down: usize) {
    let (mut client, mut near) = pair().await;
    let (mut far, mut server) = pair().await;
    let counted = Cell::new((0, 0));
    let relaying = async {
        let (moved, result) = splice(
            Bytes::from_static(prefix),
            &mut near,
            &mut far,
            Duration::ZERO,
            |sent, received| {
                let (before, other) = counted.get();
                counted.set((before + sent, other + received));
            },
        )
        .await;
        result.expect("no fault");
        assert_eq!(counted.get(), (moved.sent, moved.received));
        moved
    };
    let asking = async {
        client.write_all(&block(up)).await.expect("open");
        // The end of one direction must pass without ending the other.
        client.shutdown().await.expect("open");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("open");
        assert!(answer == block(down), "{} bytes came", answer.len());
    };
    let answering = async {
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.expect("open");
        let expected = [prefix, &block(up)].concat();
        assert!(question == expected, "{} bytes came", question.len());
        server.write_all(&block(down)).await.expect("open");
        server.shutdown().await.expect("open");
    };
    let (moved, (), ()) = tokio::join!(relaying, asking, answering);
    assert_eq!(moved.sent, (prefix.len() + up) as u64);
    assert_eq!(moved.received, down as u64);
}

#[tokio::test]
async fn both_directions_arrive_whole_and_end_apart() {
    for (prefix, up, down) in [
        (&b""[..], 0, 0),
        (b"", 1, 0),
        (b"prefix", 0, 1),
        (b"prefix", 5, 70_000),
        (b"", 3_000_000, 5),
        (b"prefix", 20_000_000, 20_000_000),
    ] {
        check(prefix, up, down).await;
        // What was used was given back.
        assert!(up + down < 1_000_000 || kept() > 0);
    }
}

#[tokio::test]
async fn a_reset_ends_both_directions() {
    let (client, mut near) = pair().await;
    let (mut far, mut server) = pair().await;
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .expect("an option");
    drop(client);
    let relayed = splice(Bytes::new(), &mut near, &mut far, Duration::ZERO, |_, _| {});
    relayed.await.1.expect_err("a reset");
    drop(far);
    assert_eq!(server.read(&mut [0]).await.expect("an end"), 0);
}

#[tokio::test]
async fn an_idle_pair_ends() {
    let (_client, mut near) = pair().await;
    let (mut far, _server) = pair().await;
    let idle = Duration::from_millis(20);
    let (moved, result) = splice(Bytes::new(), &mut near, &mut far, idle, |_, _| {}).await;
    result.expect("no fault");
    assert!(moved.ended.is_some());
}

/// Bytes that wait in a socket's queues.
fn unsent(socket: &impl AsFd) -> usize {
    let mut queued: libc::c_int = 0;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
    #[allow(unsafe_code, reason = "the call writes one valid int")]
    // SAFETY: the descriptor is open and the pointer is of the type that the request fills.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &mut queued) };
    assert_eq!(result, 0);
    usize::try_from(queued).expect("not negative")
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_sender() {
    let (mut client, mut near) = pair().await;
    let (mut far, mut server) = pair().await;
    for socket in [&client, &near, &far, &server] {
        let socket = SockRef::from(socket);
        socket.set_send_buffer_size(256 * 1024).expect("an option");
        socket.set_recv_buffer_size(256 * 1024).expect("an option");
    }
    let relaying = splice(Bytes::new(), &mut near, &mut far, Duration::ZERO, |_, _| {});
    let mut relaying = Box::pin(relaying);
    let data = block(64 * 1024);
    let mut accepted = 0;
    // Until the sender is stopped: for a while none of its bytes leaves.
    let filling = async {
        loop {
            let write = client.write(&data);
            match tokio::time::timeout(Duration::from_millis(500), write).await {
                Ok(written) => accepted += written.expect("open"),
                Err(_) => break,
            }
        }
    };
    tokio::select! {
        _ = &mut relaying => panic!("nothing ended"),
        () = filling => {}
    }
    // Two sockets' queues on each side, doubled by the kernel, and one pipe between them.
    assert!(accepted < 8 << 20, "{accepted} bytes were taken");
    assert!(unsent(&client) > 0);
    let reading = async {
        let mut got = 0;
        let mut buffer = vec![0; 64 * 1024];
        while got < accepted {
            got += server.read(&mut buffer).await.expect("open");
        }
        got
    };
    tokio::select! {
        _ = &mut relaying => panic!("nothing ended"),
        got = reading => assert_eq!(got, accepted),
    }
}
