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

    /// It in units of 10^-18; nothing if that does not fit.
    fn units(&self) -> Option<i128> {
        let (whole, fraction) = self.parts();
        if fraction.len() > DIGITS {
            return None;
        }
        let units = format!("{whole}{fraction:0<DIGITS$}")
            .parse::<i128>()
            .ok()?;
        Some(if self.text.starts_with('-') {
            -units
        } else {
            units
        })
    }

    /// The exact sum.
    ///
    /// # Errors
    /// If it has more digits than an `i128`.
    pub(crate) fn sum(numbers: impl IntoIterator<Item = Self>) -> Result<Self, Error> {
        let mut numbers = numbers.into_iter();
        let sum = numbers.try_fold(0_i128, |sum, number| sum.checked_add(number.units()?));
        let sum = sum.ok_or_else(|| Error::Invalid("the sum has too many digits".to_owned()))?;
        let scale = 10_u128.pow(DIGITS as u32);
        let (whole, fraction) = (sum.unsigned_abs() / scale, sum.unsigned_abs() % scale);
        let sign = if sum < 0 { "-" } else { "" };
        Self::parse(&format!("{sign}{whole}.{fraction:0DIGITS$}"))
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

impl TryFrom<i64> for Number {
    type Error = Error;

    fn try_from(number: i64) -> Result<Self, Error> {
        Self::parse(&number.to_string())
    }
}

impl TryFrom<i32> for Number {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self, Error> {
        i64::from(number).try_into()
    }
}

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
        let sum = |numbers: &[&str]| Number::sum(numbers.iter().map(|text| number(text)));
        assert_eq!(sum(&["0.1", "0.2"]).expect("a sum"), number("0.3"));
        assert_eq!(sum(&[]).expect("a sum"), number("0"));
        assert_eq!(sum(&["-5", "2.75"]).expect("a sum"), number("-2.25"));
        let most = "9".repeat(18);
        assert!(sum(&vec![most.as_str(); 1000]).is_err());
    }
}
