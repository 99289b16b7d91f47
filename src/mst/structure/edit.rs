//! Changing the structure: insert, remove, split, join.
//!
//! These functions know levels only as an order. What they make is a function
//! of the entries and the levels given to them, whatever the order of the
//! changes; [`repair`](super::repair) sees to it that the levels themselves are
//! a function of the keys. So taking an entry out and putting it back with
//! another rank leaves everything else as it was.
//!
//! An error from the node storage in the middle of a change leaves the tree in
//! pieces: the caller gives it up and builds it again from its data.

use super::{
    keys::KeyList,
    level::Level,
    node::{Node, NodeOf, NodeStore},
};

pub(in crate::mst) type EntryOf<S> = (<S as NodeStore>::Key, <S as NodeStore>::Value);
pub(in crate::mst) type Slot<S> = Option<<S as NodeStore>::Link>;

/// Puts an entry, whose key is not in the tree below `slot`, at `level`.
pub(in crate::mst) fn insert<S: NodeStore>(
    store: &S,
    slot: &mut Slot<S>,
    entry: EntryOf<S>,
    level: Level,
) -> Result<(), S::Error> {
    let Some(link) = slot else {
        *slot = Some(store.keep(Node::of_one(level, entry, Vec::new())));
        return Ok(());
    };
    if store.load(link)?.level < level {
        let (left, right) = split(store, slot.take(), &entry.0)?;
        *slot = Some(store.keep(Node::of_one(level, entry, vec![left, right])));
        return Ok(());
    }
    let node = store.edit(link)?;
    let (Ok(index) | Err(index)) = node.keys.search(&entry.0);
    if node.level == level {
        let (left, right) = split(store, node.take_child(index), &entry.0)?;
        node.insert(index, entry, left, right);
        Ok(())
    } else {
        insert(store, node.child_mut(index), entry, level)
    }
}

/// Takes the entry of `key` out, if it is there.
pub(in crate::mst) fn remove<S: NodeStore>(
    store: &S,
    slot: &mut Slot<S>,
    key: &S::Key,
) -> Result<Option<EntryOf<S>>, S::Error> {
    let Some(link) = slot else {
        return Ok(None);
    };
    let node = store.edit(link)?;
    let index = match node.keys.search(key) {
        Ok(index) => index,
        Err(index) => {
            if node.child(index).is_none() {
                return Ok(None);
            }
            let removed = remove(store, node.child_mut(index), key)?;
            node.trim_children();
            return Ok(removed);
        }
    };
    let entry = (node.keys.remove(index), node.values.remove(index));
    let (left, right) = (node.take_child(index), node.take_child(index + 1));
    let between = join(store, left, right)?;
    if node.keys.is_empty() {
        *slot = between;
    } else if !node.children.is_empty() {
        node.children.remove(index + 1);
        node.children[index] = between;
        node.trim_children();
    }
    Ok(Some(entry))
}

/// Parts a tree into what is below `key` and what is above; `key` itself is not
/// in it.
pub(in crate::mst) fn split<S: NodeStore>(
    store: &S,
    slot: Slot<S>,
    key: &S::Key,
) -> Result<(Slot<S>, Slot<S>), S::Error> {
    let Some(link) = slot else {
        return Ok((None, None));
    };
    let mut node = store.take(link)?;
    let (Ok(index) | Err(index)) = node.keys.search(key);
    let right_keys = node.keys.split_off(index);
    let right_values = node.values.split_off(index);
    let mut right_children = Vec::new();
    if !node.children.is_empty() {
        right_children = node.children.split_off(index);
        let (left, right) = split(store, right_children[0].take(), key)?;
        node.children.push(left);
        right_children[0] = right;
    }
    let level = node.level;
    Ok((
        half(store, level, node.keys, node.values, node.children),
        half(store, level, right_keys, right_values, right_children),
    ))
}

/// One side of a split node: without entries, just the one child it has.
fn half<S: NodeStore>(
    store: &S,
    level: Level,
    mut keys: KeyList<S::Key>,
    mut values: Vec<S::Value>,
    mut children: Vec<Slot<S>>,
) -> Slot<S> {
    if keys.is_empty() {
        return children.pop().flatten();
    }
    keys.shrink_to_fit();
    values.shrink_to_fit();
    children.shrink_to_fit();
    Some(store.keep(Node::new(level, keys, values, children)))
}

/// Makes one tree of two, where all keys of `left` are below all of `right`.
pub(in crate::mst) fn join<S: NodeStore>(
    store: &S,
    left: Slot<S>,
    right: Slot<S>,
) -> Result<Slot<S>, S::Error> {
    let (mut left, mut right) = match (left, right) {
        (None, one) | (one, None) => return Ok(one),
        (Some(left), Some(right)) => (left, right),
    };
    let (left_level, right_level) = (store.load(&left)?.level, store.load(&right)?.level);
    if left_level > right_level {
        let node = store.edit(&mut left)?;
        let last = node.keys.len();
        let below = node.take_child(last);
        *node.child_mut(last) = join(store, below, Some(right))?;
        Ok(Some(left))
    } else if left_level < right_level {
        let node = store.edit(&mut right)?;
        let below = node.take_child(0);
        *node.child_mut(0) = join(store, Some(left), below)?;
        Ok(Some(right))
    } else {
        let mut right: NodeOf<S> = store.take(right)?;
        let node = store.edit(&mut left)?;
        let last = node.keys.len();
        let between = join(store, node.take_child(last), right.take_child(0))?;
        if !(node.children.is_empty() && right.children.is_empty() && between.is_none()) {
            node.child_mut(last);
            node.children.truncate(last);
            node.children.push(between);
            right.child_mut(0);
            node.children.extend(right.children.drain(1..));
        }
        node.keys.append(right.keys);
        node.values.append(&mut right.values);
        node.trim_children();
        Ok(Some(left))
    }
}
