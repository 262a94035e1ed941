//! Who is signed in. There are no passwords: the sample wants different users, not safe ones.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::COOKIE;
use serde_json::{Value, json};

const COOKIE_NAME: &str = "session";
/// Longer names are cut, so that a cookie never outgrows what proxies accept.
const MAX_NAME: usize = 64;

/// The cookie that ends a session.
pub(super) const END: &str = "session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax";

/// The cookie that signs a user in.
pub(super) fn start(user: &str) -> String {
    let user: String = user
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect();
    let value = URL_SAFE_NO_PAD.encode(json!({ "user": user }).to_string());
    format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Lax")
}

/// The user whom the request's cookie names.
pub(super) fn user(headers: &HeaderMap) -> Option<String> {
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let pairs = cookies
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == COOKIE_NAME)?;
    let session: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
    session["user"]
        .as_str()
        .filter(|user| !user.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_of(cookie: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().expect("a header value"));
        user(&headers)
    }

    #[test]
    fn a_started_session_is_recognised() {
        let cookie = start(" jason\r\n");
        let pair = cookie.split(';').next().expect("a pair");
        assert_eq!(
            user_of(&format!("theme=dark; {pair}")),
            Some("jason".to_owned())
        );
    }

    #[test]
    fn nonsense_is_nobody() {
        for cookie in ["session=", "session=!!", "session=e30", "other=1", ""] {
            assert_eq!(user_of(cookie), None, "{cookie}");
        }
        let empty = start("  ");
        assert_eq!(user_of(empty.split(';').next().expect("a pair")), None);
    }
}
