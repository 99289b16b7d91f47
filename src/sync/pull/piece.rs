//! A pull of what is too large for one answer: its pieces, one after the other.

use std::time::Duration;

use super::{Asked, Brought, Pull};
use crate::{
    cell::{CellKey, Timestamp},
    replica::Tree,
    sync::{
        pieces::{Assembly, Notice, PieceReply},
        wire::MessageError,
    },
};

impl Pull {
    /// The query for the next piece, of what was begun first, and else of the smallest value.
    pub(super) fn ask_piece(
        &mut self,
        tree: &Tree,
        newest: &dyn Fn(&CellKey) -> Option<Timestamp>,
        assembly: &mut Option<Assembly>,
        now: Duration,
    ) -> Option<Vec<u8>> {
        // What came another way meanwhile, in this or a later version, is not fetched. What is
        // pending with this timestamp is the same write; if it is another, the next pull sees it in
        // the tree.
        self.large.retain(|notice| {
            let Ok(settled) = tree.get(&notice.key);
            let settled = settled.map(|entry| entry.version());
            let newest = newest(&notice.key).max(settled.map(|version| version.timestamp));
            let is_tie = newest == Some(notice.timestamp)
                && settled.is_some_and(|settled| {
                    settled.timestamp == notice.timestamp && settled.digest != notice.digest
                });
            newest < Some(notice.timestamp) || is_tie
        });
        let is_begun = |notice: &&Notice| {
            let begun = assembly.as_ref();
            begun.is_some_and(|assembly| assembly.is_of(notice))
        };
        let begun = self.large.iter().find(is_begun);
        let next = begun.or_else(|| self.large.iter().min_by_key(|notice| notice.bytes))?;
        let assembly = match assembly {
            Some(assembly) if assembly.is_of(next) => assembly,
            other => other.insert(Assembly::new(next.clone(), now)),
        };
        self.asked = Some(Asked::Piece(self.message_bytes));
        Some(assembly.query(self.message_bytes).encode())
    }

    /// Adds a piece; brings the cell when that was the last one of it.
    pub(super) fn add_piece(
        &mut self,
        bytes: &[u8],
        max_bytes: usize,
        assembly: &mut Option<Assembly>,
        now: Duration,
    ) -> Result<Brought, MessageError> {
        let Some(mut begun) = assembly.take() else {
            return Ok(Brought::default());
        };
        // There is a newer cell, or it is damaged there: the next pull will see.
        let PieceReply(Some(piece)) = PieceReply::decode(bytes, max_bytes)? else {
            self.large.retain(|notice| !begun.is_of(notice));
            return Ok(Brought::default());
        };
        let mut brought = Brought {
            bytes: piece.len(),
            ..Brought::default()
        };
        if begun.add(&piece, now)? {
            self.large.retain(|notice| !begun.is_of(notice));
            let (notice, cell) = begun.finish();
            brought.whole = Some(notice);
            brought.cells.extend(cell);
        } else {
            *assembly = Some(begun);
        }
        Ok(brought)
    }
}
