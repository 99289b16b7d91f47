//! Sets: the value is all elements that were added and not removed since.
//!
//! A put writes one cell for each element that it names, whose part is the
//! element: a value if it is added, a tombstone if it is removed. Of an add and a
//! remove of one element the later wins.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::Value as Json;
use smallvec::SmallVec;

use super::additive::excerpt;
use crate::{
    cell::{Cell, Content, Value},
    merge::{
        encoding,
        strategy::{
            Applied, CollectedCell, Fold, Form, InvalidPut, PartCell, PartWrite, Put, Reading,
            Strategy,
        },
        values::element::{is_part, part_of, write_element},
    },
};

/// Unites sets of JSON values.
///
/// A put is an array of elements to add; or `{"add": [...], "remove": [...]}`; or
/// a single value that is no object, and text that is not JSON is a string. A get
/// returns the array of all elements, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetUnion;

/// The part of the cell that says that there is a set, and since when. Each put writes it: so what is
/// read beside the elements does not hang on one that was removed.
const EXISTS: &[u8] = &[];

const ALLOWED: &str = "allowed is a JSON array, {\"add\": [...], \"remove\": [...]}, or a single \
                       value that is no object";

fn parse(value: &Value) -> Result<Json, InvalidPut> {
    let payload: &[u8] = &value.payload;
    match serde_json::from_slice(payload) {
        Ok(json) => Ok(json),
        Err(error) => {
            let text = std::str::from_utf8(payload).map(str::trim).unwrap_or("");
            let looks_like_json = text.starts_with(['[', '{', '"']);
            if text.is_empty() || looks_like_json || encoding::is_json(value.encoding_id) {
                let found = excerpt(payload);
                return Err(InvalidPut::new(format!(
                    "found {found}, which is no JSON ({error}); {ALLOWED}"
                )));
            }
            Ok(Json::from(text))
        }
    }
}

/// The elements of an array that is called so.
fn elements(name: &str, json: Json) -> Result<Vec<Json>, InvalidPut> {
    match json {
        Json::Array(elements) => Ok(elements),
        other => Err(InvalidPut::new(format!(
            "`{name}` is {}, and has to be an array; {ALLOWED}",
            excerpt(other.to_string().as_bytes())
        ))),
    }
}

impl Strategy for SetUnion {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        match parse(put.value)? {
            Json::Array(elements) => add = elements,
            Json::Object(fields) => {
                for (name, value) in fields {
                    match name.as_str() {
                        "add" => add = elements("add", value)?,
                        "remove" => remove = elements("remove", value)?,
                        _ => {
                            return Err(InvalidPut::new(format!(
                                "found the field `{name}`; {ALLOWED}"
                            )));
                        }
                    }
                }
            }
            single => add.push(single),
        }
        let there = Content::Value(Value {
            payload: Bytes::new(),
            ..put.value.clone()
        });
        let mut writes = BTreeMap::from([(EXISTS.to_vec(), there.clone())]);
        for element in &add {
            writes.insert(part_of(element)?, there.clone());
        }
        for element in &remove {
            if let Some(Content::Value(_)) = writes.insert(part_of(element)?, Content::Tombstone) {
                return Err(InvalidPut::new(format!(
                    "{element} is to be both added and removed"
                )));
            }
        }
        let writes = writes.into_iter();
        Ok(writes
            .map(|(part, content)| PartWrite { part, content })
            .collect())
    }

    fn may_fade(&self) -> bool {
        true
    }

    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut> {
        if part != EXISTS && !is_part(part) {
            return Err(InvalidPut::new("the part is not an element"));
        }
        match cell.value() {
            Some(value) if !value.payload.is_empty() => {
                Err(InvalidPut::new("an element has a payload"))
            }
            None if part == EXISTS => Err(InvalidPut::new("a set is removed as a key is")),
            _ => Ok(()),
        }
    }

    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
        let elements = cells.iter().filter(|part| part.cell.value().is_some());
        Box::new(SetFold {
            // In order already.
            elements: elements
                .map(|part| SmallVec::from_slice(part.part))
                .collect(),
        })
    }

    fn may_collect(&self) -> bool {
        true
    }

    /// Removed elements go, if the set was put since.
    fn collect(
        &self,
        stable: &[PartCell<'_>],
        newer: &[PartCell<'_>],
    ) -> Option<Vec<CollectedCell>> {
        let first = [stable.first(), newer.first()].into_iter().flatten();
        let exists = first.filter(|first| first.part == EXISTS && first.cell.value().is_some());
        let since = exists.map(|exists| exists.cell.timestamp).max()?;
        let goes =
            |cell: &PartCell<'_>| cell.cell.value().is_none() && cell.cell.timestamp <= since;
        stable.iter().any(goes).then_some(())?;
        let kept = stable.iter().filter(|cell| !goes(cell));
        let kept = kept.map(|PartCell { part, cell }| CollectedCell {
            part: part.to_vec(),
            cell: (*cell).clone(),
        });
        Some(kept.collect())
    }
}

/// Bytes of an element that has no memory of its own.
const INLINE: usize = 24;

struct SetFold {
    elements: BTreeSet<SmallVec<[u8; INLINE]>>,
}

impl Fold for SetFold {
    fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        match cell.value() {
            Some(_) => self.elements.insert(SmallVec::from_slice(part)),
            None => self.elements.remove(part),
        };
        Applied::Yes
    }

    fn read(&self, _: Form) -> Reading {
        let mut text = String::with_capacity(2 + 16 * self.elements.len());
        text.push('[');
        for element in &self.elements {
            if write_element(element, &mut text) {
                text.push(',');
            }
        }
        if text.ends_with(',') {
            text.pop();
        }
        text.push(']');
        Reading {
            encoding_id: Some(encoding::APPLICATION_JSON),
            payload: Bytes::from(text),
        }
    }

    fn weight(&self) -> usize {
        const ELEMENT: usize = 48;
        let elements = self.elements.iter();
        size_of::<Self>() + elements.map(|part| ELEMENT + part.len()).sum::<usize>()
    }
}
