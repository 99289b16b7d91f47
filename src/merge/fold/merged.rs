//! A key, read.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use thiserror::Error;

use super::slot::{self, UnknownStrategy, ValueSlot};
use crate::{
    cell::{Cell, Content, Part, Timestamp, Value},
    hex,
    merge::{
        encoding,
        part::{End, Nesting, Path, Tagged, Writer},
        rules::registry::strategy_of,
        strategy::{Applied, Form, InvalidPut, PartCell},
        values::element::write_element,
    },
    wildcard::PUT_PART,
};

/// Why a key cannot be read, though its cells are there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The strategy that wrote the newest cell is not registered.
    #[error(
        "the value was written by the strategy `{0}`, which this backend does not have: use the \
         backend that has it, or read the cells with the parameter `raw`"
    )]
    UnknownStrategy(String),
}

/// The cells of a key, folded.
pub struct Merged {
    slot: ValueSlot,
    /// The value as it is usually read, once it has been.
    usual: Option<Option<Arc<Cell>>>,
}

impl Merged {
    /// Folds the cells of a key: of each part the newest, ascending by part.
    #[must_use]
    pub fn fold(cells: &[PartCell<'_>]) -> Self {
        Self {
            slot: ValueSlot::fold(Nesting::KEY, cells, strategy_of),
            usual: None,
        }
    }

    /// Takes one more cell: of a new part, or later than the one of its part.
    pub fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        self.usual = None;
        self.slot.apply(part, cell)
    }

    /// The value, as a cell that was written when the newest of the key's was;
    /// nothing if there is none.
    ///
    /// # Errors
    /// If it is not known how to read the cells.
    pub fn read(&mut self, form: Form) -> Result<Option<Arc<Cell>>, ReadError> {
        if let (Form::Native, Some(value)) = (form, &self.usual) {
            return Ok(value.clone());
        }
        let read = self.slot.read(form);
        let read = read.map_err(|UnknownStrategy(name)| ReadError::UnknownStrategy(name))?;
        let value = read.map(|(timestamp, value)| {
            let content = Content::Value(value);
            Arc::new(Cell { timestamp, content })
        });
        if form == Form::Native {
            self.usual = Some(value.clone());
        }
        Ok(value)
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let usual = self.usual.iter().flatten();
        self.slot.weight() + usual.map(|cell| cell.value_bytes()).sum::<usize>()
    }
}

/// Whether a cell of another replica is one that some strategy writes. It may be of
/// another than the one that merges the key here: puts of one key may be of several
/// types, and rules may have been others before.
///
/// # Errors
/// If it is not.
pub fn check(part: &Part, cell: &Cell) -> Result<(), InvalidPut> {
    slot::check(&Path::of(Nesting::KEY, part.as_bytes()), cell, strategy_of)
}

/// The cells of a key as JSON, for people: of each part the newest, ascending by
/// part. Written when the newest of them was; nothing, if there are none.
#[must_use]
pub fn raw(cells: &[PartCell<'_>]) -> Option<Cell> {
    let timestamp = cells.iter().map(|part| part.cell.timestamp).max()?;
    let own = cells.first().filter(|first| first.part.is_empty());
    let covers = own.map(|own| own.cell.timestamp);
    let cells = cells.iter().map(|cell| raw_cell(cell, covers));
    let text = Json::from(cells.collect::<Vec<_>>()).to_string();
    Some(Cell {
        timestamp,
        content: Content::Value(Value {
            encoding_id: encoding::APPLICATION_JSON,
            schema: None,
            attachment: None,
            payload: text.into(),
        }),
    })
}

fn raw_cell(PartCell { part, cell }: &PartCell<'_>, covers: Option<Timestamp>) -> Json {
    let (strategy, slot) = describe(part);
    let mut shown = json!({
        "strategy": strategy,
        "timestamp": cell.timestamp.to_string(),
    });
    if let Some(slot) = slot {
        shown["part"] = slot;
    }
    if !part.is_empty() && covers.is_some_and(|own| own >= cell.timestamp) {
        shown["covered"] = true.into();
    }
    match cell.value() {
        None => shown["deleted"] = true.into(),
        Some(value) => {
            let text = encoding::text(value.encoding_id, value.schema.as_deref());
            shown["encoding"] = text.into();
            if let Some(attachment) = &value.attachment {
                shown["attachment"] = text_or_hex(attachment);
            }
            shown["value"] = text_or_hex(&value.payload);
        }
    }
    shown
}

fn text_or_hex(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex::encode(bytes) }),
    }
}

/// Who wrote a part, and what it stands for. What nests too deeply is of an unknown
/// strategy, where the limit is.
fn describe(part: &[u8]) -> (String, Option<Json>) {
    if part == PUT_PART {
        return ("wildcard put".to_owned(), None);
    }
    let Path { fields, end } = Path::of(Nesting::KEY, part);
    let mut described = match end {
        End::Own => None,
        End::Object | End::NoField => Some(("object".to_owned(), None)),
        End::Tagged(tagged) => Some(describe_tagged(&tagged)),
    };
    for name in fields.iter().rev() {
        let mut slot = json!({ "field": name });
        if let Some((strategy, inner)) = described {
            slot["strategy"] = strategy.into();
            if let Some(inner) = inner {
                slot["part"] = inner;
            }
        }
        described = Some(("object".to_owned(), Some(slot)));
    }
    described.unwrap_or_else(|| ("lww".to_owned(), None))
}

fn describe_tagged(tagged: &Tagged<'_>) -> (String, Option<Json>) {
    let Tagged { writer, rest, .. } = *tagged;
    let (name, part) = match writer {
        Writer::Additive => ("additive", None),
        Writer::SetUnion => ("set_union", describe_element(rest)),
        Writer::Object => ("object", None),
        Writer::Automerge => ("automerge_crdt", Some(hex::encode(rest).into())),
        Writer::Custom(name) => (name, Some(text_or_hex(rest))),
        Writer::Unknown | Writer::TooDeep => ("unknown", Some(json!({ "hex": hex::encode(rest) }))),
    };
    (name.to_owned(), part)
}

/// Arrays and objects within each other that are shown as they are. With what is
/// around them that is less than the 127 that readers of JSON take, ours among them.
const MAX_SHOWN_LEVELS: usize = 64;

fn describe_element(part: &[u8]) -> Option<Json> {
    let mut text = String::new();
    write_element(part, &mut text).then_some(())?;
    let element = serde_json::from_str(&text).ok()?;
    match levels(&element) > MAX_SHOWN_LEVELS {
        true => Some(json!({ "json": text })),
        false => Some(element),
    }
}

/// Arrays and objects within each other, of which what was parsed has 127 at most.
fn levels(json: &Json) -> usize {
    match json {
        Json::Array(elements) => 1 + elements.iter().map(levels).max().unwrap_or(0),
        Json::Object(fields) => 1 + fields.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}
