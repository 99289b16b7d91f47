//! The replicated map: local writes, what is settled, and what is still pending.
//!
//! **Settling.** Updates arrive all the time and in any order, so two replicas
//! never hold the same set at the same instant, and a root over all of it would
//! never be equal. So time is divided into buckets of [`BUCKET`]; an update
//! newer than the *cut*, which follows the clock at a distance (`settle`), waits
//! with the others of its bucket. As the cut passes a bucket, the join of its
//! updates per cell goes into the tree. The tree at cut C is the join of all
//! updates received with a time below C: replicas that received the same updates
//! have the same root for the same C, whatever the order and the load. An update
//! that arrives late, its time being below the cut already, goes into the tree
//! in the next batch.
//!
//! Reads see pending updates at once.
//!
//! **Who does what.** [`Replica::put`] costs memory work and a hand-over. A
//! thread takes what has gathered, hashes it, commits it to the store in one
//! group, and then settles what is due. So what is in the tree is in the store. In a
//! burst it only writes groups ahead, and does the rest afterwards. Where there is no
//! store, cells are hashed as they settle, and the tree holds them itself.
//!
//! | part | what it is |
//! |---|---|
//! | `ledger` | which updates to write, and which to settle; no clock, no I/O |
//! | `bucket` | what is to settle, until it does |
//! | `settled` | the tree and its counts |
//! | `held` | what the tree holds of a cell |
//! | `roots` | the roots that the tree has had, and over which cuts |
//! | `changes` | which cells changed lately, in order |
//! | `loading` | the tree, from a store that is opened |
//! | `reading` | gets and listings |
//! | `deleting` | deletes that no client has stamped |
//! | `checkpoint` | all cells at one cut, while writes go on |
//! | `integrity`, `quarantine` | what the tree says, compared with what the disk has |
//! | `recent` | what is pending, as readers see it |
//! | `key_stamps` | whether a key has a value |
//! | `merging` | keys whose values are made of several cells, as readers see them |
//! | `commits` | who waits for which commit |
//! | `inbox` | the hand-over to the thread |
//! | `burst` | when work is put off |
//! | `writer` | the thread |

mod bucket;
mod burst;
mod changes;
mod checkpoint;
mod commits;
mod counters;
mod deleting;
mod error;
mod held;
mod inbox;
mod integrity;
mod key_stamps;
mod ledger;
mod loading;
mod merging;
mod quarantine;
mod reading;
mod recent;
mod roots;
mod settled;
mod settling;
mod writer;

#[cfg(test)]
mod ahead_tests;
#[cfg(test)]
mod integrity_tests;
#[cfg(test)]
mod merging_tests;
#[cfg(test)]
mod settling_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod virtual_time;

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use changes::Change;
pub use checkpoint::Checkpoint;
pub use commits::Committed;
pub use counters::{Counters, Counts};
pub use error::{Failure, GetError, OpenError, Refusal, ReplicaError};
pub use held::Held;
pub use integrity::{Damage, Scrubbed};
pub use ledger::{cut_at, BUCKET};
pub use reading::{Kept, Lookup, Stored};
pub use roots::{Comparison, Published, Roots, Span};
pub use settled::Tree;

#[cfg(test)]
pub(crate) use virtual_time::VirtualReplica;

use commits::Commits;
use counters::Counter;
use inbox::{Inbox, Offer, Offered};
use ledger::Ledger;
use loading::{load, Loaded};
use merging::Folds;
use quarantine::Quarantine;
use settled::Settled;
use writer::Writer;

use crate::{
    cell::{ntp64_span, Cell, CellKey, CellMeta, Key, MAX_KEY_BYTES},
    config::Durability,
    merge::MergeRules,
    mst::RootHash,
    store::Store,
};

/// Bytes that a value may have: Zenoh's own bound for a message.
pub const MAX_VALUE_BYTES: usize = 1 << 30;

/// Tells the time, in NTP64. Given from outside, so that tests make their own.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Called when a root was made.
type OnRoot = Box<dyn Fn() + Send + Sync>;

/// How a replica is to behave.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What a put that has returned survives.
    pub durability: Durability,
    /// With [`Durability::Interval`], the longest time that the writes span which
    /// are acknowledged and not on disk.
    pub sync_every: Duration,
    /// The distance at which the cut follows the clock.
    pub settle: Duration,
    /// How far ahead of the clock a timestamp may be.
    pub max_clock_drift: Duration,
    /// Whether to remember which cells change, to say what did since a root.
    pub keep_changes: bool,
}

/// What came of a put or a delete.
#[derive(Debug)]
pub struct Outcome {
    /// False if a later write of the key was there already.
    pub is_newest: bool,
    /// To be awaited before the write is acknowledged: by the durability that
    /// was asked for, or because more is queued, or for longer, than may be.
    pub committed: Option<Committed>,
}

/// The tree as it is at a cut.
#[derive(Clone)]
pub struct Snapshot {
    /// Updates with a time below this are in the tree, later ones are not.
    pub cut: u64,
    /// The tree.
    pub tree: Tree,
}

impl Snapshot {
    /// The root. O(changed nodes) since it was last asked for.
    #[must_use]
    pub fn root(&self) -> RootHash {
        let Ok(root) = self.tree.root();
        root
    }
}

/// What is still on its way into the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Updates that are not committed yet.
    pub uncommitted: usize,
    /// Bytes of these.
    pub uncommitted_bytes: usize,
    /// Cells of which a newer version is not settled yet.
    pub unsettled: usize,
}

/// What the handle and the thread share.
struct Shared {
    /// Of the storage, for the log.
    name: String,
    options: Options,
    clock: Clock,
    store: Box<dyn Store>,
    inbox: Inbox,
    rules: Arc<MergeRules>,
    settled: RwLock<Settled>,
    folds: Folds,
    quarantine: Quarantine,
    roots: RwLock<Roots>,
    on_root: OnceLock<OnRoot>,
    commits: Arc<Commits>,
    counters: Counters,
    disk_bytes: AtomicU64,
    /// The last field, so that it is dropped when the store is closed.
    _when_closed: Box<dyn Send + Sync>,
}

impl Shared {
    /// The tree, as it is now. What is done with it keeps nobody waiting.
    fn tree(&self) -> Tree {
        self.settled().tree()
    }

    fn settled(&self) -> RwLockReadGuard<'_, Settled> {
        self.settled.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A replica of a map, over a store.
///
/// Dropping it closes it: what was handed over is committed, on the thread.
pub struct Replica {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Replica {
    /// Opens a replica over what is in `store`. O(n): one scan of it. Blocks on
    /// disk.
    ///
    /// `when_closed` is dropped when the store has been closed.
    ///
    /// # Errors
    /// If the store cannot be read, or no thread be started.
    pub fn open(
        name: &str,
        store: Box<dyn Store>,
        options: Options,
        rules: Arc<MergeRules>,
        clock: Clock,
        when_closed: impl Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let Loaded {
            mut settled,
            covered,
            quarantined,
            latest,
        } = load(&*store)?;
        if !covered.is_empty() {
            store.remove(&covered)?;
        }
        // What is stored is settled. Should there be cells of a time to come,
        // because the clock was set back, the cut is where they are.
        let cut = cut_at(clock(), options.settle).max(ledger::cut_above(latest));
        settled.set_cut(cut);
        let roots = Roots::new(settled.publish(), options.keep_changes);
        let disk_bytes = store.disk_bytes()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            options,
            clock,
            store,
            rules,
            inbox: Inbox::new(cut, settled.merged_keys()),
            settled: RwLock::new(settled),
            folds: Folds::new(),
            quarantine: Quarantine::new(quarantined),
            roots: RwLock::new(roots),
            on_root: OnceLock::new(),
            commits: Arc::default(),
            counters: Counters::default(),
            disk_bytes: AtomicU64::new(disk_bytes),
            _when_closed: Box::new(when_closed),
        });
        let writer = Writer::new(Arc::clone(&shared), Ledger::new(cut));
        let thread = std::thread::Builder::new()
            .name(format!("mst {name}"))
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Puts a value to `key`, or deletes it: `cell` is what its clients say, which
    /// the strategy that merges the key turns into cells. Costs memory work.
    ///
    /// # Errors
    /// If the write is [refused](Refusal), if the replica [failed](Failure), or if it
    /// is closed. Then nothing is written.
    pub fn put(&self, key: Key, cell: Cell) -> Result<Outcome, ReplicaError> {
        let shared = &*self.shared;
        let counter = match cell.value() {
            Some(_) => &shared.counters.puts,
            None => &shared.counters.deletes,
        };
        if shared.rules.is_lww() {
            let key = CellKey::own(key);
            let checked = self.check(&key, &cell);
            self.count_refused(checked)?;
            return self.write([(key, Arc::new(cell), None)], counter);
        }
        let cells = self.count_refused(self.cells_of(key, cell))?;
        let offered = cells.into_iter();
        let offered = offered.map(|(key, cell)| (key, Arc::new(cell), None));
        self.write(offered.collect::<Vec<_>>(), counter)
    }

    /// The cells that a put writes, each of which may be written.
    fn cells_of(&self, key: Key, cell: Cell) -> Result<Vec<(CellKey, Cell)>, Refusal> {
        let stamp = cell.stamp;
        // What is too large is not taken to pieces.
        let own = CellKey::own(key);
        self.check(&own, &cell)?;
        let key = own.key;
        let written = self.shared.rules.write(&key, cell)?;
        let cells = written.into_iter().map(|(part, content)| {
            let key = key.clone();
            (CellKey { key, part }, Cell { stamp, content })
        });
        let cells: Vec<_> = cells.collect();
        for (key, cell) in &cells {
            self.check(key, cell)?;
        }
        Ok(cells)
    }

    fn write(
        &self,
        cells: impl IntoIterator<Item = Offered>,
        counter: &Counter,
    ) -> Result<Outcome, ReplicaError> {
        let shared = &*self.shared;
        let patience = match shared.options.durability {
            Durability::Always => Duration::ZERO,
            Durability::Interval => shared.options.sync_every,
            Durability::None => Duration::MAX,
        };
        match shared.inbox.offer(cells, patience, &shared.settled) {
            Offer::Closed => {
                shared.commits.check()?;
                Err(ReplicaError::Closed)
            }
            Offer::Outdated => {
                counter.add();
                shared.counters.outdated.add();
                Ok(Outcome {
                    is_newest: false,
                    committed: None,
                })
            }
            Offer::Taken {
                sequence,
                is_newest,
                wait,
            } => {
                counter.add();
                if !is_newest {
                    shared.counters.outdated.add();
                }
                Ok(Outcome {
                    is_newest,
                    committed: wait.then(|| Commits::committed(&shared.commits, sequence)),
                })
            }
        }
    }

    /// Joins a cell that another replica holds: as [`put`](Self::put), but it is
    /// counted as merged.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn merge(&self, key: CellKey, cell: Cell) -> Result<Outcome, ReplicaError> {
        self.join((key, Arc::new(cell), None))
    }

    /// As [`merge`](Self::merge), of a cell that was hashed before: this is what came of
    /// it.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn merge_hashed(
        &self,
        key: CellKey,
        cell: Cell,
        meta: CellMeta,
    ) -> Result<Outcome, ReplicaError> {
        self.join((key, Arc::new(cell), Some(Box::new(meta))))
    }

    fn join(&self, offered: Offered) -> Result<Outcome, ReplicaError> {
        let (key, cell, _) = &offered;
        let checked = self.check(key, cell);
        self.count_refused(checked)?;
        self.write([offered], &self.shared.counters.merged)
    }

    fn count_refused<T>(&self, checked: Result<T, Refusal>) -> Result<T, Refusal> {
        checked.inspect_err(|_| self.shared.counters.refused.add())
    }

    fn check(&self, key: &CellKey, cell: &Cell) -> Result<(), Refusal> {
        let allowed = self.shared.options.max_clock_drift;
        let now = (self.shared.clock)();
        if cell.stamp.time > now.saturating_add(ntp64_span(allowed)) {
            return Err(Refusal::AheadOfClock {
                stamp: cell.stamp,
                now,
                allowed,
            });
        }
        let bytes = key.canonical_len();
        if bytes > MAX_KEY_BYTES {
            return Err(Refusal::KeyTooLong { bytes });
        }
        if key.key.has_too_many_chunks() {
            return Err(Refusal::TooManyChunks);
        }
        let bytes = cell.value_bytes();
        if bytes > MAX_VALUE_BYTES {
            return Err(Refusal::ValueTooLong { bytes });
        }
        Ok(())
    }

    /// How many keys there are to be shown, about. O(1).
    #[must_use]
    pub fn keys_hint(&self) -> usize {
        self.shared.settled().len() + self.queues().unsettled
    }

    /// The tree as it is at the last cut. Waits for a batch that is on its way
    /// into the tree.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.inbox.between_batches(|| {
            let settled = self.shared.settled();
            settled.snapshot()
        })
    }

    /// The last root that was made. While updates settle, one is made at each whole
    /// second; when none do, after a twentieth of a second.
    #[must_use]
    pub fn published(&self) -> Published {
        self.roots().published()
    }

    /// The roots that the tree has had.
    pub fn roots(&self) -> RwLockReadGuard<'_, Roots> {
        let roots = self.shared.roots.read();
        roots.unwrap_or_else(PoisonError::into_inner)
    }

    /// The cut of this moment: what has a time below it is settled, or about to
    /// be.
    #[must_use]
    pub fn cut(&self) -> u64 {
        cut_at((self.shared.clock)(), self.shared.options.settle)
    }

    /// Has `tell` called whenever a root was made, or one was found to cover more
    /// updates than before. It is called on the thread that commits: it must not
    /// block. Only the first that is given is called.
    pub fn on_root(&self, tell: impl Fn() + Send + Sync + 'static) {
        // Whoever comes second has no use for it.
        let _ = self.shared.on_root.set(Box::new(tell));
    }

    /// What is still on its way into the tree.
    #[must_use]
    pub fn queues(&self) -> Queues {
        self.shared.inbox.queues()
    }

    /// What has happened since the replica was opened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    /// Bytes on disk, as of the last root that was made.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes.load(Ordering::Relaxed)
    }

    /// Why the replica takes no more writes, if it does not.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.shared.commits.failure()
    }

    /// Commits all that was handed over, and returns when that is done. Blocks
    /// on disk.
    ///
    /// # Errors
    /// If the store failed.
    pub fn sync(&self) -> Result<(), ReplicaError> {
        let sequence = self.shared.inbox.request_commit();
        self.shared.commits.wait(sequence)
    }

    /// Has all that was handed over committed now, and returns the number of the
    /// last of it: when [`Roots::covered`] is as high, the root covers it.
    pub fn request_commit(&self) -> u64 {
        self.shared.inbox.request_commit()
    }

    /// Waits until nothing is pending, or `deadline`; true if nothing is.
    /// Updates of a time to come are pending until then.
    #[must_use]
    pub fn wait_until_settled(&self, deadline: Instant) -> bool {
        self.shared.inbox.wait_until_settled(deadline)
    }

    /// Begins to close the replica: no more is taken, what was handed over is
    /// committed.
    pub fn begin_close(&self) {
        self.shared.inbox.close();
    }

    /// After [`begin_close`](Self::begin_close): returns when all is committed
    /// and the store only has to be dropped. Blocks on disk.
    pub fn wait_until_closed(&self) {
        self.shared.commits.wait_until_closed();
    }

    /// Closes the replica: commits what was handed over, and returns when the
    /// store is closed. Blocks on disk.
    ///
    /// # Errors
    /// If the store failed, now or before.
    pub fn close(mut self) -> Result<(), ReplicaError> {
        self.begin_close();
        let thread = self.thread.take().map(JoinHandle::join);
        self.shared.commits.check()?;
        match thread {
            Some(Err(_)) => Err(ReplicaError::Closed),
            _ => Ok(()),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.begin_close();
    }
}
