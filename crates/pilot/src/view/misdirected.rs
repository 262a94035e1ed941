//! Requests that came to the wrong TLS listener of a port: a client may use one connection for
//! several names (RFC 9113, section 9.1.1), and what is behind the other listener has another
//! certificate, or asks more of its clients.
//!
//! Only what was made of the Gateway API is held to it: Istio's own Gateways answer with 404.

use lateen_core::Hostname;

use super::View;
use super::gateways::{Bound, Role};
use crate::route::AnswerKey;

/// The answer that sends a client to a connection of its own (RFC 9110, section 15.5.20).
const MISDIRECTED: u32 = 421;
/// The answer for hosts that are the listener's, and no route's.
const NOT_FOUND: u32 = 404;

impl<'a> View<'a> {
    /// What a TLS listener answers for hosts that no route of its own has. `served` are those that
    /// routes have.
    pub(super) fn misdirected(self, own: &[Bound<'a>], served: &[String]) -> Vec<AnswerKey> {
        let [own] = own else { return Vec::new() };
        if own.role() != Role::Https || own.internal_name().is_none() {
            return Vec::new();
        }
        let all = self.bound();
        let beside = all.iter().filter(|other| {
            other.role() == Role::Https
                && other.internal_name().is_some()
                && other.listens() == own.listens()
        });
        let hosts = own.hosts();
        let mut others: Vec<Hostname> = beside.flat_map(Bound::hosts).collect();
        others.retain(|other| !hosts.contains(other));
        others.sort_unstable();
        others.dedup();
        if others.is_empty() {
            return Vec::new();
        }
        let answer = |host: Hostname, status| AnswerKey {
            port: own.port(),
            host: host.to_string(),
            status,
        };
        let own_rest = hosts
            .into_iter()
            .filter(|host| !served.iter().any(|it| *it == **host));
        let own_rest = own_rest
            .map(|host| answer(host, NOT_FOUND))
            .collect::<Vec<_>>();
        let others = others.into_iter().map(|host| answer(host, MISDIRECTED));
        own_rest.into_iter().chain(others).collect()
    }
}
