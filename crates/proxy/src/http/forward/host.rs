//! The host of a try.

use std::net::SocketAddr;
use std::sync::Arc;

use lateen_core::Reason;
use lateen_decode::Discovery;
use lateen_http::RequestHead;
use lateen_route::{RetryPolicy, without_port};

use super::Exchange;
use crate::cluster::{Host, Transport, Unresolved};
use crate::http::reply::{LocalReply, reset};
use crate::worker::Tried;

/// Nobody may answer.
pub(super) struct Nobody {
    /// What the client is told, where that is said: the host of its session is not there.
    status: Option<u16>,
}

impl Nobody {
    pub(super) fn reply(self) -> LocalReply {
        let reply = reset(Reason::NoHealthyUpstream, "");
        match self.status {
            Some(status) => reply.with_status(status),
            None => reply,
        }
    }
}

impl Exchange<'_> {
    /// The host that the request names. Its port is the one of the scheme that the cluster speaks,
    /// where the request names none.
    pub(super) async fn named_host(
        &self,
        head: &RequestHead,
    ) -> Result<Arc<Host>, Box<LocalReply>> {
        let authority = head.authority();
        let name = without_port(authority);
        let port = match authority[name.len()..].strip_prefix(':') {
            Some(port) => port.parse().ok(),
            None => Some(match &self.cluster.transports[0] {
                Transport::Raw => 80,
                Transport::Tls(_) => 443,
            }),
        };
        // A port that is none makes the whole a name that nobody has.
        let found = match port {
            Some(port) => {
                let now = self.worker.shared.now();
                self.cluster.named_host(name, port, now).await
            }
            None => Err(Unresolved::Failed),
        };
        found.map_err(|error| {
            let (reason, details) = match error {
                Unresolved::Full => (Reason::UpstreamOverflow, "dns_cache_overflow"),
                Unresolved::Failed => (Reason::DnsResolutionFailed, "dns_resolution_failure"),
            };
            Box::new(LocalReply::new(reason, details, error.to_string()))
        })
    }

    /// The host of the session: `None` where any host may answer, and an error where this one alone may
    /// and cannot. Another try leaves it.
    fn session_host(&self) -> Result<Option<usize>, Nobody> {
        let session = self.session.as_ref().filter(|_| !self.is_retry);
        let Some((session, host)) = session.and_then(|session| Some((session, session.host()?)))
        else {
            return Ok(None);
        };
        let hosts = &self.cluster.hosts;
        let place = hosts.position(host);
        let fit = place.filter(|at| hosts.is_fit(*at, self.worker.shared.now()));
        match session.lost_status() {
            Some(status) if fit.is_none() => Err(Nobody {
                status: place.is_none().then_some(status),
            }),
            _ => Ok(fit),
        }
    }

    /// The host of a try.
    pub(super) fn choose(
        &mut self,
        head: &RequestHead,
        policy: Option<&RetryPolicy>,
    ) -> Result<(Option<usize>, Arc<Host>), Nobody> {
        let nobody = || Nobody { status: None };
        if let Discovery::OriginalDst { header, port } = &self.cluster.spec.discovery {
            let named: Option<SocketAddr> = header
                .as_ref()
                .and_then(|name| head.headers.get(name)?.parse().ok());
            let address = match named {
                Some(mut address) => {
                    address.set_port(port.unwrap_or(address.port()));
                    address
                }
                None => self.connection.original_dst(*port).ok_or_else(nobody)?,
            };
            return Ok((None, Arc::new(Host::at(address))));
        }
        if let Some(index) = self.session_host()? {
            self.current = Some(index);
            return Ok((Some(index), self.cluster.hosts.hosts[index].clone()));
        }
        let attempts = policy.map_or(1, |policy| policy.host_attempts);
        let avoid = policy.is_some_and(|policy| policy.avoid_previous_hosts);
        if avoid {
            self.tried.extend(self.current);
        }
        let leave_after = policy.map_or(0, |policy| policy.leave_priorities_after as usize);
        if leave_after > 0
            && !self.priorities.is_empty()
            && self.priorities.len().is_multiple_of(leave_after)
        {
            self.left.clone_from(&self.priorities);
        }
        let tried = Tried {
            hosts: &self.tried,
            draws: attempts,
            priorities: &self.left,
        };
        let index = self.worker.shared.pick(&self.cluster, self.hash, tried);
        let index = index.ok_or_else(nobody)?;
        if leave_after > 0 {
            self.priorities
                .push(self.cluster.hosts.specs[index].priority);
        }
        self.current = Some(index);
        Ok((Some(index), self.cluster.hosts.hosts[index].clone()))
    }
}
