//! Labels of workloads and the equality selectors over them.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
};

use serde::{Deserialize, Serialize};

/// A set of labels, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

impl Labels {
    /// No labels.
    pub const fn new() -> Self {
        Labels(BTreeMap::new())
    }

    /// The value of one label.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether each of these labels stands in `other` with the same value.
    /// An empty set selects everything; a caller for whom it means nothing asks first.
    pub fn selects(&self, other: &Labels) -> bool {
        self.0
            .iter()
            .all(|(key, value)| other.value(key) == Some(value))
    }
}

impl Deref for Labels {
    type Target = BTreeMap<String, String>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Labels {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Labels(map)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Labels(
            pairs
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        )
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            write!(f, "{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_needs_every_label() {
        let pod: Labels = [("app", "reviews"), ("version", "v1")]
            .into_iter()
            .collect();
        let app: Labels = [("app", "reviews")].into_iter().collect();
        assert!(app.selects(&pod));
        assert!(!pod.selects(&app));
        assert!(Labels::new().selects(&app));
        assert_eq!(pod.to_string(), "app=reviews,version=v1");
    }
}
