//! Listeners as the writer keeps them: sockets are bound before a listener is accepted, so that a
//! port in use is a refused resource and not a listener that never answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use arcstr::ArcStr;
use lateen_decode::Pipe;
use lateen_xds::types::listener as pb;

use super::State;
use crate::bind;
use crate::drain::Drain;
use crate::listener::Listener;
use crate::socket::{self, Listening};
use crate::udp::Ending;
use crate::worker::Command;

/// The sockets of a listener.
pub(super) struct Bound {
    addresses: Vec<SocketAddr>,
    pipe: Option<Pipe>,
    stop: Stop,
}

/// What ends those who serve the sockets.
enum Stop {
    Connections(Arc<Drain>),
    Datagrams(Arc<Ending>),
}

/// Sockets for datagrams whose listener is gone, until their last session is. The kernel would give
/// them a part of what is for whoever has their address next.
#[derive(Default)]
pub(super) struct LeavingSockets(Vec<(Vec<SocketAddr>, Weak<Ending>)>);

impl Bound {
    fn is_for_datagrams(&self) -> bool {
        matches!(self.stop, Stop::Datagrams(_))
    }
}

impl LeavingSockets {
    /// Nothing new is taken; what there is goes on to its end.
    fn keep(&mut self, addresses: Vec<SocketAddr>, ending: &Arc<Ending>) {
        ending.no_more.start();
        self.0.retain(|(_, ending)| ending.strong_count() > 0);
        self.0.push((addresses, Arc::downgrade(ending)));
    }

    /// Closes those that share datagrams with these addresses.
    fn close(&mut self, addresses: &[SocketAddr]) {
        self.0.retain(|(leaving, ending)| {
            let is_over = overlap(leaving, addresses);
            if is_over && let Some(ending) = ending.upgrade() {
                ending.at_once.start();
            }
            !is_over
        });
    }
}

/// Whether a datagram may be for an address of either side: whose is more specific gets it.
fn overlap(some: &[SocketAddr], others: &[SocketAddr]) -> bool {
    // `::` is for IPv4 too, as a rule.
    let covers = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    let meet = |a: &SocketAddr, b: &SocketAddr| {
        let (ip, other) = (a.ip(), b.ip());
        let is_one = ip == other || covers(ip, other) || covers(other, ip);
        a.port() == b.port() && a.port() != 0 && is_one
    };
    some.iter().any(|a| others.iter().any(|b| meet(a, b)))
}

impl State {
    /// Adds or replaces a listener.
    pub(super) fn set_listener(
        &mut self,
        name: &ArcStr,
        spec: &pb::Listener,
    ) -> Result<(), String> {
        let before = self.snapshot.listeners.get(name).cloned();
        let new = lateen_decode::listener(spec)
            .and_then(|spec| {
                bind::listener(
                    spec,
                    &self.shared.secrets,
                    &self.shared.stats,
                    before.as_deref(),
                )
            })
            .map_err(|error| error.to_string())?;
        self.bind(name, &new)?;
        if let Some(before) = before {
            drain_replaced(&before, &new);
        }
        self.snapshot.listeners.insert(name.clone(), Arc::new(new));
        self.snapshot.index_listeners();
        Ok(())
    }

    fn bind(&mut self, name: &ArcStr, new: &Listener) -> Result<(), String> {
        if !new.bind {
            self.end(name);
            return Ok(());
        }
        let is_udp = new.udp.is_some();
        let is_bound = |bound: &Bound| {
            bound.addresses == new.addresses
                && bound.pipe == new.pipe
                && bound.is_for_datagrams() == is_udp
        };
        if self.bound.get(name).is_some_and(is_bound) {
            return Ok(());
        }
        self.refuse_taken(name, new, is_udp)?;
        let stop = if is_udp {
            Stop::Datagrams(self.receive(name, &new.addresses)?)
        } else {
            Stop::Connections(self.listen(name, new)?)
        };
        self.end(name);
        if is_udp {
            self.leaving_sockets.close(&new.addresses);
        }
        let bound = Bound {
            addresses: new.addresses.clone(),
            pipe: new.pipe.clone(),
            stop,
        };
        self.bound.insert(name.clone(), bound);
        Ok(())
    }

    /// Has each worker accept connections at the addresses of a listener, or at its path.
    fn listen(&self, name: &ArcStr, new: &Listener) -> Result<Arc<Drain>, String> {
        let sockets = match &new.pipe {
            Some(pipe) => self.shared_socket(pipe)?,
            None => {
                let bind = |at, only_v6| Ok(Listening::Tcp(socket::listen(at, only_v6)?));
                self.sockets(&new.addresses, bind)?
            }
        };
        let stop = Arc::new(Drain::default());
        for (worker, socket) in sockets {
            let (name, stop) = (name.clone(), stop.clone());
            // A worker that is gone is going down with all others.
            let _ = self.workers[worker].send(Command::Listen { name, socket, stop });
        }
        Ok(stop)
    }

    /// Has each worker take datagrams at these addresses.
    fn receive(&self, name: &ArcStr, addresses: &[SocketAddr]) -> Result<Arc<Ending>, String> {
        let sockets = self.sockets(addresses, socket::receive)?;
        let ending = Arc::new(Ending::default());
        for (worker, socket) in sockets {
            let command = Command::Receive {
                name: name.clone(),
                socket,
                ending: ending.clone(),
            };
            let _ = self.workers[worker].send(command);
        }
        Ok(ending)
    }

    /// Shared ports would let two listeners take each other's connections.
    fn refuse_taken(&self, name: &ArcStr, new: &Listener, is_udp: bool) -> Result<(), String> {
        let addresses = &new.addresses;
        let path = |pipe: &Option<Pipe>| pipe.as_ref().map(|of| socket::unix::place(&of.path));
        let own_path = path(&new.pipe);
        let is_at_path = |bound: &Bound| own_path.is_some() && path(&bound.pipe) == own_path;
        let taken = self.bound.iter().find(|(other, bound)| {
            let mut own = bound.addresses.iter();
            *other != name
                && bound.is_for_datagrams() == is_udp
                && (is_at_path(bound) || own.any(|a| addresses.contains(a) && a.port() != 0))
        });
        match taken {
            Some((other, _)) => Err(format!("address is in use by listener {other}")),
            None => Ok(()),
        }
    }

    /// A socket for each worker and address, with the worker's place.
    fn sockets<S>(
        &self,
        addresses: &[SocketAddr],
        bind: impl Fn(SocketAddr, bool) -> io::Result<S>,
    ) -> Result<Vec<(usize, S)>, String> {
        let has_v4 = addresses.iter().any(SocketAddr::is_ipv4);
        let of_worker = |worker: usize| addresses.iter().map(move |address| (worker, *address));
        let all = (0..self.workers.len()).flat_map(of_worker);
        all.map(|(worker, address)| match bind(address, has_v4) {
            Ok(socket) => Ok((worker, socket)),
            Err(error) => Err(format!("cannot bind {address}: {error}")),
        })
        .collect()
    }

    /// One socket for all workers: the kernel knows nothing of sharing a path.
    fn shared_socket(&self, pipe: &Pipe) -> Result<Vec<(usize, Listening)>, String> {
        let fault = |error: io::Error| format!("cannot bind {}: {error}", pipe.path);
        let socket = socket::unix::listen(pipe).map_err(fault)?;
        let of_worker = |worker| Ok((worker, Listening::Unix(socket.try_clone().map_err(fault)?)));
        (0..self.workers.len()).map(of_worker).collect()
    }

    fn end(&mut self, name: &ArcStr) {
        let Some(bound) = self.bound.remove(name) else {
            return;
        };
        let mut others = self.bound.values().filter(|it| it.is_for_datagrams());
        let is_shared = others.any(|other| overlap(&other.addresses, &bound.addresses));
        match bound.stop {
            Stop::Connections(stop) => stop.start(),
            Stop::Datagrams(ending) if is_shared => ending.at_once.start(),
            Stop::Datagrams(ending) => self.leaving_sockets.keep(bound.addresses, &ending),
        }
    }

    /// Takes a listener away; its connections finish what they are doing.
    pub(super) fn remove_listener(&mut self, name: &ArcStr) {
        self.end(name);
        if let Some(before) = self.snapshot.listeners.remove(name) {
            before.all_chains().for_each(|chain| chain.drain.start());
        }
        self.snapshot.index_listeners();
    }
}

/// Asks the connections of chains that are no more to close when they can.
fn drain_replaced(before: &Listener, new: &Listener) {
    for chain in before.all_chains() {
        if !new.all_chains().any(|kept| Arc::ptr_eq(kept, chain)) {
            chain.drain.start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_share_datagrams() {
        let at = |text: &str| [text.parse::<SocketAddr>().expect("an address")];
        for (a, b, expect) in [
            ("10.0.0.1:53", "10.0.0.1:53", true),
            ("10.0.0.1:53", "0.0.0.0:53", true),
            ("10.0.0.1:53", "[::]:53", true),
            ("0.0.0.0:53", "[::]:53", true),
            ("[fd00::1]:53", "[::]:53", true),
            ("[fd00::1]:53", "0.0.0.0:53", false),
            ("10.0.0.1:53", "10.0.0.2:53", false),
            ("10.0.0.1:53", "0.0.0.0:54", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
        ] {
            assert_eq!(overlap(&at(a), &at(b)), expect, "{a} {b}");
            assert_eq!(overlap(&at(b), &at(a)), expect, "{b} {a}");
        }
    }
}
