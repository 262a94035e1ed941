//! The report for people.

use std::fmt::Write as _;

use super::{Report, heading, number};
use crate::samples::Verdict;
use crate::workload::{Bar, Workload};

impl Report<'_> {
    /// The table of bars.
    pub(super) fn bars(&self) -> String {
        let mut text = "| work | bar | reached (least … most) | |\n|---|---|---|---|\n".to_owned();
        for workload in self.workloads {
            for bar in workload.bars {
                let verdict = self.samples.verdict(workload, *bar);
                text += &format!(
                    "| {} | {} | {} | {} |\n",
                    workload.title,
                    wanted(workload, *bar),
                    reached(&verdict),
                    met(&verdict)
                );
            }
        }
        text
    }

    pub(super) fn markdown(&self, charts: &[(&str, &str)]) -> String {
        let mut text = String::from(
            "# Results\n\nWritten by `cargo xtask bench`; [README.md](README.md) says how it \
             measures and what the figures mean.\n\n",
        );
        text += &self.circumstances();
        text += "\n## Bars\n\nOurs against a peer: the median of the rounds' ratios (for latency, of \
                 their differences), with the least and the most of all rounds.\n\n";
        text += &self.bars();
        for (file, title) in charts {
            text += &format!("\n![{title}](charts/{file}.svg)\n");
        }
        text += "\n## Figures\n\nMedians of the rounds, ± half the distance between the least and the \
                 most.\n";
        for workload in self.workloads {
            text += &self.table(workload);
        }
        text
    }

    fn circumstances(&self) -> String {
        let facts = self.facts;
        let mut text = format!(
            "{} rounds, {:.1} s for each measurement, {} min in all. {}.\n",
            facts.rounds,
            facts.window.as_secs_f64(),
            facts.took.as_secs().div_ceil(60),
            machine(),
        );
        text += &format!("Measured: {}.\n", facts.versions.join(", "));
        if let Some(commit) = &facts.commit {
            text += &format!("Built from {commit}.\n");
        }
        for missing in &facts.missing {
            text += &format!("**Not measured:** {missing}.\n");
        }
        for failure in &facts.failures {
            text += &format!("**Failed:** {failure}.\n");
        }
        text += &self.noise();
        text
    }

    /// How much rounds differ, in the values and in the ratios that the bars are about.
    fn noise(&self) -> String {
        let (mut values, mut ratios) = (Vec::new(), Vec::new());
        for workload in self.workloads {
            let Some(metric) = workload.metrics().first() else {
                continue;
            };
            for name in &self.facts.names {
                let spread = self.samples.spread(workload, *metric, *name);
                values.extend(spread.map(|spread| spread.noise()));
            }
            for peer in workload.peers {
                let ratio = self.samples.ratio(workload, *metric, *peer);
                ratios.extend(ratio.map(|ratio| ratio.noise()));
            }
        }
        let shown = |mut list: Vec<f64>| {
            list.retain(|noise| noise.is_finite());
            list.sort_by(f64::total_cmp);
            let middle = list.get(list.len() / 2).copied().unwrap_or(0.0);
            let most = list.last().copied().unwrap_or(0.0);
            format!("±{:.0} % (at worst ±{:.0} %)", middle * 100.0, most * 100.0)
        };
        format!(
            "Noise between rounds: {} in values, {} in ratios within a round. A difference smaller \
             than this means nothing.\n",
            shown(values),
            shown(ratios)
        )
    }

    fn table(&self, workload: &Workload) -> String {
        let mut text = format!("\n### {}\n\n|", workload.title);
        for metric in workload.metrics() {
            let _ = write!(text, " | {}", heading(workload, *metric));
        }
        text += " | ours to it |\n|---|";
        text += &"---|".repeat(workload.metrics().len() + 1);
        text += "\n";
        for name in self
            .facts
            .names
            .iter()
            .filter(|name| workload.takes(**name))
        {
            let _ = write!(text, "| {}", name.as_str());
            for metric in workload.metrics() {
                let cell = match self.samples.spread(workload, *metric, *name) {
                    Some(spread) => {
                        let half = (spread.max - spread.min) / 2.0;
                        format!("{} ± {}", number(spread.median), number(half))
                    }
                    None => "–".to_owned(),
                };
                let _ = write!(text, " | {cell}");
            }
            let first = workload.metrics().first();
            let ratio = first.and_then(|metric| self.samples.ratio(workload, *metric, *name));
            let ratio = ratio.filter(|_| workload.peers.contains(name));
            let ratio = ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
            let _ = writeln!(text, " | {ratio} |");
        }
        text
    }
}

fn wanted(workload: &Workload, bar: Bar) -> String {
    match bar {
        Bar::Ratio(metric, peer, most) => {
            let times = match workload.kind {
                crate::workload::Kind::Mesh { .. } => "two of ",
                _ => "",
            };
            format!(
                "{} ≤ {most:.2} × {times}{}",
                heading(workload, metric),
                peer.as_str()
            )
        }
        Bar::Most(metric, most) => format!("{} ≤ {most}", heading(workload, metric)),
        Bar::Below(metric, peer) => {
            format!("{} below {}", heading(workload, metric), peer.as_str())
        }
    }
}

fn reached(verdict: &Verdict) -> String {
    match verdict.reached {
        None => "not measured".to_owned(),
        Some(spread) => format!(
            "{:.2} ({:.2} … {:.2})",
            spread.median, spread.min, spread.max
        ),
    }
}

fn met(verdict: &Verdict) -> &'static str {
    match verdict.is_met() {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "**unknown**",
    }
}

/// Processor and kernel.
pub(crate) fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map_or("a processor without a name", |name| {
        name.trim_start_matches([' ', '\t', ':'])
    });
    let n = processor
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{n} virtual processors ({name}), Linux {kernel}")
}
