//! Fields that resources set and nobody here reads. Each resource that has some is named once in
//! the log, their number is a metric, and the admin interface lists them.

use std::collections::HashMap;

use arcstr::ArcStr;
use lateen_decode::{Unread, What, unread};
use lateen_xds::Any;

use super::{RawKind, State};
use crate::memory;

/// Names of fields that stand in no list of what is read, by message and number. Only reflection
/// knows them, which takes much memory, so each is looked up once.
pub(super) type Names = HashMap<(&'static str, u32), String>;

impl State {
    /// What of a resource is not read, as paths.
    pub(super) fn unread(&mut self, any: &Any) -> Vec<String> {
        let found = unread(any);
        if found.is_empty() {
            return Vec::new();
        }
        self.look_up(&found);
        let name = |message: &str, number: u32| {
            let names = &self.field_names;
            let known = names.iter().find(|(key, _)| **key == (message, number));
            known.map(|(_, name)| name.clone())
        };
        let mut paths: Vec<String> = found.fields.iter().map(|field| field.path(name)).collect();
        if found.more > 0 {
            paths.push(format!("and {} more", found.more));
        }
        paths
    }

    fn look_up(&mut self, found: &Unread) {
        let unknown: Vec<(&'static str, u32)> = found
            .fields
            .iter()
            .filter_map(|field| match field.what {
                What::Field(message, number) => Some((message, number)),
                What::Type(_) | What::Word(_) | What::Malformed => None,
            })
            .filter(|key| !self.field_names.contains_key(key))
            .collect();
        if unknown.is_empty() {
            return;
        }
        let names = memory::apart(|| {
            let name = |key: &(&'static str, u32)| {
                let found = lateen_xds::json::field_name(key.0, key.1);
                (*key, found.unwrap_or_else(|| format!("#{}", key.1)))
            };
            Ok(unknown.iter().map(name).collect::<Vec<_>>())
        });
        // Without a thread to look in, the numbers have to do.
        self.field_names.extend(names.unwrap_or_default());
    }

    /// Says what is not read, where that is news.
    pub(super) fn say_unread(&self, kind: RawKind, name: &ArcStr, paths: &[String]) {
        if !paths.is_empty() {
            let fields = paths.join(", ");
            tracing::warn!(?kind, %name, fields, "fields without effect: nothing reads them");
        }
    }
}
