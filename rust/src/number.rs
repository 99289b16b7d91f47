//! Exact decimal numbers, as `additive` takes and shows them.

use std::{fmt, str::FromStr};

use crate::{Error, error::invalid};

/// Digits before the point, and after it, that a number to be added may have.
const DIGITS: usize = 18;

/// A decimal number. A sum has as many digits as it needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    /// Without zeros that do not change it.
    text: String,
}

impl Number {
    /// As a storage shows it.
    ///
    /// # Errors
    /// If it is no decimal number, such as `-0.5`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Invalid(format!("found {text:?}, allowed is a decimal number"));
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
            return Err(wrong());
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let sign = match text.starts_with('-') && !(whole.is_empty() && fraction.is_empty()) {
            true => "-",
            false => "",
        };
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = if fraction.is_empty() { "" } else { "." };
        Ok(Self {
            text: format!("{sign}{whole}{point}{fraction}"),
        })
    }

    fn parts(&self) -> (&str, &str) {
        let unsigned = self.text.trim_start_matches('-');
        unsigned.split_once('.').unwrap_or((unsigned, ""))
    }

    /// It, if it may be added.
    pub(crate) fn addable(self) -> Result<Self, Error> {
        let (whole, fraction) = self.parts();
        if whole.len() > DIGITS || fraction.len() > DIGITS {
            return invalid(format!(
                "found {self}, allowed is a number with at most {DIGITS} digits before the point and \
                 {DIGITS} after it"
            ));
        }
        Ok(self)
    }

    /// The exact sum, with as many digits as it needs.
    pub(crate) fn sum(numbers: impl IntoIterator<Item = Self>) -> Result<Self, Error> {
        let numbers: Vec<_> = numbers.into_iter().collect();
        let longest = |part: fn(&Self) -> usize| numbers.iter().map(part).max().unwrap_or(0);
        let whole = longest(|number| number.parts().0.len());
        let fraction = longest(|number| number.parts().1.len());
        // Of each place what the digits there come to, the last place first.
        let mut places = vec![0_i64; whole + fraction];
        for number in &numbers {
            let (digits, after) = number.parts();
            let sign = if number.text.starts_with('-') { -1 } else { 1 };
            let from = fraction - after.len();
            let digits = after.bytes().rev().chain(digits.bytes().rev());
            for (place, digit) in places[from..].iter_mut().zip(digits) {
                *place += sign * i64::from(digit - b'0');
            }
        }
        let mut carry = 0;
        for place in &mut places {
            let total = *place + carry;
            (*place, carry) = (total.rem_euclid(10), total.div_euclid(10));
        }
        // The carry has the sign: if it is less than nothing, what is below it counts the other way.
        let sign = if carry < 0 { "-" } else { "" };
        if carry < 0 {
            let mut borrowed = 0;
            for place in &mut places {
                let total = borrowed - *place;
                (*place, borrowed) = (total.rem_euclid(10), total.div_euclid(10));
            }
            carry = -carry + borrowed;
        }
        let digits: String = places.iter().rev().map(i64::to_string).collect();
        let (before, after) = digits.split_at(whole);
        Self::parse(&format!("{sign}{carry}{before}.{after}"))
    }
}

impl FromStr for Number {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<&str> for Number {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl From<&Number> for Number {
    fn from(number: &Number) -> Self {
        number.clone()
    }
}

/// Integers are numbers of which each has its digits.
macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Number {
            fn from(number: $integer) -> Self {
                Self { text: number.to_string() }
            }
        }
    )*};
}

from_integers!(
    i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize
);

impl TryFrom<f64> for Number {
    type Error = Error;

    /// The shortest decimal number that is read as this one: 0.1 is 0.1.
    fn try_from(number: f64) -> Result<Self, Error> {
        Self::parse(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        text.parse().expect(text)
    }

    #[test]
    fn equal_numbers_have_one_text() {
        for (text, expected) in [
            ("5", "5"),
            ("+5.0", "5"),
            ("-0.50", "-0.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0", "0"),
            ("-0.00", "0"),
            ("007", "7"),
        ] {
            assert_eq!(number(text).to_string(), expected, "{text}");
        }
        for wrong in [
            "", ".", "-", "1e3", "1,5", "--1", "0x1", "NaN", " 1", "1 ", "٣",
        ] {
            assert!(wrong.parse::<Number>().is_err(), "{wrong}");
        }
        assert_eq!(Number::try_from(0.1).expect("a number"), number("0.1"));
        assert!(Number::try_from(f64::NAN).is_err() && Number::try_from(f64::INFINITY).is_err());
    }

    #[test]
    fn what_a_storage_refuses_is_not_sent() {
        let digits = "9".repeat(18);
        let longest = format!("-{digits}.{digits}");
        assert!(number(&longest).addable().is_ok());
        assert!(
            number(&format!("000{digits}.{digits}000"))
                .addable()
                .is_ok()
        );
        assert!(number(&format!("1{digits}")).addable().is_err());
        assert!(number(&format!("0.0{digits}")).addable().is_err());
    }

    #[test]
    fn sums_are_exact() {
        let sum = |numbers: &[&str]| {
            let sum = Number::sum(numbers.iter().map(|text| number(text)));
            sum.expect("a sum").to_string()
        };
        assert_eq!(sum(&["0.1", "0.2"]), "0.3");
        assert_eq!(sum(&[]), "0");
        assert_eq!(sum(&["-5", "2.75"]), "-2.25");
        assert_eq!(sum(&["5", "-2.75", "-2.25"]), "0");
        assert_eq!(sum(&["-0.5", "-99.5"]), "-100");
        assert_eq!(sum(&["-1000", "0.001"]), "-999.999");
        let nines = "9".repeat(18);
        assert_eq!(sum(&vec![nines.as_str(); 1000]), format!("{}000", nines));
        let long = format!("{}.{}", "7".repeat(60), "1".repeat(60));
        assert_eq!(sum(&[&long, &format!("-{long}"), "1"]), "1");
    }

    proptest::proptest! {
        #[test]
        fn sums_are_those_of_integers(numbers: Vec<i64>) {
            let expected: i128 = numbers.iter().copied().map(i128::from).sum();
            let scaled = numbers.iter().map(|number| {
                let sign = if *number < 0 { "-" } else { "" };
                let digits = format!("{:021}", number.unsigned_abs());
                self::number(&format!("{sign}{}.{}", &digits[..12], &digits[12..]))
            });
            let expected = {
                let sign = if expected < 0 { "-" } else { "" };
                let digits = format!("{:040}", expected.unsigned_abs());
                self::number(&format!("{sign}{}.{}", &digits[..31], &digits[31..]))
            };
            proptest::prop_assert_eq!(Number::sum(scaled).expect("a sum"), expected);
        }
    }
}
