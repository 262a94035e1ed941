//! Resources as they came, encoded, with their versions: what the config dump shows.

use std::collections::BTreeMap;

use arcstr::ArcStr;
use lateen_xds::Any;

/// The parts of the config dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RawKind {
    StaticCluster,
    Cluster,
    StaticListener,
    Listener,
    Route,
    Endpoint,
}

/// One resource.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub name: ArcStr,
    pub version: String,
    pub updated: jiff::Timestamp,
    pub any: Any,
}

/// All resources.
#[derive(Debug, Default)]
pub(crate) struct RawStore {
    all: BTreeMap<(RawKind, ArcStr), Raw>,
}

impl RawStore {
    /// True where the resource is known in exactly this form.
    pub(crate) fn is_same(&self, kind: RawKind, name: &ArcStr, any: &Any) -> bool {
        self.all
            .get(&(kind, name.clone()))
            .is_some_and(|raw| raw.any == *any)
    }

    pub(crate) fn keep(&mut self, kind: RawKind, name: &ArcStr, version: &str, any: Any) {
        let raw = Raw {
            name: name.clone(),
            version: version.to_owned(),
            updated: jiff::Timestamp::now(),
            any,
        };
        self.all.insert((kind, name.clone()), raw);
    }

    pub(crate) fn forget(&mut self, kind: RawKind, name: &ArcStr) {
        self.all.remove(&(kind, name.clone()));
    }

    /// The resources of one kind, by name.
    pub(crate) fn of(&self, kind: RawKind) -> Vec<Raw> {
        let all = self.all.iter().filter(|((found, _), _)| *found == kind);
        all.map(|(_, raw)| raw.clone()).collect()
    }
}
