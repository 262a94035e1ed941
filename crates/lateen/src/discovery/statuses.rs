//! What the mesh's objects are told of themselves: where they are in force and what is wrong with
//! them, as conditions of their status.

mod addresses;
mod messages;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Fuse, FusedFuture},
};
use lateen_api::kinds;
use lateen_core::{Backoff, ObjectRef, Problem, ProblemKind};
use lateen_pilot::{CONDITIONS, Discovery, Problems, Report, Reports};
use lateen_registry::{
    RawConfig, Registry, StatusOwner, StatusTarget, StatusWriter, WATCHED_KINDS, WantedStatus,
    World,
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    analysis::{Analysed, Told},
    replicas::{Replica, Replicas, Said},
};

pub(super) use addresses::Addresses;

const OWNER: StatusOwner = StatusOwner {
    name: "mesh",
    conditions: CONDITIONS,
    controller: "",
};

/// Of kinds that no proxy is sent as they are, only analysis says something.
const ANALYSIS: StatusOwner = StatusOwner {
    name: "analysis",
    conditions: &[],
    controller: "",
};

/// How soon other replicas are asked about an object that is in force here.
const ASK_AFTER: Duration = Duration::from_millis(500);
/// How seldom they are asked in the end, where nothing new comes to be asked about.
const ASK_SELDOM: Duration = Duration::from_secs(15);
/// How long other replicas may be behind before an object is told so.
const GRACE: Duration = Duration::from_secs(3);

/// Carries what is known of objects to the writer.
pub(super) struct Statuses {
    raw: watch::Receiver<Arc<RawConfig>>,
    world: watch::Receiver<Arc<World>>,
    reports: watch::Receiver<Arc<Reports>>,
    problems: watch::Receiver<Arc<Problems>>,
    writer: StatusWriter,
    replicas: Replicas,
    /// Whether this replica writes, and so has to know what the others have to say.
    leading: watch::Receiver<bool>,
    /// What analysis says.
    analysis: watch::Receiver<Arc<Told>>,
    seen: Seen,
    /// The other replicas, as the world was seen.
    others: Vec<Replica>,
    /// Objects of which it was said how far they got while no other replica was known of.
    said_alone: BTreeSet<ObjectRef>,
    /// Objects that other replicas are to be asked about: their generation, and since when.
    waiting: BTreeMap<ObjectRef, (i64, Instant)>,
    ask_at: Instant,
    pace: Backoff,
    asking: Fuse<BoxFuture<'static, Answers>>,
    /// Which object has the name, and what its document alone shows.
    known: BTreeMap<ObjectRef, Known>,
}

/// What objects others were asked about, and what they said.
type Answers = (Vec<ObjectRef>, Vec<Said>);

#[derive(Default)]
struct Seen {
    world: Arc<World>,
    raw: Arc<RawConfig>,
    reports: Arc<Reports>,
    problems: Arc<Problems>,
    told: Arc<Told>,
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
        leading: watch::Receiver<bool>,
        replicas: Replicas,
        analysis: watch::Receiver<Arc<Told>>,
    ) -> Self {
        Statuses {
            raw: registry.config(),
            world: registry.world(),
            reports: discovery.reports(),
            problems: discovery.problems(),
            writer,
            replicas,
            leading,
            analysis,
            seen: Seen::default(),
            others: Vec::new(),
            said_alone: BTreeSet::new(),
            waiting: BTreeMap::new(),
            ask_at: Instant::now(),
            pace: Backoff::new(ASK_AFTER, ASK_SELDOM),
            asking: Fuse::terminated(),
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
                changed = self.leading.changed() => changed,
                changed = self.analysis.changed() => changed,
                () = sleep_until(self.ask_at), if self.must_ask() => {
                    self.ask();
                    Ok(())
                }
                // Slow replicas hold up nothing else.
                (objects, said) = &mut self.asking, if !self.asking.is_terminated() => {
                    self.hear(objects, &said);
                    Ok(())
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Only who writes has to know.
    fn must_ask(&self) -> bool {
        *self.leading.borrow() && !self.waiting.is_empty() && self.asking.is_terminated()
    }

    fn ask(&mut self) {
        let others = self.others.clone();
        let objects: Vec<_> = self.waiting.keys().cloned().collect();
        let replicas = self.replicas.clone();
        let asking = async move {
            let said = replicas.ask(others, &objects).await;
            (objects, said)
        };
        self.asking = asking.boxed().fuse();
    }

    /// Says what is known now that the other replicas have answered.
    fn hear(&mut self, objects: Vec<ObjectRef>, said: &[Said]) {
        for object in objects {
            self.say_of_all(object, said);
        }
        self.ask_at = Instant::now() + self.pace.next_delay();
    }

    /// Says what is different since the last look.
    fn look(&mut self) {
        let world = self.world.borrow_and_update().clone();
        if !Arc::ptr_eq(&world, &self.seen.world) {
            self.others = self.replicas.others(&world);
        }
        let now = Seen {
            world,
            raw: self.raw.borrow_and_update().clone(),
            reports: self.reports.borrow_and_update().clone(),
            problems: self.problems.borrow_and_update().clone(),
            told: self.analysis.borrow_and_update().clone(),
        };
        let mut changed: BTreeSet<_> = now.raw.objects.changed(&self.seen.raw.objects);
        changed.extend(now.reports.changed(&self.seen.reports));
        changed.extend(differing(&now.problems, &self.seen.problems));
        changed.extend(differing(&now.told, &self.seen.told));
        // A replica that has just started knows its own proxies before it knows of other replicas, and
        // all proxies may be with those.
        if !self.others.is_empty() {
            changed.append(&mut self.said_alone);
        }
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
        if !WATCHED_KINDS
            .iter()
            .any(|watched| watched.id() == kind.id())
        {
            return self.say_analysed(&object, target);
        }
        let Some(document) = self.seen.raw.objects.get(&object).cloned() else {
            self.known.remove(&object);
            self.waiting.remove(&object);
            self.said_alone.remove(&object);
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
        let report = self.own_report(&object, generation);
        match report {
            Some(_) if !self.others.is_empty() => {
                self.ask_about(object, generation);
            }
            report => {
                self.waiting.remove(&object);
                if report.is_some() {
                    self.said_alone.insert(object.clone());
                }
                let report = report.as_deref();
                if let Some(status) = self.status(&object, generation, report) {
                    self.writer
                        .set(OWNER, target, WantedStatus { generation, status });
                }
            }
        }
    }

    /// Says what analysis does of an object of which nothing else is known.
    fn say_analysed(&self, object: &ObjectRef, target: StatusTarget) {
        let Some(Analysed {
            generation,
            messages,
        }) = self.seen.told.get(object)
        else {
            return self.writer.forget(ANALYSIS, &target);
        };
        let wanted = WantedStatus {
            generation: *generation,
            status: json!({"validationMessages": messages::messages(&[], messages)}),
        };
        self.writer.set(ANALYSIS, target, wanted);
    }

    /// Asks soon, for something happened to the object here and so most likely elsewhere.
    fn ask_about(&mut self, object: ObjectRef, generation: i64) {
        self.pace.reset();
        let soon = Instant::now() + ASK_AFTER;
        if self.waiting.is_empty() || self.ask_at > soon {
            self.ask_at = soon;
        }
        let now = (generation, Instant::now());
        let known = self.waiting.entry(object).or_insert(now);
        // Others have as long for each generation.
        if known.0 != generation {
            *known = now;
        }
    }

    /// Says how far an object got on the proxies of all replicas.
    fn say_of_all(&mut self, object: ObjectRef, said: &[Said]) {
        let kind = kinds::ALL.iter().find(|kind| kind.kind == object.kind);
        let document = self.seen.raw.objects.get(&object);
        let (Some(kind), Some(document)) = (kind, document) else {
            self.waiting.remove(&object);
            return;
        };
        let generation = document["metadata"]["generation"].as_i64();
        let generation = generation.unwrap_or_default();
        let Some(own) = self.own_report(&object, generation) else {
            return;
        };
        let mut report = (*own).clone();
        let mut is_whole = true;
        for Said {
            replica,
            is_alike,
            reports,
        } in said
        {
            match reports {
                Ok(reports) => report.add(replica, reports.get(&object)),
                Err(error) if *is_alike => report.add(&format!("{replica} ({error:#})"), None),
                // It may be no part of this mesh, and then is not to be named; but if it is, its
                // proxies count as soon as it answers.
                Err(_) => is_whole = false,
            }
        }
        let waiting = self.waiting.get(&object);
        let is_late = waiting.is_some_and(|(_, since)| since.elapsed() >= GRACE);
        let is_done = report.is_done() && is_whole;
        if !is_done && !is_late {
            return;
        }
        if is_done {
            self.waiting.remove(&object);
        }
        let target = StatusTarget::new(kind, &object.namespace, &object.name);
        if let Some(status) = self.status(&object, generation, Some(&report)) {
            self.writer
                .set(OWNER, target, WantedStatus { generation, status });
        }
    }

    /// How far this generation got on the proxies of this replica.
    fn own_report(&self, object: &ObjectRef, generation: i64) -> Option<Arc<Report>> {
        let report = self.seen.reports.get(object)?;
        (report.generation == generation && !report.is_gone).then(|| Arc::clone(report))
    }

    /// `None` while there is nothing to say yet.
    fn status(
        &self,
        object: &ObjectRef,
        generation: i64,
        report: Option<&Report>,
    ) -> Option<Value> {
        let mut problems = self.known.get(object)?.problems.clone();
        problems.extend(
            self.seen
                .problems
                .get(object)
                .into_iter()
                .flatten()
                .cloned(),
        );
        let is_invalid = problems
            .iter()
            .any(|problem| problem.kind == ProblemKind::Invalid);
        match report {
            // Galley or pilot has it in hand, and most often it is everywhere in a moment.
            None if !is_invalid => return None,
            Some(report) if report.is_early && !report.is_done() => return None,
            _ => {}
        }
        let told = self.seen.told.get(object);
        let analysed = told.map(|told| told.messages.as_slice());
        Some(json!({
            "observedGeneration": generation,
            "conditions": lateen_pilot::conditions(report, &problems),
            "validationMessages": messages::messages(&problems, analysed.unwrap_or_default()),
        }))
    }
}

/// Objects of which two states say different things.
fn differing<'a, T: PartialEq>(
    now: &'a BTreeMap<ObjectRef, T>,
    before: &'a BTreeMap<ObjectRef, T>,
) -> impl Iterator<Item = ObjectRef> + use<'a, T> {
    let differ = move |object: &&ObjectRef| now.get(*object) != before.get(*object);
    now.keys().chain(before.keys()).filter(differ).cloned()
}

#[cfg(test)]
mod tests;
