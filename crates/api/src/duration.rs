//! Durations as users write them: Go syntax (`1h30m`, `1.5s`, `100ms`), kept exact in nanoseconds.

use std::{fmt, str::FromStr, time};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};

use crate::Schema;

/// A signed span of time. Negative values parse, so that validation can name the field that has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration {
    nanos: i128,
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {0:?}: write a number with a unit, as in 5s, 1.5s, 100ms or 1h")]
pub struct InvalidDuration(pub String);

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self { nanos: 0 };

    /// Whole seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Self {
            nanos: secs as i128 * 1_000_000_000,
        }
    }

    /// Whole milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self {
            nanos: millis as i128 * 1_000_000,
        }
    }

    /// Nanoseconds, signed.
    pub const fn as_nanos(self) -> i128 {
        self.nanos
    }

    /// Whether the span is below zero.
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether the span is exactly zero.
    pub const fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// The same span as the standard type; below zero becomes zero.
    pub fn to_std(self) -> time::Duration {
        let nanos = self.nanos.max(0) as u128;
        let secs = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        time::Duration::new(secs, (nanos % 1_000_000_000) as u32)
    }

    /// Seconds and nanoseconds, both of the same sign, as protobuf's Duration has them.
    pub fn to_parts(self) -> (i64, i32) {
        let secs = self.nanos / 1_000_000_000;
        (secs as i64, (self.nanos % 1_000_000_000) as i32)
    }
}

impl From<time::Duration> for Duration {
    fn from(value: time::Duration) -> Self {
        Self {
            nanos: value.as_nanos() as i128,
        }
    }
}

impl From<Duration> for time::Duration {
    fn from(value: Duration) -> Self {
        value.to_std()
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map(|nanos| Self { nanos })
            .ok_or_else(|| InvalidDuration(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0i128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        nanos = nanos.checked_add(scaled(number, scale)?)?;
        rest = tail;
    }
    // Go's own limit: what does not fit a signed 64-bit count of nanoseconds is refused.
    (nanos <= i128::from(i64::MAX)).then_some(sign * nanos)
}

fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 {
        return None;
    }
    let mut nanos = if whole.is_empty() {
        0
    } else {
        whole.parse::<i128>().ok()? * scale
    };
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        nanos += i128::from(digit.to_digit(10)?) * unit;
    }
    Some(nanos)
}

impl fmt::Display for Duration {
    /// Seconds with as many decimals as needed, which is protobuf's JSON form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let nanos = self.nanos.unsigned_abs();
        let (secs, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        if fraction == 0 {
            return write!(f, "{sign}{secs}s");
        }
        let digits = format!("{fraction:09}");
        write!(f, "{sign}{secs}.{}s", digits.trim_end_matches('0'))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Schema for Duration {
    fn schema() -> Value {
        json!({"type": "string", "x-lateen-format": "duration"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("5s", 5_000_000_000),
            ("1.5s", 1_500_000_000),
            ("100ms", 100_000_000),
            ("1h", 3_600_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1m0.5s", 60_500_000_000),
            ("0", 0),
            ("0s", 0),
            (".5s", 500_000_000),
            ("-3s", -3_000_000_000),
            ("10us", 10_000),
        ] {
            assert_eq!(
                text.parse::<Duration>().map(Duration::as_nanos),
                Ok(nanos),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "5x",
            "-",
            "1.2.3s",
            ".s",
            "99999999999999h",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn writes_seconds() {
        for (text, out) in [
            ("100ms", "0.1s"),
            ("1h", "3600s"),
            ("-1.5s", "-1.5s"),
            ("0", "0s"),
        ] {
            assert_eq!(text.parse::<Duration>().expect("valid").to_string(), out);
        }
    }
}
