use hickory_proto::op::{Edns, Message, Query as Question};
use hickory_proto::rr::{Name, RData, RecordType};

use super::table::tests::table;
use super::*;

/// A resolver of the test's own: it knows `up.example.org`, fails for `broken.example.org`, and says
/// that nothing else is there. Its answers to TXT are too long for UDP.
async fn resolver() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let address = udp.local_addr().expect("bound");
    let tcp = TcpListener::bind(address).await.expect("loopback");
    tokio::spawn(async move {
        let mut buffer = vec![0; QUERY_MAX];
        while let Ok((n, client)) = udp.recv_from(&mut buffer).await {
            // Somebody else's guess comes first.
            let mut forged = respond(&buffer[..n]).to_vec().expect("encodes");
            forged[0] ^= 1;
            let _ = udp.send_to(&forged, client).await;
            let answer = answer::encode(&respond(&buffer[..n]), 512);
            send(&udp, answer, client).await;
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let query = read_message(&mut stream).await.expect("a query");
            let answer = respond(&query).to_vec().expect("encodes");
            write_message(&mut stream, &answer).await.expect("open");
        }
    });
    address
}

fn respond(query: &[u8]) -> Message {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, TXT};
    let query = Message::from_vec(query).expect("a query");
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    let question = query.queries[0].clone();
    let name = question.name().clone();
    answer.add_query(question.clone());
    match (name.to_ascii().as_str(), question.query_type()) {
        ("up.example.org.", RecordType::A) => {
            let data = RData::A(A([203, 0, 113, 9].into()));
            answer.add_answer(Record::from_rdata(name, 60, data));
        }
        ("up.example.org.", RecordType::TXT) => {
            for _ in 0..9 {
                let data = RData::TXT(TXT::new(vec!["x".repeat(200)]));
                answer.add_answer(Record::from_rdata(name.clone(), 60, data));
            }
        }
        ("broken.example.org.", _) => answer.metadata.response_code = ResponseCode::ServFail,
        _ => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer
}

/// A server of these hosts, and where it is.
async fn serve(hosts: &[(&str, &str)], servers: &[SocketAddr], parallel: bool) -> SocketAddr {
    let config = DnsConfig {
        listen: DnsConfig::addresses("127.0.0.1:0").expect("an address"),
        timeout: Duration::from_secs(60),
        parallel,
    };
    let resolv = Resolv {
        servers: servers.to_vec(),
        search: Vec::new(),
    };
    let (tables_tx, tables) = watch::channel(Arc::new(table(hosts)));
    let mut tries = 0;
    // The port that is free for datagrams may be taken for connections.
    let dns = loop {
        match Dns::bind(&config, &resolv, tables.clone()).await {
            Ok(dns) => break dns,
            Err(error) => assert!(tries < 20, "{error}"),
        }
        tries += 1;
    };
    let address = dns.sockets[0].0.local_addr().expect("bound");
    tokio::spawn(async move {
        dns.serve().await;
        drop(tables_tx);
    });
    address
}

/// `::` takes IPv4 as well, unless it is told not to, and would find its port taken.
#[tokio::test]
async fn every_address_of_both_families_is_one_of_two() {
    let free = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let config = DnsConfig {
        listen: DnsConfig::addresses(&format!(":{port}")).expect("addresses"),
        timeout: Duration::from_secs(60),
        parallel: false,
    };
    let (_tables_tx, tables) = watch::channel(Arc::new(table(&[])));
    let dns = Dns::bind(&config, &Resolv::default(), tables).await;
    let families = dns.expect("bound").sockets.len();
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    assert_eq!(families, 1 + usize::from(has_v6));
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    let name = Name::from_ascii(format!("{name}.")).expect("a name");
    query.add_query(Question::query(name, kind));
    query.metadata.recursion_desired = true;
    query
}

async fn by_udp(server: SocketAddr, query: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let bytes = query.to_vec().expect("encodes");
    socket.send_to(&bytes, server).await.expect("sent");
    let mut buffer = vec![0; 65_535];
    let (n, from) = socket.recv_from(&mut buffer).await.expect("an answer");
    assert_eq!(from, server);
    let answer = Message::from_vec(&buffer[..n]).expect("a message");
    assert_eq!(answer.metadata.id, query.metadata.id);
    answer
}

async fn by_tcp(server: SocketAddr, query: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.expect("listening");
    let bytes = query.to_vec().expect("encodes");
    write_message(&mut stream, &bytes).await.expect("open");
    let answer = read_message(&mut stream).await.expect("an answer");
    Message::from_vec(&answer).expect("a message")
}

/// The code and the data of an answer, sorted.
fn said(answer: &Message) -> String {
    let mut data: Vec<_> = answer.answers.iter().map(|r| r.data.to_string()).collect();
    data.sort();
    format!("{:?} {}", answer.metadata.response_code, data.join(" "))
}

const HOSTS: &[(&str, &str)] = &[
    ("web.default.svc.cluster.local", "10.96.0.1 fd00::1"),
    ("api.example.com", "240.240.0.1"),
];

#[tokio::test]
async fn hosts_of_the_mesh_are_answered_and_others_are_asked_elsewhere() {
    let resolver = resolver().await;
    for parallel in [false, true] {
        let server = serve(HOSTS, &[resolver], parallel).await;
        for (name, kind, expect) in [
            ("web", RecordType::A, "NoError 10.96.0.1"),
            ("WEB.Default", RecordType::A, "NoError 10.96.0.1"),
            (
                "web.default.svc.cluster.local",
                RecordType::AAAA,
                "NoError fd00::1",
            ),
            (
                "api.example.com.default.svc.cluster.local",
                RecordType::A,
                "NoError 240.240.0.1 api.example.com.",
            ),
            // It is there, and has no address of that family.
            ("api.example.com", RecordType::AAAA, "NoError "),
            // Nor anything else that others know of.
            ("api.example.com", RecordType::MX, "NoError "),
            ("up.example.org", RecordType::A, "NoError 203.0.113.9"),
            ("up.example.org", RecordType::AAAA, "NXDomain "),
            ("web.elsewhere", RecordType::A, "NXDomain "),
            ("broken.example.org", RecordType::A, "ServFail "),
        ] {
            let query = query(name, kind);
            for answer in [by_udp(server, &query).await, by_tcp(server, &query).await] {
                assert_eq!(said(&answer), expect, "{name} {kind}");
                let ours = name.contains("web.d") || name == "web" || expect.contains("240.");
                assert!(!ours || answer.metadata.authoritative, "{name} {kind}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_without_room_is_fetched_over_tcp() {
    let many: Vec<_> = (0..100).map(|n| format!("10.0.0.{n}")).collect();
    let many = many.join(" ");
    let hosts = [("many.example.com", many.as_str())];
    let server = serve(&hosts, &[resolver().await], false).await;
    let mut asked = query("many.example.com", RecordType::A);
    let answer = by_udp(server, &asked).await;
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    assert_eq!(by_tcp(server, &asked).await.answers.len(), 100);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    asked.set_edns(edns);
    let answer = by_udp(server, &asked).await;
    assert!(!answer.metadata.truncation && answer.edns.is_some());
    assert_eq!(answer.answers.len(), 100);
    // What others cannot say over UDP either.
    let asked = query("up.example.org", RecordType::TXT);
    assert!(by_udp(server, &asked).await.metadata.truncation);
    assert_eq!(by_tcp(server, &asked).await.answers.len(), 9);
}

#[tokio::test]
async fn a_resolver_that_fails_is_no_end() {
    let good = resolver().await;
    // Nobody is there any more.
    let gone = {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        socket.local_addr().expect("bound")
    };
    for parallel in [false, true] {
        let server = serve(HOSTS, &[gone, good], parallel).await;
        let answer = by_udp(server, &query("up.example.org", RecordType::A)).await;
        assert_eq!(said(&answer), "NoError 203.0.113.9");
    }
    let server = serve(HOSTS, &[], false).await;
    let answer = by_udp(server, &query("up.example.org", RecordType::A)).await;
    assert_eq!(said(&answer), "ServFail ");
    let answer = by_udp(server, &query("web", RecordType::A)).await;
    assert_eq!(said(&answer), "NoError 10.96.0.1");
}

#[tokio::test]
async fn sockets_that_wait_for_an_answer_are_known_by_their_ports() {
    // What capture that does not know us brings back comes from the port that it was sent from.
    let back = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let address = back.local_addr().expect("bound");
    let upstream = Upstream::new(
        &[address],
        &DnsConfig {
            listen: Vec::new(),
            timeout: Duration::from_secs(60),
            parallel: false,
        },
    );
    let asked = query("up.example.org", RecordType::A)
        .to_vec()
        .expect("encodes");
    let asking = upstream.ask(&asked, 512, Over::Udp);
    let seen = async {
        let mut buffer = vec![0; QUERY_MAX];
        let (n, client) = back.recv_from(&mut buffer).await.expect("a query");
        assert!(upstream.is_own(client, Over::Udp));
        assert!(!upstream.is_own(client, Over::Tcp));
        let answer = respond(&buffer[..n]).to_vec().expect("encodes");
        back.send_to(&answer, client).await.expect("sent");
        client
    };
    let (answer, client) = tokio::join!(asking, seen);
    assert!(answer.is_some());
    assert!(!upstream.is_own(client, Over::Udp), "nothing is waited for");
}

#[tokio::test]
async fn a_query_that_comes_back_is_refused() {
    let bound = bind("127.0.0.1:0".parse().expect("an address"));
    let bound = bound.await.expect("loopback");
    let itself = bound.0.local_addr().expect("bound");
    let other = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let servers = [itself, other.local_addr().expect("bound")];
    let config = DnsConfig {
        listen: Vec::new(),
        timeout: Duration::from_secs(60),
        parallel: false,
    };
    let (_tables_tx, tables) = watch::channel(Arc::new(table(HOSTS)));
    let dns = Dns {
        server: Arc::new(Server {
            tables,
            upstream: Upstream::new(&servers, &config),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
        }),
        sockets: vec![bound],
    };
    let serving = tokio::spawn(dns.serve());
    let asked = query("broken.example.org", RecordType::A);
    let answering = async {
        let mut buffer = vec![0; QUERY_MAX];
        let mut seen = 0;
        loop {
            let (n, client) = other.recv_from(&mut buffer).await.expect("a query");
            seen += 1;
            // Were it asked on and on, there would be one for every round.
            assert_eq!(seen, 1, "the query went around");
            let answer = respond(&buffer[..n]).to_vec().expect("encodes");
            other.send_to(&answer, client).await.expect("sent");
        }
    };
    let answer = tokio::select! {
        answer = by_udp(itself, &asked) => answer,
        () = answering => unreachable!("it goes on"),
    };
    assert_eq!(said(&answer), "ServFail ");
    serving.abort();
}

#[test]
fn a_pod_may_lack_a_family() {
    for (error, expect) in [
        (libc::EAFNOSUPPORT, true),
        (libc::EADDRNOTAVAIL, true),
        (libc::EADDRINUSE, false),
        (libc::EACCES, false),
    ] {
        let error = io::Error::from_raw_os_error(error);
        assert_eq!(is_absent(&error), expect, "{error}");
    }
}

#[tokio::test]
async fn what_is_no_query_is_not_answered_and_what_cannot_be_read_is_refused() {
    let server = serve(HOSTS, &[], false).await;
    let mut two = query("web", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(said(&by_udp(server, &two).await), "FormErr ");
    let mut notify = query("web", RecordType::A);
    notify.metadata.op_code = hickory_proto::op::OpCode::Notify;
    assert_eq!(said(&by_udp(server, &notify).await), "NotImp ");
    // Neither of these ends the server, nor has an answer.
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let response = Message::response(7, hickory_proto::op::OpCode::Query);
    for bytes in [&b""[..], b"x", &response.to_vec().expect("encodes")] {
        socket.send_to(bytes, server).await.expect("sent");
    }
    let answer = by_udp(server, &query("web", RecordType::A)).await;
    assert_eq!(said(&answer), "NoError 10.96.0.1");
    let nothing = socket.try_recv(&mut [0; 512]);
    assert!(nothing.is_err(), "{nothing:?}");
}
