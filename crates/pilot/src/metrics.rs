//! The control plane's own series, by Istio's names.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arcstr::ArcStr;
use lateen_telemetry::metrics::{Counter, Family, Gauge, Histogram, Registry};
use lateen_xds::TypeUrl;
use lateen_xds::server::Event;

use crate::key::Cache;

/// All series.
pub(crate) struct Metrics {
    registry: Registry,
    connected: Arc<Gauge>,
    pushes: Arc<Family<Counter>>,
    /// Of the types that all proxies ask for, looked up once: a change is thousands of pushes.
    pushes_of: Vec<(TypeUrl, OnceLock<Arc<Counter>>)>,
    rejects: Arc<Family<Counter>>,
    total_rejects: Arc<Counter>,
    held_back: Arc<Family<Counter>>,
    convergence: Arc<Histogram>,
    pub(crate) triggers: Arc<Family<Counter>>,
    pub(crate) debounce: Arc<Histogram>,
    pub(crate) snapshot_time: Arc<Histogram>,
    /// From the receipt of objects to the last proxy's acknowledgement.
    pub(crate) distribution: Arc<Histogram>,
    pub(crate) services: Arc<Gauge>,
    pub(crate) virtual_services: Arc<Gauge>,
    started: Instant,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let build = registry.family::<Gauge>("istio_build", &["component", "tag"]);
        let version = arcstr::literal!(env!("CARGO_PKG_VERSION"));
        build.with(&[arcstr::literal!("pilot"), version]).set(1);
        Metrics {
            connected: registry.single("pilot_xds"),
            pushes: registry.family("pilot_xds_pushes", &["type"]),
            pushes_of: TypeUrl::PUSH_ORDER.map(|of| (of, OnceLock::new())).into(),
            rejects: registry.family("pilot_xds_rejects", &["type"]),
            total_rejects: registry.single("pilot_total_xds_rejects"),
            held_back: registry.family("lateen_xds_held_back", &["type"]),
            convergence: registry.single("pilot_proxy_convergence_time_milliseconds"),
            triggers: registry.family("pilot_push_triggers", &["type"]),
            debounce: registry.single("pilot_debounce_time_milliseconds"),
            snapshot_time: registry.single("pilot_pushcontext_init_milliseconds"),
            distribution: registry.single("lateen_distribution_time_milliseconds"),
            services: registry.single("pilot_services"),
            virtual_services: registry.single("pilot_virt_services"),
            started: Instant::now(),
            registry,
        }
    }

    /// Where other parts add their own.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Connected => self.connected.add(1),
            Event::Disconnected => self.connected.add(-1),
            Event::Sent { type_url, .. } => self.sent(type_url),
            Event::Refused { type_url, .. } => {
                self.rejects.with(&[short(type_url)]).inc();
                self.total_rejects.inc();
            }
            Event::HeldBack {
                type_url,
                resources,
            } => {
                let held_back = self.held_back.with(&[short(type_url)]);
                held_back.add(u64::try_from(*resources).unwrap_or(u64::MAX));
            }
            Event::Converged { after } => self.convergence.observe(after.as_secs_f64() * 1e3),
            _ => {}
        }
    }

    fn sent(&self, type_url: &TypeUrl) {
        let series = || self.pushes.with(&[short(type_url)]);
        match self.pushes_of.iter().find(|(of, _)| of == type_url) {
            Some((_, known)) => known.get_or_init(series).inc(),
            None => series().inc(),
        }
    }

    /// Everything in Prometheus' text form.
    pub(crate) fn expose(&self, cache: &Cache) -> String {
        use std::fmt::Write as _;
        let mut text = self.registry.expose();
        let uptime = self.started.elapsed().as_secs_f64();
        let (entries, hits, misses) = cache.counts();
        for (name, kind, value) in [
            ("istiod_uptime_seconds", "gauge", uptime),
            ("lateen_xds_cache_size", "gauge", entries as f64),
            ("lateen_xds_cache_hits", "counter", hits as f64),
            ("lateen_xds_cache_misses", "counter", misses as f64),
            (
                "lateen_xds_generation_failures",
                "counter",
                cache.failures() as f64,
            ),
        ] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}

fn short(type_url: &TypeUrl) -> ArcStr {
    ArcStr::from(type_url.short().to_ascii_lowercase())
}
