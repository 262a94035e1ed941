//! The header list of a message, and of its trailers.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// A header name or value that cannot be represented on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid header {0:?}")]
pub struct InvalidHeader(pub String);

/// A header value; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(pub(crate) HeaderValue);

impl Value {
    /// A value from bytes that hold no control character but tab.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidHeader> {
        HeaderValue::from_bytes(bytes)
            .map(Value)
            .map_err(|_| InvalidHeader(String::from_utf8_lossy(bytes).into_owned()))
    }

    /// A value known when the program is compiled. Panics on a control character.
    pub const fn from_static(text: &'static str) -> Self {
        Value(HeaderValue::from_static(text))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The text, where it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.0.as_bytes()).ok()
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value(HeaderValue::from(number))
    }
}

/// An ordered list of headers. Names are compared without regard to case.
#[derive(Debug, Clone, Default)]
pub struct Headers(pub(crate) HeaderMap);

impl Headers {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True where a field of that name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The first value of that name, where it is UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.0.get(name)?.as_bytes()).ok()
    }

    /// The first value of that name.
    pub fn value(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned().map(Value)
    }

    /// All values of that name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    /// All values of that name joined by commas, as matching sees a repeated field. A field whose
    /// values are not UTF-8 counts as absent.
    pub fn joined(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let mut all = self.0.get_all(name).iter();
        let first = std::str::from_utf8(all.next()?.as_bytes()).ok()?;
        let mut text = std::borrow::Cow::Borrowed(first);
        for value in all {
            let owned = text.to_mut();
            owned.push(',');
            owned.push_str(std::str::from_utf8(value.as_bytes()).ok()?);
        }
        Some(text)
    }

    /// Every field in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    /// Replaces all fields of that name by one.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidHeader> {
        let value = Value::new(value.as_ref())?;
        self.0.insert(parse_name(name)?, value.0);
        Ok(())
    }

    /// Replaces all fields of a name that is known when the program is compiled.
    pub fn set_value(&mut self, name: &'static str, value: Value) {
        self.0.insert(HeaderName::from_static(name), value.0);
    }

    /// Adds a field after those of the same name.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidHeader> {
        let value = Value::new(value.as_ref())?;
        self.0.append(parse_name(name)?, value.0);
        Ok(())
    }

    /// Removes every field of that name; the first value is returned.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).map(Value)
    }

    /// Keeps the fields that the predicate accepts by name.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<HeaderName> = self
            .0
            .keys()
            .filter(|name| !keep(name.as_str()))
            .cloned()
            .collect();
        for name in gone {
            self.0.remove(name);
        }
    }

    /// Removes the hop-by-hop fields of RFC 9110, section 7.6.1, and those that `Connection` names.
    /// `TE: trailers` stays, since gRPC needs it.
    pub fn remove_hop_by_hop(&mut self) {
        let named: Vec<String> = self
            .all("connection")
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty() && name != "te")
            .collect();
        for name in named {
            self.0.remove(name.as_str());
        }
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ] {
            self.0.remove(name);
        }
        if self
            .get("te")
            .is_some_and(|te| !te.eq_ignore_ascii_case("trailers"))
        {
            self.0.remove("te");
        }
    }
}

fn parse_name(name: &str) -> Result<HeaderName, InvalidHeader> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidHeader(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_fields_go_and_te_trailers_stays() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("Connection", "close, X-Private"),
            ("X-Private", "1"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("X-Kept", "1"),
        ] {
            headers.append(name, value).expect("valid");
        }
        headers.remove_hop_by_hop();
        let left: Vec<&str> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["te", "x-kept"]);
    }

    #[test]
    fn repeated_fields_join_by_commas() {
        let mut headers = Headers::new();
        headers.append("a", "1").expect("valid");
        headers.append("a", "2").expect("valid");
        assert_eq!(headers.joined("a").as_deref(), Some("1,2"));
        assert!(headers.set("bad name", "x").is_err());
        assert!(headers.set("a", "x\r\ny").is_err());
    }
}
