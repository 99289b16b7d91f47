//! Objects: the value is a JSON object, merged field by field.
//!
//! A put writes the fields that it names, and leaves the others alone. A field is
//! a place of its own: of a field the last writer wins, unless it has another
//! strategy. A field that is null is removed, as a key is deleted.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value as Json, value::RawValue};

use super::additive::excerpt;
use crate::{
    cell::{Cell, Content, Value},
    merge::{
        encoding,
        fold::slot::{self, ValueSlot, own_content},
        part::{Nesting, Path, field_prefix, split_field},
        strategy::{
            Applied, Chosen, Fold, Form, InvalidPut, PartCell, PartWrite, Put, Reading, Strategy,
            StrategyOf,
        },
    },
};

/// Merges JSON objects field by field.
#[derive(Clone)]
pub struct Object {
    /// Fields of which not the last writer wins.
    fields: BTreeMap<String, Chosen>,
    /// What a field is within.
    nesting: Nesting,
    strategy_of: StrategyOf,
}

/// The part of the cell that says that there is an object, and since when. Each put writes it: so what
/// is read beside the fields does not hang on one that was removed.
const EXISTS: &[u8] = &[];

impl Object {
    /// What writes by a rule that gives fields strategies of their own.
    pub(in crate::merge) fn with_fields(
        fields: BTreeMap<String, Chosen>,
        strategy_of: StrategyOf,
    ) -> Self {
        Self {
            fields,
            nesting: Nesting::KEY.object(),
            strategy_of,
        }
    }

    /// What reads the cells of an object whose fields are within `nesting`.
    pub(in crate::merge) fn of_fields_within(nesting: Nesting, strategy_of: StrategyOf) -> Self {
        Self {
            fields: BTreeMap::new(),
            nesting,
            strategy_of,
        }
    }
}

impl Strategy for Object {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
        let Value {
            payload, schema, ..
        } = put.value;
        // The text of each value, as it is: what was put is what is read.
        let fields = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(payload);
        let fields = fields.map_err(|error| {
            let found = excerpt(payload);
            InvalidPut::new(format!("found {found}, allowed is a JSON object ({error})"))
        })?;
        let mut writes = Vec::with_capacity(1 + fields.len());
        writes.push(PartWrite {
            part: EXISTS.to_vec(),
            content: Content::Value(Value {
                payload: Bytes::new(),
                ..put.value.clone()
            }),
        });
        for (name, value) in fields {
            let prefix = field_prefix(&name);
            match (value.get(), self.fields.get(&name)) {
                ("null", _) => writes.push(PartWrite {
                    part: prefix,
                    content: Content::Tombstone,
                }),
                (json, None) => writes.push(PartWrite {
                    part: prefix,
                    content: own_content(json, schema),
                }),
                (json, Some(chosen)) => {
                    let of_field = |error| InvalidPut::within(format!("field `{name}`"), &error);
                    let value = Value {
                        encoding_id: encoding::APPLICATION_JSON,
                        schema: schema.clone(),
                        attachment: None,
                        payload: Bytes::copy_from_slice(json.as_bytes()),
                    };
                    let put = Put {
                        timestamp: put.timestamp,
                        value: &value,
                    };
                    let within = chosen.strategy.write(&put).map_err(of_field)?;
                    writes.extend(within.into_iter().map(|write| PartWrite {
                        part: [&prefix, &*chosen.prefix, &write.part].concat(),
                        content: write.content,
                    }));
                }
            }
        }
        Ok(writes)
    }

    fn may_fade(&self) -> bool {
        let mut fields = self.fields.values();
        fields.all(|chosen| chosen.strategy.may_fade())
    }

    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut> {
        slot::check(
            &Path::within_object(self.nesting, part),
            cell,
            self.strategy_of,
        )
    }

    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
        let cells = cells.iter();
        let split: Vec<_> = cells
            .filter_map(|PartCell { part, cell }| {
                let (name, part) = split_field(part)?;
                Some((name, PartCell { part, cell }))
            })
            .collect();
        let fields = split.chunk_by(|(a, _), (b, _)| a == b).map(|field| {
            let cells: Vec<_> = field.iter().map(|(_, cell)| *cell).collect();
            let slot = ValueSlot::fold(self.nesting, &cells, self.strategy_of);
            (field[0].0.clone().into_owned(), slot)
        });
        Box::new(ObjectFold {
            fields: fields.collect(),
            nesting: self.nesting,
            strategy_of: self.strategy_of,
        })
    }
}

struct ObjectFold {
    fields: BTreeMap<String, ValueSlot>,
    /// What a field is within.
    nesting: Nesting,
    strategy_of: StrategyOf,
}

impl Fold for ObjectFold {
    fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        let Some((name, part)) = split_field(part) else {
            return Applied::Yes;
        };
        match self.fields.get_mut(&*name) {
            Some(slot) => slot.apply(part, cell),
            None => {
                let slot =
                    ValueSlot::fold(self.nesting, &[PartCell { part, cell }], self.strategy_of);
                self.fields.insert(name.into_owned(), slot);
                Applied::Yes
            }
        }
    }

    fn read(&self, _: Form) -> Reading {
        let mut text = String::from("{");
        for (name, slot) in &self.fields {
            // A field whose strategy is not registered any more is not shown;
            // its cells are.
            let Ok(Some((_, value))) = slot.read(Form::Json) else {
                continue;
            };
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&Json::from(name.as_str()).to_string());
            text.push(':');
            match serde_json::from_slice::<&RawValue>(&value.payload) {
                Ok(json) => text.push_str(json.get()),
                // Of a custom strategy that knows no JSON.
                Err(_) => {
                    let payload = String::from_utf8_lossy(&value.payload);
                    text.push_str(&Json::from(&*payload).to_string());
                }
            }
        }
        text.push('}');
        Reading {
            encoding_id: Some(encoding::APPLICATION_JSON),
            payload: Bytes::from(text),
        }
    }

    fn weight(&self) -> usize {
        const FIELD: usize = 64;
        let fields = self.fields.iter();
        size_of::<Self>()
            + fields
                .map(|(name, slot)| FIELD + name.len() + slot.weight())
                .sum::<usize>()
    }
}
