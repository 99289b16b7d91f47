//! The messages by which a replica learns the lineage of another's horizon.
//!
//! ```text
//! protocol  u8
//! 0x0b      u8      the query: nothing else
//!
//! protocol  u8
//! 0x0c      u8      the answer
//! horizon   u64 BE
//! founded   u8      1: 16 bytes follow, the founder
//! evicted   for each 16 bytes, and a byte: 1 by force; strictly ascending
//! ```

use std::collections::BTreeMap;

use super::wire::{MessageError, begin, kind, open};
use crate::collection::{
    gate::Standing,
    kept::{Kept, MemberId},
    lineage::{Eviction, Lineage, LineageId},
    members::MAX_MEMBERS,
};

/// The horizon and lineage of what a replica keeps.
#[must_use]
pub fn standing_of(kept: &Kept) -> Standing<LineageId> {
    Standing {
        horizon: kept.horizon,
        lineage: id_of(&kept.lineage),
    }
}

/// What messages say of a lineage.
#[must_use]
pub(super) fn id_of(lineage: &Lineage<MemberId>) -> LineageId {
    lineage.id()
}

/// The query.
pub(super) fn lineage_query() -> Vec<u8> {
    begin(kind::LINEAGE_QUERY).into_bytes()
}

/// Whether this is that query.
#[must_use]
pub fn is_lineage_query(query: &[u8]) -> bool {
    open(query, kind::LINEAGE_QUERY).is_ok_and(|reader| reader.left() == 0)
}

/// The answer to it.
#[must_use]
pub fn lineage_reply(kept: &Kept) -> Vec<u8> {
    let mut writer = begin(kind::LINEAGE_REPLY);
    writer.raw(&kept.horizon.to_be_bytes());
    writer.u8(u8::from(kept.lineage.founder().is_some()));
    if let Some(founder) = kept.lineage.founder() {
        writer.raw(&founder);
    }
    for (id, kind) in kept.lineage.evicted() {
        writer.raw(id);
        writer.u8(u8::from(*kind == Eviction::Forced));
    }
    writer.into_bytes()
}

/// Reads the answer.
///
/// # Errors
/// If it is none.
pub fn read_lineage(bytes: &[u8]) -> Result<(u64, Lineage<MemberId>), MessageError> {
    let mut reader = open(bytes, kind::LINEAGE_REPLY)?;
    let horizon = u64::from_be_bytes(reader.array("horizon")?);
    let founder = match reader.u8("founder")? {
        0 => None,
        1 => Some(reader.array("founder")?),
        _ => return Err(MessageError::Range("founder")),
    };
    let mut evicted: BTreeMap<MemberId, Eviction> = BTreeMap::new();
    while reader.left() > 0 {
        let id: MemberId = reader.array("evicted")?;
        let kind = match reader.u8("evicted")? {
            0 => Eviction::Lapsed,
            1 => Eviction::Forced,
            _ => return Err(MessageError::Range("evicted")),
        };
        if evicted
            .last_key_value()
            .is_some_and(|(last, _)| *last >= id)
        {
            return Err(MessageError::Range("evicted"));
        }
        if evicted.len() >= MAX_MEMBERS {
            return Err(MessageError::TooLarge("evicted"));
        }
        evicted.insert(id, kind);
    }
    Ok((horizon, Lineage::new(founder, evicted)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept() -> impl Strategy<Value = Kept> {
        let evicted = prop::collection::btree_map(any::<[u8; 16]>(), any::<bool>(), 0..5);
        let parts = (any::<u64>(), prop::option::of(any::<[u8; 16]>()), evicted);
        parts.prop_map(|(horizon, founder, evicted)| {
            let evicted = evicted.into_iter().map(|(id, is_forced)| match is_forced {
                true => (id, Eviction::Forced),
                false => (id, Eviction::Lapsed),
            });
            Kept {
                horizon,
                lineage: Lineage::new(founder, evicted.collect()),
                ..Kept::default()
            }
        })
    }

    proptest! {
        #[test]
        fn lineages_are_read_back_and_nothing_shorter_is(kept in kept()) {
            let bytes = lineage_reply(&kept);
            prop_assert_eq!(read_lineage(&bytes), Ok((kept.horizon, kept.lineage.clone())));
            let id = standing_of(&kept);
            prop_assert_eq!(id.horizon, kept.horizon);
            for end in 0..bytes.len() {
                if let Ok((horizon, lineage)) = read_lineage(&bytes[..end]) {
                    let shorter = Kept { horizon, lineage, ..Kept::default() };
                    prop_assert_eq!(lineage_reply(&shorter), &bytes[..end]);
                }
            }
        }

        #[test]
        fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok((horizon, lineage)) = read_lineage(&bytes) {
                let kept = Kept { horizon, lineage, ..Kept::default() };
                prop_assert_eq!(lineage_reply(&kept), bytes);
            }
        }
    }

    #[test]
    fn messages_are_pinned() {
        assert_eq!(lineage_query(), [2, 0x0b]);
        assert!(is_lineage_query(&[2, 0x0b]) && !is_lineage_query(&[2, 0x0b, 0]));
        let kept = Kept {
            horizon: 5,
            lineage: Lineage::new(Some([1; 16]), [([2; 16], Eviction::Forced)].into()),
            ..Kept::default()
        };
        let mut expected = vec![2, 0x0c, 0, 0, 0, 0, 0, 0, 0, 5, 1];
        expected.extend([1; 16]);
        expected.extend([2; 16]);
        expected.push(1);
        assert_eq!(lineage_reply(&kept), expected);
    }
}
