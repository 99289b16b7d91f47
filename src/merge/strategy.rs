//! What a strategy is.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use thiserror::Error;

use super::part::{Nesting, Writer};
use crate::cell::{Cell, Content, Timestamp, Value};

/// A put: what a strategy turns into cells.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// When, and by whom.
    pub timestamp: Timestamp,
    /// What.
    pub value: &'a Value,
}

/// A cell that a put writes. It bears the put's timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartWrite {
    /// Tells the cells of a key apart, among those of this strategy.
    pub part: Vec<u8>,
    /// A value, or that there is none any more.
    pub content: Content,
}

/// A cell that is held in the place of others: see [`Strategy::collect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectedCell {
    /// As in [`PartWrite::part`].
    pub part: Vec<u8>,
    /// The cell. Its timestamp is one of those that it stands for.
    pub cell: Cell,
}

/// A cell of a strategy's own, with its part.
#[derive(Clone, Copy, Debug)]
pub struct PartCell<'a> {
    /// As in [`PartWrite::part`].
    pub part: &'a [u8],
    /// The newest cell of the part.
    pub cell: &'a Cell,
}

/// Why a put, or a cell, does not fit its strategy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct InvalidPut {
    reason: String,
}

impl InvalidPut {
    /// With a reason for people: what was found, and what is allowed.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// The reason, of a place within what was put.
    pub(super) fn within(place: impl fmt::Display, inner: &Self) -> Self {
        Self::new(format!("{place}: {inner}"))
    }
}

/// In which form a value is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As the strategy gives it.
    #[default]
    Native,
    /// As JSON, if it can be.
    Json,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The identifier of the payload's encoding in Zenoh; if there is none, it is
    /// that of the newest put.
    pub encoding_id: Option<u16>,
    /// The value.
    pub payload: Bytes,
}

/// Whether a fold could take a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// It is part of it.
    Yes,
    /// All cells are to be folded anew.
    NeedsRefold,
}

/// How puts of one key become a value.
///
/// A put is turned into cells, each with a *part*. Cells of one part join by last
/// writer wins, here and on every other replica, whatever the strategy: so all
/// replicas come to hold the same cells, even if a strategy is broken. A read
/// folds the cells of a key into its value.
///
/// # Laws
///
/// [`laws::check`](super::laws::check) tries them on puts that one gives it.
///
/// 1. All methods are pure: what they return depends on their arguments alone,
///    not on clocks, randomness, state, or the process.
/// 2. [`check`](Self::check) takes whatever [`write`](Self::write) writes.
/// 3. [`fold`](Self::fold) reads any cells that `check` takes, whatever else is
///    there or missing, without a panic. Neither goes down into a part or a value
///    by recursion as deep as these like: no panic, but the end of the process.
/// 4. A fold to which cells were [applied](Fold::apply) reads as the fold of
///    all of them.
/// 5. What was [collected](Self::collect) reads as what it stands for, whatever is newer.
/// 6. Collecting once or twice, in one step or in several, comes to the same cells; and so does
///    collecting before or after newer cells came, once these are collected as well.
pub trait Strategy: Send + Sync {
    /// The cells that a put writes: at least one, and of one part only one.
    ///
    /// A part may hold some tens of thousands of bytes together with the key, and
    /// is kept in memory.
    ///
    /// # Errors
    /// If the value is none that this strategy can take. Then nothing is written.
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut>;

    /// Whether a cell is one that [`write`](Self::write) could have written: those
    /// that other replicas send are checked.
    ///
    /// # Errors
    /// If it is not.
    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut>;

    /// Whether cells may go one by one, the oldest first, as those of keys with a lifetime do: what is
    /// left has to mean what it says. A sum of what was added lately does; changes to a document
    /// whose beginning is gone do not. By default they may not, and a lifetime is refused for keys
    /// that are merged so.
    fn may_fade(&self) -> bool {
        false
    }

    /// Folds the cells of a key, of each part the newest, ascending by part.
    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold>;

    /// Whether [`collect`](Self::collect) may do anything: if not, it is not asked.
    fn may_collect(&self) -> bool {
        false
    }

    /// What may be held in the place of final cells: those that are all there will ever be below a
    /// time. `newer` are the cells of the key from that time on, as far as they have come. Both are
    /// ascending by part, and have no part in common. Nothing, if all stays as it is, as it does by
    /// default.
    ///
    /// Cells may be left out, and others be there in their place, with a part that `newer` does not
    /// have, no longer than the longest given; no timestamp later than the latest given; and a value
    /// of no more than [`MAX_COLLECTED_BYTES`](super::collect::MAX_COLLECTED_BYTES). The latest
    /// timestamp of all cells, and the encoding of the newest value, have to stay what they are. A
    /// collection that breaks any of this does not take place.
    fn collect(
        &self,
        stable: &[PartCell<'_>],
        newer: &[PartCell<'_>],
    ) -> Option<Vec<CollectedCell>> {
        let _ = (stable, newer);
        None
    }
}

/// Cells of one key, as their strategy sees them together.
pub trait Fold: Send {
    /// Takes one more cell. Its part is new, or the cell is later than the one
    /// of its part, which it replaces.
    ///
    /// Saves folding all again whenever a key is read between two puts; by
    /// default that is what is done.
    fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        let _ = (part, cell);
        Applied::NeedsRefold
    }

    /// The value.
    fn read(&self, form: Form) -> Reading;

    /// Bytes of memory that it takes, about.
    fn weight(&self) -> usize;
}

/// A strategy by which puts are merged, and what its parts begin with.
#[derive(Clone)]
pub(in crate::merge) struct Chosen {
    pub(in crate::merge) name: Arc<str>,
    pub(in crate::merge) prefix: Arc<[u8]>,
    pub(in crate::merge) strategy: Arc<dyn Strategy>,
}

impl Chosen {
    pub(in crate::merge) fn built_in(
        name: &str,
        tag: u8,
        strategy: impl Strategy + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            prefix: Arc::new([tag]),
            strategy: Arc::new(strategy),
        }
    }
}

/// Tells the strategy that reads, in a place that is within the nesting, what the writer wrote:
/// nothing, if this build does not have it. A strategy whose cells are within it, as `object` has
/// them, is told by this what it cannot know itself.
pub(in crate::merge) type StrategyOf = fn(Writer<'_>, Nesting) -> Option<Arc<dyn Strategy>>;
