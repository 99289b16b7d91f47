//! The forms that an option can have.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::{
    super::units::{ByteSize, Span},
    patterns,
};

pub(super) fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{definition}") })
}

pub(super) fn word(words: &[&str], default: &str, description: &str) -> Value {
    json!({ "enum": words, "default": default, "description": description })
}

pub(super) fn switch(default: bool, description: &str) -> Value {
    json!({ "type": "boolean", "default": default, "description": description })
}

/// A text such as a bound, without the quotes of a configuration.
fn unquoted(value: impl ToString) -> String {
    value.to_string().trim_matches('"').to_owned()
}

pub(super) fn span(range: RangeInclusive<Span>, default: Option<Span>, description: &str) -> Value {
    let (low, high) = (unquoted(range.start()), unquoted(range.end()));
    let mut schema = json!({
        "type": "string",
        "pattern": patterns::span(&range),
        "description": format!("{description}; {low} to {high}"),
    });
    if let Some(default) = default {
        schema["default"] = unquoted(default).into();
    }
    schema
}

pub(super) fn size(range: RangeInclusive<ByteSize>, default: ByteSize, description: &str) -> Value {
    let (low, high) = (unquoted(range.start()), unquoted(range.end()));
    json!({
        "anyOf": [
            { "type": "integer", "minimum": range.start().0, "maximum": range.end().0 },
            { "type": "string", "pattern": patterns::size(&range) },
        ],
        "default": unquoted(default),
        "description": format!("{description}; bytes, or with a unit, {low} to {high}"),
    })
}
