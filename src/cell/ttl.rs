//! Where an encoding says for how long a value is shown: in a piece of its schema, `ttl=10s`.

/// What the piece begins with.
const TTL: &str = "ttl=";

/// The pieces of a schema, between semicolons.
fn pieces(schema: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(schema).unwrap_or_default();
    text.split(';')
}

/// The times that a schema gives, as they are written: one, if it is as it should be.
pub fn ttls(schema: &[u8]) -> impl Iterator<Item = &str> {
    pieces(schema).filter_map(|piece| piece.trim().strip_prefix(TTL))
}

/// The schema without times; nothing if it has nothing else.
#[must_use]
pub fn without_ttl(schema: &[u8]) -> Option<Box<[u8]>> {
    if ttls(schema).next().is_none() {
        return Some(schema.into());
    }
    let others = pieces(schema).filter(|piece| !piece.trim().starts_with(TTL));
    let others: Vec<_> = others.collect();
    let rest = others.join(";");
    (!rest.is_empty()).then(|| rest.into_bytes().into())
}

/// The schema with this time, in the place of those that it has.
#[must_use]
pub fn with_ttl(schema: Option<&[u8]>, ttl: &str) -> Box<[u8]> {
    let mut text = schema.and_then(without_ttl).unwrap_or_default().into_vec();
    if !text.is_empty() {
        text.push(b';');
    }
    text.extend_from_slice(TTL.as_bytes());
    text.extend_from_slice(ttl.as_bytes());
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_pieces_of_a_schema() {
        let found = |schema: &str| {
            ttls(schema.as_bytes())
                .map(String::from)
                .collect::<Vec<_>>()
        };
        assert_eq!(found("ttl=10s"), ["10s"]);
        assert_eq!(found("my/own; ttl=10s ;counter"), ["10s"]);
        assert_eq!(found("ttl=1s;ttl=2s"), ["1s", "2s"]);
        for none in ["", "ttl", "throttl=1s", "attl=1s", "TTL=1s", "my/own"] {
            assert!(found(none).is_empty(), "{none}");
        }
        assert!(ttls(b"ttl=1s;\xff").next().is_none());
    }

    #[test]
    fn a_time_replaces_others_and_nothing_else() {
        let with = |schema: Option<&str>| {
            let made = with_ttl(schema.map(str::as_bytes), "5ms");
            String::from_utf8(made.into()).expect("text")
        };
        assert_eq!(with(None), "ttl=5ms");
        assert_eq!(with(Some("ttl=10s")), "ttl=5ms");
        assert_eq!(with(Some("my/own")), "my/own;ttl=5ms");
        assert_eq!(with(Some("a;ttl=1s;b")), "a;b;ttl=5ms");
        assert_eq!(without_ttl(b"ttl=1s"), None);
        assert_eq!(without_ttl(b"a; b").as_deref(), Some(&b"a; b"[..]));
    }
}
