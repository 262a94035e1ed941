//! Private keys as PEM and in base64, however they are broken into lines: by line breaks, by those that
//! JSON writes as `\n`, indented in a block of YAML, or folded.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{REDACTED, pattern};

/// Blanks and line breaks, also as they stand in quotes.
const GAP: &str = r"(?:\s|\\+[nrt]|\\)+";

/// A private key as PEM, up to its end or to that of the text; and the rest of one whose beginning is
/// cut off.
static PEM: LazyLock<Regex> = LazyLock::new(|| {
    let label = format!("(?:[A-Z0-9]+{GAP})*PRIVATE{GAP}KEY(?:{GAP}BLOCK)?-----");
    let whole = format!("-----BEGIN{GAP}{label}(?s:.*?)(?:-----END{GAP}{label}|\\z)");
    let rest = format!("(?:[A-Za-z0-9+/=]+{GAP})+-----END{GAP}{label}");
    pattern(&format!("{whole}|{rest}"))
});

/// Runs of base64 that are long enough for a key, over several lines.
static RUN: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+/_-]{40,}={0,2}"));
/// The next line of such a run: base64 alone up to its end.
static MORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"\A(?:[ \t]*(?:\r?\n|\\+r\\+n|\\+n)[ \t]*)([A-Za-z0-9+/_-]+={0,2})(?:[ \t\r\n"'\\]|\z)"#,
    )
});

/// `PRIVATE KEY` in base64, for each of the places where it may begin within three bytes; without the
/// letters that its neighbours have a part in.
const NAMES: [&str; 3] = ["UFJJVkFURSBLRV", "BSSVZBVEUgS0VZ", "QUklWQVRFIEtFW"];

/// Takes them out.
pub(super) fn take_out(text: &str) -> String {
    encoded(&PEM.replace_all(text, |_: &Captures<'_>| REDACTED))
}

/// Base64 in which a private key is.
fn encoded(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(run) = RUN.find_at(text, from) {
        let mut end = run.end();
        let mut joined = run.as_str().to_owned();
        // Padding ends what is encoded.
        while !joined.ends_with('=') {
            let Some(more) = MORE.captures(&text[end..]).and_then(|more| more.get(1)) else {
                break;
            };
            joined.push_str(more.as_str());
            end += more.end();
        }
        told.push_str(&text[from..run.start()]);
        match NAMES.iter().any(|name| joined.contains(name)) {
            true => told.push_str(REDACTED),
            false => told.push_str(&text[run.start()..end]),
        }
        from = end;
    }
    told + &text[from..]
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const BODY: &str = "MHcCAQEEIOsecretsecretsecretsecretsecretsecretsecretsecretsecret1";

    fn pem() -> String {
        format!("-----BEGIN EC PRIVATE KEY-----\n{BODY}\n{BODY}\n-----END EC PRIVATE KEY-----\n")
    }

    #[test]
    fn names_in_base64_are_those_of_each_place() {
        for (at, name) in NAMES.into_iter().enumerate() {
            let text = format!("{}PRIVATE KEY--", &"--"[..at]);
            assert!(STANDARD.encode(text).contains(name), "{at}");
        }
    }

    #[test]
    fn keys_are_found_however_they_are_broken() {
        let indented = pem().replace('\n', "\n      ");
        let folded = pem().replace(' ', "\\\n    \\ ");
        let headless = format!("{BODY}\n{BODY}\n-----END EC PRIVATE KEY-----\n");
        for text in [
            format!("data:\n    tls.key: |\n      {indented}\n"),
            pem().replace('\n', "\\n"),
            pem().replace('\n', "\\\\n"),
            pem().replace('\n', "\r\n"),
            format!("key: \"{folded}\""),
            headless,
        ] {
            let told = take_out(&text);
            assert!(!told.contains("secretsecret"), "{text} became {told}");
            assert!(told.contains(REDACTED), "{told}");
        }
    }

    #[test]
    fn keys_in_base64_are_found_on_all_their_lines() {
        for before in ["", "\n", " \n"] {
            let encoded = STANDARD.encode(format!("{before}{}", pem()));
            let lines: Vec<&str> = (0..encoded.len())
                .step_by(64)
                .map(|at| &encoded[at..encoded.len().min(at + 64)])
                .collect();
            for between in ["\n    ", "\r\n", "\\n", "\\n  "] {
                let text = format!("tls.key: |{between}{}\nkind: Secret\n", lines.join(between));
                let told = take_out(&text);
                for line in &lines {
                    assert!(!told.contains(line), "{line} is in {told}");
                }
                assert!(told.ends_with("\nkind: Secret\n"), "{told}");
            }
        }
    }

    #[test]
    fn certificates_stay() {
        let certificate = pem().replace("EC PRIVATE KEY", "CERTIFICATE");
        let encoded = STANDARD.encode(&certificate);
        for text in [certificate, format!("ca: {encoded}\nnext: a\n"), encoded] {
            assert_eq!(take_out(&text), text);
        }
    }
}
