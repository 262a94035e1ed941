//! A pod's network, and all the world around it.
//!
//! Two network namespaces with a pair of interfaces between them. The pod has one address, of either
//! family. Every other address of the family is outside: whoever listens there on a port gets what is
//! sent to that port of any address, and may speak from any. So a test needs no list of addresses, and
//! what the pod's proxy does with the kernel is what it does in a pod. Where nobody listens,
//! connections are refused over IPv4; over IPv6 they are not answered.
//!
//! The namespaces go with the thread and the last socket. Needs root (CAP_SYS_ADMIN).

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// The pod's interface, and its other end.
const INSIDE: &str = "eth0";
const OUTSIDE: &str = "far0";
/// An address of the other end, for questions about hardware addresses.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The same for IPv6, where that must be of the link.
const NEIGHBOUR_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The outside of a pod's network.
#[derive(Debug)]
pub struct Network {
    outside: File,
}

impl Network {
    /// The name server of the pod, outside like all others: nobody answers unless the test does.
    pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

    /// Runs `work` in the network of a pod with this address, on a thread of its own. Threads and
    /// programs that it starts are in the same network.
    ///
    /// # Panics
    /// Without root, and where `work` panics.
    pub fn of_pod<T: Send>(
        address: impl Into<IpAddr>,
        work: impl FnOnce(&Network) -> T + Send,
    ) -> T {
        let address = address.into();
        let within = || {
            let network = Network::set_up(address);
            work(&network)
        };
        std::thread::scope(|scope| match scope.spawn(within).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs `work` outside. Sockets stay where they were made, wherever they are used.
    ///
    /// # Panics
    /// Where `work` panics.
    pub fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let within = || {
            setns(&self.outside, CloneFlags::CLONE_NEWNET).expect("the namespace is there");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(within).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    fn set_up(address: IpAddr) -> Network {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("network tests need root (CAP_SYS_ADMIN) for a namespace");
        name_server();
        no_waiting();
        let outside = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("as before");
            no_waiting();
            File::open("/proc/thread-self/ns/net").expect("a namespace")
        });
        let network = Network {
            outside: outside.join().expect("no panic"),
        };
        let far = network.outside.as_raw_fd();
        links(async |handle| {
            let pair = LinkVeth::new(INSIDE, OUTSIDE).build();
            let made = handle.link().add(pair).execute().await;
            made.expect("a pair of interfaces");
            let moved = LinkUnspec::new_with_name(OUTSIDE).setns_by_fd(far).build();
            let moved = handle.link().set(moved).execute().await;
            moved.expect("one of them goes outside");
            let (_, inside) = (up(&handle, "lo").await, up(&handle, INSIDE).await);
            let add = handle.address().add(inside, address, whole(address));
            add.execute().await.expect("an address");
            let all = match address {
                IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new()
                    .output_interface(inside)
                    .scope(RouteScope::Link)
                    .build(),
                // Only an address that the other end has is told its hardware's address.
                IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new()
                    .output_interface(inside)
                    .gateway(NEIGHBOUR_V6)
                    .build(),
            };
            let added = handle.route().add(all).execute().await;
            added.expect("a default route");
        });
        network.outside(|| {
            links(async |handle| {
                let (lo, far) = (up(&handle, "lo").await, up(&handle, OUTSIDE).await);
                let (neighbour, length) = match address {
                    IpAddr::V4(_) => (NEIGHBOUR.into(), 32),
                    IpAddr::V6(_) => (NEIGHBOUR_V6.into(), 64),
                };
                let add = handle.address().add(far, neighbour, length);
                add.execute().await.expect("an address");
                // In the main table, where the longer prefix of the pod goes before all others.
                let routes = match address {
                    IpAddr::V4(pod) => [
                        RouteMessageBuilder::<Ipv4Addr>::new()
                            .destination_prefix(pod, 32)
                            .output_interface(far)
                            .scope(RouteScope::Link)
                            .build(),
                        RouteMessageBuilder::<Ipv4Addr>::new()
                            .kind(RouteType::Local)
                            .output_interface(lo)
                            .scope(RouteScope::Host)
                            .build(),
                    ],
                    IpAddr::V6(pod) => [
                        RouteMessageBuilder::<Ipv6Addr>::new()
                            .destination_prefix(pod, 128)
                            .output_interface(far)
                            .build(),
                        RouteMessageBuilder::<Ipv6Addr>::new()
                            .kind(RouteType::Local)
                            .output_interface(lo)
                            .build(),
                    ],
                };
                for route in routes {
                    let added = handle.route().add(route).execute().await;
                    added.expect("a route");
                }
            });
        });
        network
    }
}

/// The length of a prefix that is one address.
fn whole(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Addresses of IPv6 are there at once: nobody else could have one of them.
fn no_waiting() {
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("IPv6 is there");
}

/// Names are asked for outside, whatever the machine's own `resolv.conf` says.
fn name_server() {
    const NONE: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NONE, "/", NONE, private, NONE).expect("mounts of our own");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "nameserver {}", Network::NAME_SERVER).expect("written");
    mount(
        Some(file.path()),
        "/etc/resolv.conf",
        NONE,
        MsFlags::MS_BIND,
        NONE,
    )
    .expect("/etc/resolv.conf is there");
}

/// Changes interfaces of the thread's namespace.
fn links(change: impl AsyncFnOnce(Handle)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
        tokio::spawn(connection);
        change(handle).await;
    });
}

/// Sets an interface up and gives its number.
async fn up(handle: &Handle, name: &str) -> u32 {
    let message = LinkUnspec::new_with_name(name).up().build();
    let result = handle.link().set(message).execute().await;
    result.unwrap_or_else(|error| panic!("{name} up: {error}"));
    nix::net::if_::if_nametoindex(name).expect("the interface is there")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn every_other_address_is_outside() {
        check(
            [10, 244, 0, 7].into(),
            [198, 51, 100, 7].into(),
            Ipv4Addr::UNSPECIFIED.into(),
        );
    }

    #[test]
    fn every_other_address_of_ipv6_is_outside() {
        let away = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
        let pod = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);
        check(pod.into(), away.into(), Ipv6Addr::UNSPECIFIED.into());
    }

    fn check(pod: IpAddr, away: IpAddr, any: IpAddr) {
        Network::of_pod(pod, |network| {
            let away = SocketAddr::new(away, 80);
            if away.is_ipv4() {
                assert!(TcpStream::connect(away).is_err(), "nobody listens");
            }
            let listen = || TcpListener::bind((any, 80)).expect("free");
            let listener = network.outside(listen);
            let mut client = TcpStream::connect(away).expect("somebody does");
            let (mut server, from) = listener.accept().expect("it has come");
            assert_eq!(
                (server.local_addr().expect("bound"), from.ip()),
                (away, pod)
            );
            server.write_all(b"hello").expect("written");
            drop(server);
            let mut text = String::new();
            client.read_to_string(&mut text).expect("read");
            assert_eq!(text, "hello");
            let inside = listen();
            network.outside(|| TcpStream::connect((pod, 80)).expect("the pod is there"));
            inside.accept().expect("it has come");
        });
    }
}
