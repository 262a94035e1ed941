//! Where objects that came from files stand in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_api::lines::Lines;
use lateen_core::ObjectRef;

use crate::files::Place;

/// The places of objects, down to their fields.
#[derive(Debug, Default)]
pub struct Places(BTreeMap<ObjectRef, Stand>);

/// Where one object stands.
#[derive(Debug)]
pub(super) struct Stand {
    pub(super) place: Place,
    /// The text of its document.
    pub(super) text: Arc<Lines>,
    /// The field of the document that it is, where that is a list of several.
    pub(super) within: String,
}

impl Stand {
    /// `file:line` of a field, or of the innermost part of it that is written.
    pub(super) fn of(&self, field: &str) -> String {
        let Stand {
            place,
            text,
            within,
        } = self;
        let field = match (within.as_str(), field) {
            ("", field) => field.to_owned(),
            (within, "") => within.to_owned(),
            (within, field) => format!("{within}.{field}"),
        };
        let line = text.line_of(&field).unwrap_or(1);
        let line = place.line + line - 1;
        format!("{}:{line}", place.file.display())
    }
}

impl Places {
    /// `file:line` of a field of an object, or of the innermost part of the field that is written;
    /// `None` for what came from no file.
    pub fn of(&self, object: &ObjectRef, field: &str) -> Option<String> {
        Some(self.0.get(object)?.of(field))
    }

    /// Notes where an object stands; where it stood before.
    pub(super) fn insert(&mut self, object: ObjectRef, stand: Stand) -> Option<Place> {
        self.0.insert(object, stand).map(|stand| stand.place)
    }
}
