//! Checking proofs: a walk over the pruned tree, which computes its root.

use std::cmp::Ordering;

use super::{
    MAX_DEPTH, MAX_PROOF_BYTES, ProofError, Proven, ProvenCell, SHOWN, VERSION, child,
    sequence::{Sequence, Shown},
};
use crate::{
    cell::{CellDigest, CellKey, Key, Reader, digest_of_summary, read_summary},
    hash::HASH_BYTES,
    mst::{
        GROUP, Level, MAX_DIGITS, MAX_WIDTH, NodeHash, NodeMerkle, Position, RootHash, group_hash,
        groups, head_hash, write_child,
    },
};

/// Above every level there is.
const NO_LEVEL: Level = Level::of_digit(MAX_DIGITS + 1);

/// What `proof` proves of `key` to whoever trusts `root`.
///
/// # Errors
/// If it is not a proof, or one of another key or against another root.
pub fn verify(proof: &[u8], root: &RootHash, key: &Key) -> Result<Proven, ProofError> {
    let (proven_root, proven) = read(proof)?;
    if proven.key != *key {
        return Err(ProofError::OtherKey);
    }
    if proven_root != *root {
        return Err(ProofError::OtherRoot {
            proven: proven_root,
            expected: *root,
        });
    }
    Ok(proven)
}

/// What `proof` would prove, and the root that one would have to trust. This alone
/// proves nothing: anyone can make a proof against a root of their own.
///
/// # Errors
/// If it is not a proof.
pub fn read(proof: &[u8]) -> Result<(RootHash, Proven), ProofError> {
    if proof.len() > MAX_PROOF_BYTES {
        return Err(ProofError::TooLarge);
    }
    let mut reader = Reader(proof);
    match reader.u8("version")? {
        VERSION => {}
        other => return Err(ProofError::Version(other)),
    }
    let length = reader.u16("key")?;
    let own = reader.take(length.into(), "key")?;
    let key = CellKey::from_canonical(own)?;
    if !key.part.is_empty() {
        return Err(ProofError::Form("its key has a part"));
    }
    let mut walk = Walk {
        reader,
        own,
        sequence: Sequence::new(),
        key_bytes: 0,
        depth: 0,
    };
    let what = walk.reader.u8("tree")?;
    let root = match walk.child(what, NO_LEVEL)? {
        None => RootHash::of_empty(),
        Some(hash) => RootHash(hash.0),
    };
    walk.reader.finish()?;
    let cells = walk.sequence.finish()?;
    let key = key.key;
    Ok((root, Proven { key, cells }))
}

struct Walk<'a> {
    reader: Reader<'a>,
    /// Canonical bytes of the key's own cell: the beginning of those of all its
    /// cells, and of no other's.
    own: &'a [u8],
    sequence: Sequence,
    /// Bytes of the keys that were shown.
    key_bytes: usize,
    /// Nodes that the walk is in. Recursion ends at [`MAX_DEPTH`].
    depth: usize,
}

impl Walk<'_> {
    /// The hash of a child, which has a level below `above`.
    fn child(&mut self, what: u8, above: Level) -> Result<Option<NodeHash>, ProofError> {
        match what {
            child::NONE => Ok(None),
            child::HIDDEN => {
                self.sequence.hide()?;
                Ok(Some(NodeHash(self.reader.array("child")?)))
            }
            child::OPEN => self.node(above).map(Some),
            _ => Err(ProofError::Form("unknown flags")),
        }
    }

    fn node(&mut self, above: Level) -> Result<NodeHash, ProofError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ProofError::TooLarge);
        }
        let [digit, rank, entries, first_child] = self.reader.array("node")?;
        let level = Level { digit, rank };
        if level >= above {
            return Err(ProofError::Level);
        }
        let entries = usize::from(entries);
        if !(1..=MAX_WIDTH).contains(&entries) {
            return Err(ProofError::Form("a node has no entries, or too many"));
        }
        let shown = self.sequence.shown();
        let first_child = self.child(first_child, level)?;
        let [first, count] = self.reader.array("open groups")?.map(usize::from);
        let open = first..first + count;
        if open.end > groups(entries) || count == 0 && first > 0 {
            return Err(ProofError::Form("groups are open that are not there"));
        }
        let part = |part: NodeMerkle| match part.group() {
            Some(entries) if part.has_one_of(&open) => self.group(level, entries.len()),
            _ => {
                self.sequence.hide()?;
                Ok(self.reader.array("fork")?)
            }
        };
        let forks = NodeMerkle::top(entries);
        let parts = forks.cover(&open).into_iter().map(part);
        let parts = parts.collect::<Result<Vec<_>, ProofError>>()?;
        let top = forks.join(&open, &mut parts.into_iter());
        let top = top.ok_or(ProofError::Form("a hash is missing"))?;
        self.needed(shown)?;
        self.depth -= 1;
        Ok(head_hash(level, entries, first_child.as_ref(), &top))
    }

    /// What is open has something in it that is shown, which was not there when
    /// `shown` cells had been.
    fn needed(&self, shown: usize) -> Result<(), ProofError> {
        match self.sequence.shown() > shown {
            true => Ok(()),
            false => Err(ProofError::Form("what it opens shows nothing")),
        }
    }

    fn group(&mut self, level: Level, entries: usize) -> Result<[u8; HASH_BYTES], ProofError> {
        let shown = self.sequence.shown();
        let mut items = Vec::with_capacity(GROUP * (HASH_BYTES + 1 + HASH_BYTES));
        for _ in 0..entries {
            let flags = self.reader.u8("entry")?;
            let digest = if flags & SHOWN != 0 {
                self.cell(level.digit)?.0
            } else {
                self.sequence.hide()?;
                self.reader.array("entry")?
            };
            items.extend_from_slice(&digest);
            let child = self.child(flags & !SHOWN, level)?;
            write_child(child.as_ref(), &mut items);
        }
        self.needed(shown)?;
        Ok(group_hash(&items))
    }

    /// The digest of a cell that is shown, in a node of this digit.
    fn cell(&mut self, digit: u8) -> Result<CellDigest, ProofError> {
        let common = usize::from(self.reader.u16("key")?);
        let further = self.reader.u16("key")?;
        let further = self.reader.take(further.into(), "key")?;
        let Some((common, own)) = self.own.split_at_checked(common) else {
            return Err(ProofError::Form("more in common with the key than it has"));
        };
        self.key_bytes += common.len() + further.len();
        if self.key_bytes > MAX_PROOF_BYTES {
            return Err(ProofError::TooLarge);
        }
        let canonical = [common, further].concat();

        let before = self.reader.0;
        let (timestamp, content) = read_summary(&mut self.reader)?;
        let summary = &before[..before.len() - self.reader.0.len()];

        // What comes first after what is in common decides.
        let shown = match (further.first(), own.first()) {
            (_, None) => Shown::Cell(ProvenCell {
                part: further.into(),
                timestamp,
                content,
            }),
            (further, own) => match further.cmp(&own) {
                Ordering::Less => Shown::Below,
                Ordering::Greater => Shown::Above,
                Ordering::Equal => return Err(ProofError::Form("less in common than there is")),
            },
        };
        self.sequence.show(shown)?;
        if Position::of_canonical(&canonical).leading_zero_digits() != digit {
            return Err(ProofError::Level);
        }
        Ok(digest_of_summary(&canonical, summary))
    }
}
