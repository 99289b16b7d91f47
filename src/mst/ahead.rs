//! Looking ahead: the nodes that a batch is about to need, fetched side by side.
//!
//! In a large tree nearly every step of a walk waits for memory, and the next step cannot
//! begin before: where it goes is written in what is waited for. But the walks of several
//! entries do not wait for each other. So before some entries are put, their walks are
//! made side by side, and what all of them read at the next step is touched by a loop
//! that does nothing else: a processor looks some hundreds of instructions ahead, so it
//! then waits for all of that in the time of one.

use std::hint::black_box;

use smallvec::SmallVec;

use super::{
    edit::EntryOf,
    level::TreeKey,
    node::{Digested, NodeOf, NodeStore},
};

/// Walks that are made side by side: about as many as a processor waits for at once.
pub(super) const AHEAD: usize = 16;

/// Entries up to which a tree is in the caches for the greater part: to look ahead costs
/// more than it saves there. Tests, whose trees are small, do both.
pub(super) const CACHED: usize = if cfg!(test) { 8 } else { 1 << 18 };

/// Entries that are touched of those that make room for a new one, which are half a node.
const MOVED: usize = 8;

/// A walk that has come to a node.
struct At<'a, S: NodeStore> {
    key: &'a S::Key,
    node: &'a NodeOf<S>,
    /// Where the key is in the node, or would be.
    place: usize,
    is_there: bool,
}

type Walks<'a, S> = SmallVec<[At<'a, S>; AHEAD]>;

/// Has in the caches what putting `entries`, no more than [`AHEAD`] of them, will read
/// and move. O(log n) each; nothing changes.
pub(super) fn look_ahead<S: NodeStore>(
    store: &S,
    root: &S::Link,
    entries: &[EntryOf<S>],
) -> Result<(), S::Error> {
    let mut walks: Walks<'_, S> = SmallVec::new();
    for (key, _) in entries {
        walks.push(At {
            key,
            node: store.load(root)?,
            place: 0,
            is_there: false,
        });
    }
    let mut ended: Walks<'_, S> = SmallVec::new();
    while !walks.is_empty() {
        for at in &walks {
            black_box(at.node.keys.len());
        }
        for at in &walks {
            at.node.keys.touch();
        }
        for at in &mut walks {
            let alike = at.node.keys.alike(at.key);
            (at.place, at.is_there) = (alike.start, !alike.is_empty());
        }
        for at in &walks {
            black_box(at.node.child(at.place).is_some());
        }
        let mut below = SmallVec::new();
        for at in walks {
            match at.node.child(at.place).filter(|_| !at.is_there) {
                None => ended.push(at),
                Some(link) => below.push(At {
                    node: store.load(link)?,
                    ..at
                }),
            }
        }
        walks = below;
    }
    touch_ends(&ended);
    Ok(())
}

/// Entries as they come, of whose keys the texts are touched some at a time before they are
/// shown: for whoever copies or reads all of them. Texts lie all over the memory, and to
/// copy a key, which is to count, makes the processor wait for each.
pub(crate) fn touched<'a, K: TreeKey + 'a, V: 'a>(
    entries: impl Iterator<Item = (&'a K, &'a V)>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    Touched {
        entries,
        ahead: SmallVec::new(),
        place: 0,
    }
}

/// Keys that are touched at a time.
const TOUCHED: usize = 32;

struct Touched<'a, I, K, V> {
    entries: I,
    /// Those that have been touched, up to `place` shown.
    ahead: SmallVec<[(&'a K, &'a V); TOUCHED]>,
    place: usize,
}

impl<'a, I, K, V> Iterator for Touched<'a, I, K, V>
where
    I: Iterator<Item = (&'a K, &'a V)>,
    K: TreeKey,
{
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.place == self.ahead.len() {
            self.ahead.clear();
            self.ahead.extend(self.entries.by_ref().take(TOUCHED));
            self.place = 0;
            for (key, _) in &self.ahead {
                black_box(key.head().first().copied());
            }
        }
        let entry = self.ahead.get(self.place).copied()?;
        self.place += 1;
        Some(entry)
    }
}

/// Touches what is replaced or moved where walks end.
fn touch_ends<S: NodeStore>(ended: &[At<'_, S>]) {
    for moved in 0..MOVED {
        for at in ended.iter().filter(|at| moved == 0 || !at.is_there) {
            let value = at.node.values.get(at.place + moved);
            black_box(value.map(|value| value.digest()[0]));
            let key = at.node.keys.get(at.place + moved);
            black_box(key.map(|key| key.head().len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{tests::key, CellKey};

    #[test]
    fn entries_that_are_touched_are_shown_as_they_come() {
        let numbered = |number| (CellKey::own(key(&format!("key/{number}"))), number);
        for len in [0, 1, TOUCHED - 1, TOUCHED, TOUCHED + 1, 3 * TOUCHED] {
            let entries: Vec<_> = (0..len).map(numbered).collect();
            let mut shown = touched(entries.iter().map(|(key, number)| (key, number)));
            for (key, number) in &entries {
                assert_eq!(shown.next(), Some((key, number)));
            }
            assert_eq!(shown.next(), None);
            assert_eq!(shown.next(), None, "nor after the end");
        }
    }
}
