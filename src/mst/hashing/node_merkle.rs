//! The small Merkle tree inside a node: four entries make a group, and four hashes
//! make a fork above them, until there is one.

use std::ops::Range;

use smallvec::SmallVec;

use crate::hash::{HASH_BYTES, sha256, tag};

/// Entries hashed together inside a node, and hashes of the small Merkle tree
/// above them: a proof shows one group and a few hashes, not the whole node.
pub const GROUP: usize = 4;

/// The hashes of a fork's parts.
pub(in crate::mst) type Forks = SmallVec<[[u8; HASH_BYTES]; GROUP]>;

/// The hash of a fork, from those of its parts.
pub(in crate::mst) fn fork_hash(parts: &[[u8; HASH_BYTES]]) -> [u8; HASH_BYTES] {
    sha256(&[tag::FORK, parts.as_flattened()])
}

/// A part of a node's forks: groups that follow each other, or just one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeMerkle {
    /// Entries of the node.
    entries: usize,
    /// The first group that is in it.
    first: usize,
    /// Groups that have room in it: a power of [`GROUP`].
    room: usize,
}

impl NodeMerkle {
    /// What has all of a node's entries in it.
    pub(crate) fn top(entries: usize) -> Self {
        let mut room = 1;
        while room < groups(entries) {
            room *= GROUP;
        }
        Self {
            entries,
            first: 0,
            room,
        }
    }

    /// The places of its entries, if it is a group.
    pub(crate) fn group(self) -> Option<Range<usize>> {
        let start = self.first * GROUP;
        (self.room == 1).then(|| start..(start + GROUP).min(self.entries))
    }

    /// What it is made of, if it is not a group.
    pub(crate) fn parts(self) -> impl Iterator<Item = Self> {
        let room = self.room / GROUP;
        (0..GROUP)
            .map(move |index| Self {
                first: self.first + index * room,
                room,
                ..self
            })
            .take_while(|part| part.first < groups(part.entries))
    }

    /// What there is of it if these groups are open: they, and the largest parts
    /// that have none of them, in order.
    pub(crate) fn cover(self, open: &Range<usize>) -> Vec<Self> {
        if self.is_in_cover(open) {
            return vec![self];
        }
        self.parts().flat_map(|part| part.cover(open)).collect()
    }

    fn is_in_cover(self, open: &Range<usize>) -> bool {
        self.room == 1 || !self.has_one_of(open)
    }

    /// Whether one of these groups is in it.
    pub(crate) fn has_one_of(self, groups: &Range<usize>) -> bool {
        groups.start < self.first + self.room && groups.end > self.first
    }

    /// Its hash, from those of its [cover](Self::cover); nothing if these are too few.
    pub(crate) fn join(
        self,
        open: &Range<usize>,
        cover: &mut impl Iterator<Item = [u8; HASH_BYTES]>,
    ) -> Option<[u8; HASH_BYTES]> {
        if self.is_in_cover(open) {
            return cover.next();
        }
        let parts = self.parts().map(|part| part.join(open, cover));
        Some(fork_hash(&parts.collect::<Option<Forks>>()?))
    }
}

/// How many groups so many entries make.
pub(crate) fn groups(entries: usize) -> usize {
    entries.div_ceil(GROUP)
}
