//! The rules at work: real connections in network namespaces of the test's own.
//!
//! Each test runs in a thread that has left the machine's network namespace, so it needs
//! CAP_SYS_ADMIN; without it the tests fail and say so. The namespace goes with the thread.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;
use std::time::Duration;

use lateen_capture::config::Dns;
use lateen_capture::nft::{
    Batch, Chain, ChainType, Family, Hook, L4, Policy, Rule, Table, Verdict, ct_state, priority,
};
use lateen_capture::{
    Config, Ranges, apply, cleanup, iptables, is_applied, original_dst, validate,
};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 7);
const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);
/// The other end of the pod's interface, as the node has it.
const FAR: &str = "far0";
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs `test` in a network namespace with `lo` up and a pod's address on an interface `eth0`,
/// which has the default route.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("network tests need root (CAP_SYS_ADMIN) for a namespace");
        set_up_links();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn set_up_links() {
    // Without the wait for other holders of an address, which nobody else could be.
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("IPv6 is there");
    links(|handle| async move {
        let pair = rtnetlink::LinkVeth::new("eth0", FAR).build();
        handle
            .link()
            .add(pair)
            .execute()
            .await
            .expect("a pair of interfaces");
        for name in ["lo", "eth0", FAR] {
            up(&handle, name).await;
        }
        let eth0 = index("eth0");
        for (address, length) in [(IpAddr::V4(POD), 24), (IpAddr::V6(POD_V6), 64)] {
            let request = handle.address().add(eth0, address, length);
            request.execute().await.expect("an address");
        }
        let four = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new().output_interface(eth0);
        handle
            .route()
            .add(four.build())
            .execute()
            .await
            .expect("a default route");
        let six = rtnetlink::RouteMessageBuilder::<Ipv6Addr>::new().output_interface(eth0);
        handle
            .route()
            .add(six.build())
            .execute()
            .await
            .expect("a default route for IPv6");
    });
}

/// Changes interfaces of the current namespace.
fn links<F: Future<Output = ()>>(change: impl FnOnce(rtnetlink::Handle) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
        tokio::spawn(connection);
        change(handle).await;
    });
}

async fn up(handle: &rtnetlink::Handle, name: &str) {
    let message = rtnetlink::LinkUnspec::new_with_name(name).up().build();
    let result = handle.link().set(message).execute().await;
    result.unwrap_or_else(|error| panic!("{name} up: {error}"));
}

fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("the interface is there")
}

fn listen(address: impl Into<IpAddr>, port: u16) -> TcpListener {
    TcpListener::bind((address.into(), port)).expect("the port is free in a new namespace")
}

fn dial(to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&to.into(), PATIENCE)
}

/// A connection as the proxy makes it.
fn dial_marked(from: Option<Ipv4Addr>, to: impl Into<SocketAddr>) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_mark(1337)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    socket.connect_timeout(&to.into().into(), PATIENCE)?;
    Ok(socket)
}

/// Accepts at once, or tells that nobody came.
fn accepted(listener: &TcpListener) -> Option<SocketAddr> {
    listener.set_nonblocking(true).expect("a socket option");
    let (stream, _) = listener.accept().ok()?;
    Some(original_dst(&stream).expect("the kernel tracks the connection"))
}

fn with_config(config: Config, test: impl FnOnce() + Send + 'static) {
    in_namespace(move || {
        apply(&config).expect("the kernel takes the rules");
        test();
    });
}

#[test]
fn an_outbound_connection_reaches_the_proxy_and_its_destination_is_known() {
    with_config(Config::default(), || {
        let proxy = listen(Ipv4Addr::UNSPECIFIED, 15001);
        let mut client = dial(([198, 51, 100, 7], 9080)).expect("captured");
        proxy.set_nonblocking(false).expect("a socket option");
        let (mut server, _) = proxy.accept().expect("the connection is here");
        assert_eq!(
            original_dst(&server).expect("tracked"),
            ([198, 51, 100, 7], 9080).into()
        );
        client.write_all(b"ping").expect("write");
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).expect("read");
        assert_eq!(&buffer, b"ping");
    });
}

#[test]
fn the_proxys_own_connections_are_left_alone() {
    with_config(Config::default(), || {
        let proxy = listen(Ipv4Addr::UNSPECIFIED, 15001);
        let inbound = listen(Ipv4Addr::UNSPECIFIED, 15006);
        let app = listen(Ipv4Addr::UNSPECIFIED, 9080);
        // By its source on the way to the application …
        dial_marked(Some(Ipv4Addr::new(127, 0, 0, 6)), (POD, 9080))
            .expect("straight to the application");
        assert_eq!(accepted(&app), Some((POD, 9080).into()));
        // … and by its mark on the way out, where nobody answers.
        assert!(dial_marked(None, ([198, 51, 100, 7], 9080)).is_err());
        assert_eq!((accepted(&proxy), accepted(&inbound)), (None, None));
        // To the pod itself it comes back in like any other.
        dial_marked(None, (POD, 9080)).expect("through the inbound port");
        assert_eq!(accepted(&inbound), Some((POD, 9080).into()));
    });
}

#[test]
fn the_proxy_is_also_known_by_its_user() {
    let config = Config {
        proxy_mark: None,
        ..Config::default()
    };
    with_config(config, || {
        let proxy = listen(Ipv4Addr::UNSPECIFIED, 15001);
        let dial_as = |uid: u32| {
            // The user of the thread's file system rights is that of the sockets it makes.
            nix::unistd::setfsuid(uid.into());
            let result = TcpStream::connect_timeout(&([198, 51, 100, 7], 80).into(), PATIENCE / 6);
            nix::unistd::setfsuid(0.into());
            (result.is_ok(), accepted(&proxy).is_some())
        };
        assert_eq!(dial_as(1337), (false, false));
        assert_eq!(dial_as(1338), (true, true));
    });
}

#[test]
fn groups_are_captured_or_left_alone() {
    for (only, except, captured) in [
        (None, vec![7], [false, true]),
        (Some(vec![7, 8]), vec![], [true, false]),
        (Some(vec![]), vec![], [false, false]),
    ] {
        let config = Config {
            owner_groups: only.map_or(Ranges::All, Ranges::Only),
            exclude_owner_groups: except,
            ..Config::default()
        };
        with_config(config, move || {
            let proxy = listen(Ipv4Addr::UNSPECIFIED, 15001);
            let found = [7, 9].map(|gid: u32| {
                // As with users, above.
                nix::unistd::setfsgid(gid.into());
                let result =
                    TcpStream::connect_timeout(&([198, 51, 100, 7], 80).into(), PATIENCE / 6);
                nix::unistd::setfsgid(0.into());
                assert_eq!(accepted(&proxy).is_some(), result.is_ok());
                result.is_ok()
            });
            assert_eq!(found, captured);
        });
    }
}

#[test]
fn an_inbound_connection_reaches_the_proxy_unless_its_port_is_excluded() {
    with_config(Config::default(), || {
        let inbound = listen(Ipv4Addr::UNSPECIFIED, 15006);
        let app = listen(Ipv4Addr::UNSPECIFIED, 9080);
        let status = listen(Ipv4Addr::UNSPECIFIED, 15021);
        let (away_tx, away_rx) = channel();
        let (home_tx, home_rx) = channel();
        let client = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root");
            away_tx
                .send(File::open("/proc/thread-self/ns/net").expect("a namespace"))
                .expect("sent");
            home_rx.recv().expect("the interface has arrived");
            links(|handle| async move {
                up(&handle, FAR).await;
                let request = handle.address().add(index(FAR), [10, 244, 0, 1].into(), 24);
                request.execute().await.expect("an address");
            });
            [9080, 15021].map(|port| dial((POD, port)).is_ok())
        });
        let away = away_rx.recv().expect("a namespace");
        links(|handle| async move {
            let message = rtnetlink::LinkUnspec::new_with_name(FAR).setns_by_fd(away.as_raw_fd());
            handle
                .link()
                .set(message.build())
                .execute()
                .await
                .expect("moved");
        });
        home_tx.send(()).expect("the client waits");
        assert_eq!(client.join().expect("the client ends"), [true, true]);
        assert_eq!(accepted(&inbound), Some((POD, 9080).into()));
        assert_eq!(accepted(&app), None);
        assert!(accepted(&status).is_some());
    });
}

#[test]
fn ipv6_is_captured_too() {
    with_config(Config::default(), || {
        let proxy = listen(Ipv6Addr::UNSPECIFIED, 15001);
        let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        dial((far, 80)).expect("captured");
        assert_eq!(accepted(&proxy), Some((far, 80).into()));
        // The same listener takes IPv4.
        dial(([198, 51, 100, 7], 81)).expect("captured");
        assert_eq!(accepted(&proxy), Some(([198, 51, 100, 7], 81).into()));
    });
}

#[test]
fn the_proxy_connects_to_its_application_by_ipv6() {
    with_config(Config::default(), || {
        let inbound = listen(Ipv6Addr::UNSPECIFIED, 15006);
        let app = listen(Ipv6Addr::UNSPECIFIED, 9080);
        let dial_marked = |from: Option<Ipv6Addr>| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
            socket.set_mark(1337)?;
            if let Some(from) = from {
                socket.bind(&SocketAddr::from((from, 0)).into())?;
            }
            socket.connect_timeout(&SocketAddr::from((POD_V6, 9080)).into(), PATIENCE)
        };
        let six = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
        dial_marked(Some(six)).expect("straight to the application");
        assert_eq!(accepted(&app), Some((POD_V6, 9080).into()));
        assert_eq!(accepted(&inbound), None);
        dial_marked(None).expect("through the inbound port");
        assert_eq!(accepted(&inbound), Some((POD_V6, 9080).into()));
        cleanup().expect("the kernel takes it");
        assert!(dial_marked(Some(six)).is_err(), "the address is gone");
    });
}

#[test]
fn the_applications_loopback_is_its_own() {
    with_config(Config::default(), || {
        let proxy = listen(Ipv4Addr::UNSPECIFIED, 15001);
        let app = listen(Ipv4Addr::UNSPECIFIED, 9080);
        dial((Ipv4Addr::LOCALHOST, 9080)).expect("loop-back");
        dial((POD, 9080)).expect("its own address");
        assert!(accepted(&app).is_some() && accepted(&app).is_some());
        assert_eq!(accepted(&proxy), None);
    });
}

#[test]
fn excluded_and_included_destinations() {
    let config = Config {
        outbound_ranges: Ranges::Only(vec!["198.51.100.0/24".parse().expect("a CIDR")]),
        exclude_outbound_ranges: vec!["198.51.100.128/25".parse().expect("a CIDR")],
        exclude_outbound_ports: vec![25],
        outbound_ports: vec![7070],
        ..Config::default()
    };
    with_config(config, || {
        let proxy = listen(Ipv4Addr::UNSPECIFIED, 15001);
        let captured = |address: [u8; 4], port| {
            let short = Duration::from_millis(300);
            let connected = TcpStream::connect_timeout(&(address, port).into(), short).is_ok();
            assert_eq!(accepted(&proxy).is_some(), connected);
            connected
        };
        assert!(captured([198, 51, 100, 7], 80), "an included range");
        assert!(!captured([198, 51, 100, 200], 80), "an excluded range");
        assert!(!captured([198, 51, 100, 7], 25), "an excluded port");
        assert!(
            !captured([203, 0, 113, 1], 80),
            "outside the included ranges"
        );
        assert!(captured([203, 0, 113, 1], 7070), "an included port");
    });
}

#[test]
fn a_rule_set_that_works_is_found_to_work_and_a_missing_one_is_not() {
    in_namespace(|| {
        let config = Config::default();
        let short = Duration::from_millis(500);
        assert!(validate(&config, 15002, short).is_err());
        apply(&config).expect("the kernel takes the rules");
        apply(&config).expect("and takes them again");
        validate(&config, 15002, short).expect("the rules work");
        cleanup().expect("removed");
        cleanup().expect("removed when there is nothing");
        let error = validate(&config, 15002, short).expect_err("no rules any more");
        assert!(error.to_string().contains("do not capture"), "{error}");
    });
}

#[test]
fn dns_is_led_to_the_proxy() {
    let server = IpAddr::from([10, 96, 0, 10]);
    let config = Config {
        dns: Dns::Servers(vec![server]),
        drop_invalid: true,
        ..Config::default()
    };
    with_config(config, move || {
        let proxy = UdpSocket::bind((Ipv4Addr::LOCALHOST, 15053)).expect("a free port");
        proxy
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        client
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        client.send_to(b"who", (server, 53)).expect("sent");
        let mut buffer = [0; 16];
        let (n, from) = proxy
            .recv_from(&mut buffer)
            .expect("the query arrives at the proxy");
        assert_eq!(&buffer[..n], b"who");
        // The answer leaves through a marked socket, as the proxy's does.
        socket2::SockRef::from(&proxy)
            .set_mark(1337)
            .expect("root may mark");
        proxy.send_to(b"you", from).expect("sent");
        let (n, from) = client.recv_from(&mut buffer).expect("the answer arrives");
        assert_eq!(
            (&buffer[..n], from),
            (&b"you"[..], (server, 53).into()),
            "from where it was asked"
        );
    });
}

/// A service: its address stands for two endpoints, by chance, and refuses other ports.
fn service_table(endpoints: &[SocketAddr], address: [u8; 4]) -> Table {
    let mut table = Table::new(Family::Ip, "services");
    table.add_chain(Chain::base(
        "output",
        ChainType::Nat,
        Hook::Output,
        priority::DSTNAT,
    ));
    let name = |i: usize| format!("endpoint-{i}");
    let jumps = (0..endpoints.len())
        .map(|i| Verdict::Jump(name(i)))
        .collect();
    for (i, endpoint) in endpoints.iter().enumerate() {
        table.add_rule(&name(i), Rule::new().l4proto(L4::Tcp).dnat(*endpoint));
    }
    let address: ipnet::IpNet = IpAddr::from(address).into();
    table.add_rule(
        "output",
        Rule::new()
            .daddr(address)
            .dport(L4::Tcp, vec![80, 8080])
            .random_of(jumps),
    );
    table.add_chain(Chain::base(
        "refuse",
        ChainType::Filter,
        Hook::Output,
        priority::FILTER,
    ));
    let refuse = Rule::new()
        .daddr(address)
        .l4proto(L4::Tcp)
        .counter()
        .reject();
    table.add_rule("refuse", refuse.comment("no such port of the service"));
    table
}

#[test]
fn a_service_address_spreads_over_its_endpoints() {
    in_namespace(|| {
        let endpoints = [SocketAddr::from((POD, 9001)), SocketAddr::from((POD, 9002))];
        Batch::new()
            .replace(&service_table(&endpoints, [10, 96, 1, 1]))
            .commit()
            .expect("taken");
        let servers = endpoints.map(|endpoint| TcpListener::bind(endpoint).expect("a free port"));
        for _ in 0..40 {
            dial(([10, 96, 1, 1], 80)).expect("reaches an endpoint");
        }
        let counts = servers
            .each_ref()
            .map(|server| std::iter::from_fn(|| accepted(server)).count());
        assert_eq!(counts.iter().sum::<usize>(), 40);
        assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
        let error = dial(([10, 96, 1, 1], 81)).expect_err("no such port");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn every_expression_is_taken() {
    in_namespace(|| {
        let mut table = Table::new(Family::Inet, "all");
        table.add_chain(
            Chain::base("post", ChainType::Nat, Hook::Postrouting, priority::SRCNAT)
                .policy(Policy::Accept),
        );
        table.add_chain(Chain::base(
            "mangle",
            ChainType::Route,
            Hook::Output,
            priority::MANGLE,
        ));
        table.add_chain(Chain::base(
            "pre",
            ChainType::Nat,
            Hook::Prerouting,
            priority::DSTNAT,
        ));
        let net: ipnet::IpNet = "10.244.0.0/16".parse().expect("a CIDR");
        let six: ipnet::IpNet = "fd00::/8".parse().expect("a CIDR");
        table.add_rule(
            "post",
            Rule::new()
                .saddr(net)
                .not_daddr(net)
                .oif("eth0")
                .masquerade(),
        );
        table.add_rule(
            "post",
            Rule::new().ct_status_dnat().saddr(net).snat(POD.into()),
        );
        table.add_rule(
            "mangle",
            Rule::new()
                .dport(L4::Udp, 1000..=2000)
                .set_mark(7)
                .set_ct_mark(7),
        );
        table.add_rule(
            "mangle",
            Rule::new()
                .ct_state(ct_state::ESTABLISHED | ct_state::RELATED)
                .accept(),
        );
        table.add_rule(
            "mangle",
            Rule::new()
                .ct_direction(lateen_capture::nft::Direction::Reply)
                .ct_mark(7)
                .not_mark(1)
                .ret(),
        );
        table.add_rule(
            "mangle",
            Rule::new()
                .not_saddr(six)
                .not_oif("lo")
                .skgid(5)
                .goto("rest"),
        );
        table.add_rule("rest", Rule::new().not_skgid(6).counter().drop());
        table.add_rule(
            "pre",
            Rule::new()
                .ipv6()
                .sport(L4::Tcp, 5)
                .not_skuid(0)
                .jump("rest"),
        );
        table.add_rule(
            "pre",
            Rule::new()
                .not_iif("lo")
                .random_one_in(3)
                .dport(L4::Tcp, 80)
                .dnat_address(POD.into()),
        );
        Batch::new()
            .replace(&table)
            .commit()
            .unwrap_or_else(|error| panic!("{error}"));
        if let Ok(listing) = std::process::Command::new("nft")
            .args(["list", "ruleset"])
            .output()
        {
            println!("{table}\n{}", String::from_utf8_lossy(&listing.stdout));
        }
        Batch::new()
            .flush_chain(Family::Inet, "all", "rest")
            .commit()
            .expect("flushed");
        Batch::new()
            .delete(Family::Inet, "all")
            .commit()
            .expect("deleted");
        let error = Batch::new()
            .delete(Family::Inet, "all")
            .commit()
            .expect_err("gone already");
        assert!(error.is_not_found(), "{error}");
    });
}

#[test]
fn a_batch_with_a_fault_changes_nothing_and_names_it() {
    in_namespace(|| {
        let mut table = Table::new(Family::Ip, "half");
        table.add_rule("one", Rule::new().accept());
        table.add_rule("two", Rule::new().jump("nowhere"));
        let error = Batch::new()
            .replace(&table)
            .commit()
            .expect_err("there is no such chain");
        assert!(
            error
                .to_string()
                .starts_with("add rule ip half two jump nowhere"),
            "{error}"
        );
        let error = Batch::new()
            .delete(Family::Ip, "half")
            .commit()
            .expect_err("nothing was made");
        assert!(error.is_not_found(), "{error}");
    });
}

#[test]
fn a_large_table_fits() {
    in_namespace(|| {
        let mut table = Table::new(Family::Ip, "large");
        for i in 0..1500_u16 {
            table.add_rule(
                "rules",
                Rule::new().dport(L4::Tcp, 1000 + i).counter().accept(),
            );
        }
        Batch::new().replace(&table).commit().expect("taken");
    });
}

#[test]
fn without_privileges_the_error_says_what_is_missing() {
    in_namespace(|| {
        // Capabilities belong to the thread, so no other test notices.
        caps::clear(None, caps::CapSet::Effective).expect("a thread may give up its powers");
        let error = apply(&Config::default()).expect_err("no capabilities");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    });
}

#[test]
fn whether_there_are_rules_is_told_and_changes_nothing() {
    in_namespace(|| {
        let told = || is_applied().expect("an answer");
        assert!(!told());
        assert!(!told(), "asking made something");
        let args = "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15020 \
            --run-validation --skip-rule-apply";
        let config =
            iptables::config(args.split(' ').map(Into::into), |_| None).expect("its flags");
        assert_eq!(config.exclude_inbound_ports, [15020]);
        apply(&config).expect("rules");
        assert!(told());
        validate(&config, 15002, PATIENCE).expect("they are as they were");
        cleanup().expect("no rules");
        assert!(!told());
        let error = iptables::config(["istio-iptables", "--nonesuch"].map(Into::into), |_| None);
        let error = error.expect_err("refused").to_string();
        assert!(error.contains("--nonesuch"), "{error}");
    });
}
