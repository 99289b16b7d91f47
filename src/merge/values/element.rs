//! Elements of sets: JSON values, and the parts that stand for them.
//!
//! A part is the element itself, in bytes whose order is that in which a get
//! returns the elements: null, false, true, numbers by value, strings, arrays,
//! objects. So a cell needs no payload, and equal elements have one part.

use serde_json::{Number, Value};

use crate::merge::strategy::InvalidPut;

const NULL: u8 = 0x10;
const FALSE: u8 = 0x11;
const TRUE: u8 = 0x12;
const NUMBER: u8 = 0x20;
const STRING: u8 = 0x30;
const ARRAY: u8 = 0x40;
const OBJECT: u8 = 0x50;

/// Integers up to this, either side of zero, are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A number in its one form: an integer if it is one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Numeric {
    Integer(i128),
    Fraction(f64),
}

impl Numeric {
    /// Fails for numbers of which it is not known what was written, since they
    /// were rounded when they were read.
    fn of(number: &Number) -> Result<Self, InvalidPut> {
        let integer = number.as_i64().map(i128::from);
        if let Some(integer) = integer.or(number.as_u64().map(i128::from)) {
            return Ok(Self::Integer(integer));
        }
        match number.as_f64() {
            Some(double) if double.fract() != 0.0 => Ok(Self::Fraction(double)),
            Some(double) if double.abs() < EXACT => Ok(Self::Integer(double as i128)),
            _ => Err(InvalidPut::new(format!(
                "found the number {number}, allowed are integers of 64 bits, and fractions that \
                 are a double"
            ))),
        }
    }

    fn write_text(self, out: &mut String) {
        use std::fmt::Write as _;
        let _infallible = match self {
            Self::Integer(integer) => write!(out, "{integer}"),
            Self::Fraction(double) => match Number::from_f64(double) {
                Some(number) => write!(out, "{number}"),
                None => Ok(()),
            },
        };
    }

    /// In the order of the numbers.
    fn write_part(self, part: &mut Vec<u8>) {
        let double = match self {
            Self::Integer(integer) => integer as f64,
            Self::Fraction(double) => double,
        };
        let bits = double.to_bits();
        let ordered = match double.is_sign_negative() {
            true => !bits,
            false => bits | 1 << 63,
        };
        part.extend_from_slice(&ordered.to_be_bytes());
        // Rounding keeps the order; what it loses comes after.
        match self {
            Self::Integer(integer) if double.abs() >= EXACT => {
                part.extend_from_slice(&((integer as u128) ^ (1 << 127)).to_be_bytes());
            }
            _ => {}
        }
    }

    fn read_part(part: &[u8]) -> Option<Self> {
        let (ordered, rest) = part.split_first_chunk()?;
        if let Some((integer, _)) = rest.split_first_chunk() {
            let integer = u128::from_be_bytes(*integer) ^ (1 << 127);
            return Some(Self::Integer(integer as i128));
        }
        let ordered = u64::from_be_bytes(*ordered);
        let double = f64::from_bits(match ordered >> 63 {
            0 => !ordered,
            _ => ordered ^ 1 << 63,
        });
        Some(match double.fract() == 0.0 {
            true => Self::Integer(double as i128),
            false => Self::Fraction(double),
        })
    }
}

/// The part that stands for an element.
///
/// # Errors
/// If there is a number in it that has no exact form.
pub(in crate::merge) fn part_of(element: &Value) -> Result<Vec<u8>, InvalidPut> {
    Ok(match element {
        Value::Null => vec![NULL],
        Value::Bool(false) => vec![FALSE],
        Value::Bool(true) => vec![TRUE],
        Value::Number(number) => {
            let mut part = vec![NUMBER];
            Numeric::of(number)?.write_part(&mut part);
            part
        }
        Value::String(text) => {
            let mut part = Vec::with_capacity(1 + text.len());
            part.push(STRING);
            part.extend_from_slice(text.as_bytes());
            part
        }
        Value::Array(_) | Value::Object(_) => {
            let mut text = String::new();
            write_canonical(element, &mut text)?;
            let kind = if element.is_array() { ARRAY } else { OBJECT };
            let mut part = vec![kind];
            part.append(&mut text.into_bytes());
            part
        }
    })
}

fn write_string(text: &str, out: &mut String) {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// Writes JSON in its one form: no spaces, names in order.
fn write_canonical(value: &Value, out: &mut String) -> Result<(), InvalidPut> {
    match value {
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
        Value::Number(number) => Numeric::of(number)?.write_text(out),
        Value::String(text) => write_string(text, out),
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(element, out)?;
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_canonical(value, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Writes the element that a part stands for, as JSON; false if it stands for
/// none, of which then nothing is written.
pub(in crate::merge) fn write_element(part: &[u8], out: &mut String) -> bool {
    let Some((kind, rest)) = part.split_first() else {
        return false;
    };
    match (*kind, rest) {
        (NULL, []) => out.push_str("null"),
        (FALSE, []) => out.push_str("false"),
        (TRUE, []) => out.push_str("true"),
        (NUMBER, rest) => match Numeric::read_part(rest) {
            Some(number) => number.write_text(out),
            None => return false,
        },
        (STRING, rest) => match std::str::from_utf8(rest) {
            Ok(text) => write_string(text, out),
            Err(_) => return false,
        },
        (ARRAY | OBJECT, rest) => match std::str::from_utf8(rest) {
            Ok(text) => out.push_str(text),
            Err(_) => return false,
        },
        _ => return false,
    }
    true
}

/// Whether a part is what [`part_of`] gives for some element.
pub(in crate::merge) fn is_part(part: &[u8]) -> bool {
    let mut text = String::new();
    write_element(part, &mut text)
        && serde_json::from_str(&text)
            .ok()
            .and_then(|element| part_of(&element).ok())
            .is_some_and(|canonical| canonical == part)
}

#[cfg(test)]
pub(in crate::merge) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shown(part: &[u8]) -> String {
        let mut text = String::new();
        assert!(write_element(part, &mut text), "{part:02x?}");
        text
    }

    pub(in crate::merge) fn any_element() -> impl proptest::strategy::Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-5i64..5).prop_map(Value::from),
            (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
            // Of these some need 17 digits.
            (-1e-6f64..1e6).prop_map(Value::from),
            any::<f64>().prop_filter_map("has no exact form", |double| {
                (double.fract() != 0.0).then(|| Value::from(double))
            }),
            "[\0-\u{2}\"a-c\\\\é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{0,2}", inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn elements_read_back(element in any_element()) {
            let part = part_of(&element).expect("taken");
            prop_assert!(is_part(&part), "{part:02x?}");
            let back: Value = serde_json::from_str(&shown(&part)).expect("JSON");
            prop_assert_eq!(part_of(&back), Ok(part));
        }

        #[test]
        fn any_bytes_are_no_part_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..12), kind in prop::sample::select(vec![NULL, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT])) {
            let part = [&[kind][..], &bytes].concat();
            let mut text = String::new();
            if is_part(&part) {
                prop_assert!(write_element(&part, &mut text));
                let element = serde_json::from_str(&text).expect("JSON");
                prop_assert_eq!(part_of(&element), Ok(part));
            }
        }

        #[test]
        fn numbers_are_in_order(a: i64, b: u64, c in -1e6f64..1e6, d in -300i64..300) {
            let mut numbers = [json!(a), json!(b), json!(c), json!(d), json!(a.wrapping_add(1)), json!(b.wrapping_add(1))];
            numbers.sort_by_key(|number| part_of(number).expect("taken"));
            let value = |number: &Value| match Numeric::of(number.as_number().expect("a number")).expect("exact") {
                Numeric::Integer(integer) => (integer, 0.0),
                Numeric::Fraction(double) => (double.floor() as i128, double.fract().rem_euclid(1.0)),
            };
            for pair in numbers.windows(2) {
                prop_assert!(value(&pair[0]) <= value(&pair[1]), "{pair:?}");
            }
        }
    }

    #[test]
    fn equal_elements_have_one_part() {
        let part = |text: &str| part_of(&serde_json::from_str(text).expect("JSON")).expect("taken");
        assert_eq!(part("1"), part("1.0"));
        assert_eq!(part("0"), part("-0.0"));
        assert_eq!(part("0.5"), part("5e-1"));
        assert_eq!(part(r#"{"b":1,"a":2}"#), part(r#"{ "a": 2.0, "b": 1 }"#));
        assert_ne!(part("9007199254740993"), part("9007199254740992"));
        assert_ne!(part("1"), part("\"1\""));
    }

    #[test]
    fn parts_are_pinned() {
        let part = |element: Value| part_of(&element).expect("taken");
        assert_eq!(part(json!(null)), [0x10]);
        assert_eq!(part(json!(1)), *b"\x20\xbf\xf0\0\0\0\0\0\0");
        assert_eq!(part(json!(-1)), *b"\x20\x40\x0f\xff\xff\xff\xff\xff\xff");
        assert_eq!(
            part(json!(u64::MAX)),
            *b"\x20\xc3\xf0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"
        );
        assert_eq!(part(json!("red")), *b"\x30red");
        assert_eq!(part(json!([1, "a"])), *b"\x40[1,\"a\"]");
        assert_eq!(part(json!({"b": 1, "a": 2})), *b"\x50{\"a\":2,\"b\":1}");
    }

    /// What the JSON library prints is the format here: a version that printed numbers or strings in
    /// another way would make another part of the same element.
    #[test]
    fn numbers_and_strings_within_arrays_are_pinned() {
        let text = r#"[0.1,-2.5e-7,5e-324,123456789.125,1e-5,3.0,2.2250738585072014e-308,"\u0001\u001f\"\\\/\b\t\n\f\r\u007f\u00e9\u2028"]"#;
        let element: Value = serde_json::from_str(text).expect("JSON");
        let part = part_of(&element).expect("taken");
        let pinned = "\x40[0.1,-2.5e-7,5e-324,123456789.125,0.00001,3,2.2250738585072014e-308,\
                      \"\\u0001\\u001f\\\"\\\\/\\b\\t\\n\\f\\r\u{7f}\u{e9}\u{2028}\"]";
        assert_eq!(String::from_utf8_lossy(&part), pinned);
    }

    /// Fractions in arrays are what `serde_json` prints: another version of it that printed
    /// them otherwise would give one element two parts.
    #[test]
    fn fractions_within_arrays_are_pinned() {
        for text in [
            "[0.1,-2.5,123456.789]",
            "[0.00001,1e-6,1e-7,1.5e-10]",
            "[5e-324,2.2250738585072014e-308,1.2345678901234567]",
            "{\"a\":0.30000000000000004}",
        ] {
            let element: Value = serde_json::from_str(text).expect("JSON");
            let part = part_of(&element).expect("taken");
            assert_eq!(String::from_utf8_lossy(&part[1..]), text);
        }
        // However they were written.
        for (text, same) in [("[1.0e-1]", "[0.1]"), ("[100e-7]", "[0.00001]")] {
            let element: Value = serde_json::from_str(text).expect("JSON");
            let part = part_of(&element).expect("taken");
            assert_eq!(String::from_utf8_lossy(&part[1..]), same);
        }
    }

    #[test]
    fn numbers_that_were_rounded_are_refused() {
        for text in [
            "18446744073709551616",
            "1e300",
            "-9223372036854775809",
            "[1e17]",
        ] {
            let element = serde_json::from_str(text).expect("JSON");
            let error = part_of(&element).expect_err(text).to_string();
            assert!(error.contains("64 bits"), "{error}");
        }
    }
}
