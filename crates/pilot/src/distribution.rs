//! How far each generation of each object got: on how many proxies it is, and which was the slowest.
//!
//! An object's generation is published with the first snapshot that holds it. A proxy has
//! acknowledged it when nothing of that snapshot is outstanding on its stream, which is also so when
//! the snapshot is nothing to it: idle streams are not woken, what they hold is counted up. So all
//! objects that came with one snapshot share one wave of acknowledgements, and what is kept of a
//! wave is the streams that have not answered yet.
//!
//! A proxy that connects later begins with the newest state and is no part of a wave; one that goes
//! away leaves it.

mod conditions;
mod problems;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lateen_core::ObjectRef;
use lateen_galley::ConfigSet;
use lateen_registry::{Changes, SharedMap, World};
use lateen_xds::TypeUrl;
use lateen_xds::server::{Connection, Connections};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

pub use conditions::{CONDITIONS, MESSAGES_MAX, conditions, message, messages};
use problems::Finder;
pub use problems::Problems;
pub use share::{Refusal, Share, Slowest};

use crate::snapshot::Snapshot;
use crate::source::{Client, Core};

/// Acknowledgements of thousands of proxies are looked at together.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Most waves end before anybody could read about them. Of others is told this often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Proxies that are named in a report.
const NAMED_MAX: usize = 5;

/// How far one generation of an object got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The generation; 0 where the object has none, or is gone.
    pub generation: i64,
    /// The object is gone, and this is how far that got.
    pub is_gone: bool,
    /// Generation of the snapshot that it was published with.
    pub snapshot: u64,
    /// Proxies that were connected then and still are.
    pub proxies: usize,
    /// Those on whose streams nothing of it is outstanding.
    pub acknowledged: usize,
    /// The proxy that took longest of those that have answered, and how long.
    pub slowest: Option<(String, Duration)>,
    /// Some that have not answered.
    pub outstanding: Vec<String>,
    /// Some that have refused something, what it was, and their reason.
    pub refused: Vec<(String, String, String)>,
    /// Replicas of the control plane that have not published it, as far as is known.
    pub behind: Vec<String>,
    /// It is so new that most often it is not worth a word.
    pub is_early: bool,
}

impl Report {
    /// Whether all proxies have it.
    pub fn is_done(&self) -> bool {
        self.acknowledged == self.proxies && self.behind.is_empty()
    }

    /// Adds what another replica says of the same object: its report, or `None` where it knows
    /// nothing of it. What it says of an older generation is that it is behind.
    pub fn add(&mut self, replica: &str, other: Option<&Report>) {
        let same = other.filter(|other| !other.is_gone && other.generation >= self.generation);
        let Some(other) = same else {
            self.behind.push(replica.to_owned());
            return;
        };
        self.proxies += other.proxies;
        self.acknowledged += other.acknowledged;
        let took = |slowest: &Option<(String, Duration)>| slowest.as_ref().map(|(_, took)| *took);
        if took(&self.slowest) < took(&other.slowest) {
            self.slowest = other.slowest.clone();
        }
        self.outstanding.extend(other.outstanding.iter().cloned());
        self.outstanding.truncate(NAMED_MAX);
        self.refused.extend(other.refused.iter().cloned());
        self.refused.truncate(NAMED_MAX);
    }
}

/// The newest report of each object.
pub type Reports = SharedMap<ObjectRef, Arc<Report>>;

/// Streams on their way to one snapshot.
struct Wave {
    snapshot: u64,
    since: Instant,
    /// What came with it: generations, or `None` for what is gone.
    objects: BTreeMap<ObjectRef, Option<i64>>,
    proxies: usize,
    /// Those that have not answered, by their number.
    outstanding: BTreeMap<u64, Arc<Stream>>,
    slowest: Option<(String, Duration)>,
    tell_at: Instant,
}

type Stream = Connection<Client>;

/// Follows snapshots and streams.
pub(crate) struct Tracker {
    core: Arc<Core>,
    connections: Arc<Connections<Client>>,
    config: Arc<ConfigSet>,
    world: Arc<World>,
    waves: Vec<Wave>,
    reports: Reports,
    finder: Finder,
    reports_tx: watch::Sender<Arc<Reports>>,
    problems_tx: watch::Sender<Arc<Problems>>,
}

impl Tracker {
    pub(crate) fn new(
        core: Arc<Core>,
        connections: Arc<Connections<Client>>,
        reports_tx: watch::Sender<Arc<Reports>>,
        problems_tx: watch::Sender<Arc<Problems>>,
    ) -> Tracker {
        Tracker {
            core,
            connections,
            config: Arc::default(),
            world: Arc::default(),
            waves: Vec::new(),
            reports: Reports::new(),
            finder: Finder::default(),
            reports_tx,
            problems_tx,
        }
    }

    /// Until there are no more snapshots.
    pub(crate) async fn run(mut self) {
        let mut snapshots = self.core.snapshots.clone();
        snapshots.mark_changed();
        let mut moves = self.connections.moves();
        loop {
            let tell = self.waves.iter().map(|wave| wave.tell_at).min();
            let tell = async {
                match tell {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = snapshots.borrow_and_update().clone();
                    self.begin(&snapshot);
                }
                _ = moves.changed(), if !self.waves.is_empty() || self.has_patches() => {
                    // Whether a patch fits is known when a proxy has something that it is for.
                    if self.has_patches() {
                        let snapshot = snapshots.borrow().clone();
                        self.find_problems(&snapshot);
                    }
                }
                () = tell => {}
            }
            self.look();
            sleep(LOOK_EVERY).await;
        }
    }

    fn has_patches(&self) -> bool {
        !self.config.envoy_filters.is_empty()
    }

    /// Takes in what came with a snapshot.
    fn begin(&mut self, snapshot: &Snapshot) {
        let config = &snapshot.config;
        let news = config.since(&self.config);
        let world = std::mem::replace(&mut self.world, snapshot.world.clone());
        // Problems are of objects and of the services that they name. Endpoints, which change all the
        // time, make none.
        let services = snapshot.world.services.changed(&world.services);
        if !news.is_empty() || !services.is_empty() {
            self.find_problems(snapshot);
        }
        self.config = config.clone();
        let changed = news.objects;
        if changed.is_empty() {
            return;
        }
        for wave in &mut self.waves {
            wave.objects.retain(|object, _| !changed.contains(object));
        }
        self.waves.retain(|wave| !wave.objects.is_empty());
        // Who moves from here on is noted, and who has moved before is seen.
        self.connections.follow(true);
        let mut streams = self.connections.list();
        // What an agent asks for is not what objects say, but what comes of them all.
        streams.retain(|stream| !stream.client.proxy.is_agent);
        let proxies = streams.len();
        let outstanding = streams.into_iter().filter(|c| !has(c, snapshot.generation));
        let wave = Wave {
            snapshot: snapshot.generation,
            since: snapshot.since,
            objects: generations(config, changed),
            proxies,
            outstanding: outstanding.map(|c| (c.id, c)).collect(),
            slowest: None,
            tell_at: Instant::now() + TELL_EVERY,
        };
        self.tell(&wave, true);
        self.waves.push(wave);
        self.publish();
    }

    fn find_problems(&mut self, snapshot: &Snapshot) {
        let patches = self.core.engine.patches();
        let found = self.finder.by_object(snapshot, patches);
        self.problems_tx.send_if_modified(|held| {
            let changed = **held != found;
            if changed {
                *held = Arc::new(found);
            }
            changed
        });
    }

    /// Takes in who has answered.
    fn look(&mut self) {
        if self.waves.is_empty() {
            return;
        }
        let moved = self.connections.moved();
        let now = Instant::now();
        let mut open = Vec::new();
        let mut has_news = false;
        for mut wave in std::mem::take(&mut self.waves) {
            wave.look(&moved);
            let is_done = wave.outstanding.is_empty();
            if is_done {
                let took = wave.slowest.as_ref().map(|(_, took)| *took);
                let took = took.unwrap_or_default().as_secs_f64() * 1e3;
                self.core.metrics.distribution.observe(took);
            }
            if is_done || now >= wave.tell_at {
                self.tell(&wave, false);
                wave.tell_at = now + TELL_EVERY;
                has_news = true;
            }
            if !is_done {
                open.push(wave);
            }
        }
        self.waves = open;
        if self.waves.is_empty() {
            self.connections.follow(false);
        }
        if has_news {
            self.publish();
        }
    }

    /// Puts how far a wave got into the reports of its objects.
    fn tell(&mut self, wave: &Wave, is_early: bool) {
        let of_all = Report {
            is_early,
            ..wave.report()
        };
        for (object, generation) in &wave.objects {
            let is_gone = generation.is_none();
            if is_gone && of_all.is_done() {
                self.reports.remove(object);
                continue;
            }
            let report = Report {
                generation: generation.unwrap_or_default(),
                is_gone,
                ..of_all.clone()
            };
            if self.reports.get(object).is_none_or(|held| **held != report) {
                self.reports.insert(object.clone(), Arc::new(report));
            }
        }
    }

    fn publish(&self) {
        self.reports_tx.send_replace(Arc::new(self.reports.clone()));
    }
}

impl Wave {
    /// Takes in that some streams moved.
    fn look(&mut self, moved: &[u64]) {
        for id in moved {
            let Some(stream) = self.outstanding.get(id) else {
                continue;
            };
            if has(stream, self.snapshot) {
                self.answered(&stream.clone());
            } else if stream.is_over() {
                self.proxies -= 1;
            } else {
                continue;
            }
            self.outstanding.remove(id);
        }
    }

    fn answered(&mut self, stream: &Stream) {
        let at = stream.acked_at();
        let took = at.map(|at| at.saturating_duration_since(self.since));
        if let Some(took) = took
            && self.slowest.as_ref().is_none_or(|(_, most)| *most < took)
        {
            self.slowest = Some((name(stream), took));
        }
    }

    fn report(&self) -> Report {
        let refused = self.outstanding.values().flat_map(|stream| {
            let named = |(of, reason): (TypeUrl, _)| (name(stream), of.short().to_owned(), reason);
            stream.refusals().into_iter().map(named)
        });
        let named = self.outstanding.values().take(NAMED_MAX);
        Report {
            snapshot: self.snapshot,
            proxies: self.proxies,
            acknowledged: self.proxies - self.outstanding.len(),
            slowest: self.slowest.clone(),
            outstanding: named.map(|stream| name(stream)).collect(),
            refused: refused.take(NAMED_MAX).collect(),
            ..Report::default()
        }
    }
}

/// Whether nothing of a snapshot is outstanding on a stream.
fn has(connection: &Stream, snapshot: u64) -> bool {
    connection.acked_generation() >= snapshot
}

/// `name.namespace`, as everywhere.
fn name(connection: &Stream) -> String {
    let proxy = &connection.client.proxy;
    format!("{}.{}", proxy.name, proxy.namespace)
}

fn generations(
    config: &ConfigSet,
    changed: BTreeSet<ObjectRef>,
) -> BTreeMap<ObjectRef, Option<i64>> {
    let mut found: BTreeMap<_, _> = changed.into_iter().map(|object| (object, None)).collect();
    let names: BTreeSet<_> = found.keys().map(|object| object.name.clone()).collect();
    for (kind, meta) in config.metas() {
        if !names.contains(meta.name.as_str()) {
            continue;
        }
        let object = ObjectRef::new(kind, &meta.namespace, &meta.name);
        if let Some(generation) = found.get_mut(&object) {
            *generation = Some(meta.generation);
        }
    }
    found
}
