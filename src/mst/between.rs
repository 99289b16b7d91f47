//! The part of a tree between two keys, as a tree of its own.

use super::{
    keys::KeyList,
    node::{Node, NodeOf, NodeStore},
};

/// A part of a subtree: its topmost node, and whether it is all of the subtree.
type PartOf<S> = (Option<<S as NodeStore>::Link>, bool);

/// What `link` holds strictly between `low` and `high`; no bound is no limit.
///
/// A node all of which lies between is shared, hash and all. Those that a bound
/// cuts are made anew, of which there are O(log n). By history independence
/// what results is the tree of the entries that it holds (but for the ranks of
/// an over-wide run that a bound cuts), so its hash tells its content.
pub(super) fn between<S: NodeStore>(
    store: &S,
    link: Option<&S::Link>,
    low: Option<&S::Key>,
    high: Option<&S::Key>,
) -> Result<PartOf<S>, S::Error> {
    let Some(link) = link else {
        return Ok((None, true));
    };
    if low.is_none() && high.is_none() {
        return Ok((Some(link.clone()), true));
    }
    let node = store.load(link)?;
    // A bound that is an entry of this node bounds no child of it any more.
    let (start, low) = match low.map(|low| node.keys.search(low)) {
        None => (0, None),
        Some(Ok(place)) => (place + 1, None),
        Some(Err(place)) => (place, low),
    };
    let (end, high) = match high.map(|high| node.keys.search(high)) {
        None => (node.keys.len(), None),
        Some(Ok(place)) => (place, None),
        Some(Err(place)) => (place, high),
    };
    if start > end {
        return Ok((None, false));
    }
    if start == end {
        let (part, _) = between(store, node.child(start), low, high)?;
        return Ok((part, false));
    }
    let (first, is_all_first) = between(store, node.child(start), low, None)?;
    let (last, is_all_last) = between(store, node.child(end), None, high)?;
    if start == 0 && end == node.keys.len() && is_all_first && is_all_last {
        return Ok((Some(link.clone()), true));
    }
    let children = std::iter::once(first)
        .chain((start + 1..end).map(|place| node.child(place).cloned()))
        .chain(std::iter::once(last))
        .collect();
    let keys = KeyList::new(node.keys[start..end].to_vec());
    let values = node.values[start..end].to_vec();
    let part: NodeOf<S> = Node::new(node.level, keys, values, children);
    Ok((Some(store.keep(part)), false))
}
