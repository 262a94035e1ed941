//! Sessions that stay with a host: the client brings its address along, in a cookie or a header, and is
//! told of another one when that has answered. The forms are Envoy's.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lateen_decode::{Carrier, RouteExtra, SessionSpec};
use lateen_http::{Headers, Known, RequestHead};
use lateen_route::{Host as VirtualHost, Route};
use prost::Message;

use super::Hcm;
use super::rewrite::{cookie, set_cookie};
use crate::cluster::Address;

/// What a cookie holds.
#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(string, tag = "1")]
    address: String,
    /// In seconds since 1970; 0 for never.
    #[prost(uint64, tag = "2")]
    expires: u64,
}

/// The session that a request belongs to, or that it begins.
pub(super) struct Session {
    spec: Arc<SessionSpec>,
    /// The host that the client names.
    host: Option<Address>,
}

impl Session {
    /// By the route, else its virtual host, else the filter.
    pub(super) fn of(
        hcm: &Hcm,
        host: &VirtualHost<RouteExtra>,
        route: &Route<RouteExtra>,
        head: &RequestHead,
    ) -> Option<Session> {
        let filters = &hcm.spec.filters;
        let spec = filters.session_of(&host.extra, &route.extra, head.path())?;
        let host = match &spec.by {
            Carrier::Cookie { name, .. } => cookie(head, name).and_then(|value| in_cookie(&value)),
            Carrier::Header(name) => head.headers.get(name).and_then(in_header),
        };
        Some(Session {
            spec: spec.clone(),
            host,
        })
    }

    /// The host that should answer.
    pub(super) fn host(&self) -> Option<&Address> {
        self.host.as_ref()
    }

    /// The status where that host is not there and nobody else may answer; `None` where others may.
    pub(super) fn lost_status(&self) -> Option<u16> {
        self.spec.strict.then_some(self.spec.lost_status)
    }

    /// Tells the client who has answered, where it does not know.
    pub(super) fn tell(&self, answered: &Address, headers: &mut Headers) {
        if self.host.as_ref() == Some(answered) {
            return;
        }
        let address = answered.to_string();
        // What the configuration says may be no header text.
        let _ = match &self.spec.by {
            Carrier::Header(name) => headers.set(name, STANDARD.encode(address)),
            Carrier::Cookie {
                name,
                ttl,
                path,
                attributes,
            } => {
                let content = Content {
                    address,
                    expires: match ttl.as_secs() {
                        0 => 0,
                        ttl => now().saturating_add(ttl),
                    },
                };
                let value = STANDARD.encode(content.encode_to_vec());
                let cookie = set_cookie(name, &value, *ttl, path, attributes);
                headers.append(Known::SET_COOKIE, cookie)
            }
        };
    }
}

fn in_header(value: &str) -> Option<Address> {
    let address = STANDARD.decode(value).ok()?;
    Address::parse(std::str::from_utf8(&address).ok()?)
}

fn in_cookie(value: &str) -> Option<Address> {
    let content = Content::decode(&*STANDARD.decode(value).ok()?).ok()?;
    let is_over = content.expires != 0 && content.expires < now();
    Address::parse(&content.address).filter(|_| !is_over)
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_brings_is_read_with_care() {
        let of = |address: &str, expires: u64| {
            let content = Content {
                address: address.to_owned(),
                expires,
            };
            STANDARD.encode(content.encode_to_vec())
        };
        let host = Address::parse("10.0.0.1:80");
        assert_eq!(in_cookie(&of("10.0.0.1:80", 0)), host);
        assert_eq!(in_cookie(&of("10.0.0.1:80", now() + 60)), host);
        assert_eq!(in_cookie(&of("10.0.0.1:80", now() - 1)), None);
        let v6 = Address::parse("[2001:db8::1]:80");
        assert_eq!(in_cookie(&of("[2001:db8::1]:80", 0)), v6);
        assert_eq!(in_header(&STANDARD.encode("10.0.0.1:80")), host);
        let path = Some(Address::Path("/run/app".into()));
        assert_eq!(in_header(&STANDARD.encode("/run/app")), path);
        for junk in ["", "%", "AAAA", &of("nobody", 0)] {
            assert_eq!((in_cookie(junk), in_header(junk)), (None, None), "{junk}");
        }
    }
}
