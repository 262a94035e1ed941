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
    /// Fields that nothing reads.
    pub unread: Vec<String>,
}

/// All resources.
#[derive(Debug, Default)]
pub(crate) struct RawStore {
    all: BTreeMap<(RawKind, ArcStr), Raw>,
    n_unread: usize,
}

impl RawStore {
    /// True where the resource is known in exactly this form.
    pub(crate) fn is_same(&self, kind: RawKind, name: &ArcStr, any: &Any) -> bool {
        self.all
            .get(&(kind, name.clone()))
            .is_some_and(|raw| raw.any == *any)
    }

    /// Keeps a resource; true where other fields of it are unread than of the one before.
    pub(crate) fn keep(
        &mut self,
        kind: RawKind,
        name: &ArcStr,
        version: &str,
        any: Any,
        unread: Vec<String>,
    ) -> bool {
        self.n_unread += unread.len();
        let raw = Raw {
            name: name.clone(),
            version: version.to_owned(),
            updated: jiff::Timestamp::now(),
            any,
            unread,
        };
        let key = (kind, name.clone());
        let unread = raw.unread.clone();
        let before = self.all.insert(key, raw).map(|raw| raw.unread);
        self.n_unread -= before.as_ref().map_or(0, Vec::len);
        before.unwrap_or_default() != unread
    }

    pub(crate) fn forget(&mut self, kind: RawKind, name: &ArcStr) {
        let gone = self.all.remove(&(kind, name.clone()));
        self.n_unread -= gone.map_or(0, |raw| raw.unread.len());
    }

    /// How many fields are unread, of all resources.
    pub(crate) fn n_unread(&self) -> usize {
        self.n_unread
    }

    /// The fields that nothing reads, by kind and name.
    pub(crate) fn unread(&self) -> Vec<(RawKind, ArcStr, Vec<String>)> {
        let some = self.all.iter().filter(|(_, raw)| !raw.unread.is_empty());
        some.map(|((kind, name), raw)| (*kind, name.clone(), raw.unread.clone()))
            .collect()
    }

    /// The resources of one kind, by name.
    pub(crate) fn of(&self, kind: RawKind) -> Vec<Raw> {
        let all = self.all.iter().filter(|((found, _), _)| *found == kind);
        all.map(|(_, raw)| raw.clone()).collect()
    }
}
