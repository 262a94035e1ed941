//! `sessionPersistence` of a rule.

use lateen_api::{
    Duration,
    gateway_api::{CookieLifetimeType, SessionPersistence, SessionPersistenceType},
    networking::HttpRoute,
};

use super::{conditions::Verdict, routes::Findings};
use crate::sessions::{Carrier, Session};
use crate::validate::is_token;

/// Reads what a rule says; `base` leads to its backends, and `default` is a name for its session.
/// What cannot be kept is refused.
pub(super) fn read(
    of: Option<&SessionPersistence>,
    base: &HttpRoute,
    default: &str,
    findings: &mut Findings,
) -> Option<Session> {
    let of = of?;
    let read = session(of, base, default);
    read.map_err(|why| findings.refused(Verdict::new("UnsupportedValue", why)))
        .ok()
}

fn session(of: &SessionPersistence, base: &HttpRoute, default: &str) -> Result<Session, String> {
    if of.idle_timeout.is_some() {
        return Err("sessionPersistence.idleTimeout is not supported: use absoluteTimeout".into());
    }
    // The backend is chosen before the host, and by its share alone.
    if base.route.len() > 1 {
        return Err("sessionPersistence is not supported with several backends".into());
    }
    let name = of.session_name.as_deref().filter(|name| !name.is_empty());
    let name = name.unwrap_or(default).to_owned();
    if !is_token(&name) {
        return Err(format!(
            "sessionPersistence.sessionName: {name:?} is no name of a cookie or header"
        ));
    }
    let limit = of.absolute_timeout.as_deref();
    let limit = limit.map(|text| {
        let parsed: Result<Duration, _> = text.parse();
        parsed.map_err(|_| format!("sessionPersistence.absoluteTimeout: {text:?} is no duration"))
    });
    let limit = limit.transpose()?.filter(|limit| !limit.is_zero());
    let cookie = of.cookie_config.as_ref();
    let lifetime = cookie.and_then(|cookie| cookie.lifetime_type);
    let permanent = lifetime == Some(CookieLifetimeType::Permanent);
    let by = match (of.r#type.unwrap_or_default(), limit) {
        (SessionPersistenceType::Header, None) => Carrier::Header,
        (SessionPersistenceType::Header, Some(_)) => {
            return Err("sessionPersistence.absoluteTimeout is not supported for headers".into());
        }
        (SessionPersistenceType::Cookie, None) if permanent => {
            return Err(
                "sessionPersistence: lifetimeType Permanent needs an absoluteTimeout".into(),
            );
        }
        (SessionPersistenceType::Cookie, None) => Carrier::Cookie(0),
        (SessionPersistenceType::Cookie, Some(limit)) if permanent => {
            let (seconds, nanos) = limit.to_parts();
            let seconds = seconds.saturating_add(i64::from(nanos > 0));
            Carrier::Cookie(u64::try_from(seconds).unwrap_or_default())
        }
        (SessionPersistenceType::Cookie, Some(_)) => {
            return Err(
                "sessionPersistence.absoluteTimeout is supported with lifetimeType Permanent alone"
                    .into(),
            );
        }
    };
    Ok(Session { name, by })
}
