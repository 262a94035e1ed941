//! How far an object got on the proxies of one replica, in the form of `/debug/distributionz`: what
//! `lateen wait` and other replicas read.

use std::time::Duration;

use lateen_api::kinds;
use lateen_core::ObjectRef;
use serde::{Deserialize, Serialize};

use super::Report;

/// A [`Report`] with the object that it is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The object's kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// See [`Report::generation`].
    pub generation: i64,
    /// See [`Report::is_gone`].
    pub gone: bool,
    /// See [`Report::snapshot`].
    pub snapshot: u64,
    /// See [`Report::proxies`].
    pub proxies: usize,
    /// See [`Report::acknowledged`].
    pub acknowledged: usize,
    /// The proxy that took longest.
    pub slowest: Option<Slowest>,
    /// See [`Report::outstanding`].
    pub outstanding: Vec<String>,
    /// See [`Report::refused`].
    pub refused: Vec<Refusal>,
}

/// The proxy that took longest to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slowest {
    /// `name.namespace`.
    pub proxy: String,
    /// From the publication of the snapshot.
    pub milliseconds: f64,
}

/// What a proxy did not take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// `name.namespace`.
    pub proxy: String,
    /// The type of resource, as `LDS`.
    pub r#type: String,
    /// In the proxy's words.
    pub reason: String,
}

impl Share {
    pub(crate) fn new(object: &ObjectRef, report: &Report) -> Share {
        let slowest = report.slowest.as_ref().map(|(proxy, took)| Slowest {
            proxy: proxy.clone(),
            milliseconds: took.as_secs_f64() * 1e3,
        });
        let refused = report.refused.iter().cloned();
        let refused = refused.map(|(proxy, r#type, reason)| Refusal {
            proxy,
            r#type,
            reason,
        });
        Share {
            kind: object.kind.to_owned(),
            namespace: object.namespace.to_string(),
            name: object.name.to_string(),
            generation: report.generation,
            gone: report.is_gone,
            snapshot: report.snapshot,
            proxies: report.proxies,
            acknowledged: report.acknowledged,
            slowest,
            outstanding: report.outstanding.clone(),
            refused: refused.collect(),
        }
    }

    /// The object, and how far it got; `None` for a kind that is not one of the mesh.
    pub fn report(self) -> Option<(ObjectRef, Report)> {
        let kind = kinds::ALL.iter().find(|kind| kind.kind == self.kind)?;
        let slowest = self.slowest.and_then(|slowest| {
            let took = Duration::try_from_secs_f64(slowest.milliseconds / 1e3).ok()?;
            Some((slowest.proxy, took))
        });
        let refused = self.refused.into_iter();
        let report = Report {
            generation: self.generation,
            is_gone: self.gone,
            snapshot: self.snapshot,
            proxies: self.proxies,
            acknowledged: self.acknowledged,
            slowest,
            outstanding: self.outstanding,
            refused: refused.map(|r| (r.proxy, r.r#type, r.reason)).collect(),
            ..Report::default()
        };
        let object = ObjectRef::new(kind.kind, &self.namespace, &self.name);
        Some((object, report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_back_as_it_was() {
        let object = ObjectRef::new("VirtualService", "default", "reviews");
        let report = Report {
            generation: 3,
            snapshot: 7,
            proxies: 4,
            acknowledged: 2,
            slowest: Some(("a.b".to_owned(), Duration::from_millis(12))),
            outstanding: vec!["c.d".to_owned()],
            refused: vec![("e.f".to_owned(), "LDS".to_owned(), "no".to_owned())],
            ..Report::default()
        };
        let text = serde_json::to_string(&Share::new(&object, &report)).expect("JSON");
        let share: Share = serde_json::from_str(&text).expect("the same form");
        assert_eq!(share.report(), Some((object, report)));
    }
}
