//! Cells as storages show them, and whether a write is among them.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::{Error, Stamp, elements::canonical, error::refused};

/// One cell of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The strategy that wrote it.
    pub strategy: String,
    /// When it was written.
    pub stamp: Stamp,
    /// What it stands for, if it stands for anything: an element, a field.
    pub part: Option<Json>,
    /// The payload; nothing of a tombstone.
    pub payload: Option<Vec<u8>>,
}

impl Cell {
    /// A cell in the JSON of `?raw` and of `cells`.
    fn of(shown: &Map<String, Json>) -> Option<Self> {
        let payload = match shown.get("value") {
            None | Some(Json::Null) => None,
            Some(Json::Object(value)) => {
                Some(zenoh_backend_mst::hex::decode(value.get("hex")?.as_str()?)?)
            }
            Some(value) => Some(value.as_str()?.as_bytes().to_vec()),
        };
        Some(Self {
            strategy: shown.get("strategy")?.as_str()?.to_owned(),
            stamp: shown.get("timestamp")?.as_str()?.parse().ok()?,
            part: shown.get("part").cloned(),
            payload,
        })
    }

    fn is_own(&self) -> bool {
        self.strategy == "lww" && self.part.is_none()
    }

    /// Whether it stands for an element, which the newest write of it has.
    fn is_element(&self) -> bool {
        matches!(&*self.strategy, "set_union" | "automerge_crdt")
    }

    /// Whether it is the one of the writes that name nothing.
    fn is_of_empty(&self) -> bool {
        matches!(&*self.strategy, "set_union" | "object") && self.part.is_none()
    }

    /// The field that it is of, as far as `stamp` wrote it or something newer.
    fn field_since(&self, stamp: Stamp) -> Option<&str> {
        let part = self.part.as_ref()?.as_object()?;
        // A field that has a strategy has cells beside each other; any other one cell.
        let is_plain = !part.contains_key("strategy");
        let is_there = self.stamp == stamp || (is_plain && self.stamp >= stamp);
        part.get("field")?.as_str().filter(|_| is_there)
    }
}

/// All that a storage shows of one key.
pub(crate) fn cells(text: &[u8]) -> Result<Vec<Cell>, Error> {
    let shown: Vec<Map<String, Json>> = serde_json::from_slice(text)
        .map_err(|error| refused(format!("the cells are not to be read: {error}")))?;
    let cells = shown.iter().map(Cell::of).collect::<Option<_>>();
    cells.ok_or_else(|| refused("the cells are not those of a storage of this version"))
}

/// A write that was sent: a key, the stamp that identifies it, and what it names in the key.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// By which storages, and a retry, know it.
    pub stamp: Stamp,
    /// Elements of a set, in their canonical text.
    pub(crate) elements: BTreeSet<String>,
    /// Fields of an object.
    pub(crate) fields: BTreeSet<String>,
}

impl Write {
    /// Whether a storage that shows these cells, or another one that they came from, took it.
    ///
    /// A storage takes all cells of a write at once: so one of them tells.
    pub(crate) fn was_taken(&self, shown: &[Cell]) -> bool {
        shown.iter().any(|cell| cell.stamp == self.stamp) || self.is_in(shown)
    }

    /// Whether all of it is in these cells, or was replaced by what is newer.
    pub(crate) fn is_in(&self, shown: &[Cell]) -> bool {
        let is_since = |cell: &Cell| cell.stamp >= self.stamp;
        if shown.iter().any(|cell| cell.is_own() && is_since(cell)) {
            return true;
        }
        if !self.elements.is_empty() {
            let there = shown
                .iter()
                .filter(|cell| cell.is_element() && is_since(cell));
            let there = there.filter_map(|cell| canonical(cell.part.as_ref()?).ok());
            let there: BTreeSet<_> = there.collect();
            return self.elements.is_subset(&there);
        }
        if !self.fields.is_empty() {
            let there = shown.iter().filter_map(|cell| cell.field_since(self.stamp));
            let there: BTreeSet<_> = there.collect();
            return self.fields.iter().all(|field| there.contains(&**field));
        }
        let is_it =
            |cell: &Cell| cell.stamp == self.stamp || (cell.is_of_empty() && is_since(cell));
        shown.iter().any(is_it)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stamp(time: u64) -> Stamp {
        format!("{time}/1").parse().expect("a stamp")
    }

    fn shown(strategy: &str, time: u64, part: Option<Json>) -> Cell {
        Cell {
            strategy: strategy.to_owned(),
            stamp: stamp(time),
            part,
            payload: None,
        }
    }

    #[test]
    fn a_write_is_known_by_its_stamp_or_by_what_replaced_it() {
        let write = |elements: &[&str], fields: &[&str]| Write {
            key: "a".to_owned(),
            stamp: stamp(5),
            elements: elements.iter().map(ToString::to_string).collect(),
            fields: fields.iter().map(ToString::to_string).collect(),
        };
        let plain = write(&[], &[]);
        for (cell, is_in) in [
            (shown("lww", 5, None), true),
            (shown("lww", 6, None), true),
            (shown("lww", 4, None), false),
            (shown("additive", 5, None), true),
            // Another addition replaces none.
            (shown("additive", 6, None), false),
            (shown("set_union", 6, None), true),
        ] {
            assert_eq!(plain.is_in(std::slice::from_ref(&cell)), is_in, "{cell:?}");
            assert_eq!(
                plain.was_taken(std::slice::from_ref(&cell)),
                is_in,
                "{cell:?}"
            );
        }
        let elements = write(&["1", "2"], &[]);
        let one = shown("set_union", 5, Some(json!(1.0)));
        let other = shown("set_union", 7, Some(json!(2)));
        assert!(
            !elements.is_in(std::slice::from_ref(&one))
                && elements.was_taken(std::slice::from_ref(&one))
        );
        assert!(elements.is_in(&[one, other]));
        let fields = write(&[], &["a", "b"]);
        let plain = |time| shown("object", time, Some(json!({ "field": "a" })));
        let merged = |time| {
            let part = json!({ "field": "b", "strategy": "additive" });
            shown("object", time, Some(part))
        };
        assert!(fields.is_in(&[plain(7), merged(5)]));
        assert!(!fields.is_in(&[plain(7), merged(7)]) && !fields.is_in(&[plain(4), merged(5)]));
    }

    #[test]
    fn what_is_no_cell_is_an_error() {
        let text = br#"[{"strategy":"lww","timestamp":"5/1","value":{"hex":"00ff"}}]"#;
        let read = cells(text).expect("cells");
        assert_eq!(read[0].payload.as_deref(), Some(&[0, 255][..]));
        for wrong in [
            &b"7"[..],
            b"[{}]",
            br#"[{"strategy":"lww","timestamp":"x"}]"#,
            b"[",
        ] {
            assert!(cells(wrong).is_err());
        }
    }
}
