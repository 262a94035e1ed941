//! Listeners as the writer keeps them: sockets are bound before a listener is accepted, so that a
//! port in use is a refused resource and not a listener that never answers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arcstr::ArcStr;
use lateen_xds::types::listener as pb;

use super::State;
use crate::bind;
use crate::drain::Drain;
use crate::listener::Listener;
use crate::socket;
use crate::worker::Command;

/// The sockets of a listener.
pub(super) struct Bound {
    addresses: Vec<SocketAddr>,
    stop: Arc<Drain>,
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
            .and_then(|spec| bind::listener(spec, &self.shared.secrets, before.as_deref()))
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
            if let Some(bound) = self.bound.remove(name) {
                bound.stop.start();
            }
            return Ok(());
        }
        if self
            .bound
            .get(name)
            .is_some_and(|bound| bound.addresses == new.addresses)
        {
            return Ok(());
        }
        let sockets = self.sockets(name, &new.addresses)?;
        let stop = Arc::new(Drain::default());
        for (worker, sockets) in self.workers.iter().zip(sockets) {
            for socket in sockets {
                let (name, stop) = (name.clone(), stop.clone());
                // A worker that is gone is going down with all others.
                let _ = worker.send(Command::Listen { name, socket, stop });
            }
        }
        let bound = Bound {
            addresses: new.addresses.clone(),
            stop,
        };
        if let Some(old) = self.bound.insert(name.clone(), bound) {
            old.stop.start();
        }
        Ok(())
    }

    /// A socket for each worker and address.
    fn sockets(
        &self,
        name: &ArcStr,
        addresses: &[SocketAddr],
    ) -> Result<Vec<Vec<TcpListener>>, String> {
        // Shared ports would let two listeners take each other's connections.
        let taken = self.bound.iter().find(|(other, bound)| {
            *other != name
                && bound
                    .addresses
                    .iter()
                    .any(|a| addresses.contains(a) && a.port() != 0)
        });
        if let Some((other, _)) = taken {
            return Err(format!("address is in use by listener {other}"));
        }
        let has_v4 = addresses.iter().any(SocketAddr::is_ipv4);
        self.workers
            .iter()
            .map(|_| {
                addresses
                    .iter()
                    .map(|address| {
                        socket::listen(*address, has_v4)
                            .map_err(|error| format!("cannot bind {address}: {error}"))
                    })
                    .collect()
            })
            .collect()
    }

    /// Takes a listener away; its connections finish what they are doing.
    pub(super) fn remove_listener(&mut self, name: &ArcStr) {
        if let Some(bound) = self.bound.remove(name) {
            bound.stop.start();
        }
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
