//! What can name a field.

use crate::names::Known;

/// What can name a field: a text in any case, or a well-known name.
pub trait FieldName: Copy {
    /// The interned name, where the text has one.
    #[doc(hidden)]
    fn known(self) -> Option<Known>;
    /// The text.
    #[doc(hidden)]
    fn text(&self) -> &[u8];
}

impl FieldName for Known {
    #[inline]
    fn known(self) -> Option<Known> {
        Some(self)
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl FieldName for &str {
    #[inline]
    fn known(self) -> Option<Known> {
        Known::of(self.as_bytes())
    }

    #[inline]
    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl FieldName for &String {
    fn known(self) -> Option<Known> {
        Known::of(self.as_bytes())
    }

    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}
