//! A pod's end: its namespaces, its address, its route.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::namespace::PodNamespaces;
use super::node::{NodeNet, link_index, sysctl};
use super::{GATEWAY, NODE_MAC};
use crate::Error;
use crate::container::{OwnUsers, users, users::Users};

const INTERFACE: &str = "eth0";
/// Index of the loopback interface, fixed by the kernel.
const LOOPBACK: u32 = 1;

/// The network of one pod. It is gone when this and the pod's last process are.
#[derive(Debug)]
pub(crate) struct PodNet {
    pub(crate) namespaces: PodNamespaces,
    pub(crate) ip: Ipv4Addr,
}

impl PodNet {
    /// Makes the namespaces and connects them to the node; with users of the pod's own if it wants them.
    pub(crate) async fn create(
        node: &NodeNet,
        hostname: &str,
        ip: Ipv4Addr,
        own_users: bool,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::current();
        let inside = move || {
            // Any user may listen on low ports, as in most container runtimes.
            sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
            sysctl("net/ipv4/conf/all/rp_filter", "0")?;
            let _guard = runtime.enter();
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(Error::io("open netlink"))?;
            Ok((connection, handle))
        };
        let hostname = hostname.to_owned();
        let (namespaces, (connection, handle)) = match own_users {
            true => {
                let made = users::create(ip).await?;
                PodNamespaces::create_owned(made, hostname, inside).await?
            }
            false => PodNamespaces::create(hostname, inside).await?,
        };
        let task = tokio::spawn(connection);
        let result = connect(node, &handle, ip).await;
        // The socket would keep the namespace alive.
        task.abort();
        result?;
        Ok(Self { namespaces, ip })
    }
}

impl PodNet {
    /// The pod's own users as its containers find them, if it has any.
    pub(crate) fn users(&self) -> Result<Option<Users>, Error> {
        let users = self.namespaces.users.as_ref();
        users.map(OwnUsers::to_containers).transpose()
    }
}

async fn connect(node: &NodeNet, pod: &Handle, ip: Ipv4Addr) -> Result<(), Error> {
    let [a, b, c, d] = ip.octets();
    let mac = [0x0a, 0x58, a, b, c, d];
    let outside = format!("pod{:02x}{:02x}{:02x}{:02x}", a, b, c, d);
    let pair = LinkVeth::new(INTERFACE, &outside)
        .address(mac.to_vec())
        .build();
    pod.link()
        .add(pair)
        .execute()
        .await
        .map_err(Error::netlink("veth pair"))?;
    let outer = link_index(pod, &outside).await?;
    let moved = LinkUnspec::new_with_index(outer)
        .setns_by_fd(node.raw_namespace())
        .build();
    pod.link()
        .set(moved)
        .execute()
        .await
        .map_err(Error::netlink("move veth to the node"))?;
    node.attach(&outside, ip, mac).await?;
    addresses(pod, ip).await
}

async fn addresses(pod: &Handle, ip: Ipv4Addr) -> Result<(), Error> {
    let eth0 = link_index(pod, INTERFACE).await?;
    for index in [LOOPBACK, eth0] {
        let up = LinkUnspec::new_with_index(index).up().build();
        pod.link()
            .set(up)
            .execute()
            .await
            .map_err(Error::netlink("link up"))?;
    }
    let address = pod.address().add(eth0, IpAddr::V4(ip), 32);
    address
        .execute()
        .await
        .map_err(Error::netlink("pod address"))?;
    let neighbour = pod
        .neighbours()
        .add(eth0, IpAddr::V4(GATEWAY))
        .link_layer_address(&NODE_MAC);
    neighbour
        .execute()
        .await
        .map_err(Error::netlink("gateway neighbour"))?;
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY, 32)
        .output_interface(eth0)
        .scope(rtnetlink::packet_route::route::RouteScope::Link)
        .build();
    pod.route()
        .add(to_gateway)
        .execute()
        .await
        .map_err(Error::netlink("gateway route"))?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(GATEWAY)
        .build();
    pod.route()
        .add(default)
        .execute()
        .await
        .map_err(Error::netlink("default route"))
}
