use super::*;

fn controller(entry: &Value) -> Option<&str> {
    note(entry, annotations::WORKLOAD_CONTROLLER)
}

fn n_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_ahead_takes_no_workload_away() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    let (one, two) = (
        replica(&stored, "one", false),
        replica(&stored, "two", false),
    );
    let node = node(&[]);
    let earlier = register(&two, &node, Some("sa")).await.expect("registered");
    let mut entry = stored.one().expect("an entry");
    let ahead = Timestamp::now() + Duration::from_secs(60);
    entry["metadata"]["annotations"][annotations::CONNECTED_AT] = ahead.to_string().into();
    stored.put(entry, false).expect("its version");
    let later = register(&one, &node, Some("sa")).await.expect("registered");
    let entry = stored.one().expect("an entry");
    assert_eq!(controller(&entry), Some("one"));
    // The other may notice late that it has none any more.
    drop(earlier);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let entry = stored.one().expect("an entry");
    assert_eq!(note(&entry, annotations::DISCONNECTED_AT), None);
    // And this one's own end is noted.
    drop(later);
    let left = || {
        stored
            .one()
            .is_some_and(|e| note(&e, annotations::DISCONNECTED_AT).is_some())
    };
    until("left", left).await;
    // That an other's clock is ahead is no reason to leave it as it is.
    let mut entry = stored.one().expect("an entry");
    entry["metadata"]["annotations"][annotations::DISCONNECTED_AT] = ahead.to_string().into();
    stored.put(entry, false).expect("its version");
    let again = register(&two, &node, Some("sa")).await.expect("registered");
    let entry = stored.one().expect("an entry");
    assert_eq!(controller(&entry), Some("two"));
    assert_eq!(note(&entry, annotations::DISCONNECTED_AT), None);
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn one_task_notes_that_a_workload_went() {
    let stored = Arc::new(Stored::default());
    let registrar = replica(&stored, "one", false);
    let node = node(&[]);
    let n_before = n_tasks();
    register(&registrar, &node, Some("sa"))
        .await
        .expect_err("there is no group");
    assert_eq!(n_tasks(), n_before, "there is nothing to note");
    assert!(registrar.lock().is_empty());
    stored.group(json!({"template": {}}));
    let held = register(&registrar, &node, Some("sa"))
        .await
        .expect("registered");
    stored.set_down(true);
    drop(held);
    for _ in 0..100 {
        register(&registrar, &node, Some("sa"))
            .await
            .expect_err("nobody answers");
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    assert!(n_tasks() <= n_before + 1, "{} for one workload", n_tasks());
    assert_eq!(registrar.lock().len(), 1);
    stored.set_down(false);
    let left = || {
        stored
            .one()
            .is_some_and(|e| note(&e, annotations::DISCONNECTED_AT).is_some())
    };
    // The longest pause between two attempts, and the time of grace.
    tokio::time::sleep(PAUSES.1 + Registering::GRACE * 2).await;
    assert!(left() && registrar.lock().is_empty());
    assert_eq!(registrar.counts.unregistered.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_brought_up_to_date() {
    let stored = Arc::new(Stored::default());
    let before = json!({"app": "group", "tier": "back", "old": "yes"});
    stored.group(json!({
        "metadata": {"labels": before},
        "template": {"ports": {"http": 8080}, "weight": 3},
    }));
    let registrar = replica(&stored, "one", false);
    let held = register(&registrar, &node(&[]), Some("sa")).await;
    let held = held.expect("registered").expect("asked for");
    held.report(None);
    let condition = || stored.one().expect("an entry")["status"]["conditions"][0].clone();
    until("healthy", || condition()["status"] == "True").await;
    let mut entry = stored.one().expect("an entry");
    entry["metadata"]["labels"]["by"] = "hand".into();
    stored.put(entry, false).expect("its version");

    stored.group(json!({
        "metadata": {"labels": {"tier": "front"}},
        "template": {"ports": {"http": 9090}},
    }));
    let mut unwatched = node(&[]);
    let metadata = unwatched.metadata.as_mut().expect("it has some");
    metadata.fields.remove("PROXY_CONFIG");
    let again = register(&registrar, &unwatched, Some("sa"))
        .await
        .expect("registered");
    let entry = stored.one().expect("an entry");
    assert_eq!(entry["spec"]["ports"], json!({"http": 9090}));
    assert_eq!(entry["spec"].get("weight"), None);
    let mut labels = json!({
        "app": "vm", "tier": "front",
        "istio-locality": "r.z", "topology.istio.io/locality": "r.z",
    });
    assert_eq!(entry["spec"]["labels"], labels);
    labels["by"] = "hand".into();
    assert_eq!(entry["metadata"]["labels"], labels);
    assert_eq!(note(&entry, annotations::HEALTH_CHECKS), None);
    until("told no more", || condition().is_null()).await;
    drop((held, again));
}

#[tokio::test(start_paused = true)]
async fn streams_that_live_long_keep_their_entries() {
    let stored = Arc::new(Stored::default());
    let hour_ago = Timestamp::now() - Duration::from_secs(3600);
    let notes = json!({
        annotations::AUTO_REGISTRATION_GROUP: "vms",
        annotations::CONNECTED_AT: hour_ago.to_string(),
    });
    let entry = json!({"metadata": {"namespace": "ns", "name": "vm", "annotations": notes}});
    stored.put(entry, true).expect("new");
    let with = replica(&stored, "idle", false).with.clone();
    let leading = watch::channel(true).1;
    let with = Registering { leading, ..with };
    let long = start(&stored, with.clone(), 2 * LIFETIME);
    tokio::time::sleep(Registering::GRACE * SWEEP * 2).await;
    assert!(stored.one().is_some(), "one lives for an hour");
    drop(long);
    let _short = start(&stored, with, LIFETIME);
    until("swept", || stored.one().is_none()).await;
}

#[tokio::test]
async fn further_streams_write_nothing() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    let registrar = replica(&stored, "one", false);
    let node = node(&[]);
    let mut streams = Vec::new();
    for _ in 0..3 {
        let held = register(&registrar, &node, Some("sa")).await;
        streams.push(held.expect("registered"));
        assert_eq!(stored.version(), 1);
    }
    // In good time before the entry would count as left.
    let mut entry = stored.one().expect("an entry");
    let earlier = Timestamp::now() - LIFETIME / 3;
    entry["metadata"]["annotations"][annotations::CONNECTED_AT] = earlier.to_string().into();
    stored.put(entry, false).expect("its version");
    let held = register(&registrar, &node, Some("sa")).await;
    streams.push(held.expect("registered"));
    let entry = stored.one().expect("an entry");
    let came: Timestamp = note(&entry, annotations::CONNECTED_AT)
        .expect("it is here")
        .parse()
        .expect("a time");
    assert!(came > earlier + LIFETIME / 4, "{came}");
    assert_eq!(registrar.counts.updates.value(), 1);
    drop(streams);
}
