//! A pod's network, and all the world around it.
//!
//! Two network namespaces with a pair of interfaces between them. The pod has one address. Every
//! other address is outside: whoever listens there on a port gets what is sent to that port of any
//! address, and may speak from any. So a test needs no list of addresses, and what the pod's proxy
//! does with the kernel is what it does in a pod.
//!
//! The namespaces go with the thread and the last socket. Needs root (CAP_SYS_ADMIN).

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
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
    pub fn of_pod<T: Send>(address: Ipv4Addr, work: impl FnOnce(&Network) -> T + Send) -> T {
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

    fn set_up(address: Ipv4Addr) -> Network {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("network tests need root (CAP_SYS_ADMIN) for a namespace");
        name_server();
        let outside = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("as before");
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
            let add = handle.address().add(inside, address.into(), 32);
            add.execute().await.expect("an address");
            let all = RouteMessageBuilder::<Ipv4Addr>::new()
                .output_interface(inside)
                .scope(RouteScope::Link);
            let added = handle.route().add(all.build()).execute().await;
            added.expect("a default route");
        });
        network.outside(|| {
            links(async |handle| {
                let (lo, far) = (up(&handle, "lo").await, up(&handle, OUTSIDE).await);
                let add = handle.address().add(far, NEIGHBOUR.into(), 32);
                add.execute().await.expect("an address");
                let pod = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(address, 32)
                    .output_interface(far)
                    .scope(RouteScope::Link);
                // In the main table, where the longer prefix of the pod goes before it.
                let all = RouteMessageBuilder::<Ipv4Addr>::new()
                    .kind(RouteType::Local)
                    .output_interface(lo)
                    .scope(RouteScope::Host);
                for route in [pod.build(), all.build()] {
                    let added = handle.route().add(route).execute().await;
                    added.expect("a route");
                }
            });
        });
        network
    }
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
        let pod = Ipv4Addr::new(10, 244, 0, 7);
        Network::of_pod(pod, |network| {
            let away = SocketAddr::from(([198, 51, 100, 7], 80));
            assert!(TcpStream::connect(away).is_err(), "nobody listens");
            let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("free");
            let listener = network.outside(listen);
            let mut client = TcpStream::connect(away).expect("somebody does");
            let (mut server, from) = listener.accept().expect("it has come");
            assert_eq!(
                (server.local_addr().expect("bound"), from.ip()),
                (away, pod.into())
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
