//! Collection: what a key need not hold any more of what is final.
//!
//! Below the *horizon* a storage takes nothing any more: the cells stamped there are *final*, all
//! that there will ever be. So what says how they came about can go. The increments of a counter
//! become one *base*, the changes of a document *bundles*; a removed element, a field that is null
//! and a deleted key need not be remembered. What is read stays the same: payload, encoding and
//! timestamp, now and with whatever is newer.
//!
//! What is assumed of the caller, and nothing else:
//!
//! - **The fence.** Once a key was collected at a horizon, no cell with a time below it comes, but
//!   those that are there, or that another replica has that collected at the same horizon.
//! - Cells of the key are not [kept for a time](super::Lifetimes): what was folded could not fade
//!   one by one. [`MergeRules::collect`](super::MergeRules::collect) sees to that.
//!
//! Of cells S and of cells y whose times are not below the horizon, with the join of both and
//! without what is covered:
//!
//! 1. S and collect(S) read the same, and so do S join y and collect(S) join y.
//! 2. collect(collect(S)) is collect(S).
//! 3. collect(S join y) is collect(S) join y, cell by cell: it makes no difference when a replica
//!    collects. There are two exceptions, in which the two read the same, and are the same once they
//!    have been joined or are collected at a horizon above y: a document of which y puts changes
//!    anew that S has already; and cells of a key without the cell that says that there is a set or
//!    an object, which no put leaves out.
//! 4. Collecting at two horizons, one after the other, is collecting at the later one. So cells of a
//!    key may be collected in steps, of the oldest first.
//!
//! (3 for strategies of one's own is as they keep it; [`laws::check`](super::laws::check) tries.)
//!
//! | part | what it is |
//! |---|---|
//! | `places` | the walk over the places of a key: what is covered, and which tombstones go |
//! | `group` | the cells of one strategy at a place |

pub(in crate::merge) mod group;
mod places;
mod walk;

#[cfg(all(test, feature = "automerge"))]
mod tests;

use super::{
    part::{End, Nesting, Path, Writer},
    rules::registry::{custom, strategy_of},
    strategy::PartCell,
};
use crate::cell::{Cell, Part};

/// Bytes of the value of a cell that others were folded into. Of a document's changes more bundles
/// are made; a strategy of one's own that makes a larger cell is not collected.
pub const MAX_COLLECTED_BYTES: usize = 16 << 20;

/// What collecting the cells of a key changes. The result has to be there as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    /// The parts whose cells leave, ascending.
    pub leave: Vec<Part>,
    /// The cells that come, ascending by part. If there is one of that part already, it is older.
    pub come: Vec<(Part, Cell)>,
}

impl Collection {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leave.is_empty() && self.come.is_empty()
    }
}

/// Collects the cells of a key that is no pattern: of each part the newest, ascending by part. Those
/// whose time (NTP64) is below `horizon` are final. Of a key that has a lifetime nothing may be
/// collected.
///
/// Nothing that `horizon` does not pass is changed, but what is covered by other cells leaves.
#[must_use]
pub fn collect(cells: &[PartCell<'_>], horizon: u64) -> Collection {
    places::collect(cells, horizon, strategy_of)
}

/// Whether a final cell may have to leave or to be folded, by what the tree knows of it: if this
/// holds for no final cell of a key, [`collect`] changes nothing of it.
///
/// It may hold for cells that stay: tombstones of a set or an object that began as a value of its
/// own key's, which they hide a part of, and cells that a strategy of one's own keeps.
#[must_use]
pub fn may_collect(part: &[u8], is_tombstone: bool) -> bool {
    match Path::of(Nesting::KEY, part).end {
        End::Own => is_tombstone,
        End::Object | End::NoField => false,
        End::Tagged(tagged) => match tagged.writer {
            Writer::Additive => !tagged.rest.is_empty(),
            Writer::SetUnion => is_tombstone,
            Writer::Automerge => is_change(tagged.rest),
            Writer::Custom(name) => {
                custom(name).is_some_and(|(chosen, _)| chosen.strategy.may_collect())
            }
            Writer::Object | Writer::Unknown | Writer::TooDeep => false,
        },
    }
}

/// Whether a part of a document is that of a change, and not of a bundle.
fn is_change(part: &[u8]) -> bool {
    part.len() == crate::hash::HASH_BYTES
}
