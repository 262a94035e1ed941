//! What is said without refusing: `Warning` headers of the answer, which `kubectl` prints.

use std::cell::RefCell;

use http::HeaderValue;
use http::header::WARNING;
use serde_json::Value;

use crate::apiserver::meta;
use crate::apiserver::reply::Reply;

tokio::task_local! {
    /// Of the request being answered.
    static SAID: RefCell<Vec<String>>;
}

/// Answers, and adds what webhooks said meanwhile.
pub(in crate::apiserver) async fn gather(answer: impl Future<Output = Reply>) -> Reply {
    let answered = async {
        let mut reply = answer.await;
        for warning in SAID.with(RefCell::take) {
            if let Ok(value) = HeaderValue::from_bytes(header(&warning).as_bytes()) {
                reply.headers_mut().append(WARNING, value);
            }
        }
        reply
    };
    SAID.scope(RefCell::default(), answered).await
}

/// Notes the warnings of a webhook's response.
pub(super) fn note(response: &Value) {
    let texts = meta::list(response, "/warnings")
        .iter()
        .filter_map(Value::as_str);
    say(texts.map(str::to_owned));
}

/// Adds warnings to the answer of the request at hand.
pub(in crate::apiserver) fn say(texts: impl IntoIterator<Item = String>) {
    // Outside of a request there is nobody to warn. A patch that is tried again says the same again.
    let _ = SAID.try_with(|said| {
        let mut said = said.borrow_mut();
        for text in texts {
            if !said.contains(&text) {
                said.push(text);
            }
        }
    });
}

/// RFC 7234, section 5.5: 299 is "miscellaneous persistent", the agent is left out.
fn header(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    format!("299 - \"{quoted}\"")
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::apiserver::reply;

    #[tokio::test]
    async fn warnings_reach_the_answer_of_their_request() {
        note(&json!({"warnings": ["nobody hears this"]}));
        let reply = gather(async {
            note(&json!({"warnings": ["no Gateway \"a\"", "two\nlines"]}));
            note(&json!({}));
            reply::text(StatusCode::OK, "")
        });
        let reply = reply.await;
        let said: Vec<_> = reply.headers().get_all(WARNING).iter().collect();
        assert_eq!(
            said,
            [r#"299 - "no Gateway \"a\"""#, r#"299 - "two lines""#]
        );
    }
}
