//! Where what was served comes from: the objects that somebody wrote, and the lines of files.

use lateen_core::ObjectRef;
use lateen_pilot::{Offline, Origin};
use lateen_registry::{Places, WATCHED_KINDS};

use crate::answer::{Said, Source};

/// What is known of the objects behind what a proxy is served.
#[derive(Clone, Copy, Default)]
pub struct Behind<'a> {
    /// The configuration that it was made of, or should have been; without it only objects are named
    /// that the proxy's own configuration names.
    pub offline: Option<&'a Offline>,
    /// Where objects stand.
    pub places: Option<&'a Places>,
}

impl Behind<'_> {
    /// A field of an object, and its line.
    pub(crate) fn source(self, of: &Origin) -> Source {
        let place = self
            .places
            .and_then(|places| places.of(&of.object, &of.field));
        Source {
            // Users know the Gateway of the Gateway API by its own name.
            object: of
                .object
                .to_string()
                .replace("KubernetesGateway ", "Gateway "),
            field: of.field.clone(),
            place: place.unwrap_or_default(),
        }
    }

    pub(crate) fn sources(self, of: &[Origin]) -> Vec<Source> {
        of.iter().map(|origin| self.source(origin)).collect()
    }

    pub(crate) fn said(self, what: &str, by: &Origin) -> Said {
        Said {
            what: what.to_owned(),
            by: self.source(by),
        }
    }

    pub(crate) fn whole(self, object: ObjectRef) -> Source {
        let field = String::new();
        self.source(&Origin { object, field })
    }

    /// An object that metadata name: `/apis/GROUP/VERSION/namespaces/NAMESPACE/KIND/NAME`, the kind
    /// with dashes between its words.
    pub(crate) fn named(self, config: &str) -> Option<Source> {
        let parts: Vec<&str> = config.split('/').collect();
        let [.., "namespaces", namespace, kind, name] = parts[..] else {
            return None;
        };
        let kind = kind.replace('-', "");
        let mut ids = WATCHED_KINDS.iter().map(|kind| kind.kind);
        let known = ids.find(|id| id.eq_ignore_ascii_case(&kind))?;
        Some(self.whole(ObjectRef::new(known, namespace, name)))
    }
}
