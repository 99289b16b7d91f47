//! The keys of a node, laid out for searching.

use std::{
    cmp::Ordering,
    hint::black_box,
    ops::{Deref, Range},
};

use super::level::TreeKey;

/// An ascending list of keys.
///
/// Comparing keys means fetching their bytes from all over the memory, and that
/// is what a search would spend its time on. So beside the keys stands, for
/// each, the word of [`WORD`] bytes of its head that follows what all heads have in
/// common; and before these words, in as many as it takes, what that is. Nearly every
/// search looks at nothing else, even if the key is there, as long as the words are all of
/// its head.
///
/// Invariants: all keys have the first `skip` bytes of their heads in common, which
/// the first `skip / WORD` words, rounded up, are, filled up with zeros; the other
/// words are as many as `keys`.
#[derive(Clone, Debug)]
#[repr(C)]
pub(in crate::mst) struct KeyList<K> {
    skip: u32,
    words: Vec<u64>,
    keys: Vec<K>,
}

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// Bytes that all keys have in common and that a list remembers, at the most: where they
/// have more, words tell less, and searches look at keys.
const MAX_SKIP: usize = 128;

/// The bytes of `head` from `skip` on, as a number of the same order.
pub(in crate::mst) fn word(head: &[u8], skip: usize) -> u64 {
    let tail = head.get(skip..).unwrap_or_default();
    match tail.first_chunk::<WORD>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; WORD];
            bytes[..tail.len()].copy_from_slice(tail);
            u64::from_be_bytes(bytes)
        }
    }
}

/// The word of the first `skip` bytes of `head` that begins at `start`, which is below
/// `skip`.
fn common_word(head: &[u8], skip: usize, start: usize) -> u64 {
    let beyond = (start + WORD).saturating_sub(skip);
    word(head, start) & (u64::MAX << (8 * beyond))
}

/// How many bytes two texts have in common, at the beginning.
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Entries for which a new node has room: most get as many, and to make room takes long.
pub(in crate::mst) const ROOM: usize = 6;

/// Room for one more, growing by a quarter and not by doubling: the nodes are
/// most of the memory that a tree takes, and small.
pub(in crate::mst) fn reserve_tightly<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact(4 + items.len() / 4);
    }
}

impl<K: TreeKey> KeyList<K> {
    pub(in crate::mst) fn new(keys: Vec<K>) -> Self {
        let mut list = Self {
            skip: 0,
            words: Vec::with_capacity(ROOM),
            keys,
        };
        list.rebuild();
        list
    }

    fn skip(&self) -> usize {
        self.skip as usize
    }

    /// Words before those of the keys.
    fn common_words(&self) -> usize {
        self.skip().div_ceil(WORD)
    }

    /// What all heads have in common is what the first and the last have; no more than
    /// is remembered.
    fn common(&self) -> usize {
        match (self.keys.first(), self.keys.last()) {
            (Some(first), Some(last)) => shared_prefix(first.head(), last.head()).min(MAX_SKIP),
            _ => 0,
        }
    }

    /// The words that there are to be.
    fn fresh_words(&self) -> impl Iterator<Item = u64> + '_ {
        let (skip, first) = (self.skip(), self.keys.first());
        let common = (0..skip).step_by(WORD);
        let common = common.map(move |start| {
            let head = first.map_or(&[][..], TreeKey::head);
            common_word(head, skip, start)
        });
        let keys = self.keys.iter();
        common.chain(keys.map(move |key| word(key.head(), skip)))
    }

    fn rebuild(&mut self) {
        self.skip = self.common() as u32;
        let mut words = std::mem::take(&mut self.words);
        words.clear();
        words.reserve_exact(self.common_words() + self.keys.len());
        words.extend(self.fresh_words());
        self.words = words;
    }

    /// Where a head is beside what all keys have in common: equal if it begins with that.
    fn compare_common(&self, head: &[u8]) -> Ordering {
        let skip = self.skip();
        let common = self.words.iter().take(self.common_words());
        for (place, common) in common.enumerate() {
            match common_word(head, skip, place * WORD).cmp(common) {
                Ordering::Equal => {}
                other => return other,
            }
        }
        // The rest of what is in common are zeros; but it is longer.
        head.len().cmp(&skip).min(Ordering::Equal)
    }

    /// The places of the keys that look like `key`: of those the words do not tell.
    /// There may be none. O(log n), and no key is looked at.
    pub(in crate::mst) fn alike(&self, key: &K) -> Range<usize> {
        let head = key.head();
        match self.compare_common(head) {
            Ordering::Less => return 0..0,
            Ordering::Greater => return self.keys.len()..self.keys.len(),
            Ordering::Equal => {}
        }
        let words = &self.words[self.common_words()..];
        let word = word(head, self.skip());
        let start = words.partition_point(|other| *other < word);
        let same = words[start..].iter().take_while(|w| **w == word);
        start..start + same.count()
    }

    /// Has in the caches what a search reads. O(1).
    pub(in crate::mst) fn touch(&self) {
        let middle = self.words.get(self.words.len() / 2);
        black_box((
            self.words.first().copied(),
            middle.copied(),
            self.words.last().copied(),
        ));
    }

    /// Compares two keys of which the words are equal. If these are all of both heads,
    /// nothing of the heads is looked at: not their bytes, which are anywhere in memory.
    fn compare_alike(&self, a: &K, b: &K) -> Ordering {
        if self.is_told(a) && self.is_told(b) {
            // Words are filled up with zeros: so may the longer one be, at the end.
            let lengths = a.head().len().cmp(&b.head().len());
            return lengths.then_with(|| a.cmp_beyond_head(b));
        }
        a.cmp(b)
    }

    /// Whether words are all of a head.
    fn is_told(&self, key: &K) -> bool {
        key.head().len() <= self.skip() + WORD
    }

    /// Whether `key` is below the one at `place`, which is looked at only if the words do
    /// not tell. O(1).
    pub(in crate::mst) fn is_above(&self, place: usize, key: &K) -> bool {
        let head = key.head();
        let there = self.words[self.common_words() + place];
        self.compare_common(head)
            .then_with(|| word(head, self.skip()).cmp(&there))
            .then_with(|| self.compare_alike(key, &self.keys[place]))
            .is_lt()
    }

    /// Where `key` is, or where it would be. O(log n).
    pub(in crate::mst) fn search(&self, key: &K) -> Result<usize, usize> {
        let alike = self.alike(key);
        let alike_keys = &self.keys[alike.clone()];
        match alike_keys.binary_search_by(|other| self.compare_alike(other, key)) {
            Ok(place) => Ok(alike.start + place),
            Err(place) => Err(alike.start + place),
        }
    }

    pub(in crate::mst) fn insert(&mut self, place: usize, key: K) {
        let head = key.head();
        let fits = self.compare_common(head).is_eq() && !self.keys.is_empty();
        let added = word(head, self.skip());
        reserve_tightly(&mut self.keys);
        self.keys.insert(place, key);
        if fits {
            reserve_tightly(&mut self.words);
            self.words.insert(self.common_words() + place, added);
        } else {
            self.rebuild();
        }
    }

    /// Adds a key above all others, without a word: see
    /// [`finish`](Self::finish).
    pub(in crate::mst) fn push_unfinished(&mut self, key: K) {
        self.keys.push(key);
    }

    /// Makes the words after [`push_unfinished`](Self::push_unfinished).
    pub(in crate::mst) fn finish(&mut self) {
        self.rebuild();
        self.shrink_to_fit();
    }

    pub(in crate::mst) fn remove(&mut self, place: usize) -> K {
        self.words.remove(self.common_words() + place);
        self.keys.remove(place)
    }

    pub(in crate::mst) fn split_off(&mut self, place: usize) -> Self {
        let common = self.common_words();
        let mut words = self.words[..common].to_vec();
        words.extend(self.words.drain(common + place..));
        Self {
            skip: self.skip,
            words,
            keys: self.keys.split_off(place),
        }
    }

    pub(in crate::mst) fn append(&mut self, mut other: Self) {
        self.keys.append(&mut other.keys);
        self.rebuild();
    }

    pub(in crate::mst) fn shrink_to_fit(&mut self) {
        self.keys.shrink_to_fit();
        self.words.shrink_to_fit();
    }

    pub(in crate::mst) fn into_vec(self) -> Vec<K> {
        self.keys
    }

    /// Whether the words are those of the keys.
    pub(in crate::mst) fn is_consistent(&self) -> bool {
        let is_fresh = || self.fresh_words().eq(self.words.iter().copied());
        self.keys.is_empty() || self.skip() <= self.common() && is_fresh()
    }
}

impl<K> Deref for KeyList<K> {
    type Target = [K];

    fn deref(&self) -> &[K] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A key that is nothing but its head, and a byte that is not part of it.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Text(Vec<u8>, u8);

    impl TreeKey for Text {
        fn write_canonical(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.0);
            out.extend_from_slice(&[0xff, self.1]);
        }
        fn head(&self) -> &[u8] {
            &self.0
        }
        fn cmp_beyond_head(&self, other: &Self) -> Ordering {
            assert_eq!(self.0, other.0);
            self.1.cmp(&other.1)
        }
    }

    /// Keys of few different bytes, zeros among them, with much in common; more than a
    /// list remembers, at times.
    fn texts(most: usize) -> impl Strategy<Value = BTreeSet<Text>> {
        let common = prop::sample::select(vec![0usize, 1, 7, 8, 9, 20, 127, 128, 129, 300]);
        let end = prop::collection::vec(0..3u8, 0..10);
        let text = (common, end, 0..2u8).prop_map(|(common, end, last)| {
            let mut text = vec![1; common];
            text.extend(end);
            Text(text, last)
        });
        prop::collection::btree_set(text, 0..most)
    }

    proptest! {
        #[test]
        fn keys_are_found_where_they_are(keys in texts(40), others in texts(40)) {
            let sorted: Vec<Text> = keys.iter().cloned().collect();
            let list = KeyList::new(sorted.clone());
            prop_assert!(list.is_consistent());
            for key in keys.union(&others) {
                prop_assert_eq!(list.search(key), sorted.binary_search(key));
                for (place, other) in sorted.iter().enumerate() {
                    prop_assert_eq!(list.is_above(place, key), key < other);
                }
            }
        }

        #[test]
        fn a_list_that_is_changed_is_as_one_made_anew(
            keys in texts(20),
            changes in prop::collection::vec((texts(2), any::<prop::sample::Index>()), 0..30),
        ) {
            let mut sorted: Vec<Text> = keys.into_iter().collect();
            let mut list = KeyList::new(sorted.clone());
            for (added, at) in changes {
                for key in added {
                    if let Err(place) = list.search(&key) {
                        list.insert(place, key.clone());
                        sorted.insert(place, key);
                    }
                }
                match at.index(4) {
                    0 if !sorted.is_empty() => {
                        let place = at.index(sorted.len());
                        prop_assert_eq!(list.remove(place), sorted.remove(place));
                    }
                    1 => {
                        let right = list.split_off(at.index(sorted.len() + 1));
                        prop_assert!(list.is_consistent() && right.is_consistent());
                        list.append(right);
                    }
                    _ => {}
                }
                prop_assert!(list.is_consistent());
                prop_assert_eq!(&*list, &sorted[..]);
                for key in &sorted {
                    prop_assert_eq!(list.search(key), sorted.binary_search(key));
                }
            }
        }
    }
}
