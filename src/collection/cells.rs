//! The cells by which replicas that collect know each other: members are data, so two replicas with
//! one root have one roster.
//!
//! ```text
//! @mst.member/joined/<replica>          it joined when the cell says
//! @mst.member/present/<replica>         it was there then
//! @mst.member/evicted/<replica>/lapsed  it was silent for too long, and most of the others were left
//! @mst.member/evicted/<replica>/forced  an operator said so
//! ```
//!
//! All that they say is in their keys and timestamps; their values are empty. They are replicated as
//! any cell. Their first chunk is verbatim, so no wildcard of a client's or of a rule matches it, and a
//! storage that collects has no such keys of clients. They are no keys that a listing shows or counts.

use std::collections::BTreeMap;

use zenoh_keyexpr::OwnedKeyExpr;

use super::{
    kept::MemberId,
    lineage::Eviction,
    members::{Evicted, Presence, Record},
};
use crate::{
    cell::{Cell, CellKey, Content, Key, MEMBERS, Timestamp, Value},
    hex,
};

/// What a cell says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// It joined.
    Joined,
    /// It was there.
    Present,
    /// It was evicted.
    Evicted(Eviction),
}

/// Whether it is a key of such a cell. O(1).
#[must_use]
pub fn is_of_members(key: &Key) -> bool {
    key.is_member_key()
}

/// Before the first such key.
#[must_use]
pub fn first() -> CellKey {
    CellKey::own(OwnedKeyExpr::try_from(MEMBERS).ok().into())
}

/// The key of the cell that says this of a member.
#[must_use]
pub fn key_of(told: Told, id: &MemberId) -> CellKey {
    let id = hex::encode(id);
    let text = match told {
        Told::Joined => format!("{MEMBERS}/joined/{id}"),
        Told::Present => format!("{MEMBERS}/present/{id}"),
        Told::Evicted(Eviction::Lapsed) => format!("{MEMBERS}/evicted/{id}/lapsed"),
        Told::Evicted(Eviction::Forced) => format!("{MEMBERS}/evicted/{id}/forced"),
    };
    CellKey::own(OwnedKeyExpr::try_from(text).ok().into())
}

/// What the cell of a key says, and of which member.
#[must_use]
pub fn read_key(key: &CellKey) -> Option<(Told, MemberId)> {
    let text = key.key.as_str()?.strip_prefix(MEMBERS)?;
    let mut chunks = text.split('/').skip(1);
    let (what, id, how) = (chunks.next()?, chunks.next()?, chunks.next());
    let told = match (what, how) {
        ("joined", None) => Told::Joined,
        ("present", None) => Told::Present,
        ("evicted", Some("lapsed")) => Told::Evicted(Eviction::Lapsed),
        ("evicted", Some("forced")) => Told::Evicted(Eviction::Forced),
        _ => return None,
    };
    let id = hex::decode(id)?.try_into().ok()?;
    // Of each there is one form.
    (key.part.is_empty() && *key == key_of(told, &id)).then_some((told, id))
}

/// Whether such a cell may be joined.
#[must_use]
pub fn is_sound(key: &CellKey, cell: &Cell) -> bool {
    let is_empty = |value: &Value| value.payload.is_empty() && value.schema.is_none();
    read_key(key).is_some() && cell.value().is_some_and(is_empty)
}

/// The cell that says this of a member since `time`, by the member `by`.
#[must_use]
pub fn cell_of(told: Told, id: &MemberId, time: u64, by: &MemberId) -> (CellKey, Cell) {
    let cell = Cell {
        timestamp: Timestamp { time, id: *by },
        content: Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: Vec::new().into(),
        }),
    };
    (key_of(told, id), cell)
}

/// What the cells say, each with its time. Members may be silent for `max_absence`; an eviction came
/// with the change that `change_of` says.
pub fn records<'a>(
    cells: impl Iterator<Item = (&'a CellKey, u64)>,
    max_absence: u64,
    mut change_of: impl FnMut(&MemberId) -> u64,
) -> BTreeMap<MemberId, Record> {
    let mut records: BTreeMap<MemberId, Record> = BTreeMap::new();
    for (key, at) in cells {
        let Some((told, id)) = read_key(key) else {
            continue;
        };
        let record = records.entry(id).or_default();
        match told {
            Told::Joined => record.joined = Some(at),
            Told::Present => record.presence = Some(Presence { at, max_absence }),
            // By force weighs more: who was evicted so does not come back by itself.
            Told::Evicted(kind) => {
                let known = record.evicted.map(|evicted| evicted.kind);
                let (kind, change) = (known.max(Some(kind)).unwrap_or(kind), change_of(&id));
                record.evicted = Some(Evicted { kind, change });
            }
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Told; 4] = [
        Told::Joined,
        Told::Present,
        Told::Evicted(Eviction::Lapsed),
        Told::Evicted(Eviction::Forced),
    ];

    #[test]
    fn keys_read_back_and_have_one_form() {
        assert_eq!(MEMBERS, "@mst.member");
        for told in ALL {
            let key = key_of(told, &[0xab; 16]);
            assert_eq!(read_key(&key), Some((told, [0xab; 16])));
            assert!(is_of_members(&key.key) && key > first());
        }
        let id = "ab".repeat(16);
        let key = |text: String| CellKey::own(OwnedKeyExpr::try_from(text).ok().into());
        for text in [
            format!("@mst.member/left/{id}"),
            format!("@mst.member/joined/{}", id.to_uppercase()),
            format!("@mst.member/joined/{id}/lapsed"),
            format!("@mst.member/evicted/{id}"),
            "@mst.member/joined/ab".to_owned(),
        ] {
            let key = key(text);
            assert!(
                is_of_members(&key.key) && read_key(&key).is_none(),
                "{key:?}"
            );
        }
        assert!(!is_of_members(&key("@mst.members/x".to_owned()).key));
        assert!(!is_of_members(&Key::NONE));
    }

    #[test]
    fn cells_are_records() {
        let (one, two) = ([1; 16], [2; 16]);
        let cells: Vec<(CellKey, Cell)> = vec![
            cell_of(Told::Evicted(Eviction::Forced), &two, 9, &one),
            cell_of(Told::Evicted(Eviction::Lapsed), &two, 8, &one),
            cell_of(Told::Joined, &one, 3, &one),
            cell_of(Told::Joined, &two, 4, &two),
            cell_of(Told::Present, &one, 7, &one),
        ];
        assert!(cells.iter().all(|(key, cell)| is_sound(key, cell)));
        let told = cells.iter().map(|(key, cell)| (key, cell.timestamp.time));
        let records = records(told, 5, |_| 6);
        assert_eq!(records[&one].joined, Some(3));
        let presence = records[&one].presence.expect("it was there");
        assert_eq!((presence.at, presence.max_absence), (7, 5));
        let evicted = records[&two].evicted.expect("it was evicted");
        assert_eq!((evicted.kind, evicted.change), (Eviction::Forced, 6));
        let (key, _) = &cells[0];
        assert!(!is_sound(
            key,
            &Cell::tombstone(Timestamp { time: 1, id: one })
        ));
    }
}
