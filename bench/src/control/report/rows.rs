//! Figures beside their bars.

use serde_json::{Value, json};

use crate::control::mesh::Size;
use crate::control::plan::Part;
use crate::control::plane::{Changes, Connected, Measured, Step};
use crate::control::proxies::Dialect;

/// The mesh of most bars, and of the bar for memory.
const BARS: Size = Size {
    services: 1000,
    proxies: 5000,
    ports: 1,
};
const MEMORY_BARS: Size = Size {
    services: 10_000,
    proxies: 200,
    ports: 1,
};

/// One figure.
#[derive(Debug)]
pub(super) struct Row {
    mesh: String,
    what: String,
    /// The most that is allowed.
    bar: Option<f64>,
    unit: &'static str,
    /// What was reached, or why nothing was.
    reached: Result<f64, String>,
    more: String,
    /// The mesh is as large as the bar's.
    whole: bool,
}

impl Row {
    pub(super) fn line(&self) -> String {
        let (unit, what, mesh) = (self.unit, &self.what, &self.mesh);
        let bar = self
            .bar
            .map_or_else(|| "–".to_owned(), |bar| format!("≤ {bar} {unit}"));
        let reached = match &self.reached {
            Ok(value) => format!("{} {unit}{}", number(*value), self.more),
            Err(reason) => reason.clone(),
        };
        format!(
            "| {mesh} | {what} | {bar} | {reached} | {} |\n",
            self.verdict()
        )
    }

    fn verdict(&self) -> &'static str {
        match (self.bar, &self.reached) {
            (None, _) => "",
            (Some(_), Err(_)) => "**MISSED**",
            (Some(bar), Ok(value)) if *value > bar => "**MISSED**",
            (Some(_), Ok(_)) if self.whole => "met",
            (Some(_), Ok(_)) => "within it, smaller mesh",
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "mesh": self.mesh,
            "what": self.what,
            "bar": self.bar,
            "unit": self.unit,
            "reached": self.reached.as_ref().ok(),
            "not_reached": self.reached.as_ref().err(),
            "verdict": self.verdict().trim_matches('*'),
        })
    }
}

/// A value of which so many in a hundred are no larger.
pub(super) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The rows of one mesh.
pub(super) fn of(part: Part, measured: &Measured) -> Vec<Row> {
    match part {
        Part::Main | Part::Ports => main(measured),
        Part::Memory => memory(measured),
        Part::Single => single(measured),
        Part::Curve => Vec::new(),
    }
}

/// Makes the rows of a mesh.
struct Maker {
    mesh: String,
    whole: bool,
}

impl Maker {
    fn new(measured: &Measured, bars: Size) -> Self {
        let size = measured.size;
        let ports = match size.ports {
            1 => String::new(),
            ports => format!(", {ports} ports"),
        };
        Maker {
            mesh: format!(
                "{} × {}{ports}, {}",
                size.services,
                size.proxies,
                measured.client.as_str()
            ),
            whole: size.services >= bars.services && size.proxies >= bars.proxies,
        }
    }

    /// A row of a step, from what was reached to a figure and what else there is to say.
    fn row<T>(
        &self,
        what: &str,
        bar: Option<f64>,
        unit: &'static str,
        step: &Step<T>,
        figure: impl FnOnce(&T) -> (f64, String),
    ) -> Option<Row> {
        let (reached, more) = match step {
            Step::Skipped => return None,
            Step::Reached(value) => {
                let (value, more) = figure(value);
                (Ok(value), more)
            }
            Step::NotReached(seconds, status) => {
                let reason = format!("not reached in {seconds:.0} s ({status})");
                (Err(reason), String::new())
            }
        };
        Some(Row {
            mesh: self.mesh.clone(),
            what: what.to_owned(),
            bar,
            unit,
            reached,
            more,
            whole: self.whole,
        })
    }
}

fn main(measured: &Measured) -> Vec<Row> {
    let make = Maker::new(measured, BARS);
    // The bars are about our own proxy; Envoy's figures stand beside them.
    let bar = |most: f64| (measured.client == Dialect::Ours).then_some(most);
    let proxies = measured.size.proxies;
    let first = make.row("first push to all", bar(30.0), "s", &measured.first, work);
    let memory = match measured.first {
        Step::Reached(_) => make.row(
            "memory per proxy",
            bar(150.0),
            "KB",
            &measured.first,
            |first| per_proxy(first, proxies),
        ),
        _ => None,
    };
    let endpoint = "one endpoint, acknowledged by all, p99";
    let route = "one VirtualService, acknowledged by all, p99";
    let idle = make.row("idle", bar(2.0), "% of a core", &measured.idle, |part| {
        (part * 100.0, String::new())
    });
    let again = make.row(
        "all reconnect at once, steady after the last connection",
        bar(10.0),
        "s",
        &measured.again,
        |again| {
            let (seconds, more) = work(again);
            let kept = again.unchanged;
            let more = format!(
                "; {seconds:.2} s from the command; {kept} of {proxies} hold what they held{more}"
            );
            (again.after_last_connection, more)
        },
    );
    let again = again.map(|row| whole_again(row, &measured.again, proxies));
    let rows = [
        first,
        memory,
        make.row(endpoint, bar(200.0), "ms", &measured.endpoint, changes),
        make.row(route, bar(1000.0), "ms", &measured.route, changes),
        idle,
        again,
    ];
    rows.into_iter().flatten().collect()
}

/// It counts for nothing how soon all are steady when one of them has lost configuration.
fn whole_again(row: Row, again: &Step<Connected>, proxies: usize) -> Row {
    let kept = again.reached().map(|again| again.unchanged);
    match kept.filter(|kept| *kept < proxies) {
        Some(kept) => Row {
            reached: Err(format!("only {kept} of {proxies} hold what they held")),
            ..row
        },
        None => row,
    }
}

fn memory(measured: &Measured) -> Vec<Row> {
    let make = Maker::new(measured, MEMORY_BARS);
    let whole = make.row(
        "memory in all",
        Some(500.0),
        "MB",
        &measured.first,
        |first| {
            let [before, after] = first.memory;
            let more = format!(
                "; {:.0} MB at most, {:.0} MB before the first proxy, first push in {:.1} s",
                first.peak as f64 / 1e6,
                before.rss as f64 / 1e6,
                first.seconds
            );
            (after.rss as f64 / 1e6, more)
        },
    );
    whole.into_iter().collect()
}

/// One proxy: everything is made the first time, and found again the second.
fn single(measured: &Measured) -> Vec<Row> {
    let make = Maker::new(measured, BARS);
    let cost = |step: &Step<Connected>, resources: u64, what, bar| {
        make.row(what, Some(bar), "µs", step, |step| {
            let each = step.cpu * 1e6 / resources as f64;
            (
                each,
                format!("; {resources} resources, all that serving them takes"),
            )
        })
    };
    let resources = measured.first.reached().map_or(0, |first| first.resources);
    let rows = [
        cost(
            &measured.first,
            resources,
            "a resource, made and sent",
            20.0,
        ),
        cost(
            &measured.again,
            resources,
            "a resource, found to be held",
            1.0,
        ),
    ];
    rows.into_iter()
        .flatten()
        .map(|row| Row { whole: true, ..row })
        .collect()
}

fn work(step: &Connected) -> (f64, String) {
    let mut more = format!(
        "; CPU {:.2} s, proxies' {:.2} s; {} resources, {:.0} MB",
        step.cpu,
        step.proxies_cpu,
        step.resources,
        step.bytes as f64 / 1e6
    );
    if step.broken > 0 {
        let reasons = step.reasons.iter();
        let reasons: Vec<_> = reasons.map(|(why, n)| format!("{n} × {why}")).collect();
        let (n, reasons) = (step.broken, reasons.join(", "));
        more += &format!(", {n} connections failed ({reasons})");
    }
    (step.seconds, more)
}

fn per_proxy(first: &Connected, proxies: usize) -> (f64, String) {
    let [before, after] = first.memory;
    let grown = after.rss.saturating_sub(before.rss);
    let more = format!(
        "; {:.0} MB before, {:.0} MB after, {:.0} MB at most",
        before.rss as f64 / 1e6,
        after.rss as f64 / 1e6,
        first.peak as f64 / 1e6
    );
    (grown as f64 / 1e3 / proxies as f64, more)
}

fn changes(changes: &Changes) -> (f64, String) {
    let last = percentile(&changes.last, 99) * 1e3;
    let more = format!(
        "; p50 {:.1}, half of the proxies {:.1}; CPU {:.1} ms; {} changes",
        percentile(&changes.last, 50) * 1e3,
        percentile(&changes.median, 50) * 1e3,
        changes.cpu * 1e3,
        changes.last.len()
    );
    (last, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=50).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), 25.0);
        assert_eq!(percentile(&values, 99), 50.0);
        assert_eq!(percentile(&[3.0], 99), 3.0);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn a_small_mesh_can_miss_but_not_meet_a_bar() {
        let check = |reached: Result<f64, String>, whole, expect: &str| {
            let row = Row {
                mesh: "m".into(),
                what: "w".into(),
                bar: Some(10.0),
                unit: "ms",
                reached,
                more: String::new(),
                whole,
            };
            assert_eq!(row.verdict(), expect);
        };
        check(Ok(9.0), true, "met");
        check(Ok(9.0), false, "within it, smaller mesh");
        check(Ok(11.0), false, "**MISSED**");
        check(Err("not reached in 5 s".into()), true, "**MISSED**");
    }
}
