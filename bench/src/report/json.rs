//! Every figure of a run.

use serde_json::{Map, Value, json};

use super::Report;
use crate::samples::{Spread, Verdict};
use crate::workload::{Bar, Metric, Workload};

impl Report<'_> {
    pub(super) fn json(&self) -> Value {
        let workloads: Vec<_> = self
            .workloads
            .iter()
            .map(|workload| self.workload(workload))
            .collect();
        json!({
            "commit": self.facts.commit,
            "proxies": self.facts.versions,
            "missing": self.facts.missing,
            "failures": self.facts.failures,
            "rounds": self.facts.rounds,
            "window_seconds": self.facts.window.as_secs_f64(),
            "took_seconds": self.facts.took.as_secs(),
            "workloads": workloads,
        })
    }

    fn workload(&self, workload: &Workload) -> Value {
        let mut metrics = Map::new();
        for metric in workload.metrics() {
            metrics.insert(metric.name().to_owned(), self.metric(workload, *metric));
        }
        let bars = workload
            .bars
            .iter()
            .map(|bar| verdict(&self.samples.verdict(workload, *bar)));
        json!({
            "name": workload.name,
            "title": workload.title,
            "metrics": metrics,
            "bars": bars.collect::<Vec<_>>(),
        })
    }

    fn metric(&self, workload: &Workload, metric: Metric) -> Value {
        let mut proxies = Map::new();
        let takes = self
            .facts
            .names
            .iter()
            .filter(|name| workload.takes(**name));
        for name in takes {
            let mut found = json!({
                "rounds": self.samples.series(workload, metric, *name),
                "spread": self.samples.spread(workload, metric, *name).map(spread),
            });
            if workload.peers.contains(name) {
                let ratio = self.samples.ratio(workload, metric, *name);
                found["ours_to_it"] = ratio.map(spread).into();
            }
            proxies.insert(name.as_str().to_owned(), found);
        }
        json!({ "unit": metric.title(workload.kind), "proxies": proxies })
    }
}

fn spread(spread: Spread) -> Value {
    json!({ "median": spread.median, "min": spread.min, "max": spread.max })
}

fn verdict(verdict: &Verdict) -> Value {
    let (metric, peer, most) = match verdict.bar {
        Bar::Ratio(metric, peer, most) => (metric, Some(peer), most),
        Bar::Most(metric, most) => (metric, None, most),
        Bar::Below(metric, peer) => (metric, Some(peer), 0.0),
    };
    let compares = match verdict.bar {
        Bar::Ratio(..) => "ratio",
        Bar::Most(..) => "value",
        Bar::Below(..) => "difference",
    };
    json!({
        "metric": metric.name(),
        "compares": compares,
        "peer": peer.map(|peer| peer.as_str()),
        "most": most,
        "reached": verdict.reached.map(spread),
        "met": verdict.is_met(),
    })
}
