use lateen_api::status;

use super::*;

fn says(stored: &Stored, expect: &str) -> bool {
    let entry = stored.one().expect("an entry");
    let condition = &entry["status"]["conditions"][0];
    condition["type"] == status::HEALTHY && condition["status"] == expect
}

async fn held(registrar: &Registrar, node: &Node) -> Registration {
    let held = register(registrar, node, Some("sa")).await;
    held.expect("registered").expect("asked for")
}

#[tokio::test(start_paused = true)]
async fn health_reaches_the_status() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    let registrar = replica(&stored, "one", false);
    let held = register(&registrar, &node(&[]), Some("sa"))
        .await
        .expect("registered");
    let held = held.expect("asked for");
    let is = |expect: &str| says(&stored, expect);
    held.report(Some("refused"));
    until("unhealthy", || is("False")).await;
    // What cannot be written is written later, and the newest alone.
    stored.set_down(true);
    held.report(Some("still refused"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    held.report(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is("False"));
    stored.set_down(false);
    until("healthy", || is("True")).await;
}

#[tokio::test(start_paused = true)]
async fn who_says_much_is_written_seldom() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    let registrar = replica(&stored, "one", false);
    let held = held(&registrar, &node(&[])).await;
    let long = "ä".repeat(100_000);
    for _ in 0..50 {
        held.report(Some(&long));
        tokio::time::sleep(Duration::from_millis(50)).await;
        held.report(None);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    held.report(Some(&long));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(says(&stored, "False"), "the last counts");
    let n_written = *stored.n_conditions.lock().expect("whole");
    assert!(n_written <= 7, "{n_written} in seven seconds");
    let entry = stored.one().expect("an entry");
    let message = &entry["status"]["conditions"][0]["message"];
    let n_bytes = message.as_str().map(str::len);
    assert_eq!(n_bytes, Some(1024));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_tried_again() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    *stored.refuses_conditions.lock().expect("whole") = true;
    let registrar = replica(&stored, "one", false);
    let held = held(&registrar, &node(&[])).await;
    held.report(None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*stored.n_conditions.lock().expect("whole"), 1);
    // What is said next is.
    *stored.refuses_conditions.lock().expect("whole") = false;
    held.report(None);
    until("healthy", || says(&stored, "True")).await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_made_anew_has_the_health_that_was_told() {
    let stored = Arc::new(Stored::default());
    stored.group(json!({"template": {}}));
    let registrar = replica(&stored, "one", false);
    let agent = held(&registrar, &node(&[])).await;
    agent.report(None);
    until("healthy", || says(&stored, "True")).await;
    stored.entries.lock().expect("whole").clear();
    let proxy = held(&registrar, &node(&[])).await;
    until("healthy again", || says(&stored, "True")).await;
    // Who has gone says nothing any more.
    drop((agent, proxy));
    tokio::time::sleep(Registering::GRACE * 2).await;
    assert!(registrar.lock().is_empty());
    stored.entries.lock().expect("whole").clear();
    let proxy = held(&registrar, &node(&[])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!says(&stored, "True"));
    drop(proxy);
}
