//! What no storage takes, so that it is not sent.

use zenoh_backend_mst::cell::{CellKey, Key, MAX_KEY_BYTES, MAX_KEY_CHUNKS};

use crate::{Error, Write, elements::bytes_of, error::invalid};

/// Elements or fields of one put.
const MAX_CELLS: usize = 65_536;

/// That a storage takes a write, as far as that is known here, whose key it keeps as `stored`: what an
/// element or a field with a strategy of its own adds to its key is not counted.
///
/// # Errors
/// [`Error::Invalid`] if none takes it.
pub(crate) fn check(write: &Write, stored: &Key) -> Result<(), Error> {
    if stored.has_too_many_chunks() {
        return invalid(format!("the key has more than {MAX_KEY_CHUNKS} chunks"));
    }
    let named = write.elements.len() + write.fields.len();
    if named > MAX_CELLS {
        return invalid(format!(
            "found {named} elements or fields, allowed are {MAX_CELLS} in one put"
        ));
    }
    let elements = write.elements.iter().map(|element| bytes_of(element));
    // Zero bytes of a field's name take two, and it ends with two.
    let fields = write.fields.iter();
    let fields = fields.map(|field| field.len() + field.matches('\0').count() + 2);
    // The tag of the strategy comes before what a part stands for.
    let longest = elements.chain(fields).max().map_or(0, |part| 1 + part);
    let needed = CellKey::own(stored.clone()).canonical_len() + longest;
    if needed > MAX_KEY_BYTES {
        return invalid(format!(
            "the key takes {needed} bytes, together with its longest element or field if it has such; \
             allowed are {MAX_KEY_BYTES}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use zenoh::key_expr::OwnedKeyExpr;

    use super::*;

    fn key(text: &str) -> Key {
        Key::from(Some(OwnedKeyExpr::new(text).expect("a key")))
    }

    fn write(elements: BTreeSet<String>, fields: BTreeSet<String>) -> Write {
        Write {
            key: "a".to_owned(),
            stamp: "5/1".parse().expect("a stamp"),
            elements,
            fields,
        }
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        // A key takes three bytes more than its text, and a part one more than what it stands for.
        let none = write(BTreeSet::new(), BTreeSet::new());
        let longest = "x".repeat(MAX_KEY_BYTES - 3);
        assert!(check(&none, &key(&longest)).is_ok());
        assert!(check(&none, &key(&format!("{longest}x"))).is_err());
        let one = |length| {
            let element = format!("\"{}\"", "x".repeat(length));
            write([element].into(), BTreeSet::new())
        };
        assert!(check(&one(MAX_KEY_BYTES - 6), &key("a")).is_ok());
        assert!(check(&one(MAX_KEY_BYTES - 5), &key("a")).is_err());
        let zeros = |count| write(BTreeSet::new(), ["\0".repeat(count)].into());
        assert!(check(&zeros((MAX_KEY_BYTES - 7) / 2), &key("a")).is_ok());
        assert!(check(&zeros((MAX_KEY_BYTES - 7) / 2 + 1), &key("a")).is_err());
        assert!(check(&none, &Key::NONE).is_ok());
    }

    #[test]
    fn chunks_and_cells_have_a_limit() {
        let none = write(BTreeSet::new(), BTreeSet::new());
        let chunks = |count| key(&vec!["x"; count].join("/"));
        assert!(check(&none, &chunks(MAX_KEY_CHUNKS)).is_ok());
        assert!(check(&none, &chunks(MAX_KEY_CHUNKS + 1)).is_err());
        let many = |count: usize| {
            let elements = (0..count).map(|n| n.to_string()).collect();
            check(&write(elements, BTreeSet::new()), &key("a"))
        };
        assert!(many(MAX_CELLS).is_ok() && many(MAX_CELLS + 1).is_err());
    }
}
