//! Zenoh's encodings, as far as merging needs them.
//!
//! The identifiers are Zenoh's, of its protocol; the names are those by which
//! users call them.

/// A value's encoding if it is JSON.
pub(super) const APPLICATION_JSON: u16 = 5;
const TEXT_JSON: u16 = 6;

/// An encoding that is none of Zenoh's own: its schema holds all of its name.
pub const CUSTOM: u16 = 0xffff;

/// Names of Zenoh's encodings, by their identifiers.
const NAMES: [&str; 53] = [
    "zenoh/bytes",
    "zenoh/string",
    "zenoh/serialized",
    "application/octet-stream",
    "text/plain",
    "application/json",
    "text/json",
    "application/cdr",
    "application/cbor",
    "application/yaml",
    "text/yaml",
    "text/json5",
    "application/python-serialized-object",
    "application/protobuf",
    "application/java-serialized-object",
    "application/openmetrics-text",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/bmp",
    "image/webp",
    "application/xml",
    "application/x-www-form-urlencoded",
    "text/html",
    "text/xml",
    "text/css",
    "text/javascript",
    "text/markdown",
    "text/csv",
    "application/sql",
    "application/coap-payload",
    "application/json-patch+json",
    "application/json-seq",
    "application/jsonpath",
    "application/jwt",
    "application/mp4",
    "application/soap+xml",
    "application/yang",
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/ogg",
    "audio/vorbis",
    "video/h261",
    "video/h263",
    "video/h264",
    "video/h265",
    "video/h266",
    "video/mp4",
    "video/ogg",
    "video/raw",
    "video/vp8",
    "video/vp9",
];

/// The name of an encoding, without its schema; none, if it is not one of
/// Zenoh's own.
#[must_use]
pub fn name(id: u16) -> Option<&'static str> {
    NAMES.get(usize::from(id)).copied()
}

/// An encoding as Zenoh writes it.
#[must_use]
pub fn text(id: u16, schema: Option<&[u8]>) -> String {
    let schema = schema.map(String::from_utf8_lossy);
    match (name(id), schema) {
        (Some(name), None) => name.to_owned(),
        (Some(name), Some(schema)) => format!("{name};{schema}"),
        (None, schema) => schema.unwrap_or_default().into_owned(),
    }
}

/// Whether a value has to be JSON, by its encoding.
pub(super) fn is_json(id: u16) -> bool {
    matches!(id, APPLICATION_JSON | TEXT_JSON)
}

/// Whether an encoding is of the type called so: it is its name, with the schema
/// or without, or its schema, or one of the schema's pieces between semicolons.
#[must_use]
pub fn is_of_type(id: u16, schema: Option<&[u8]>, wanted: &str) -> bool {
    if name(id) == Some(wanted) {
        return true;
    }
    let Some(schema) = schema.and_then(|schema| std::str::from_utf8(schema).ok()) else {
        return false;
    };
    let of_schema = match name(id) {
        // Of `application/json;counter` what is after the name.
        Some(name) => wanted
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(';')),
        None => None,
    };
    schema == wanted
        || of_schema == Some(schema)
        || schema.split(';').any(|piece| piece.trim() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "plugin")]
    #[test]
    fn names_are_zenohs() {
        use zenoh::bytes::Encoding;
        for id in 0..=u16::MAX {
            let theirs = Encoding::new(id, None).to_string();
            match name(id) {
                Some(name) => assert_eq!(theirs, name),
                // What Zenoh has no name for it writes in its own way.
                None => assert!(id >= 53, "{id} is {theirs}"),
            }
        }
        let next = Encoding::new(53, None).to_string();
        assert!(!next.contains('/'), "Zenoh has an encoding more: {next}");
        for text in ["application/json;counter", "my/own;thing", "text/plain", ""] {
            let encoding = Encoding::from(text);
            let schema = encoding.schema().map(|schema| schema.to_vec());
            assert_eq!(
                super::text(encoding.id(), schema.as_deref()),
                encoding.to_string()
            );
        }
    }

    #[test]
    fn types_are_encodings_or_schemas() {
        let json = |schema: &'static str, wanted| is_of_type(5, Some(schema.as_bytes()), wanted);
        assert!(is_of_type(5, None, "application/json"));
        assert!(json("counter", "application/json"));
        assert!(json("counter", "application/json;counter"));
        assert!(json("counter", "counter"));
        assert!(json("charset=utf-8; counter", "counter"));
        assert!(!json("counters", "counter"));
        assert!(!json("counter", "text/plain;counter"));
        assert!(!is_of_type(5, None, "counter"));
        assert!(is_of_type(CUSTOM, Some(b"counter"), "counter"));
        assert!(is_of_type(
            CUSTOM,
            Some(b"my/own;counter"),
            "my/own;counter"
        ));
        assert!(!is_of_type(CUSTOM, Some(b"\xff"), "counter"));
    }
}
