use super::*;

fn list(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(*name, value).expect("valid");
    }
    headers
}

fn texts(headers: &Headers) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect()
}

#[test]
fn hop_by_hop_fields_go_and_te_trailers_stays() {
    let mut headers = list(&[
        ("Connection", "close, X-Private"),
        ("X-Private", "1"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("X-Kept", "1"),
    ]);
    headers.remove_hop_by_hop();
    let left: Vec<&str> = headers.iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["TE", "X-Kept"]);
    let mut headers = list(&[("te", "gzip, trailers")]);
    headers.remove_hop_by_hop();
    assert!(headers.is_empty());
}

#[test]
fn connection_may_name_well_known_fields() {
    let mut headers = list(&[("connection", "Cookie"), ("cookie", "a=b"), ("a", "1")]);
    headers.remove_hop_by_hop();
    assert_eq!(texts(&headers), [("a".to_owned(), "1".to_owned())]);
}

#[test]
fn repeated_fields_join_by_commas() {
    let mut headers = list(&[("a", "1"), ("A", "2")]);
    assert_eq!(headers.joined("a").as_deref(), Some(&b"1,2"[..]));
    headers.append("a", b"\xff").expect("valid");
    assert_eq!(headers.joined("a").as_deref(), Some(&b"1,2,\xff"[..]));
    assert!(headers.set("bad name", "x").is_err());
    assert!(headers.set("a", "x\r\ny").is_err());
    assert!(headers.append("", "x").is_err());
    assert!(headers.append("a", "\0").is_err());
    assert_eq!(headers.len(), 3);
}

#[test]
fn edits_keep_place_case_and_order() {
    let mut headers = list(&[
        ("X-One", "1"),
        ("Accept", "a"),
        ("x-one", "2"),
        ("accept", "b"),
        ("z", "9"),
    ]);
    headers.set("x-oNe", "3").expect("valid");
    headers.set(Known::ACCEPT, "c").expect("valid");
    headers.set("new", "n").expect("valid");
    headers.set_number(Known::CONTENT_LENGTH, u64::MAX);
    let expect = [
        ("X-One", "3"),
        ("Accept", "c"),
        ("z", "9"),
        ("new", "n"),
        ("content-length", "18446744073709551615"),
    ];
    assert_eq!(
        texts(&headers),
        expect.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn removal_takes_all_and_tells() {
    let mut headers = list(&[("a", "1"), ("b", "2"), ("A", "3")]);
    assert_eq!(
        headers.take("a").as_ref().and_then(Value::as_str),
        Some("1")
    );
    assert!(!headers.remove("a"));
    assert!(headers.remove("B"));
    assert!(headers.is_empty());
}

#[test]
fn numbers_have_their_digits() {
    for number in [0, 7, 10, 65_535, u64::MAX] {
        let value = Value::from(number);
        assert_eq!(value.as_str(), Some(number.to_string().as_str()));
    }
}

#[test]
fn what_proxies_say_stays_whatever_connection_names() {
    let mut headers = Headers::new();
    let names = "X-Forwarded-For, x-request-id, host, X-Envoy-Internal, x-own";
    for (name, value) in [
        ("connection", names),
        ("host", "a"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-request-id", "1"),
        ("x-envoy-internal", "true"),
        ("x-own", "1"),
        ("http2-settings", "AAM"),
    ] {
        headers.append(name, value).expect("valid");
    }
    headers.remove_hop_by_hop();
    let left: Vec<_> = headers.iter().map(|(name, _)| name.to_owned()).collect();
    let expected = [
        "host",
        "x-forwarded-for",
        "x-request-id",
        "x-envoy-internal",
    ];
    assert_eq!(left, expected);
}
