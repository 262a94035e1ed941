//! Sessions that stay with a host, which the Gateway API has and Istio's kinds do not: beside the rules
//! of an internal VirtualService.

use std::collections::BTreeMap;

use lateen_api::Meta;
use serde::{Deserialize, Serialize};

/// On an internal VirtualService: the session of each of its HTTP rules, in their order.
const SESSIONS: &str = "internal.istio.io/sessions";

/// A session of clients with one host of a rule's backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The name of the cookie or of the header.
    pub name: String,
    /// What carries it.
    pub by: Carrier,
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carrier {
    /// A cookie that lives for so many seconds; 0 is as long as the browser's session.
    Cookie(u64),
    /// A header, which the client sends back.
    Header,
}

/// Notes sessions, where there is any.
pub(crate) fn note(annotations: &mut BTreeMap<String, String>, sessions: &[Option<Session>]) {
    if sessions.iter().all(Option::is_none) {
        return;
    }
    // Texts and numbers, which JSON can hold.
    if let Ok(text) = serde_json::to_string(sessions) {
        annotations.insert(SESSIONS.to_owned(), text);
    }
}

/// The session of each HTTP rule of an object; empty where none has any.
pub fn sessions(meta: &Meta) -> Vec<Option<Session>> {
    let text = meta.annotations.get(SESSIONS);
    let sessions = text.and_then(|text| serde_json::from_str(text).ok());
    sessions.unwrap_or_default()
}
