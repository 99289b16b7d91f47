//! Exact decimal numbers.

use std::fmt;

/// Digits before the point, and after it, that a number may have.
pub const DIGITS: u32 = 18;

/// A unit of the last digit is this part of one.
const UNIT: i64 = 10i64.pow(DIGITS);

/// A number with at most [`DIGITS`] digits before the point and as many after: the
/// sum of both, of which neither has another sign than the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::merge) struct Decimal {
    /// Less than 10^18, either side of zero.
    whole: i64,
    /// In units of the last digit; less than 10^18 too.
    units: i64,
}

impl Decimal {
    /// Reads what JSON calls a number; a `+` before it is taken too. Nothing if it
    /// is none, or has more digits than there may be.
    pub(in crate::merge) fn parse(text: &str) -> Option<Self> {
        if let Some(whole) = short_integer(text.as_bytes()) {
            return Some(Self { whole, units: 0 });
        }
        let (is_negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match split_at_byte(unsigned, |byte| matches!(byte, b'e' | b'E'))
        {
            None => (unsigned, 0),
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        };
        let (whole, fraction) = match split_at_byte(mantissa, |byte| byte == b'.') {
            None => (mantissa, ""),
            Some((_, "")) => return None,
            Some(parts) => parts,
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        if whole.len() > 1 && whole.starts_with('0') {
            // JSON has no leading zeros: elsewhere they mean octal.
            return None;
        }
        let (whole, units) = match exponent {
            0 => (number(whole, 0)?, number(fraction, DIGITS)?),
            _ => shifted(whole, fraction, exponent)?,
        };
        Some(match is_negative {
            true => Self {
                whole: -whole,
                units: -units,
            },
            false => Self { whole, units },
        })
    }
}

/// What most numbers are: one to 18 digits, the first of which is no zero.
fn short_integer(text: &[u8]) -> Option<i64> {
    if text.len() > DIGITS as usize || !matches!(text.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut number = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(number)
}

/// The number that digits are, followed by zeros up to so many; if there are more
/// they have to be zeros.
fn number(digits: &str, padded_to: u32) -> Option<i64> {
    let kept = digits.len().min(DIGITS as usize);
    let (digits, rest) = digits.split_at(kept);
    if !rest.bytes().all(|byte| byte == b'0') || (padded_to == 0 && !rest.is_empty()) {
        return None;
    }
    let digits = digits.bytes();
    let number = digits.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some(number * 10i64.pow(padded_to.saturating_sub(kept as u32)))
}

/// What is before the first such byte, which is ASCII, and after it.
fn split_at_byte(text: &str, is_wanted: impl Fn(u8) -> bool) -> Option<(&str, &str)> {
    let at = text.bytes().position(is_wanted)?;
    Some((&text[..at], &text[at + 1..]))
}

fn parse_exponent(text: &str) -> Option<i32> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More than this moves every digit out of what there may be; but for zero,
    // which is where it is.
    let exponent = digits.trim_start_matches('0');
    let exponent = match exponent.len() {
        0 => 0,
        1..=6 => exponent.parse().ok()?,
        _ => 1_000_000,
    };
    Some(if is_negative { -exponent } else { exponent })
}

/// The two halves of what is written as `whole`.`fraction`e`exponent`.
fn shifted(whole: &str, fraction: &str, exponent: i32) -> Option<(i64, i64)> {
    let (mut of_whole, mut of_units) = (0, 0);
    // The first digit stands for 10 to this.
    let first = i64::from(exponent) + whole.len() as i64 - 1;
    let digits = whole.bytes().chain(fraction.bytes());
    for (index, digit) in digits.enumerate() {
        let digit = i64::from(digit - b'0');
        if digit == 0 {
            continue;
        }
        let digits = i64::from(DIGITS);
        match first - index as i64 {
            power if power >= digits => return None,
            power if power >= 0 => of_whole += digit * 10i64.pow(power as u32),
            power if power >= -digits => of_units += digit * 10i64.pow((power + digits) as u32),
            _ => return None,
        }
    }
    Some((of_whole, of_units))
}

impl fmt::Display for Decimal {
    /// In the one form that the number has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Sum::default().plus(*self).fmt(f)
    }
}

/// The sum of numbers: exact for as many as there can be, since each adds less
/// than 10^18 to either half and there are less than 2^64 of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::merge) struct Sum {
    whole: i128,
    /// As many as they are; only what is shown is carried.
    units: i128,
}

/// Digits before the point that a sum may have which is written as a number. The sum of all numbers
/// that there can be has no more than one digit more, and what is added to such a sum fits.
pub(in crate::merge) const SUM_DIGITS: u32 = 37;

impl Sum {
    /// Reads a sum in its one form. Nothing if it is none, or has more than [`SUM_DIGITS`] digits
    /// before the point.
    pub(in crate::merge) fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() > SUM_DIGITS as usize || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let whole: i128 = whole.parse().ok()?;
        let units = i128::from(number(fraction, DIGITS)?);
        let sum = match unsigned.len() < text.len() {
            true => Self {
                whole: -whole,
                units: -units,
            },
            false => Self { whole, units },
        };
        (sum.to_string() == text).then_some(sum)
    }

    /// The sum of two, of which no more than one was read.
    #[must_use]
    pub(in crate::merge) fn plus_sum(self, other: Self) -> Self {
        Self {
            whole: self.whole + other.whole,
            units: self.units + other.units,
        }
    }

    #[must_use]
    pub(in crate::merge) fn plus(self, number: Decimal) -> Self {
        Self {
            whole: self.whole + i128::from(number.whole),
            units: self.units + i128::from(number.units),
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = i128::from(UNIT);
        let whole = self.whole + self.units.div_euclid(unit);
        let units = self.units.rem_euclid(unit);
        // -0.5 is -1 and 0.5 by now.
        let (sign, whole, units) = match (whole < 0, units) {
            (false, units) => ("", whole, units),
            (true, 0) => ("-", -whole, 0),
            (true, units) => ("-", -(whole + 1), unit - units),
        };
        write!(f, "{sign}{whole}")?;
        if units == 0 {
            return Ok(());
        }
        let digits = format!("{units:0width$}", width = DIGITS as usize);
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_decimal() -> impl Strategy<Value = Decimal> {
        let half = || prop_oneof![Just(0), 0i64..10, 0..UNIT];
        (half(), half(), any::<bool>()).prop_map(|(whole, units, is_negative)| {
            let sign = if is_negative { -1 } else { 1 };
            Decimal {
                whole: sign * whole,
                units: sign * units,
            }
        })
    }

    fn shown(text: &str) -> Option<String> {
        Decimal::parse(text).map(|number| number.to_string())
    }

    #[test]
    fn numbers_have_one_form() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0e9", "0"),
            ("0e99999999999", "0"),
            ("7", "7"),
            ("+7", "7"),
            ("-7.50", "-7.5"),
            ("-0.5", "-0.5"),
            ("0.1", "0.1"),
            ("1e3", "1000"),
            ("1.25E+2", "125"),
            ("1e-07", "0.0000001"),
            ("123456789012345678", "123456789012345678"),
            ("-0.000000000000000001", "-0.000000000000000001"),
            (
                "999999999999999999.999999999999999999",
                "999999999999999999.999999999999999999",
            ),
            ("1000000000000000000e-1", "100000000000000000"),
            ("0.0000000000000000010", "0.000000000000000001"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_has_too_many_digits_is_refused() {
        for text in [
            "",
            "+",
            "-",
            ".5",
            "5.",
            "1,5",
            "0x10",
            "01",
            "1e",
            "1e+",
            "NaN",
            "inf",
            "1 2",
            "--1",
            "1e18",
            "1e9999999999",
            "0.0000000000000000001",
            "1234567890123456789",
            "1e-19",
            "٣",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(number in any_decimal()) {
            prop_assert_eq!(Decimal::parse(&number.to_string()), Some(number));
        }

        #[test]
        fn sums_are_exact_in_any_order(mut numbers in prop::collection::vec(any_decimal(), 0..100), seed: u64) {
            let all = |number: &Decimal| i128::from(number.whole) * i128::from(UNIT) + i128::from(number.units);
            // A hundred of them are within 128 bits.
            let expected: i128 = numbers.iter().map(all).sum();
            let sum = |numbers: &[Decimal]| numbers.iter().fold(Sum::default(), |sum, number| sum.plus(*number));
            let first = sum(&numbers);
            let middle = if numbers.is_empty() { 0 } else { seed as usize % numbers.len() };
            numbers.rotate_left(middle);
            prop_assert_eq!(sum(&numbers), first);
            prop_assert_eq!(first.whole * i128::from(UNIT) + first.units, expected);
            let unsigned = expected.unsigned_abs();
            let (whole, units) = (unsigned / UNIT as u128, unsigned % UNIT as u128);
            let shown = format!("{}{whole}.{units:018}", if expected < 0 { "-" } else { "" });
            let shown = shown.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(first.to_string(), shown);
        }

        #[test]
        fn an_exponent_moves_the_point(number in any_decimal(), exponent in 0i32..9) {
            let Sum { whole, units } = Sum::default().plus(number);
            let shifted = format!("{whole}.{:018}e{exponent}", units.unsigned_abs());
            let expected = whole * i128::from(UNIT) + units;
            let expected = expected.checked_mul(10i128.pow(exponent as u32));
            let within = expected.filter(|number| number.unsigned_abs() < 10u128.pow(36));
            if let (Some(parsed), true) = (Decimal::parse(&shifted), whole != 0 || units >= 0) {
                let parsed = i128::from(parsed.whole) * i128::from(UNIT) + i128::from(parsed.units);
                prop_assert_eq!(Some(parsed), within);
            }
        }

        #[test]
        fn any_text_is_refused_or_a_number(text in "[-+0-9.eE]{0,12}") {
            // A number in JSON is one here, unless it has too many digits.
            if let Some(number) = Decimal::parse(&text) {
                let shown = number.to_string().parse::<f64>().expect("a number");
                prop_assert_eq!(shown, text.parse::<f64>().expect("a number"));
            }
        }
    }
}
