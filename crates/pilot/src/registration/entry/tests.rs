use super::*;

#[test]
fn names_of_entries() {
    assert_eq!(entry_name("vm", "10.0.0.1", ""), "vm-10.0.0.1");
    assert_eq!(entry_name("vm", "fd00::1", "net"), "vm-fd00--1-net");
    let long = entry_name(&"a".repeat(250), "10.0.0.1", "");
    assert!(
        long.len() <= NAME_MAX && long.ends_with("-10.0.0.1"),
        "{long}"
    );
    let cut = entry_name(&format!("{}.b", "a".repeat(242)), "10.0.0.1", "n");
    assert!(is_name(&cut), "{cut}");
}

#[test]
fn only_names_become_parts_of_paths() {
    for name in ["vm", "a.b-c", "1"] {
        assert!(is_name(name), "{name}");
    }
    for name in [
        "",
        "A",
        "../secrets/x",
        "a/b",
        "-a",
        "a-",
        "a..b",
        "a?b",
        "a b",
    ] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn what_is_left_is_what_was_away_for_long() {
    let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).expect("in range");
    let is_left = |entry: &Value, now| {
        is_left(
            |key| note(entry, key),
            now,
            Duration::from_secs(10),
            Duration::from_secs(2700),
        )
    };
    let entry = |key: &str| {
        json!({"metadata": {"annotations": {
            annotations::AUTO_REGISTRATION_GROUP: "g", key: at(0).to_string(),
        }}})
    };
    let away = entry(annotations::DISCONNECTED_AT);
    assert!(!is_left(&away, at(9)));
    assert!(is_left(&away, at(10)));
    let there = entry(annotations::CONNECTED_AT);
    assert!(!is_left(&there, at(2600)));
    assert!(is_left(&there, at(2700)), "nobody is left to say so");
    let mut foreign = away.clone();
    notes(&mut foreign).remove(annotations::AUTO_REGISTRATION_GROUP);
    assert!(!is_left(&foreign, at(9999)), "somebody wrote it by hand");
}

#[test]
fn who_came_later_counts() {
    let at = |seconds: i64| Timestamp::from_second(seconds).expect("in range");
    let fresh = Duration::from_secs(5);
    let came = |entry: &Value, replica, since| arrival(entry, replica, at(since), at(20), fresh);
    let mut entry = json!({"metadata": {}});
    assert_eq!(came(&entry, "one", 10), Some(at(10)));
    connect(&mut entry, "one", at(10));
    assert_eq!(came(&entry, "two", 9), None, "it has been to one since");
    assert_eq!(came(&entry, "one", 9), Some(at(10)), "by a later stream");
    assert_eq!(came(&entry, "one", 14), Some(at(10)), "it says so already");
    assert_eq!(came(&entry, "one", 15), Some(at(15)));
    assert_eq!(came(&entry, "two", 11), Some(at(11)));
    connect(&mut entry, "two", at(11));
    assert!(
        !disconnect(&mut entry, "one", at(10), at(12)),
        "it is two's"
    );
    assert!(
        !disconnect(&mut entry, "two", at(10), at(12)),
        "it came again"
    );
    assert!(disconnect(&mut entry, "two", at(11), at(99)));
    assert_eq!(note(&entry, annotations::CONNECTED_AT), None);
    assert_eq!(
        came(&entry, "one", 13),
        Some(at(13)),
        "whatever two's clock says"
    );
    connect(&mut entry, "one", at(13));
    assert_eq!(note(&entry, annotations::DISCONNECTED_AT), None);
    // A clock that is ahead.
    connect(&mut entry, "one", at(21));
    let after = at(21) + Duration::from_millis(1);
    assert_eq!(came(&entry, "two", 19), Some(after));
    assert_eq!(came(&entry, "one", 19), Some(at(21)));
}

#[test]
fn health_is_written_where_it_changed() {
    let at = |seconds: i64| Timestamp::from_second(seconds).expect("in range");
    let unwell = |fault: &str| Said::Unwell(fault.to_owned());
    let mut entry = json!({"metadata": {}, "status": {"conditions": [{"type": "Other"}]}});
    assert_eq!(
        healthy(&entry, &Said::Well, at(1)),
        None,
        "nobody looks at it"
    );
    notes(&mut entry).insert(annotations::HEALTH_CHECKS.to_owned(), "true".into());
    let written = healthy(&entry, &Said::Well, at(1)).expect("new");
    assert_eq!(written.as_array().map(Vec::len), Some(2));
    entry["status"]["conditions"] = written;
    assert_eq!(healthy(&entry, &Said::Well, at(2)), None);
    let written = healthy(&entry, &unwell("refused"), at(3)).expect("changed");
    assert_eq!(written[1]["status"], "False");
    assert_eq!(written[1]["message"], "refused");
    entry["status"]["conditions"] = written;
    let written = healthy(&entry, &unwell("late"), at(4)).expect("another fault");
    assert_eq!(written[1]["lastTransitionTime"], json!(at(3)));
    assert_eq!(written[1]["lastProbeTime"], json!(at(4)));
    assert_eq!(healthy(&entry, &Said::Nothing, at(5)), None);
    assert!(!is_told(&entry));
    notes(&mut entry).remove(annotations::HEALTH_CHECKS);
    assert!(is_told(&entry));
    let written = healthy(&entry, &Said::Well, at(5));
    assert_eq!(written, Some(json!([{"type": "Other"}])), "nobody looks");
}
