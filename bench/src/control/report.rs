//! What was found, for people and for programs.

mod rows;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::plan::Part;
use super::plane::{Changes, Measured};
use super::{Found, Step};
use crate::report::machine;
use rows::Row;

/// All that is known at the end.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) commit: Option<&'a str>,
    pub(super) quick: bool,
    pub(super) took: Duration,
    pub(super) found: &'a [Found],
}

impl Report<'_> {
    /// Writes what was asked for, and everything to standard output.
    pub(super) fn write(&self, json: Option<&Path>, markdown: Option<&Path>) -> Result<()> {
        let text = self.markdown();
        std::io::stdout().write_all(text.as_bytes())?;
        if let Some(path) = json {
            put(path, &format!("{:#}\n", self.json()))?;
        }
        markdown.map_or(Ok(()), |path| put(path, &text))
    }

    fn measured(&self) -> impl Iterator<Item = (Part, &Measured)> {
        let found = self.found.iter();
        found.filter_map(|found| Some((found.part, found.measured.as_ref().ok()?)))
    }

    fn rows(&self) -> Vec<Row> {
        let measured = self.measured();
        measured
            .flat_map(|(part, measured)| rows::of(part, measured))
            .collect()
    }

    fn markdown(&self) -> String {
        let mut text = String::from(
            "# The control plane\n\nWritten by `cargo xtask bench control-plane`; \
             [README.md](README.md) says how it measures and what the figures mean.\n\n",
        );
        let what = if self.quick {
            "a quick run"
        } else {
            "a full run"
        };
        let _ = writeln!(text, "{}; {what} of {:.0?}.", machine(), self.took);
        if let Some(commit) = self.commit {
            let _ = writeln!(text, "Built from {commit}.");
        }
        let _ = writeln!(
            text,
            "Others used {} of the machine's processors while this was measured.",
            self.others()
        );
        text +=
            "\n## Bars\n\nA smaller mesh than the bar's can miss a bar, and cannot meet it.\n\n";
        text += "| mesh | what | bar | reached | |\n|---|---|---|---|---|\n";
        for row in self.rows() {
            text += &row.line();
        }
        text += &self.curve();
        for found in self.found {
            if let Err(error) = &found.measured {
                let _ = writeln!(text, "\nA mesh could not be measured: {error}");
            }
        }
        text
    }

    /// The most that others used in any step.
    fn others(&self) -> String {
        let changes = |step: &Step<Changes>| step.reached().map(|changes| changes.others);
        let each = self.measured().flat_map(|(_, measured)| {
            let first = measured.first.reached().map(|first| first.others);
            [first, changes(&measured.endpoint), changes(&measured.route)]
        });
        let mut each: Vec<f64> = each.flatten().collect();
        each.sort_by(f64::total_cmp);
        match (each.get(each.len() / 2), each.last()) {
            (Some(median), Some(most)) => format!("{median:.2} (at most {most:.2})"),
            _ => "an unknown part".to_owned(),
        }
    }

    /// The cost of a change against the number of services.
    fn curve(&self) -> String {
        let curve = self.measured().filter(|(part, _)| *part == Part::Curve);
        let mut text = String::new();
        for (_, measured) in curve {
            if text.is_empty() {
                text = "\n## The cost of a change\n\nTime of the control plane on a processor for one \
                        change that all proxies get, and the time until all have acknowledged it \
                        (median).\n\n| services × proxies | endpoint, CPU ms | acknowledged, ms | \
                        VirtualService, CPU ms | acknowledged, ms |\n|---|---|---|---|---|\n"
                    .to_owned();
            }
            let size = measured.size;
            let _ = writeln!(
                text,
                "| {} × {} | {} | {} |",
                size.services,
                size.proxies,
                cost(&measured.endpoint),
                cost(&measured.route)
            );
        }
        text
    }

    fn json(&self) -> Value {
        let meshes: Vec<_> = self
            .found
            .iter()
            .map(|found| match &found.measured {
                Ok(measured) => json!({"part": format!("{:?}", found.part), "measured": measured}),
                Err(error) => json!({"part": format!("{:?}", found.part), "failed": error}),
            })
            .collect();
        let rows: Vec<_> = self.rows().iter().map(Row::json).collect();
        json!({
            "commit": self.commit,
            "machine": machine(),
            "quick": self.quick,
            "took_seconds": self.took.as_secs(),
            "rows": rows,
            "meshes": meshes,
        })
    }
}

fn cost(step: &Step<Changes>) -> String {
    match step {
        Step::Reached(changes) => format!(
            "{:.2} | {:.1}",
            changes.cpu * 1e3,
            rows::percentile(&changes.last, 50) * 1e3
        ),
        Step::NotReached(seconds, _) => format!("– | not within {seconds:.0} s"),
        Step::Skipped => "– | –".to_owned(),
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}
