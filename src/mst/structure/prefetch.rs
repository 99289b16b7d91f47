//! Prefetching: the nodes that a batch is about to need, fetched side by side.
//!
//! In a large tree nearly every step of a walk waits for memory, and the next step cannot
//! begin before: where it goes is written in what is waited for. But the walks of several
//! entries do not wait for each other. So before some entries are put, their walks are
//! made side by side, and what all of them read at the next step is touched by a loop
//! that does nothing else: a processor looks some hundreds of instructions ahead, so it
//! then waits for all of that in the time of one. The same holds for those who look at all
//! entries.

use std::hint::black_box;

use smallvec::SmallVec;

use super::{
    edit::EntryOf,
    level::TreeKey,
    node::{Digested, NodeOf, NodeStore},
};

/// Walks that are made side by side: about as many as a processor waits for at once.
pub(in crate::mst) const PREFETCHED: usize = 16;

/// Entries up to which a tree is in the caches for the greater part: to prefetch costs
/// more than it saves there.
pub(in crate::mst) const CACHED: usize = 1 << 18;

/// Entries that are touched of those that make room for a new one, which are half a node.
const MOVED: usize = 8;

/// A walk that has come to a node.
struct At<'a, S: NodeStore> {
    key: &'a S::Key,
    node: &'a NodeOf<S>,
    /// Where the key is in the node, or would be.
    index: usize,
    is_there: bool,
}

type Walks<'a, S> = SmallVec<[At<'a, S>; PREFETCHED]>;

/// Has in the caches what putting `entries`, no more than [`PREFETCHED`] of them, will read
/// and move. O(log n) each; nothing changes.
pub(in crate::mst) fn prefetch<S: NodeStore>(
    store: &S,
    root: &S::Link,
    entries: &[EntryOf<S>],
) -> Result<(), S::Error> {
    let mut walks: Walks<'_, S> = SmallVec::new();
    for (key, _) in entries {
        walks.push(At {
            key,
            node: store.load(root)?,
            index: 0,
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
            (at.index, at.is_there) = (alike.start, !alike.is_empty());
        }
        for at in &walks {
            black_box(at.node.child(at.index).is_some());
        }
        let mut below = SmallVec::new();
        for at in walks {
            match at.node.child(at.index).filter(|_| !at.is_there) {
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

/// Shows all entries below a node, ascending. What they are in lies all over the memory:
/// the children of a node are touched side by side, as are the texts of its keys, before
/// they are looked at one by one.
pub(in crate::mst) fn show_all<'a, S: NodeStore>(
    store: &'a S,
    node: &'a NodeOf<S>,
    visit: &mut impl FnMut(&'a S::Key, &'a S::Value),
) -> Result<(), S::Error> {
    let mut children: SmallVec<[Option<&NodeOf<S>>; 2 * PREFETCHED]> = SmallVec::new();
    for link in &node.children {
        let child = link.as_ref().map(|link| store.load(link)).transpose()?;
        children.push(child);
    }
    for child in children.iter().flatten() {
        black_box(child.keys.len());
    }
    for child in children.iter().flatten() {
        black_box(child.keys.first().map(|key| key.head().len()));
        black_box(child.values.first().map(|value| value.digest()[0]));
    }
    for key in node.keys.iter() {
        black_box(key.head().first().copied());
    }
    let mut children = children.into_iter();
    for (key, value) in node.keys.iter().zip(&node.values) {
        if let Some(child) = children.next().flatten() {
            show_all(store, child, visit)?;
        }
        visit(key, value);
    }
    match children.next().flatten() {
        Some(child) => show_all(store, child, visit),
        None => Ok(()),
    }
}

/// Touches what is replaced or moved where walks end.
fn touch_ends<S: NodeStore>(ended: &[At<'_, S>]) {
    for moved in 0..MOVED {
        for at in ended.iter().filter(|at| moved == 0 || !at.is_there) {
            let value = at.node.values.get(at.index + moved);
            black_box(value.map(|value| value.digest()[0]));
            let key = at.node.keys.get(at.index + moved);
            black_box(key.map(|key| key.head().len()));
        }
    }
}
