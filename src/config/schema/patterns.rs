//! Regular expressions for the texts of a configuration, in the dialect of ECMA 262.

use std::ops::RangeInclusive;

use super::super::units::{ByteSize, SIZES, Span, TIMES, Units};

/// A chunk of a key expression.
const CHUNK: &str = r"(?:\*\*?|(?:[^*$#?/]|\$\*)+)";

/// What `keyexpr::autocanonize` takes.
pub(super) fn key_expression() -> String {
    format!("^{CHUNK}(?:/{CHUNK})*$")
}

/// What `keyexpr::new` takes: each set of keys has one form.
pub(super) fn canonical_key_expression() -> String {
    const LONE: &str = r"(?!(?:.*/)?\$\*(?:/|$))";
    const DOUBLE: &str = r"(?!.*\$\*\$\*)";
    const LATE: &str = r"(?!(?:.*/)?\*\*/\*\*?(?:/|$))";
    format!("^{LONE}{DOUBLE}{LATE}{CHUNK}(?:/{CHUNK})*$")
}

/// A key expression without wildcards.
pub(super) const PREFIX: &str = "^[^*$#?/]+(?:/[^*$#?/]+)*$";

/// The folder of a storage: what `folder::parse_dir` takes.
pub(super) const DIR: &str = concat!(
    // Relative, and not `.` at first: elsewhere it means nothing.
    r"^(?!/)(?!\.(?:/|$))(?!(?:.*/)?\.\.(?:/|$))",
    r"(?!(?:.*/)?[^/]*\.(?:saving|restoring|damaged-[0-9]*)(?:/|$)).+$",
);

/// A time of the form of RFC 3339, in UTC.
pub(super) const TIME: &str = concat!(
    r"^(?:19[7-9][0-9]|[2-9][0-9]{3})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])",
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,9})?Z$",
);

/// The times of a range.
pub(super) fn span(range: &RangeInclusive<Span>) -> String {
    // Bounds are whole milliseconds, of which there are no more than an `u64` has.
    let millis = |Span(span): &Span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    with_units(millis(range.start()), millis(range.end()), TIMES)
}

/// The sizes of a range that are written with a unit.
pub(super) fn size(range: &RangeInclusive<ByteSize>) -> String {
    with_units(range.start().0, range.end().0, SIZES)
}

/// Numbers with a unit that come to `low` to `high`.
fn with_units(low: u64, high: u64, units: &Units) -> String {
    let alternatives = units.iter().filter_map(|(unit, factor)| {
        let (low, high) = (low.div_ceil(*factor), high / factor);
        (low <= high).then(|| format!(r"0*{}\s*{unit}", number(low, high)))
    });
    format!("^(?:{})$", alternatives.collect::<Vec<_>>().join("|"))
}

/// The decimal numbers `low` to `high`, without zeros before them.
fn number(low: u64, high: u64) -> String {
    let mut alternatives = Vec::new();
    let mut low = low;
    // One number of digits after the other.
    loop {
        let text = low.to_string();
        let longest = 10_u64.checked_pow(text.len() as u32).map(|next| next - 1);
        let end = longest.map_or(high, |longest| longest.min(high));
        digits(
            text.as_bytes(),
            end.to_string().as_bytes(),
            "",
            &mut alternatives,
        );
        if end == high {
            break;
        }
        low = end + 1;
    }
    format!("(?:{})", alternatives.join("|"))
}

/// The numbers from one to another of as many digits, after what both begin with.
fn digits(low: &[u8], high: &[u8], begin: &str, alternatives: &mut Vec<String>) {
    let (Some((first, low)), Some((last, high))) = (low.split_first(), high.split_first()) else {
        return alternatives.push(begin.to_owned());
    };
    let rest = low.len();
    let all = |first: u8, last: u8| {
        let digit = match first == last {
            true => char::from(first).to_string(),
            false => format!("[{}-{}]", char::from(first), char::from(last)),
        };
        match rest {
            0 => format!("{begin}{digit}"),
            1 => format!("{begin}{digit}[0-9]"),
            _ => format!("{begin}{digit}[0-9]{{{rest}}}"),
        }
    };
    let after = |first: u8| format!("{begin}{}", char::from(first));
    let (zeros, nines) = (vec![b'0'; rest], vec![b'9'; rest]);
    if first == last && (low != zeros || high != nines) {
        return digits(low, high, &after(*first), alternatives);
    }
    let (mut from, mut to) = (*first, *last);
    if low != zeros {
        digits(low, &nines, &after(from), alternatives);
        from += 1;
    }
    let is_cut = high != nines;
    if is_cut {
        to -= 1;
    }
    if from <= to {
        alternatives.push(all(from, to));
    }
    if is_cut {
        digits(&zeros, high, &after(*last), alternatives);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_pattern() {
        for (low, high, expected) in [
            (0, 9, "(?:[0-9])"),
            (1, 60, "(?:[1-9]|[1-5][0-9]|60)"),
            (
                10,
                60_000,
                "(?:[1-9][0-9]|[1-9][0-9]{2}|[1-9][0-9]{3}|[1-5][0-9]{4}|60000)",
            ),
            (1, 1, "(?:1)"),
            (37, 42, "(?:3[7-9]|4[0-2])"),
            (
                100,
                86_400,
                "(?:[1-9][0-9]{2}|[1-9][0-9]{3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)",
            ),
        ] {
            assert_eq!(number(low, high), expected, "{low} to {high}");
        }
    }

    /// Whether `text` is one of the alternatives, of which each is digits and classes of them.
    fn is_one(pattern: &str, text: &str) -> bool {
        let inner = pattern
            .strip_prefix("(?:")
            .and_then(|rest| rest.strip_suffix(')'));
        inner.expect("a group").split('|').any(|alternative| {
            let mut pattern = alternative.as_bytes();
            let mut digits = text.bytes();
            while let Some(first) = pattern.first() {
                let (low, high, used) = match first {
                    b'[' => (pattern[1], pattern[3], 5),
                    digit => (*digit, *digit, 1),
                };
                pattern = &pattern[used..];
                let mut times = 1;
                if pattern.first() == Some(&b'{') {
                    times = pattern[1] - b'0';
                    pattern = &pattern[3..];
                }
                for _ in 0..times {
                    if !digits
                        .next()
                        .is_some_and(|digit| (low..=high).contains(&digit))
                    {
                        return false;
                    }
                }
            }
            digits.next().is_none()
        })
    }

    #[test]
    fn a_pattern_has_the_numbers_of_its_range_and_no_other() {
        let bounds = [0, 1, 9, 10, 11, 60, 99, 100, 366, 999, 1000, 1025, 3660];
        for low in bounds {
            for high in bounds.into_iter().filter(|high| *high >= low) {
                let pattern = number(low, high);
                for n in 0..5000 {
                    let is_in = (low..=high).contains(&n);
                    assert_eq!(is_one(&pattern, &n.to_string()), is_in, "{n}: {pattern}");
                }
            }
        }
        // The longest there are.
        let pattern = number(u64::MAX - 1, u64::MAX);
        assert!(
            is_one(&pattern, &u64::MAX.to_string()) && !is_one(&pattern, "18446744073709551613")
        );
    }
}
