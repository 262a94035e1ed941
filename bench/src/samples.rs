//! What the rounds gave, and what follows from it.

use std::collections::BTreeMap;

use crate::peer::Name;
use crate::workload::{Bar, Metric, Workload};

/// The values of a run, by workload and metric. Nothing where a measurement failed.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<(&'static str, Metric, Name), Vec<Option<f64>>>);

/// The middle and the ends of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// A bar and what was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) bar: Bar,
    /// Nothing where it could not be measured.
    pub(crate) reached: Option<Spread>,
}

impl Spread {
    /// Of no values there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Spread { median, min, max })
    }

    /// Half the distance between the ends, as a part of the median.
    pub(crate) fn noise(&self) -> f64 {
        (self.max - self.min) / 2.0 / self.median.abs()
    }
}

impl Samples {
    /// Keeps what one round saw. Every round adds to every series, so that rounds can be compared.
    pub(crate) fn add(&mut self, workload: &Workload, name: Name, values: &[(Metric, f64)]) {
        for metric in workload.metrics() {
            let found = values.iter().find(|(known, _)| known == metric);
            let series = self.0.entry((workload.name, *metric, name)).or_default();
            series.push(found.map(|(_, value)| *value));
        }
    }

    pub(crate) fn series(&self, workload: &Workload, metric: Metric, name: Name) -> &[Option<f64>] {
        let series = self.0.get(&(workload.name, metric, name));
        series.map_or(&[], Vec::as_slice)
    }

    pub(crate) fn spread(&self, workload: &Workload, metric: Metric, name: Name) -> Option<Spread> {
        Spread::of(
            self.series(workload, metric, name)
                .iter()
                .flatten()
                .copied(),
        )
    }

    /// What a function makes of our value and a peer's, in each round that has both.
    fn beside(
        &self,
        workload: &Workload,
        metric: Metric,
        peer: Name,
        compare: impl Fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let ours = self.series(workload, metric, Name::Lateen);
        let theirs = self.series(workload, metric, peer);
        let pairs = ours.iter().zip(theirs);
        let pairs = pairs.filter_map(|(ours, theirs)| Some(compare((*ours)?, (*theirs)?)));
        Spread::of(pairs)
    }

    /// Our value divided by a peer's, round by round.
    pub(crate) fn ratio(&self, workload: &Workload, metric: Metric, peer: Name) -> Option<Spread> {
        self.beside(workload, metric, peer, |ours, theirs| ours / theirs)
    }

    pub(crate) fn verdict(&self, workload: &Workload, bar: Bar) -> Verdict {
        let reached = match bar {
            Bar::Ratio(metric, peer, _) => self.ratio(workload, metric, peer),
            Bar::Most(metric, _) => self.spread(workload, metric, Name::Lateen),
            Bar::Below(metric, peer) => self.beside(workload, metric, peer, |a, b| a - b),
        };
        Verdict { bar, reached }
    }
}

impl Verdict {
    /// Whether the bar is met; unknown where nothing was measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let median = self.reached?.median;
        Some(match self.bar {
            Bar::Ratio(_, _, most) | Bar::Most(_, most) => median <= most,
            Bar::Below(..) => median < 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn spreads_have_a_middle() {
        let check = |values: &[f64], expect: f64| {
            assert_eq!(
                Spread::of(values.iter().copied()).expect("some").median,
                expect
            );
        };
        check(&[3.0], 3.0);
        check(&[9.0, 1.0, 2.0], 2.0);
        check(&[4.0, 1.0, 3.0, 2.0], 2.5);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let workload = &WORKLOADS[0];
        let mut samples = Samples::default();
        for (ours, theirs) in [
            (1.0, Some(4.0)),
            (5.0, None),
            (6.0, Some(12.0)),
            (2.0, Some(5.0)),
        ] {
            samples.add(workload, Name::Lateen, &[(Metric::Cpu, ours)]);
            let theirs: Vec<_> = theirs
                .map(|value| (Metric::Cpu, value))
                .into_iter()
                .collect();
            samples.add(workload, Name::Envoy, &theirs);
        }
        let verdict = |most| samples.verdict(workload, Bar::Ratio(Metric::Cpu, Name::Envoy, most));
        let reached = verdict(0.42).reached.expect("three rounds");
        assert_eq!((reached.min, reached.median, reached.max), (0.25, 0.4, 0.5));
        assert_eq!(verdict(0.42).is_met(), Some(true));
        assert_eq!(verdict(0.39).is_met(), Some(false));
        let below = samples.verdict(workload, Bar::Below(Metric::Cpu, Name::Haproxy));
        assert_eq!(below.is_met(), None);
    }
}
