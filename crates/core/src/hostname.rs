//! Host names as configuration and discovery use them: exact or with a leading wildcard.

use std::{borrow::Borrow, fmt, ops::Deref};

use arcstr::ArcStr;
use serde::{Deserialize, Serialize};

/// A lower-case DNS name, `*`, or `*.suffix`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(ArcStr);

impl Hostname {
    /// Takes the name as it is written, in lower case: DNS does not distinguish.
    pub fn new(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            Hostname(ArcStr::from(name.to_ascii_lowercase()))
        } else {
            Hostname(ArcStr::from(name))
        }
    }

    /// The name of a Kubernetes service: `name.namespace.svc.domain`.
    pub fn service(name: &str, namespace: &str, domain: &str) -> Self {
        Hostname::new(format!("{name}.{namespace}.svc.{domain}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name starts with `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether every name that `other` stands for is also one of this name's.
    ///
    /// ```
    /// # use lateen_core::Hostname;
    /// assert!(Hostname::new("*.example.com").covers(&Hostname::new("a.example.com")));
    /// assert!(!Hostname::new("a.example.com").covers(&Hostname::new("*.example.com")));
    /// ```
    pub fn covers(&self, other: &Hostname) -> bool {
        Self::pattern_covers(&self.0, other)
    }

    /// The same for a pattern that is only looked at, in lower case.
    pub fn pattern_covers(pattern: &str, name: &str) -> bool {
        match pattern.strip_prefix('*') {
            None => pattern == name,
            Some(suffix) => {
                let rest = name.strip_prefix('*').unwrap_or(name);
                rest.ends_with(suffix) && (rest.len() > suffix.len() || name.starts_with('*'))
            }
        }
    }

    /// Whether some name belongs to both.
    pub fn overlaps(&self, other: &Hostname) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl Deref for Hostname {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Hostname {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Hostname {
    fn from(name: &str) -> Self {
        Hostname::new(name)
    }
}

impl From<String> for Hostname {
    fn from(name: String) -> Self {
        Hostname::new(name)
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Hostname {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hostname {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Hostname::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_they_name() {
        let check = |a: &str, b: &str, expect: bool| {
            assert_eq!(
                Hostname::new(a).covers(&Hostname::new(b)),
                expect,
                "{a} covers {b}"
            );
        };
        check("*", "a.b", true);
        check("*", "*", true);
        check("*", "*.b", true);
        check("*.b", "a.b", true);
        check("*.b", "*.b", true);
        check("*.b", "*.a.b", true);
        check("*.b", "*", false);
        check("*.b", "b", false);
        check("*.b", "xb", false);
        check("a.b", "A.b", true);
        check("a.b", "*.b", false);
    }

    #[test]
    fn names_are_lower_case() {
        assert_eq!(Hostname::new("Reviews.Default").as_str(), "reviews.default");
    }
}
