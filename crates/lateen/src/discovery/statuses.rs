//! What the mesh's objects are told of themselves: where they are in force and what is wrong with
//! them, as conditions of their status.

mod addresses;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lateen_api::kinds;
use lateen_core::{Hostname, ObjectRef, Problem, ProblemKind, ServiceId};
use lateen_pilot::{CONDITIONS, Discovery, Problems, Reports};
use lateen_registry::{
    EndpointKey, RawConfig, Registry, StatusOwner, StatusTarget, StatusWriter, WantedStatus, World,
};
use serde_json::{Value, json};
use tokio::sync::watch;

pub(super) use addresses::Addresses;

const OWNER: StatusOwner = StatusOwner {
    name: "mesh",
    conditions: CONDITIONS,
    controller: "",
};

/// Carries what is known of objects to the writer.
pub(super) struct Statuses {
    raw: watch::Receiver<Arc<RawConfig>>,
    world: watch::Receiver<Arc<World>>,
    reports: watch::Receiver<Arc<Reports>>,
    problems: watch::Receiver<Arc<Problems>>,
    writer: StatusWriter,
    /// The control plane's own service, whose endpoints are its replicas.
    own: EndpointKey,
    seen: Seen,
    /// Which object has the name, and what its document alone shows.
    known: BTreeMap<ObjectRef, Known>,
}

#[derive(Default)]
struct Seen {
    raw: Arc<RawConfig>,
    reports: Arc<Reports>,
    problems: Arc<Problems>,
    replicas: usize,
}

struct Known {
    uid: String,
    document: Arc<Value>,
    problems: Vec<Problem>,
}

impl Statuses {
    pub(super) fn new(
        registry: &Registry,
        discovery: &Discovery,
        writer: StatusWriter,
        namespace: &str,
        domain: &str,
    ) -> Self {
        Statuses {
            raw: registry.config(),
            world: registry.world(),
            reports: discovery.reports(),
            problems: discovery.problems(),
            writer,
            own: EndpointKey::new(
                ServiceId::new(namespace, Hostname::service("istiod", namespace, domain)),
                "grpc-xds",
            ),
            seen: Seen::default(),
            known: BTreeMap::new(),
        }
    }

    /// Until the registry ends.
    pub(super) async fn run(mut self) {
        loop {
            self.look();
            let changed = tokio::select! {
                changed = self.raw.changed() => changed,
                changed = self.world.changed() => changed,
                changed = self.reports.changed() => changed,
                changed = self.problems.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Says what is different since the last look.
    fn look(&mut self) {
        let world = self.world.borrow_and_update().clone();
        let now = Seen {
            raw: self.raw.borrow_and_update().clone(),
            reports: self.reports.borrow_and_update().clone(),
            problems: self.problems.borrow_and_update().clone(),
            replicas: world.endpoints.get(&self.own).map_or(1, |all| all.len()),
        };
        let mut changed: BTreeSet<_> = now.raw.objects.changed(&self.seen.raw.objects);
        changed.extend(now.reports.changed(&self.seen.reports));
        let differ =
            |object: &&ObjectRef| now.problems.get(*object) != self.seen.problems.get(*object);
        let both = now.problems.keys().chain(self.seen.problems.keys());
        changed.extend(both.filter(differ).cloned());
        // How many replicas there are is in words that are written with the next change.
        self.seen = now;
        for object in changed {
            self.say(object);
        }
    }

    fn say(&mut self, object: ObjectRef) {
        // Kinds of others have statuses of another form.
        let Some(kind) = kinds::ALL.iter().find(|kind| kind.kind == object.kind) else {
            return;
        };
        let target = StatusTarget::new(kind, &object.namespace, &object.name);
        let Some(document) = self.seen.raw.objects.get(&object).cloned() else {
            self.known.remove(&object);
            self.writer.forget(OWNER, &target);
            return;
        };
        let of_meta = |field: &str| &document["metadata"][field];
        let uid = of_meta("uid").as_str().unwrap_or_default();
        let known = self.known.get(&object);
        if known.is_some_and(|known| known.uid != uid) {
            self.writer.forget(OWNER, &target);
        }
        if known.is_none_or(|known| !Arc::ptr_eq(&known.document, &document)) {
            let known = Known {
                uid: uid.to_owned(),
                problems: lateen_galley::problems(&object, &document),
                document: document.clone(),
            };
            self.known.insert(object.clone(), known);
        }
        let generation = of_meta("generation").as_i64().unwrap_or_default();
        if let Some(status) = self.status(&object, generation) {
            self.writer
                .set(OWNER, target, WantedStatus { generation, status });
        }
    }

    /// `None` while there is nothing to say yet.
    fn status(&self, object: &ObjectRef, generation: i64) -> Option<Value> {
        let mut problems = self.known.get(object)?.problems.clone();
        problems.extend(
            self.seen
                .problems
                .get(object)
                .into_iter()
                .flatten()
                .cloned(),
        );
        let report = self.seen.reports.get(object);
        let report = report.filter(|report| report.generation == generation && !report.is_gone);
        let is_invalid = problems
            .iter()
            .any(|problem| problem.kind == ProblemKind::Invalid);
        match report {
            // Galley or pilot has it in hand, and most often it is everywhere in a moment.
            None if !is_invalid => return None,
            Some(report) if report.is_early && !report.is_done() => return None,
            _ => {}
        }
        let report = report.map(|report| &**report);
        Some(json!({
            "observedGeneration": generation,
            "conditions": lateen_pilot::conditions(report, &problems, self.seen.replicas),
            "validationMessages": match problems.is_empty() {
                true => Value::Null,
                false => lateen_pilot::messages(&problems),
            },
        }))
    }
}

#[cfg(test)]
mod tests;
