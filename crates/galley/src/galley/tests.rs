use serde_json::json;

use super::*;

fn key(kind: &'static str, name: &str) -> ObjectKey {
    ObjectKey {
        kind,
        namespace: "default".into(),
        name: name.into(),
    }
}

fn document(kind: &str, name: &str, created: &str, spec: Value) -> Arc<Value> {
    Arc::new(json!({
        "apiVersion": "networking.istio.io/v1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": created},
    }))
}

fn rule(name: &str, created: &str, host: &str) -> Arc<Value> {
    document("DestinationRule", name, created, json!({"host": host}))
}

#[test]
fn the_older_object_comes_first() {
    let mut raw = RawConfig::default();
    let rules = [
        ("a", "2026-01-02T00:00:00Z"),
        ("b", "2026-01-01T00:00:00Z"),
        ("c", "2026-01-02T00:00:00Z"),
    ];
    for (name, created) in rules {
        raw.objects
            .insert(key("DestinationRule", name), rule(name, created, "reviews"));
    }
    let (set, faulty) = Fold::default().next(&raw);
    let names: Vec<_> = set
        .destination_rules
        .iter()
        .map(|r| r.meta.name.as_str())
        .collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert!(faulty.is_empty());
}

#[test]
fn a_bad_object_harms_only_itself() {
    let mut fold = Fold::default();
    let mut raw = RawConfig::default();
    let time = "2026-01-01T00:00:00Z";
    raw.objects
        .insert(key("DestinationRule", "a"), rule("a", time, "reviews"));
    raw.objects
        .insert(key("DestinationRule", "b"), rule("b", time, "ratings"));
    let (before, _) = fold.next(&raw);
    raw.objects
        .insert(key("DestinationRule", "a"), rule("a", time, ""));
    raw.objects
        .insert(key("DestinationRule", "new"), rule("new", time, ""));
    let (after, faulty) = fold.next(&raw);
    assert_eq!(
        after, before,
        "the last good form stays, the new bad one is left out"
    );
    assert!(Arc::ptr_eq(
        &after.destination_rules[1],
        &before.destination_rules[1]
    ));
    assert_eq!(
        faulty.keys().map(|k| k.name.as_str()).collect::<Vec<_>>(),
        ["a", "new"]
    );
    assert_eq!(faulty[&key("DestinationRule", "a")][0].field, "spec.host");
    raw.objects.remove(&key("DestinationRule", "a"));
    let (after, _) = fold.next(&raw);
    assert_eq!(after.destination_rules.len(), 1);
}

#[test]
fn an_unreadable_mesh_keeps_the_last() {
    let mut fold = Fold::default();
    let mut raw = RawConfig {
        mesh: Some("trustDomain: td\nenableAutoMtls: false".into()),
        ..Default::default()
    };
    let (set, _) = fold.next(&raw);
    assert_eq!(
        (set.mesh.trust_domain(), set.mesh.auto_mtls()),
        ("td", false)
    );
    raw.mesh = Some("trustDomain: [".into());
    let (set, _) = fold.next(&raw);
    assert_eq!(set.mesh.trust_domain(), "td");
    raw.mesh = None;
    let (set, _) = fold.next(&raw);
    assert_eq!(
        (set.mesh.trust_domain(), set.mesh.auto_mtls()),
        ("cluster.local", true)
    );
}

#[tokio::test]
async fn publishes_only_what_differs() {
    let mut raw = RawConfig::default();
    let time = "2026-01-01T00:00:00Z";
    raw.objects
        .insert(key("DestinationRule", "a"), rule("a", time, "reviews"));
    let (raw_tx, raw_rx) = watch::channel(Arc::new(raw.clone()));
    let galley = Galley::start(raw_rx);
    let mut config = galley.config();
    assert_eq!(config.borrow_and_update().destination_rules.len(), 1);
    raw.objects
        .insert(key("DestinationRule", "bad"), rule("bad", time, ""));
    raw_tx.send_replace(Arc::new(raw.clone()));
    let mut faults = galley.faults();
    faults
        .wait_for(|faults| faults.len() == 1)
        .await
        .expect("galley runs");
    raw.objects
        .insert(key("DestinationRule", "c"), rule("c", time, "ratings"));
    raw_tx.send_replace(Arc::new(raw));
    config.changed().await.expect("galley runs");
    assert_eq!(config.borrow().destination_rules.len(), 2);
}
