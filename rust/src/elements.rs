//! Elements of sets: JSON values, each with one text.

use serde_json::{Number, Value as Json};

use crate::{Error, error::invalid};

/// Arrays and objects within each other that an element may have: a storage shows what nests deeper in
/// another form.
const MAX_DEPTH: usize = 64;

/// Up to this, either side of zero, whole numbers are exact as a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A text that is equal for equal JSON values, as a set tells elements apart: 1 and 1.0 are one, 1 and
/// true are two.
///
/// # Errors
/// If it nests too deep, or has a number that no element may have.
pub(crate) fn canonical(value: &Json) -> Result<String, Error> {
    let mut text = String::new();
    write(value, MAX_DEPTH, &mut text)?;
    Ok(text)
}

fn write(value: &Json, depth: usize, text: &mut String) -> Result<(), Error> {
    let is_container = value.is_array() || value.is_object();
    if is_container && depth == 0 {
        return invalid(format!(
            "an element nests more than {MAX_DEPTH} arrays and objects"
        ));
    }
    match value {
        Json::Number(number) => *text += &canonical_number(number)?,
        Json::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, depth - 1, text)?;
            }
            text.push(']');
        }
        Json::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                *text += &Json::from(name.as_str()).to_string();
                text.push(':');
                write(value, depth - 1, text)?;
            }
            text.push('}');
        }
        other => *text += &other.to_string(),
    }
    Ok(())
}

/// An integer if it is one; else it is not known what was written, since it was rounded.
fn canonical_number(number: &Number) -> Result<String, Error> {
    match number.as_f64() {
        _ if !number.is_f64() => Ok(number.to_string()),
        Some(double) if double.fract() != 0.0 => Ok(number.to_string()),
        Some(double) if double.abs() < EXACT => Ok((double as i64).to_string()),
        _ => invalid(format!(
            "found the number {number}, allowed are integers of 64 bits, and fractions that are a double"
        )),
    }
}

/// At least so many bytes stand for an element in the part of its cell: those of its kind and its text;
/// numbers have a form of their own, which is short.
pub(crate) fn bytes_of(canonical: &str) -> usize {
    match canonical.as_bytes() {
        [b'"', ..] => 1 + serde_json::from_str::<String>(canonical).map_or(0, |text| text.len()),
        [b'[' | b'{', ..] => 1 + canonical.len(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn equal_elements_have_one_text() {
        let text = |value: Json| canonical(&value).expect("an element");
        for (a, b) in [
            (json!(1), json!(1.0)),
            (json!(0), json!(-0.0)),
            (json!({ "a": 1, "b": [2.0] }), json!({ "b": [2], "a": 1.0 })),
        ] {
            assert_eq!(text(a), text(b));
        }
        let different = [
            json!(1),
            json!(true),
            json!("1"),
            json!([1]),
            json!([[1]]),
            json!(null),
            json!("a,"),
            json!(["a", ""]),
            json!({ "a": 1 }),
            json!(0.1),
            json!(u64::MAX),
        ];
        let texts: BTreeSet<_> = different.iter().cloned().map(text).collect();
        assert_eq!(texts.len(), different.len());
    }

    #[test]
    fn what_no_element_may_be_is_an_error() {
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(canonical(&nested(64)).is_ok() && canonical(&nested(65)).is_err());
        for taken in [
            json!(i64::MIN),
            json!(u64::MAX),
            json!(9_007_199_254_740_991.0),
            json!(0.1),
            json!(1.7e-308),
        ] {
            assert!(canonical(&taken).is_ok(), "{taken}");
        }
        let too_large = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
        for wrong in [
            json!(9_007_199_254_740_992.0),
            json!(-9_007_199_254_740_992.0),
            json!(1e300),
            too_large("18446744073709551616"),
            too_large("-9223372036854775809"),
            json!([{ "a": 1e20 }]),
        ] {
            assert!(canonical(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_length_of_a_part_is_that_of_its_text() {
        for (element, bytes) in [
            (json!("red"), 4),
            (json!("ü\"\n"), 5),
            (json!(["a", 1.0]), 8),
            (json!({ "b": null, "a": [] }), 18),
            (json!(u64::MAX), 1),
            (json!(null), 1),
        ] {
            let text = canonical(&element).expect("an element");
            assert_eq!(bytes_of(&text), bytes, "{text}");
        }
    }
}
