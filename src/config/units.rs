//! Spans of time and sizes, as people write them.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// A span of time: `"100ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes: `65536`, `"512KiB"`, `"64MiB"`, `"2GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct ByteSize(pub u64);

/// Names and factors of units, ascending.
pub(super) type Units = [(&'static str, u64)];

/// In milliseconds.
pub(super) const TIMES: &Units = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// In bytes.
pub(super) const SIZES: &Units = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// The number and the factor of its unit.
fn parse(text: &str, units: &Units) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes a number with the largest unit that divides it, in quotes as in a
/// configuration; without a unit if none does.
fn write(f: &mut fmt::Formatter<'_>, number: u64, units: &Units) -> fmt::Result {
    let unit = match number {
        0 => units.first(),
        _ => units
            .iter()
            .rev()
            .find(|(_, factor)| number.is_multiple_of(*factor)),
    };
    match unit {
        Some((name, factor)) => write!(f, "\"{}{name}\"", number / factor),
        None => write!(f, "{number}"),
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is a whole number of milliseconds: parsed, or a bound.
        write(f, self.0.as_millis().try_into().unwrap_or(u64::MAX), TIMES)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, SIZES)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time with its unit, one of ms, s, m, h, d, such as \"100ms\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        parse(text, TIMES)
            .map(|millis| Span(Duration::from_millis(millis)))
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct ByteSizeVisitor;

impl Visitor<'_> for ByteSizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes, or a number with one of KiB, MiB, GiB, such as \"64MiB\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
        parse(text, SIZES)
            .map(ByteSize)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByteSizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_have_units() {
        let span = |text| {
            serde_json::from_value(json!(text))
                .map(|Span(span)| span)
                .ok()
        };
        assert_eq!(span("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(span("30 s"), Some(Duration::from_secs(30)));
        assert_eq!(span("2m"), Some(Duration::from_secs(120)));
        assert_eq!(span("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(span("7d"), Some(Duration::from_secs(604_800)));
        for wrong in ["", "s", "5", "-1s", "1.5s", "1w", "99999999999999999999s"] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_written_can_be_read_and_has_the_largest_unit() {
        for (text, written) in [
            ("100ms", "\"100ms\""),
            ("1500ms", "\"1500ms\""),
            ("60s", "\"1m\""),
            ("90s", "\"90s\""),
            ("7200s", "\"2h\""),
            ("24h", "\"1d\""),
            ("0s", "\"0ms\""),
        ] {
            let span: Span = serde_json::from_value(json!(text)).expect("a time");
            assert_eq!(span.to_string(), written);
            let again: Span = serde_json::from_str(written).expect("a time");
            assert_eq!(again, span);
        }
        for (bytes, written) in [
            (0, "\"0KiB\""),
            (4097, "4097"),
            (4096, "\"4KiB\""),
            (64 << 20, "\"64MiB\""),
            (1 << 40, "\"1024GiB\""),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), written);
            let again: ByteSize = serde_json::from_str(written).expect("a size");
            assert_eq!(again, ByteSize(bytes));
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_units() {
        let size = |value| {
            serde_json::from_value(value)
                .map(|ByteSize(size)| size)
                .ok()
        };
        assert_eq!(size(json!(4096)), Some(4096));
        assert_eq!(size(json!("64MiB")), Some(64 << 20));
        assert_eq!(size(json!("1 GiB")), Some(1 << 30));
        assert_eq!(size(json!("64")), None);
        assert_eq!(size(json!("64MB")), None);
        assert_eq!(size(json!(-1)), None);
        assert_eq!(size(json!(1.5)), None);
    }
}
