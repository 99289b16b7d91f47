//! What a proof and the payloads beside it say of a key, all of it checked against a root.

use zenoh::{
    key_expr::OwnedKeyExpr,
    time::{NTP64, TimestampId as ID},
};
use zenoh_backend_mst::{
    cell::{Cell as StoredCell, CellSummary, Content, Key, Value},
    proof::{self, ProvenCell as Proven},
};

use crate::{Cell, Error, Number, Root, Stamp, error::invalid};

/// What the parts of `additive` begin with.
const INCREMENT: u8 = 1;

/// A cell that is in the tree under the root, with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenCell {
    /// What tells it from the other cells of the key; empty of the key's own.
    pub part: Vec<u8>,
    /// When it was written, and by whose clock.
    pub stamp: Stamp,
    /// The number of the encoding; nothing of a tombstone.
    pub encoding: Option<u16>,
    /// That of the encoding, if it has one.
    pub schema: Option<Vec<u8>>,
    /// Nothing of a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// All cells of a key under a root, and no others. A proof is as old as its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The key.
    pub key: String,
    /// The root.
    pub root: Root,
    /// The cells, ascending by part.
    pub cells: Vec<ProvenCell>,
}

impl Verified {
    /// The value of a key whose last writer wins; nothing if there is none.
    ///
    /// # Errors
    /// If the key is merged: then `cells` are what is proven.
    pub fn payload(&self) -> Result<Option<&[u8]>, Error> {
        if self.cells.iter().any(|cell| !cell.part.is_empty()) {
            return invalid(format!(
                "{} is merged: its cells are proven, and no single value",
                self.key
            ));
        }
        Ok(self.cells.first().and_then(|cell| cell.payload.as_deref()))
    }

    /// The value of a counter; nothing if there is none.
    ///
    /// # Errors
    /// If it is no counter.
    pub fn sum(&self) -> Result<Option<Number>, Error> {
        let (own, others): (Vec<_>, Vec<_>) =
            self.cells.iter().partition(|cell| cell.part.is_empty());
        if others
            .iter()
            .any(|cell| cell.part.first() != Some(&INCREMENT))
        {
            return invalid(format!("{} is no counter", self.key));
        }
        let own = own.first();
        // A delete, and a put that replaced all, cover what is not newer.
        let counted = others
            .iter()
            .filter(|cell| own.is_none_or(|own| cell.stamp > own.stamp));
        let own = own.and_then(|cell| cell.payload.as_ref());
        let payloads = counted.filter_map(|cell| cell.payload.as_ref()).chain(own);
        let numbers = payloads.map(|payload| match std::str::from_utf8(payload) {
            Ok(text) => text.parse(),
            Err(_) => invalid(format!("{} is no counter", self.key)),
        });
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        match numbers.is_empty() {
            true => Ok(None),
            false => Number::sum(numbers).map(Some),
        }
    }
}

/// Checks a proof of a key, and the payloads of what a storage shows of it, against a root. `relative`
/// is the key without the `strip_prefix`.
pub(crate) fn verify(
    key: &str,
    relative: Option<&str>,
    root: &Root,
    bytes: &[u8],
    shown: Vec<Cell>,
) -> Result<Verified, Error> {
    let stored = match relative {
        None => Key::from(None),
        Some(text) => Key::from(Some(OwnedKeyExpr::new(text.to_owned())?)),
    };
    let proven = proof::verify(bytes, root, &stored);
    let proven =
        proven.map_err(|error| Error::Invalid(format!("the proof does not hold: {error}")))?;
    let payloads: Vec<_> = shown
        .into_iter()
        .filter_map(|cell| Some((cell.stamp, cell.payload?)))
        .collect();
    let cells = proven
        .cells
        .iter()
        .map(|cell| with_payload(cell, &payloads));
    Ok(Verified {
        key: key.to_owned(),
        root: *root,
        cells: cells.collect::<Result<_, _>>()?,
    })
}

/// The cell with the payload that it is proven to have: other ones that are shown are no harm.
fn with_payload(cell: &Proven, payloads: &[(Stamp, Vec<u8>)]) -> Result<ProvenCell, Error> {
    let Ok(id) = ID::try_from(&cell.timestamp.id) else {
        return invalid(format!("nobody can write at {}", cell.timestamp));
    };
    let stamp = Stamp::new(NTP64(cell.timestamp.time), id);
    let part = cell.part.as_bytes().to_vec();
    let CellSummary::Value {
        encoding_id,
        schema,
        attachment,
        ..
    } = &cell.content
    else {
        return Ok(ProvenCell {
            part,
            stamp,
            encoding: None,
            schema: None,
            payload: None,
        });
    };
    let proven = |payload| {
        Ok(ProvenCell {
            part,
            stamp,
            encoding: Some(*encoding_id),
            schema: schema.as_deref().map(<[u8]>::to_vec),
            payload: Some(payload),
        })
    };
    let is_it = |payload: &[u8]| {
        cell.is_of(&StoredCell {
            timestamp: cell.timestamp,
            content: Content::Value(Value {
                encoding_id: *encoding_id,
                schema: schema.clone(),
                attachment: attachment.clone(),
                payload: payload.to_vec().into(),
            }),
        })
    };
    if is_it(&[]) {
        return proven(Vec::new());
    }
    // Only of the same stamp: a payload that many have is not hashed for each of them.
    let mut of_stamp = payloads.iter().filter(|(of, _)| *of == stamp);
    match of_stamp.find(|(_, payload)| is_it(payload)) {
        Some((_, payload)) => proven(payload.clone()),
        None => invalid(format!(
            "the payload of the cell of {} is not shown",
            cell.timestamp
        )),
    }
}
