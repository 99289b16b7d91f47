//! The keys of a node, laid out for searching.

use std::{cmp::Ordering, ops::Deref};

use super::level::TreeKey;

/// An ascending list of keys.
///
/// Comparing keys means fetching their bytes from all over the memory, and that
/// is what a search would spend its time on. So beside the keys stands, for
/// each, the word of [`WORD`] bytes of its head that follows what all heads have in
/// common: nearly every search looks at these, and at one or two keys.
///
/// Invariants: `words` is as long as `keys`; all keys have the first `skip`
/// bytes of their heads in common.
#[derive(Clone, Debug)]
pub(super) struct KeyList<K> {
    keys: Vec<K>,
    words: Vec<u64>,
    skip: usize,
}

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// The bytes of `head` from `skip` on, as a number of the same order.
fn word(head: &[u8], skip: usize) -> u64 {
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

/// How many bytes two texts have in common, at the beginning.
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Room for one more, growing by a quarter and not by doubling: the nodes are
/// most of the memory that a tree takes, and small.
pub(super) fn reserve_tightly<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact(2 + items.len() / 4);
    }
}

impl<K: TreeKey> KeyList<K> {
    pub(super) fn new(keys: Vec<K>) -> Self {
        let mut list = Self {
            keys,
            words: Vec::new(),
            skip: 0,
        };
        list.rebuild();
        list
    }

    /// What all heads have in common is what the first and the last have.
    fn common(&self) -> usize {
        match (self.keys.first(), self.keys.last()) {
            (Some(first), Some(last)) => shared_prefix(first.head(), last.head()),
            _ => 0,
        }
    }

    fn rebuild(&mut self) {
        self.skip = self.common();
        self.words.clear();
        self.words.reserve_exact(self.keys.len());
        let words = self.keys.iter().map(|key| word(key.head(), self.skip));
        self.words.extend(words);
    }

    /// Where `key` is, or where it would be. O(log n).
    pub(super) fn search(&self, key: &K) -> Result<usize, usize> {
        let head = key.head();
        if let Some(first) = self.keys.first() {
            let common = first.head().get(..self.skip).unwrap_or_default();
            let own = &head[..head.len().min(self.skip)];
            match own.cmp(common) {
                Ordering::Less => return Err(0),
                Ordering::Greater => return Err(self.keys.len()),
                Ordering::Equal => {}
            }
        }
        let word = word(head, self.skip);
        let start = self.words.partition_point(|other| *other < word);
        let same = self.words[start..].iter().take_while(|w| **w == word);
        let end = start + same.count();
        match self.keys[start..end].binary_search(key) {
            Ok(place) => Ok(start + place),
            Err(place) => Err(start + place),
        }
    }

    pub(super) fn insert(&mut self, place: usize, key: K) {
        let added = word(key.head(), self.skip);
        reserve_tightly(&mut self.keys);
        self.keys.insert(place, key);
        reserve_tightly(&mut self.words);
        self.words.insert(place, added);
        let at_an_end = place == 0 || place + 1 == self.keys.len();
        if at_an_end && self.common() < self.skip {
            self.rebuild();
        }
    }

    /// Adds a key above all others, without a word: see
    /// [`finish`](Self::finish).
    pub(super) fn push_unfinished(&mut self, key: K) {
        self.keys.push(key);
    }

    /// Makes the words after [`push_unfinished`](Self::push_unfinished).
    pub(super) fn finish(&mut self) {
        self.keys.shrink_to_fit();
        self.rebuild();
    }

    pub(super) fn remove(&mut self, place: usize) -> K {
        self.words.remove(place);
        self.keys.remove(place)
    }

    pub(super) fn split_off(&mut self, place: usize) -> Self {
        Self {
            keys: self.keys.split_off(place),
            words: self.words.split_off(place),
            skip: self.skip,
        }
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.keys.append(&mut other.keys);
        self.rebuild();
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.keys.shrink_to_fit();
        self.words.shrink_to_fit();
    }

    pub(super) fn into_vec(self) -> Vec<K> {
        self.keys
    }

    /// Whether the words are those of the keys.
    pub(super) fn is_consistent(&self) -> bool {
        let words = self.keys.iter().map(|key| word(key.head(), self.skip));
        self.skip <= self.common() && words.eq(self.words.iter().copied())
    }
}

impl<K> Deref for KeyList<K> {
    type Target = [K];

    fn deref(&self) -> &[K] {
        &self.keys
    }
}
