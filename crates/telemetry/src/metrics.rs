//! Metric families: a name, a list of label names, and one series for each list of label values.
//!
//! A series is an `Arc` of atomics: look it up once per connection or route, not once per request.

mod text;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arcstr::ArcStr;

pub use text::Writer;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds; negative numbers subtract.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Replaces.
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of Envoy's histograms, in milliseconds or bytes.
pub const BUCKETS: [f64; 20] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10000.0,
    30000.0,
    60000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
    f64::INFINITY,
];

/// How often values fell below each bound of [`BUCKETS`].
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS.len()],
    /// In thousandths, so that it stays an integer.
    sum: AtomicU64,
}

impl Histogram {
    /// Records a value.
    pub fn observe(&self, value: f64) {
        let bucket = BUCKETS
            .partition_point(|bound| value > *bound)
            .min(BUCKETS.len() - 1);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum
            .fetch_add((value * 1000.0) as u64, Ordering::Relaxed);
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

/// A kind of series.
pub trait Series: Default + Send + Sync + 'static {
    /// What `# TYPE` says.
    const KIND: &'static str;

    /// Writes the samples of one series; `labels` is the text between the braces.
    fn write(&self, name: &str, labels: &str, out: &mut Writer);
}

impl Series for Counter {
    const KIND: &'static str = "counter";

    fn write(&self, name: &str, labels: &str, out: &mut Writer) {
        out.sample(name, labels, self.value());
    }
}

impl Series for Gauge {
    const KIND: &'static str = "gauge";

    fn write(&self, name: &str, labels: &str, out: &mut Writer) {
        out.sample(name, labels, self.value());
    }
}

impl Series for Histogram {
    const KIND: &'static str = "histogram";

    fn write(&self, name: &str, labels: &str, out: &mut Writer) {
        let mut total = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in BUCKETS.iter().zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let bound = if bound.is_infinite() {
                "+Inf".to_owned()
            } else {
                bound.to_string()
            };
            let labels = format!("{labels}{comma}le=\"{bound}\"");
            out.sample(&format!("{name}_bucket"), &labels, total);
        }
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1000.0;
        out.sample(&format!("{name}_sum"), labels, sum);
        out.sample(&format!("{name}_count"), labels, total);
    }
}

/// All series of one name.
#[derive(Debug)]
pub struct Family<M> {
    name: &'static str,
    labels: &'static [&'static str],
    series: RwLock<HashMap<Vec<ArcStr>, Arc<M>>>,
}

impl<M: Series> Family<M> {
    /// The series of those label values, made when it is first asked for. Panics where the number
    /// of values is not that of the family's labels.
    pub fn with(&self, values: &[ArcStr]) -> Arc<M> {
        assert_eq!(values.len(), self.labels.len(), "labels of {}", self.name);
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = series.get(values) {
            return found.clone();
        }
        drop(series);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.entry(values.to_vec()).or_default().clone()
    }

    /// Forgets series that nobody holds and that the predicate gives up.
    pub fn retain(&self, keep: impl Fn(&[ArcStr]) -> bool) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.retain(|values, series| Arc::strong_count(series) > 1 || keep(values));
    }
}

trait Exposed: Send + Sync {
    fn expose(&self, out: &mut Writer);
}

impl<M: Series> Exposed for Family<M> {
    fn expose(&self, out: &mut Writer) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return;
        }
        out.kind(self.name, M::KIND);
        let mut lines: Vec<(String, &Arc<M>)> = series
            .iter()
            .map(|(values, m)| (text::labels(self.labels, values), m))
            .collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        for (labels, series) in lines {
            series.write(self.name, &labels, out);
        }
    }
}

type Collector = Box<dyn Fn(&mut Writer) + Send + Sync>;

/// The families of a process.
#[derive(Default)]
pub struct Registry {
    families: Mutex<Vec<Arc<dyn Exposed>>>,
    collectors: Mutex<Vec<Collector>>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a family and registers it.
    pub fn family<M: Series>(
        &self,
        name: &'static str,
        labels: &'static [&'static str],
    ) -> Arc<Family<M>> {
        let family = Arc::new(Family {
            name,
            labels,
            series: RwLock::default(),
        });
        self.families
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(family.clone());
        family
    }

    /// Makes a single series without labels and registers it.
    pub fn single<M: Series>(&self, name: &'static str) -> Arc<M> {
        self.family::<M>(name, &[]).with(&[])
    }

    /// Registers a function that writes samples when they are asked for.
    pub fn collector(&self, collect: impl Fn(&mut Writer) + Send + Sync + 'static) {
        self.collectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(collect));
    }

    /// All samples in Prometheus' text form.
    pub fn expose(&self) -> String {
        let mut out = Writer::default();
        for family in self
            .families
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            family.expose(&mut out);
        }
        for collect in self
            .collectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            collect(&mut out);
        }
        out.into_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form() {
        let registry = Registry::new();
        let requests = registry.family::<Counter>("requests_total", &["code", "path"]);
        requests.with(&["200".into(), "a\"b".into()]).add(2);
        registry.single::<Gauge>("up").set(1);
        let times = registry.family::<Histogram>("ms", &["code"]);
        times.with(&["200".into()]).observe(3.0);
        times.with(&["200".into()]).observe(1e9);
        let text = registry.expose();
        for line in [
            "# TYPE requests_total counter",
            r#"requests_total{code="200",path="a\"b"} 2"#,
            "up 1",
            r#"ms_bucket{code="200",le="1"} 0"#,
            r#"ms_bucket{code="200",le="5"} 1"#,
            r#"ms_bucket{code="200",le="+Inf"} 2"#,
            r#"ms_count{code="200"} 2"#,
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
    }
}
