//! A place: where there is one value, made of cells. A key is one, and so is a
//! field of an object.
//!
//! The rule of reading, which asks the cells alone and not the configuration:
//!
//! 1. The place's own cell, that with the empty part, covers all others that are
//!    not newer: a delete deletes them, a value replaces them.
//! 2. Of the cells that are not covered the newest says which strategy reads:
//!    the one that wrote it.
//! 3. That strategy folds its cells. If the own cell is a value that it could
//!    take as a put, it takes it as the first one.

use std::{
    collections::BTreeMap,
    panic::{catch_unwind, AssertUnwindSafe},
};

use super::{
    part::{split, Writer},
    registry::strategy_of,
    strategy::{Applied, Fold, Form, PartCell, Put, Unfit},
};
use crate::cell::{Cell, Content, Stamp, Value};

/// A strategy that wrote cells, and is not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnknownStrategy(pub(super) String);

/// What a place shows.
enum Shown {
    /// The own cell, whatever it is.
    Own,
    /// The fold of one strategy's cells.
    Fold {
        /// What its parts begin with.
        prefix: Box<[u8]>,
        fold: Box<dyn Fold>,
        /// The newest cell.
        newest: Stamp,
        /// That of the newest cell that is a value.
        encoding: Option<EncodingOf>,
    },
    Unknown(UnknownStrategy),
}

/// The encoding of a cell.
struct EncodingOf {
    stamp: Stamp,
    part: Box<[u8]>,
    id: u16,
    schema: Option<Box<[u8]>>,
}

impl EncodingOf {
    fn new(part: &[u8], stamp: Stamp, value: &Value) -> Self {
        Self {
            stamp,
            part: part.into(),
            id: value.encoding_id,
            schema: value.schema.clone(),
        }
    }

    /// Of several cells that bear one timestamp it is that with the last part.
    fn is_before(&self, part: &[u8], stamp: Stamp) -> bool {
        (self.stamp, &*self.part) < (stamp, part)
    }
}

/// The cells of a place, folded.
pub(super) struct Place {
    own: Option<Cell>,
    shown: Shown,
}

/// What a part begins with.
fn prefix_of(part: &[u8]) -> &[u8] {
    let (_, rest) = split(part);
    &part[..part.len() - rest.len()]
}

impl Place {
    /// Folds the cells of a place: of each part the newest, ascending by part.
    pub(super) fn fold(cells: &[PartCell<'_>]) -> Self {
        let (own, parts) = match cells.split_first() {
            Some((first, rest)) if first.part.is_empty() => (Some(first.cell), rest),
            _ => (None, cells),
        };
        let visible = |part: &PartCell<'_>| own.is_none_or(|own| part.cell.stamp > own.stamp);
        let mut newest: Option<&PartCell<'_>> = None;
        for part in parts.iter().filter(|part| visible(part)) {
            // Ascending by part: of those that bear one timestamp it is the last.
            if newest.is_none_or(|newest| newest.cell.stamp <= part.cell.stamp) {
                newest = Some(part);
            }
        }
        let shown = match newest {
            None => Shown::Own,
            Some(newest) => {
                let prefix = prefix_of(newest.part);
                let mut group = Vec::with_capacity(parts.len());
                for part in parts.iter().filter(|part| visible(part)) {
                    // No prefix is the beginning of another.
                    if let Some(rest) = part.part.strip_prefix(prefix) {
                        let cell = part.cell;
                        group.push(PartCell { part: rest, cell });
                    }
                }
                fold_group(newest, own, &group)
            }
        };
        Self {
            own: own.cloned(),
            shown,
        }
    }

    /// As [`Fold::apply`].
    pub(super) fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        if part.is_empty() {
            if !matches!(self.shown, Shown::Own) {
                return Applied::FoldAgain;
            }
            self.own = Some(cell.clone());
            return Applied::Yes;
        }
        if self.own.as_ref().is_some_and(|own| own.stamp >= cell.stamp) {
            return Applied::Yes;
        }
        let Shown::Fold {
            prefix,
            fold,
            newest,
            encoding,
        } = &mut self.shown
        else {
            return Applied::FoldAgain;
        };
        if prefix_of(part) != &**prefix {
            // It says who reads, unless it is older.
            return match cell.stamp < *newest {
                true => Applied::Yes,
                false => Applied::FoldAgain,
            };
        }
        *newest = cell.stamp.max(*newest);
        let part = &part[prefix.len()..];
        match (cell.value(), &encoding) {
            (Some(value), Some(known)) if known.is_before(part, cell.stamp) => {
                *encoding = Some(EncodingOf::new(part, cell.stamp, value));
            }
            (Some(value), None) => *encoding = Some(EncodingOf::new(part, cell.stamp, value)),
            // The very cell is removed: who comes next is not known.
            (None, Some(known)) if *known.part == *part => return Applied::FoldAgain,
            _ => {}
        }
        fold.apply(part, cell)
    }

    /// The value, and when it was last written; nothing if there is none.
    pub(super) fn read(&self, form: Form) -> Result<Option<(Stamp, Value)>, UnknownStrategy> {
        match &self.shown {
            Shown::Own => {
                let own = self.own.as_ref();
                Ok(own.and_then(|own| Some((own.stamp, own.value()?.clone()))))
            }
            Shown::Unknown(unknown) => Err(unknown.clone()),
            Shown::Fold {
                fold,
                newest,
                encoding,
                ..
            } => {
                let reading = fold.read(form);
                let (of_newest, schema) = match encoding {
                    Some(encoding) => (encoding.id, encoding.schema.clone()),
                    None => (0, None),
                };
                // Who asks for JSON gets that, and not a type of it.
                let is_json = form == Form::Json && reading.encoding_id.is_some();
                let value = Value {
                    encoding_id: reading.encoding_id.unwrap_or(of_newest),
                    schema: schema.filter(|_| !is_json),
                    payload: reading.payload,
                };
                Ok(Some((*newest, value)))
            }
        }
    }

    pub(super) fn weight(&self) -> usize {
        let own = self.own.as_ref().map_or(0, Cell::value_bytes);
        let fold = match &self.shown {
            Shown::Fold { fold, .. } => fold.weight(),
            Shown::Own | Shown::Unknown(_) => 0,
        };
        size_of::<Self>() + own + fold
    }
}

/// Folds the cells of the strategy that wrote `newest`.
fn fold_group(newest: &PartCell<'_>, own: Option<&Cell>, group: &[PartCell<'_>]) -> Shown {
    let prefix = prefix_of(newest.part);
    let (writer, _) = split(newest.part);
    let Some(strategy) = strategy_of(writer) else {
        return Shown::Unknown(UnknownStrategy(match writer {
            Writer::Custom(name) => name.to_owned(),
            Writer::BuiltIn(_) | Writer::Unknown => format!("{prefix:02x?}"),
        }));
    };
    let values = group.iter().filter(|part| part.cell.value().is_some());
    let encoding = values.max_by_key(|part| (part.cell.stamp, part.part));
    let encoding = encoding.and_then(|part| {
        let value = part.cell.value()?;
        Some(EncodingOf::new(part.part, part.cell.stamp, value))
    });
    let base = own.and_then(|own| {
        let value = own.value()?;
        let put = Put {
            stamp: own.stamp,
            value,
        };
        strategy.write(&put).ok()
    });
    let fold = match base.zip(own) {
        None => strategy.fold(group),
        Some((base, own)) => {
            let base = base.into_iter().map(|write| {
                let cell = Cell {
                    stamp: own.stamp,
                    content: write.content,
                };
                (write.part, cell)
            });
            let base: Vec<(Vec<u8>, Cell)> = base.collect();
            let base = base.iter().map(|(part, cell)| (&part[..], cell));
            let mut cells: BTreeMap<&[u8], &Cell> = base.collect();
            cells.extend(group.iter().map(|part| (part.part, part.cell)));
            let cells = cells.into_iter();
            let cells: Vec<_> = cells.map(|(part, cell)| PartCell { part, cell }).collect();
            strategy.fold(&cells)
        }
    };
    Shown::Fold {
        prefix: prefix.into(),
        fold,
        newest: newest.cell.stamp,
        encoding,
    }
}

/// Whether a cell is one that the strategy that its part names could have written.
pub(super) fn check(part: &[u8], cell: &Cell) -> Result<(), Unfit> {
    let (writer, rest) = split(part);
    let Some(strategy) = strategy_of(writer) else {
        return Err(Unfit::new("no strategy here writes such a part"));
    };
    // A strategy of the user's own must not take the storage down.
    catch_unwind(AssertUnwindSafe(|| strategy.check(rest, cell)))
        .unwrap_or_else(|_| Err(Unfit::new("the strategy panicked")))
}

/// A cell of a field's own.
pub(super) fn own_content(json: &str, schema: &Option<Box<[u8]>>) -> Content {
    Content::Value(Value {
        encoding_id: super::encoding::APPLICATION_JSON,
        schema: schema.clone(),
        payload: bytes::Bytes::copy_from_slice(json.as_bytes()),
    })
}
