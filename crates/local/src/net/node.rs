//! The node's end: loopback with the services' fixed addresses, routing, and the routes to pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use futures::TryStreamExt;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::{API_IP, DNS_IP, NODE_IP, NODE_MAC, Pool, SERVICE_CIDR, namespace};
use crate::Error;

/// Index of the loopback interface, fixed by the kernel.
const LOOPBACK: u32 = 1;

/// The node's network namespace, which is the platform's own.
#[derive(Debug)]
pub(crate) struct NodeNet {
    pub(crate) handle: Handle,
    pub(crate) namespace: OwnedFd,
}

impl NodeNet {
    /// Prepares the (fresh) network namespace that the process is in. Needs a runtime.
    pub(crate) async fn prepare() -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(Error::io("open netlink"))?;
        tokio::spawn(connection);
        let this = Self {
            handle,
            namespace: namespace::current_net()?,
        };
        this.loopback().await?;
        sysctl("net/ipv4/ip_forward", "1")?;
        // Redirected and translated packets may look as if they came from the wrong side.
        sysctl("net/ipv4/conf/all/rp_filter", "0")?;
        sysctl("net/ipv4/conf/default/rp_filter", "0")?;
        Ok(this)
    }

    async fn loopback(&self) -> Result<(), Error> {
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(Error::netlink("loopback up"))?;
        for address in [NODE_IP, API_IP, DNS_IP] {
            self.handle
                .address()
                .add(LOOPBACK, IpAddr::V4(address), 32)
                .execute()
                .await
                .map_err(Error::netlink("node address"))?;
        }
        self.route_to_loopback(SERVICE_CIDR.0, SERVICE_CIDR.1).await
    }

    /// Makes the addresses of a pool routable on the node, and none beside them.
    pub(crate) async fn route_pool(&self, pool: &Pool) -> Result<(), Error> {
        for net in pool.networks() {
            self.route_to_loopback(net.network(), net.prefix_len())
                .await?;
        }
        Ok(())
    }

    /// Makes a virtual range routable on the node, so that a connection to it can be made and then translated.
    async fn route_to_loopback(&self, range: Ipv4Addr, prefix: u8) -> Result<(), Error> {
        let route = local_route(range, prefix);
        let request = self.handle.route().add(route).replace();
        request
            .execute()
            .await
            .map_err(Error::netlink("virtual route"))
    }

    /// The same for single addresses, which come and go.
    pub(crate) fn local_routes(&self) -> LocalRoutes {
        LocalRoutes {
            handle: self.handle.clone(),
            routed: BTreeSet::new(),
        }
    }

    /// Brings up the node's end of a pod's veth pair and routes the pod's address to it.
    pub(super) async fn attach(
        &self,
        link: &str,
        pod: Ipv4Addr,
        pod_mac: [u8; 6],
    ) -> Result<(), Error> {
        let index = link_index(&self.handle, link).await?;
        let up = LinkUnspec::new_with_index(index)
            .address(NODE_MAC.to_vec())
            .up()
            .build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(Error::netlink("veth up"))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(pod, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .pref_source(NODE_IP)
            .build();
        let request = self.handle.route().add(route).replace();
        request
            .execute()
            .await
            .map_err(Error::netlink("pod route"))?;
        self.handle
            .neighbours()
            .add(index, IpAddr::V4(pod))
            .link_layer_address(&pod_mac)
            .replace()
            .execute()
            .await
            .map_err(Error::netlink("pod neighbour"))
    }

    pub(super) fn raw_namespace(&self) -> i32 {
        self.namespace.as_raw_fd()
    }
}

/// A route that ends here, so that a connection that nothing translates is refused at once.
fn local_route(range: Ipv4Addr, prefix: u8) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range, prefix)
        .output_interface(LOOPBACK)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .pref_source(NODE_IP)
        .build()
}

/// Addresses of the node that are no interface's.
#[derive(Debug)]
pub(crate) struct LocalRoutes {
    handle: Handle,
    routed: BTreeSet<Ipv4Addr>,
}

impl LocalRoutes {
    /// Makes these the ones, and no others. One that cannot be had keeps no other from its place.
    ///
    /// # Errors
    /// Names every address whose route could not be changed; the others' are as they should be.
    pub(crate) async fn keep(&mut self, wanted: &BTreeSet<Ipv4Addr>) -> Result<(), Error> {
        let handle = self.handle.clone();
        let change = move |change| {
            let handle = handle.clone();
            async move {
                let route = |address| local_route(address, 32);
                match change {
                    Change::Add(address) => {
                        let request = handle.route().add(route(address)).replace();
                        request.execute().await
                    }
                    Change::Remove(address) => handle.route().del(route(address)).execute().await,
                }
            }
        };
        change_all(&mut self.routed, wanted, change).await
    }
}

/// What becomes of an address's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Add(Ipv4Addr),
    Remove(Ipv4Addr),
}

/// Makes every change that leads from what is routed to what is wanted, and notes those that succeed.
async fn change_all<E: std::fmt::Display, F: Future<Output = Result<(), E>>>(
    routed: &mut BTreeSet<Ipv4Addr>,
    wanted: &BTreeSet<Ipv4Addr>,
    mut change: impl FnMut(Change) -> F,
) -> Result<(), Error> {
    let gone = routed.difference(wanted).copied().map(Change::Remove);
    let new = wanted.difference(routed).copied().map(Change::Add);
    let changes: Vec<Change> = gone.chain(new).collect();
    let mut failed = Vec::new();
    for one in changes {
        let (address, done) = match one {
            Change::Add(address) | Change::Remove(address) => (address, change(one).await),
        };
        match (done, one) {
            (Ok(()), Change::Add(_)) => drop(routed.insert(address)),
            (Ok(()), Change::Remove(_)) => drop(routed.remove(&address)),
            (Err(error), _) => failed.push(format!("{address}: {error}")),
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Container(format!(
        "addresses without a route: {}",
        failed.join("; ")
    )))
}

/// The index of the link called `name`.
pub(super) async fn link_index(handle: &Handle, name: &str) -> Result<u32, Error> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let found = links
        .try_next()
        .await
        .map_err(Error::netlink("find a link"))?;
    found
        .map(|link| link.header.index)
        .ok_or_else(|| Error::Container(format!("no network link {name}")))
}

/// Sets a sysctl of the calling thread's network namespace.
pub(super) fn sysctl(name: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/{name}");
    match std::fs::write(&path, value) {
        Ok(()) => Ok(()),
        Err(_) if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) => Ok(()),
        Err(error) => Err(Error::io(format!("set {path} to {value}"))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_be_routed_keeps_no_other_from_its_route() {
        let ip = |last| Ipv4Addr::new(203, 0, 113, last);
        let mut routed = BTreeSet::from([ip(1), ip(2)]);
        let wanted = BTreeSet::from([ip(2), ip(3), ip(4), ip(5)]);
        let bad = [Change::Remove(ip(1)), Change::Add(ip(3))];
        let mut tried = Vec::new();
        let done = change_all(&mut routed, &wanted, |change| {
            tried.push(change);
            std::future::ready(match bad.contains(&change) {
                true => Err("Invalid argument"),
                false => Ok(()),
            })
        });
        let error = done.await.unwrap_err().to_string();
        assert_eq!(routed, BTreeSet::from([ip(1), ip(2), ip(4), ip(5)]));
        for part in ["203.0.113.1: Invalid argument", "203.0.113.3: Invalid"] {
            assert!(error.contains(part), "{error}");
        }
        // What is as it should be is left alone; the rest is tried again.
        tried.clear();
        let done = change_all(&mut routed, &wanted, |change| {
            tried.push(change);
            std::future::ready(Ok::<_, String>(()))
        });
        done.await.unwrap();
        assert_eq!(tried, bad);
        assert_eq!(routed, wanted);
    }
}
