//! Sessions that stay with a host, whose address clients bring along.

use std::sync::Arc;
use std::time::Duration;

use lateen_xds::types::http_filter::stateful_session::{
    StatefulSession, StatefulSessionPerRoute, stateful_session_per_route::Override,
};
use lateen_xds::types::session::{CookieBasedSessionState, HeaderBasedSessionState};
use lateen_xds::{Any, TypeUrl};

use crate::common::duration;
use crate::unread::Kind::{Harmless, In, Packed, Whole};
use crate::unread::{Reads, Types};
use crate::{DecodeError, Result, typed};

/// A session of each client with one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSpec {
    /// What carries it.
    pub by: Carrier,
    /// A request whose host cannot serve it is answered by nobody else.
    pub strict: bool,
    /// The status of such a request where the host is not there at all.
    pub lost_status: u16,
}

/// What carries a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// How long it lives; zero is as long as the browser's session.
        ttl: Duration,
        /// The paths that it is for; empty for all.
        path: String,
        /// What else it says.
        attributes: Vec<(String, String)>,
    },
    /// A header of this name, in lower case.
    Header(String),
}

impl Carrier {
    /// Whether requests of this path have it: a cookie's own ends where an element of theirs does.
    pub(crate) fn is_for(&self, asked: &str) -> bool {
        let Carrier::Cookie { path, .. } = self else {
            return true;
        };
        let rest = asked.strip_prefix(path.as_str());
        rest.is_some_and(|rest| {
            rest.is_empty() || path.is_empty() || path.ends_with('/') || rest.starts_with('/')
        })
    }
}

/// What a route or a virtual host says of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteSession {
    /// It has none.
    Off,
    /// It has these.
    By(Arc<SessionSpec>),
}

pub(crate) const SESSION_TYPE: &str =
    "envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
pub(crate) const SESSION_PER_ROUTE_TYPE: &str =
    "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute";
const COOKIE_TYPE: &str =
    "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState";
const HEADER_TYPE: &str =
    "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState";
/// The status of a request whose host is not there, where none is said.
const LOST: u32 = 503;

/// Compiles the filter; one that says nothing leaves all to routes.
pub(crate) fn of_filter(field: &str, any: &Any) -> Result<Option<Arc<SessionSpec>>> {
    session(field, &typed(field, any)?)
}

/// Compiles what a route says.
pub(crate) fn of_route(field: &str, any: &Any) -> Result<RouteSession> {
    let spec: StatefulSessionPerRoute = typed(field, any)?;
    match &spec.r#override {
        Some(Override::Disabled(true)) => Ok(RouteSession::Off),
        Some(Override::Disabled(false)) | None => {
            Err(DecodeError::new(field, "says nothing of sessions"))
        }
        Some(Override::StatefulSession(of)) => {
            let session = session(&format!("{field}.stateful_session"), of)?;
            // As in Envoy, a route without a state has no sessions.
            Ok(session.map_or(RouteSession::Off, RouteSession::By))
        }
    }
}

fn session(field: &str, spec: &StatefulSession) -> Result<Option<Arc<SessionSpec>>> {
    let Some(state) = &spec.session_state else {
        return Ok(None);
    };
    let field = format!("{field}.session_state");
    let any = state.typed_config.as_ref();
    let any = any.ok_or_else(|| DecodeError::new(&field, "has no typed config"))?;
    let lost = match spec.status_on_strict_destination_not_found {
        0 => LOST,
        status => status,
    };
    let lost_status = u16::try_from(lost)
        .ok()
        .filter(|status| (200..600).contains(status));
    let lost_status = lost_status.ok_or_else(|| {
        let field = "status_on_strict_destination_not_found";
        DecodeError::new(field, format!("{lost} is no status of an answer"))
    })?;
    Ok(Some(Arc::new(SessionSpec {
        by: carrier(&field, any)?,
        strict: spec.strict,
        lost_status,
    })))
}

fn carrier(field: &str, any: &Any) -> Result<Carrier> {
    let name = |name: &str| match name {
        "" => Err(DecodeError::new(field, "has no name")),
        name => Ok(name.to_owned()),
    };
    match TypeUrl::new(&any.type_url).message() {
        COOKIE_TYPE => {
            let state: CookieBasedSessionState = typed(field, any)?;
            let cookie = state.cookie.unwrap_or_default();
            let attributes = cookie.attributes.into_iter();
            Ok(Carrier::Cookie {
                name: name(&cookie.name)?,
                ttl: duration(cookie.ttl.as_ref()).unwrap_or_default(),
                path: cookie.path,
                attributes: attributes.map(|of| (of.name, of.value)).collect(),
            })
        }
        HEADER_TYPE => {
            let state: HeaderBasedSessionState = typed(field, any)?;
            Ok(Carrier::Header(name(&state.name)?.to_ascii_lowercase()))
        }
        kind => Err(DecodeError::unsupported(
            field,
            format!("the session state {kind}"),
        )),
    }
}

pub(crate) static SESSION: Reads = Reads::of(
    SESSION_TYPE,
    &[
        (1, "session_state", In(&STATE)),
        (2, "strict", Whole),
        (3, "stat_prefix", Harmless),
        (4, "status_on_strict_destination_not_found", Whole),
    ],
);

pub(crate) static SESSION_PER_ROUTE: Reads = Reads::of(
    SESSION_PER_ROUTE_TYPE,
    &[
        (1, "disabled", Whole),
        (2, "stateful_session", In(&SESSION)),
    ],
);

static STATE: Reads = Reads::of(
    "envoy.config.core.v3.TypedExtensionConfig",
    &[
        (1, "name", Harmless),
        (
            2,
            "typed_config",
            Packed(Types::of(&[&COOKIE_STATE, &HEADER_STATE])),
        ),
    ],
);

static COOKIE_STATE: Reads = Reads::of(COOKIE_TYPE, &[(1, "cookie", In(&COOKIE))]);

static COOKIE: Reads = Reads::of(
    "envoy.type.http.v3.Cookie",
    &[
        (1, "name", Whole),
        (2, "ttl", Whole),
        (3, "path", Whole),
        (4, "attributes[]", In(&ATTRIBUTE)),
    ],
);

static ATTRIBUTE: Reads = Reads::of(
    "envoy.type.http.v3.CookieAttribute",
    &[(1, "name", Whole), (2, "value", Whole)],
);

static HEADER_STATE: Reads = Reads::of(HEADER_TYPE, &[(1, "name", Whole)]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_cookies() {
        for (path, asked, want) in [
            ("", "/a", true),
            ("/", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a/", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/", "/a", false),
            ("/b", "/a", false),
        ] {
            let by = Carrier::Cookie {
                name: "a".into(),
                ttl: Duration::ZERO,
                path: path.into(),
                attributes: Vec::new(),
            };
            assert_eq!(by.is_for(asked), want, "{path} {asked}");
        }
    }
}
