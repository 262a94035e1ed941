use lateen_registry::Changes;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn surroundings() -> Surroundings {
    Surroundings {
        world: watch::channel(Arc::default()).1,
        credentials: Arc::new(crate::NoCredentials),
        trust_domain: None,
        domain: "cluster.local".into(),
    }
}

fn key(kind: &'static str, name: &str) -> ObjectRef {
    ObjectRef::new(kind, "default", name)
}

fn next(fold: &mut Fold, raw: &RawConfig) -> (ConfigSet, Faulty) {
    fold.next(&Arc::new(raw.clone()));
    (fold.set.clone(), fold.faulty.clone())
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
    let (set, faulty) = next(&mut Fold::default(), &raw);
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
    let (before, _) = next(&mut fold, &raw);
    raw.objects
        .insert(key("DestinationRule", "a"), rule("a", time, ""));
    raw.objects
        .insert(key("DestinationRule", "new"), rule("new", time, ""));
    let (after, faulty) = next(&mut fold, &raw);
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
    let (after, _) = next(&mut fold, &raw);
    assert_eq!(after.destination_rules.len(), 1);
}

#[test]
fn unreadable_networks_keep_the_last() {
    let mut fold = Fold::default();
    let mut raw = RawConfig {
        networks: Some("networks: {n1: {endpoints: [{fromCidr: 10.0.0.0/8}]}}".into()),
        ..Default::default()
    };
    let n_networks = |fold: &mut Fold, raw: &RawConfig| next(fold, raw).0.networks.networks.len();
    assert_eq!(n_networks(&mut fold, &raw), 1);
    raw.networks = Some("networks: [".into());
    assert_eq!(n_networks(&mut fold, &raw), 1);
    raw.networks = None;
    assert_eq!(n_networks(&mut fold, &raw), 0);
}

#[test]
fn what_is_no_trust_domain_keeps_the_last() {
    let mut fold = Fold::of(None);
    let mut take = |text: &str| {
        let raw = RawConfig {
            mesh: Some(text.into()),
            ..RawConfig::default()
        };
        fold.next(&Arc::new(raw));
        fold.set.mesh.trust_domains().join(" ")
    };
    assert_eq!(
        take("{trustDomain: a.b_c-D, trustDomainAliases: [x, a.b_c-D]}"),
        "a.b_c-D x"
    );
    // Who is of this one would pass for somebody of another.
    for bad in ["trustDomain: x/ns", "trustDomainAliases: [y, '']"] {
        assert_eq!(take(bad), "a.b_c-D x");
        let field = bad.split(':').next().expect("a field");
        let why = parse_mesh(bad).expect_err("refused").to_string();
        assert!(
            why.contains(field) && why.contains("is no trust domain"),
            "{why}"
        );
    }
}

#[test]
fn a_trust_domain_that_is_told_stands_above_the_meshs() {
    let mut fold = Fold::of(Some("told".into()));
    assert_eq!(fold.set.mesh.trust_domain(), "told");
    let raw = RawConfig {
        mesh: Some("{trustDomain: other, trustDomainAliases: [old]}".into()),
        ..RawConfig::default()
    };
    fold.next(&Arc::new(raw));
    assert_eq!(fold.set.mesh.trust_domains(), ["told", "old"]);
}

#[test]
fn an_unreadable_mesh_keeps_the_last() {
    let mut fold = Fold::default();
    let mut raw = RawConfig {
        mesh: Some("trustDomain: td\nenableAutoMtls: false".into()),
        ..Default::default()
    };
    let (set, _) = next(&mut fold, &raw);
    assert_eq!(
        (set.mesh.trust_domain(), set.mesh.auto_mtls()),
        ("td", false)
    );
    raw.mesh = Some("trustDomain: [".into());
    let (set, _) = next(&mut fold, &raw);
    assert_eq!(set.mesh.trust_domain(), "td");
    raw.mesh = None;
    let (set, _) = next(&mut fold, &raw);
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
    let galley = Galley::start(raw_rx, surroundings());
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

/// One step: an object of two kinds comes, changes, spoils or goes.
#[derive(Clone, Debug)]
struct Step {
    gateway: bool,
    name: u8,
    form: Option<u8>,
}

fn step() -> impl Strategy<Value = Step> {
    let parts = (any::<bool>(), 0..6u8, prop::option::of(0..4u8));
    parts.prop_map(|(gateway, name, form)| Step {
        gateway,
        name,
        form,
    })
}

impl Step {
    fn apply(&self, raw: &mut RawConfig) {
        let name = format!("o{}", self.name);
        let (kind, spec) = match (self.gateway, self.form) {
            (true, Some(0)) => ("Gateway", json!({"servers": 5})),
            (false, Some(0)) => ("DestinationRule", json!({"host": ""})),
            (true, Some(n)) => (
                "Gateway",
                json!({"servers": [{"hosts": [format!("h{n}.com")],
                "port": {"number": 80, "name": "http", "protocol": "HTTP"}}]}),
            ),
            (false, Some(n)) => ("DestinationRule", json!({"host": format!("h{n}.com")})),
            (true, None) => ("Gateway", Value::Null),
            (false, None) => ("DestinationRule", Value::Null),
        };
        if self.form.is_none() {
            raw.objects.remove(&key(kind, &name));
            return;
        }
        // Those that come last by name are the oldest.
        let created = format!("2026-01-0{}T00:00:00Z", 9 - self.name);
        let document = document(kind, &name, &created, spec);
        raw.objects.insert(key(kind, &name), document);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn changes_are_exact(steps in prop::collection::vec((step(), any::<bool>()), 10_000)) {
        let (mut fold, mut raw) = (Fold::default(), RawConfig::default());
        let mut seen = ConfigSet::default();
        for (step, folds) in &steps {
            step.apply(&mut raw);
            if !folds {
                continue;
            }
            let changed = fold.next(&Arc::new(raw.clone()));
            let changes = fold.set.since(&seen);
            prop_assert_eq!(changed.config, !changes.is_empty());
            prop_assert_eq!(changed.config, fold.set != seen, "what is equal is shared");
            let named = |set: &ConfigSet| -> BTreeMap<ObjectRef, String> {
                let rules = set.destination_rules.iter();
                let rules = rules.map(|r| (key("DestinationRule", &r.meta.name), format!("{r:?}")));
                let gateways = set.gateways.iter();
                let gateways = gateways.map(|g| (key("Gateway", &g.meta.name), format!("{g:?}")));
                rules.chain(gateways).collect()
            };
            let (old, new) = (named(&seen), named(&fold.set));
            let all = old.keys().chain(new.keys());
            let want = all.filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
            prop_assert_eq!(changes.objects, want);
            seen = fold.set.clone();
        }
        // The last good forms are history; without them, a fresh start gives the same. What came last
        // may not have been looked at.
        fold.next(&Arc::new(raw.clone()));
        for name in fold.faulty.keys() {
            raw.objects.remove(name);
        }
        fold.next(&Arc::new(raw.clone()));
        let mut fresh = Fold::default();
        fresh.next(&Arc::new(raw));
        prop_assert_eq!(fold.set, fresh.set);
    }
}

#[test]
fn a_change_costs_the_same_among_many() {
    for n in [100, 10_000] {
        let mut raw = RawConfig::default();
        let time = "2026-01-01T00:00:00Z";
        for i in 0..n {
            let name = format!("r{i}");
            let rule = rule(&name, time, "reviews");
            raw.objects.insert(key("DestinationRule", &name), rule);
        }
        let mut fold = Fold::default();
        fold.next(&Arc::new(raw.clone()));
        assert_eq!(std::mem::take(&mut fold.judged), n);
        raw.objects
            .insert(key("DestinationRule", "r7"), rule("r7", time, "ratings"));
        assert!(fold.next(&Arc::new(raw.clone())).config);
        assert_eq!(std::mem::take(&mut fold.judged), 1);
        raw.objects.remove(&key("DestinationRule", "r8"));
        assert!(fold.next(&Arc::new(raw.clone())).config);
        assert_eq!((fold.judged, fold.set.destination_rules.len()), (0, n - 1));
    }
}
