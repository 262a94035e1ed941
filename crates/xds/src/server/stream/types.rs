//! What a client asks for, type by type.

use super::super::watched::Watched;
use crate::TypeUrl;

/// State by type, for a handful of types.
#[derive(Default)]
pub(super) struct Types(Vec<(TypeUrl, Watched)>);

impl Types {
    pub(super) fn get(&self, type_url: &TypeUrl) -> Option<&Watched> {
        let found = self.0.iter().find(|(known, _)| known == type_url);
        found.map(|(_, watched)| watched)
    }

    pub(super) fn get_mut(&mut self, type_url: &TypeUrl) -> Option<&mut Watched> {
        let found = self.0.iter_mut().find(|(known, _)| known == type_url);
        found.map(|(_, watched)| watched)
    }

    /// Adds one that is not there yet.
    pub(super) fn insert(&mut self, type_url: TypeUrl, watched: Watched) {
        self.0.push((type_url, watched));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &TypeUrl> {
        self.0.iter().map(|(type_url, _)| type_url)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Watched> {
        self.0.iter().map(|(_, watched)| watched)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&TypeUrl, &mut Watched)> {
        let all = self.0.iter_mut();
        all.map(|(type_url, watched)| (&*type_url, watched))
    }
}
