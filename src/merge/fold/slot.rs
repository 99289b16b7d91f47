//! A place: where there is one value, made of cells. A key is one, and so is a
//! field of an object.
//!
//! The rule of reading, which asks the cells alone and not the configuration:
//!
//! 1. The place's own cell, that with the empty part, covers all others that are
//!    not newer: a delete deletes them, a value replaces them.
//! 2. Of the cells that are not covered the newest says which strategy reads:
//!    the one that wrote it.
//!    Of an `additive` counter the base covers the increments that are not newer, as it is their sum.
//! 3. That strategy folds its cells. If the own cell is a value that it could
//!    take as a put, it takes it as the first one.
//!
//! Where objects nest deeper than they may there is no strategy that reads: see
//! [`Nesting`]. So the calls from places to the places within them end, whatever
//! the parts are.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde_json::value::RawValue;

use crate::{
    cell::{Cell, Content, Timestamp, Value},
    merge::{
        part::{End, MAX_NESTING, Nesting, Path, Tagged, Writer},
        strategy::{Applied, Fold, Form, InvalidPut, PartCell, Put, Strategy, StrategyOf},
    },
};

/// A strategy that wrote cells, and is not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::merge) struct UnknownStrategy(pub(in crate::merge) String);

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
enum SlotContent {
    /// The own cell, whatever it is.
    Own,
    /// The fold of one strategy's cells.
    Fold {
        /// What its parts begin with.
        prefix: Box<[u8]>,
        /// Until when its cells are in a base.
        base: Option<Timestamp>,
        fold: Box<dyn Fold>,
        /// The newest cell.
        newest: Timestamp,
        /// That of the newest cell that is a value.
        encoding: Option<EncodingOf>,
    },
    Unknown(UnknownStrategy),
}

/// The encoding of a cell.
struct EncodingOf {
    timestamp: Timestamp,
    part: Box<[u8]>,
    id: u16,
    schema: Option<Box<[u8]>>,
}

impl EncodingOf {
    fn new(part: &[u8], timestamp: Timestamp, value: &Value) -> Self {
        Self {
            timestamp,
            part: part.into(),
            id: value.encoding_id,
            schema: value.schema.clone(),
        }
    }

    /// That of the newest of these cells that is a value.
    fn newest(cells: &[PartCell<'_>]) -> Option<Self> {
        let values = cells.iter().filter_map(|part| {
            let value = part.cell.value()?;
            Some((part.cell.timestamp, part.part, value))
        });
        let newest = values.max_by_key(|(timestamp, part, _)| (*timestamp, *part));
        newest.map(|(timestamp, part, value)| Self::new(part, timestamp, value))
    }

    /// Of several cells that bear one timestamp it is that with the last part.
    fn is_before(&self, part: &[u8], timestamp: Timestamp) -> bool {
        (self.timestamp, &*self.part) < (timestamp, part)
    }
}

/// The cells of a place, folded.
pub(in crate::merge) struct ValueSlot {
    nesting: Nesting,
    own: Option<Cell>,
    shown: SlotContent,
}

impl ValueSlot {
    /// Folds the cells of a place: of each part the newest, ascending by part.
    pub(in crate::merge) fn fold(
        nesting: Nesting,
        cells: &[PartCell<'_>],
        strategy_of: StrategyOf,
    ) -> Self {
        let (own, parts) = match cells.split_first() {
            Some((first, rest)) if first.part.is_empty() => (Some(first.cell), rest),
            _ => (None, cells),
        };
        let visible =
            |part: &&PartCell<'_>| own.is_none_or(|own| part.cell.timestamp > own.timestamp);
        let visible = parts.iter().filter(visible);
        // Ascending by part: of those that bear one timestamp it is the last.
        let newest = visible.clone().max_by_key(|part| part.cell.timestamp);
        let tagged = newest.and_then(|newest| nesting.split(newest.part));
        let shown = match newest.zip(tagged) {
            None => SlotContent::Own,
            Some((newest, tagged)) => match strategy_of(tagged.writer, nesting) {
                None => SlotContent::Unknown(UnknownStrategy::of(&tagged)),
                Some(strategy) => {
                    let mut group = Vec::with_capacity(parts.len());
                    group.extend(visible.filter_map(|PartCell { part, cell }| {
                        // No prefix is the beginning of another.
                        let part = part.strip_prefix(tagged.prefix)?;
                        Some(PartCell { part, cell })
                    }));
                    let first = group.first();
                    let base = first
                        .and_then(|first| covered_by_base(tagged.writer, first.part, first.cell));
                    if base.is_some() {
                        group.retain(|cell| {
                            cell.part.is_empty() || Some(cell.cell.timestamp) > base
                        });
                    }
                    SlotContent::Fold {
                        prefix: tagged.prefix.into(),
                        base,
                        fold: fold_group(&*strategy, own, &group),
                        newest: newest.cell.timestamp,
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
    pub(in crate::merge) fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        let Some(tagged) = self.nesting.split(part) else {
            if !matches!(self.shown, SlotContent::Own) {
                return Applied::NeedsRefold;
            }
            self.own = Some(cell.clone());
            return Applied::Yes;
        };
        if self
            .own
            .as_ref()
            .is_some_and(|own| own.timestamp >= cell.timestamp)
        {
            return Applied::Yes;
        }
        let SlotContent::Fold {
            prefix,
            base,
            fold,
            newest,
            encoding,
        } = &mut self.shown
        else {
            return Applied::NeedsRefold;
        };
        if *tagged.prefix != **prefix {
            // It says who reads, unless it is older.
            return match cell.timestamp < *newest {
                true => Applied::Yes,
                false => Applied::NeedsRefold,
            };
        }
        let part = tagged.rest;
        if covered_by_base(tagged.writer, part, cell).is_some() {
            return Applied::NeedsRefold;
        }
        if *base >= Some(cell.timestamp) {
            return Applied::Yes;
        }
        *newest = cell.timestamp.max(*newest);
        match (cell.value(), &encoding) {
            (Some(value), Some(known)) if known.is_before(part, cell.timestamp) => {
                *encoding = Some(EncodingOf::new(part, cell.timestamp, value));
            }
            (Some(value), None) => *encoding = Some(EncodingOf::new(part, cell.timestamp, value)),
            // The very cell is removed: who comes next is not known.
            (None, Some(known)) if *known.part == *part => return Applied::NeedsRefold,
            _ => {}
        }
        fold.apply(part, cell)
    }

    /// The value, and when it was last written; nothing if there is none.
    pub(in crate::merge) fn read(
        &self,
        form: Form,
    ) -> Result<Option<(Timestamp, Value)>, UnknownStrategy> {
        match &self.shown {
            SlotContent::Own => {
                let own = self.own.as_ref();
                Ok(own.and_then(|own| Some((own.timestamp, own.value()?.clone()))))
            }
            SlotContent::Unknown(unknown) => Err(unknown.clone()),
            SlotContent::Fold {
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
                    attachment: None,
                    payload: reading.payload,
                };
                Ok(Some((*newest, value)))
            }
        }
    }

    pub(in crate::merge) fn weight(&self) -> usize {
        let own = self.own.as_ref().map_or(0, Cell::value_bytes);
        let fold = match &self.shown {
            SlotContent::Fold { fold, .. } => fold.weight(),
            SlotContent::Own | SlotContent::Unknown(_) => 0,
        };
        size_of::<Self>() + own + fold
    }
}

/// Until when the cells of a strategy at a place are in a base, if the first of them is one: what is
/// not newer is covered by it. The value of the place's own, which counts as the first put, is not.
pub(in crate::merge) fn covered_by_base(
    writer: Writer<'_>,
    first: &[u8],
    cell: &Cell,
) -> Option<Timestamp> {
    (writer == Writer::Additive && first.is_empty()).then_some(cell.timestamp)
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
        let timestamp = own.timestamp;
        let writes = strategy.write(&Put { timestamp, value }).ok()?;
        let cells = writes.into_iter().map(|write| {
            let content = write.content;
            (write.part, Cell { timestamp, content })
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
pub(in crate::merge) fn check(
    path: &Path<'_>,
    cell: &Cell,
    strategy_of: StrategyOf,
) -> Result<(), InvalidPut> {
    let fits = match path.end {
        // Whatever is put to a key.
        End::Own if path.fields.is_empty() => Ok(()),
        End::Own => match cell.value() {
            None => Ok(()),
            Some(value) => serde_json::from_slice::<&RawValue>(&value.payload)
                .map(drop)
                .map_err(|error| InvalidPut::new(format!("it is not JSON: {error}"))),
        },
        End::Object => match cell.value() {
            Some(value) if value.payload.is_empty() => Ok(()),
            _ => Err(InvalidPut::new("an object is removed as a key is")),
        },
        End::NoField => Err(InvalidPut::new("the part is not that of a field")),
        End::Tagged(tagged) => check_tagged(&tagged, cell, strategy_of),
    };
    // Each name is copied once, however many there are.
    fits.map_err(|reason| match path.fields.is_empty() {
        true => reason,
        false => {
            let fields = path.fields.iter();
            let fields: String = fields.map(|name| format!("field `{name}`: ")).collect();
            InvalidPut::new(format!("{fields}{reason}"))
        }
    })
}

fn check_tagged(
    tagged: &Tagged<'_>,
    cell: &Cell,
    strategy_of: StrategyOf,
) -> Result<(), InvalidPut> {
    if tagged.writer == Writer::TooDeep {
        return Err(InvalidPut::new(format!(
            "the part goes deeper than parts may: allowed are {MAX_NESTING} objects within each \
             other, and no custom strategy within another"
        )));
    }
    // Objects are walked through before, so what they are within is of no interest.
    let Some(strategy) = strategy_of(tagged.writer, Nesting::KEY) else {
        return Err(InvalidPut::new("no strategy here writes such a part"));
    };
    // A strategy of the user's own must not take the storage down.
    catch_unwind(AssertUnwindSafe(|| strategy.check(tagged.rest, cell)))
        .unwrap_or_else(|_| Err(InvalidPut::new("the strategy panicked")))
}

/// A cell of a field's own.
pub(in crate::merge) fn own_content(json: &str, schema: &Option<Box<[u8]>>) -> Content {
    Content::Value(Value {
        encoding_id: crate::merge::encoding::APPLICATION_JSON,
        schema: schema.clone(),
        attachment: None,
        payload: bytes::Bytes::copy_from_slice(json.as_bytes()),
    })
}
