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
//!
//! Where objects nest deeper than they may there is no strategy that reads: see
//! [`Nesting`]. So the calls from places to the places within them end, whatever
//! the parts are.

use std::{
    collections::BTreeMap,
    panic::{catch_unwind, AssertUnwindSafe},
};

use serde_json::value::RawValue;

use super::{
    part::{End, Nesting, Path, Tagged, Writer, MAX_NESTING},
    registry::strategy_of,
    strategy::{Applied, Fold, Form, PartCell, Put, Strategy, Unfit},
};
use crate::cell::{Cell, Content, Stamp, Value};

/// A strategy that wrote cells, and is not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnknownStrategy(pub(super) String);

impl UnknownStrategy {
    fn of(tagged: &Tagged<'_>) -> Self {
        Self(match tagged.writer {
            Writer::Custom(name) => name.to_owned(),
            // Of others only the tag is known.
            _ => format!("{:02x?}", tagged.rest.get(..1).unwrap_or_default()),
        })
    }
}

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

    /// That of the newest of these cells that is a value.
    fn newest(cells: &[PartCell<'_>]) -> Option<Self> {
        let values = cells.iter().filter_map(|part| {
            let value = part.cell.value()?;
            Some((part.cell.stamp, part.part, value))
        });
        let newest = values.max_by_key(|(stamp, part, _)| (*stamp, *part));
        newest.map(|(stamp, part, value)| Self::new(part, stamp, value))
    }

    /// Of several cells that bear one timestamp it is that with the last part.
    fn is_before(&self, part: &[u8], stamp: Stamp) -> bool {
        (self.stamp, &*self.part) < (stamp, part)
    }
}

/// The cells of a place, folded.
pub(super) struct Place {
    nesting: Nesting,
    own: Option<Cell>,
    shown: Shown,
}

impl Place {
    /// Folds the cells of a place: of each part the newest, ascending by part.
    pub(super) fn fold(nesting: Nesting, cells: &[PartCell<'_>]) -> Self {
        let (own, parts) = match cells.split_first() {
            Some((first, rest)) if first.part.is_empty() => (Some(first.cell), rest),
            _ => (None, cells),
        };
        let visible = |part: &&PartCell<'_>| own.is_none_or(|own| part.cell.stamp > own.stamp);
        let visible = parts.iter().filter(visible);
        // Ascending by part: of those that bear one timestamp it is the last.
        let newest = visible.clone().max_by_key(|part| part.cell.stamp);
        let tagged = newest.and_then(|newest| nesting.split(newest.part));
        let shown = match newest.zip(tagged) {
            None => Shown::Own,
            Some((newest, tagged)) => match strategy_of(tagged.writer, nesting) {
                None => Shown::Unknown(UnknownStrategy::of(&tagged)),
                Some(strategy) => {
                    let mut group = Vec::with_capacity(parts.len());
                    group.extend(visible.filter_map(|PartCell { part, cell }| {
                        // No prefix is the beginning of another.
                        let part = part.strip_prefix(tagged.prefix)?;
                        Some(PartCell { part, cell })
                    }));
                    Shown::Fold {
                        prefix: tagged.prefix.into(),
                        fold: fold_group(&*strategy, own, &group),
                        newest: newest.cell.stamp,
                        encoding: EncodingOf::newest(&group),
                    }
                }
            },
        };
        Self {
            nesting,
            own: own.cloned(),
            shown,
        }
    }

    /// As [`Fold::apply`].
    pub(super) fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        let Some(tagged) = self.nesting.split(part) else {
            if !matches!(self.shown, Shown::Own) {
                return Applied::FoldAgain;
            }
            self.own = Some(cell.clone());
            return Applied::Yes;
        };
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
        if *tagged.prefix != **prefix {
            // It says who reads, unless it is older.
            return match cell.stamp < *newest {
                true => Applied::Yes,
                false => Applied::FoldAgain,
            };
        }
        *newest = cell.stamp.max(*newest);
        let part = tagged.rest;
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

/// Folds cells of one strategy; a value of the place's own, if it could be put, is
/// the first put.
fn fold_group(
    strategy: &dyn Strategy,
    own: Option<&Cell>,
    group: &[PartCell<'_>],
) -> Box<dyn Fold> {
    let base = own.and_then(|own| {
        let value = own.value()?;
        let stamp = own.stamp;
        let writes = strategy.write(&Put { stamp, value }).ok()?;
        let cells = writes.into_iter().map(|write| {
            let content = write.content;
            (write.part, Cell { stamp, content })
        });
        Some(cells.collect::<Vec<_>>())
    });
    let Some(base) = base else {
        return strategy.fold(group);
    };
    let base = base.iter().map(|(part, cell)| (&part[..], cell));
    let mut cells: BTreeMap<&[u8], &Cell> = base.collect();
    cells.extend(group.iter().map(|part| (part.part, part.cell)));
    let cells = cells.into_iter();
    let cells: Vec<_> = cells.map(|(part, cell)| PartCell { part, cell }).collect();
    strategy.fold(&cells)
}

/// Whether a cell is one that the strategy that its part names could have written.
pub(super) fn check(path: &Path<'_>, cell: &Cell) -> Result<(), Unfit> {
    let fits = match path.end {
        // Whatever is put to a key.
        End::Own if path.fields.is_empty() => Ok(()),
        End::Own => match cell.value() {
            None => Ok(()),
            Some(value) => serde_json::from_slice::<&RawValue>(&value.payload)
                .map(drop)
                .map_err(|error| Unfit::new(format!("it is not JSON: {error}"))),
        },
        End::Object => match cell.value() {
            Some(value) if value.payload.is_empty() => Ok(()),
            _ => Err(Unfit::new("an object is removed as a key is")),
        },
        End::NoField => Err(Unfit::new("the part is not that of a field")),
        End::Tagged(tagged) => check_tagged(&tagged, cell),
    };
    // Each name is copied once, however many there are.
    fits.map_err(|reason| match path.fields.is_empty() {
        true => reason,
        false => {
            let fields = path.fields.iter();
            let fields: String = fields.map(|name| format!("field `{name}`: ")).collect();
            Unfit::new(format!("{fields}{reason}"))
        }
    })
}

fn check_tagged(tagged: &Tagged<'_>, cell: &Cell) -> Result<(), Unfit> {
    if tagged.writer == Writer::TooDeep {
        return Err(Unfit::new(format!(
            "the part goes deeper than parts may: allowed are {MAX_NESTING} objects within each \
             other, and no custom strategy within another"
        )));
    }
    // Objects are walked through before, so what they are within is of no interest.
    let Some(strategy) = strategy_of(tagged.writer, Nesting::KEY) else {
        return Err(Unfit::new("no strategy here writes such a part"));
    };
    // A strategy of the user's own must not take the storage down.
    catch_unwind(AssertUnwindSafe(|| strategy.check(tagged.rest, cell)))
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
