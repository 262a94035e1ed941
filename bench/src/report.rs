//! What a run found, for people and for programs.

mod chart;
mod json;
mod markdown;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::peer::Name;
use crate::samples::Samples;
use crate::workload::{Kind, Metric, Workload};
pub(crate) use markdown::machine;

/// The circumstances.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    pub(crate) versions: Vec<String>,
    pub(crate) names: Vec<Name>,
    /// Peers that are not on this machine.
    pub(crate) missing: Vec<String>,
    pub(crate) commit: Option<String>,
    pub(crate) took: Duration,
    pub(crate) failures: Vec<String>,
}

/// All that is known at the end.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) workloads: &'a [&'a Workload],
    pub(crate) samples: &'a Samples,
}

impl Report<'_> {
    /// Writes what was asked for, and the table of bars to standard output.
    pub(crate) fn write(&self, json: Option<&Path>, markdown: Option<&Path>) -> Result<()> {
        let mut out = std::io::stdout();
        out.write_all(self.bars().as_bytes())?;
        if let Some(path) = json {
            put(path, &format!("{:#}\n", self.json()))?;
        }
        let Some(path) = markdown else { return Ok(()) };
        let directory = path.parent().unwrap_or(Path::new("")).join("charts");
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let mut shown = Vec::new();
        for (file, title, metric) in [
            ("cpu", "CPU time, as a part of Envoy's", Metric::Cpu),
            (
                "latency",
                "median latency added at 4,000 requests/s, µs",
                Metric::AddedP50,
            ),
            ("memory", "memory of an idle process, MB", Metric::Idle),
        ] {
            if let Some(chart) = self.chart(title, metric) {
                put(&directory.join(format!("{file}.svg")), &chart)?;
                shown.push((file, title));
            }
        }
        put(path, &self.markdown(&shown))
    }

    /// A chart of one metric; of processor time, relative to Envoy.
    fn chart(&self, title: &str, metric: Metric) -> Option<String> {
        let groups: Vec<_> = self
            .workloads
            .iter()
            .filter(|workload| workload.metrics().first() == Some(&metric))
            .map(|workload| chart::Group {
                title: workload.title.to_owned(),
                bars: self.bars_of(workload, metric),
            })
            .filter(|group| !group.bars.is_empty())
            .collect();
        (!groups.is_empty()).then(|| chart::draw(title, &groups))
    }

    fn bars_of(&self, workload: &Workload, metric: Metric) -> Vec<(Name, f64)> {
        let median = |name| Some(self.samples.spread(workload, metric, name)?.median);
        let unit = match metric {
            Metric::Cpu => median(Name::Envoy).unwrap_or(f64::NAN),
            _ => 1.0,
        };
        let names = self.facts.names.iter();
        names
            .filter_map(|name| Some((*name, median(*name)? / unit)))
            .filter(|(_, value)| value.is_finite())
            .collect()
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// A number with as many digits as it deserves.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A bar's text needs to know what is counted.
fn heading(workload: &Workload, metric: Metric) -> &'static str {
    let kind: Kind = workload.kind;
    metric.title(kind)
}
