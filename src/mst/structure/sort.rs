//! Sorting by key without looking at every key again and again.

use super::{
    keys::{shared_prefix, word},
    level::TreeKey,
};

/// Below this many items it is not worth the room.
const FEW: usize = 16;

/// Sorts items ascending by key; those of one key stay in order.
///
/// Keys lie all over the memory, and mostly begin alike. So each is looked at once, for
/// the word that follows what all have in common, and words are sorted; keys are
/// compared only where words do not tell. O(n log n), with room for n words.
pub fn sort_by_tree_key<T, K: TreeKey>(items: &mut [T], key: impl Fn(&T) -> &K) {
    let (Some(first), true) = (items.first(), items.len() > FEW) else {
        items.sort_by(|a, b| key(a).cmp(key(b)));
        return;
    };
    let first = key(first).head();
    let skip = items.iter().fold(first.len(), |skip, item| {
        let (common, head) = (&first[..skip], key(item).head());
        match head.starts_with(common) {
            true => skip,
            false => shared_prefix(common, head),
        }
    });
    let words = items.iter().map(|item| word(key(item).head(), skip));
    let mut order: Vec<(u64, usize)> = words.zip(0..).collect();
    order.sort_unstable();
    for alike in order.chunk_by_mut(|a, b| a.0 == b.0) {
        // Places ascend, so that what is equal stays in order.
        alike.sort_by(|(_, a), (_, b)| key(&items[*a]).cmp(key(&items[*b])));
    }
    arrange(items, order.into_iter().map(|(_, index)| index).collect());
}

/// Puts the item that is at `order[i]` to `i`.
fn arrange<T>(items: &mut [T], mut order: Vec<usize>) {
    for start in 0..order.len() {
        let mut index = start;
        // Each swap puts one where it belongs, and the one that was there to where the
        // next is missing.
        loop {
            let from = std::mem::replace(&mut order[index], index);
            if from == start {
                break;
            }
            items.swap(index, from);
            index = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cell::{CellKey, tests::any_cell_key};

    proptest! {
        #[test]
        fn sorts_as_a_stable_sort_does(
            prefix in "[a-z]{1,12}",
            numbers in prop::collection::vec(any::<u16>(), 0..200),
            keys in prop::collection::vec(any_cell_key(), 0..100),
        ) {
            let numbered = |number| format!("{prefix}/{number}").try_into().ok();
            let numbered = numbers.into_iter().map(|number| CellKey::own(numbered(number % 100).into()));
            for keys in [numbered.collect::<Vec<_>>(), keys] {
                let mut items: Vec<(CellKey, usize)> = keys.into_iter().zip(0..).collect();
                let mut expected = items.clone();
                expected.sort_by(|a, b| a.0.cmp(&b.0));
                sort_by_tree_key(&mut items, |item| &item.0);
                prop_assert_eq!(items, expected);
            }
        }
    }
}
