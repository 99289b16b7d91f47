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
//! **Who does what.** [`Replica::put`] costs memory work and a hand-over. A thread takes what has
//! gathered, appends it to the write-ahead log in one group, and tells the writers. When the
//! watermark passes, it applies the updates of a bucket: to the tree, and to the rows of the store,
//! so that rows are the tree. Where there is no store, the tree holds the cells themselves.
//!
//! What the thread does is decided by the core (`core`), which has no I/O and no clock, and which the
//! simulation of replication drives as well.
//!
//! ```
//! use std::{sync::Arc, time::{Duration, SystemTime}};
//! use zenoh_backend_mst::{
//!     cell::{ntp64_span, Cell, Content, Key, Timestamp, Value},
//!     config::Durability,
//!     merge::{Form, MergeRules},
//!     replica::{Clock, Lookup, Options, Replica},
//!     store::MemoryStore,
//! };
//! use zenoh_keyexpr::OwnedKeyExpr;
//!
//! let clock: Clock = Arc::new(|| {
//!     let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
//!     ntp64_span(now.expect("after 1970"))
//! });
//! let options = Options {
//!     durability: Durability::None,
//!     sync_every: Duration::from_millis(100),
//!     settle: Duration::from_millis(10),
//!     max_clock_drift: Duration::from_secs(1),
//!     keep_changes: false,
//!     collect_after: None,
//!     died_until: None,
//! };
//! let rules = Arc::new(MergeRules::lww());
//! let store = Box::new(MemoryStore);
//! let replica = Replica::open("demo", store, options, rules, Arc::clone(&clock), ())?;
//!
//! let key = Key::from(OwnedKeyExpr::new("robots/7/battery").ok());
//! let cell = Cell {
//!     timestamp: Timestamp { time: clock(), id: [1; 16] },
//!     content: Content::Value(Value {
//!         encoding_id: 0,
//!         schema: None,
//!         attachment: None,
//!         payload: "80 %".into(),
//!     }),
//! };
//! assert!(replica.put(key.clone(), cell.clone())?.is_newest);
//!
//! // A get finds it at once.
//! let Lookup::Found(found) = replica.get(&key, Form::Native) else {
//!     panic!("there is a value");
//! };
//! assert_eq!(*found, cell);
//!
//! // A snapshot has it when the watermark has passed it.
//! let snapshot = replica.checkpoint()?;
//! assert_eq!(snapshot.tree.len(), 1);
//! println!("the root at {} is {}", snapshot.cut, snapshot.root());
//! replica.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | `write` | the queue, what is pending, acknowledgements, deferral in a burst |
//! | `core` | the states of a replica: committing, applying, roots |
//! | `apply` | the watermark, updates by time bucket, the tree |
//! | `roots` | the roots that the tree has had, and what has changed since |
//! | `read` | gets, listings, folds of keys of several cells, snapshots |
//! | `integrity` | what the tree says, compared with what the disk has |
//! | `collection` | how far the collection is, for operators |
//! | `state` | what all of them share |
//! | `wrong_clock` | what is told of a clock that is behind |
//! | `thread` | the threads that drive the core |

mod apply;
mod collection;
mod core;
mod counters;
mod error;
mod integrity;
mod read;
mod roots;
#[cfg(test)]
mod simulated;
mod state;
#[cfg(test)]
mod tests;
mod thread;
mod tuning;
mod write;
mod wrong_clock;

use std::{
    sync::{
        Arc, OnceLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use apply::{
    entry::TreeEntry,
    tree::Tree,
    watermark::{BUCKET, cut_at},
};
pub use collection::{
    Adoption, CollectionProgress, CollectionState, Discarded, MemberState, Order,
};
pub use counters::{Counters, Counts};
pub use error::{Failure, GetError, OpenError, Refusal, ReplicaError};
pub use integrity::{Damage, Scrubbed};
pub use read::{
    Lookup, Stored,
    listing::{Keys, Listing},
    snapshot::Snapshot,
};
pub use roots::{Comparison, Life, RootHistory, RootInfo, Span, change_log::Change};
#[cfg(test)]
pub(crate) use simulated::{Image, Lost, Medium, SimulatedReplica, check_promised, ideal};
pub(crate) use tuning::Now;
pub use tuning::Tuning;
pub use write::{acks::Committed, refusals::RefusedWrite};

use apply::loading::{Loaded, load};
use read::fold_cache::Folds;
use state::State;
use thread::Driver;

use crate::{
    cell::{CellKey, Timestamp},
    config::Durability,
    merge::{Lifetimes, MergeRules},
    store::{RowBatch, Store},
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
    /// What is deleted is collected when it is so old; and then nothing older is taken. If it is
    /// `None` nothing is collected.
    pub collect_after: Option<Duration>,
    /// The watermark by which cells are known to have died, if the storage was open before.
    pub died_until: Option<u64>,
}

impl Options {
    /// How long updates may be acknowledged and not committed: whoever writes when the oldest of them
    /// is older waits.
    fn patience(&self) -> Duration {
        match self.durability {
            Durability::Always => Duration::ZERO,
            Durability::Interval => self.sync_every,
            Durability::None => Duration::MAX,
        }
    }
}

/// What came of a put or a delete.
#[derive(Debug)]
pub struct Outcome {
    /// False if a later write of the key was there already.
    pub is_newest: bool,
    /// To be awaited before the write is acknowledged: by the durability that
    /// was asked for, or because more is queued, or for longer, than may be.
    pub committed: Option<Committed>,
    /// Whether more is queued than may be: who writes on without waiting makes it
    /// longer still.
    pub is_full: bool,
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

/// Cells that have a lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FadingCells {
    /// How many are in the tree, about.
    pub cells: usize,
    /// By how much deaths are behind the clock, in NTP64: it leapt, and nothing has confirmed it.
    pub held: u64,
}

/// What the handle and the threads share.
struct Shared {
    state: Arc<State>,
    clock: Clock,
    store: Box<dyn Store>,
    rules: Arc<MergeRules>,
    folds: Folds,
    on_root: OnceLock<OnRoot>,
    disk_bytes: AtomicU64,
    /// Commits when one looked last whether the store has to be tidied.
    committed_at_last_tidying: AtomicU64,
    refuses_writes: AtomicBool,
    /// The last field, so that it is dropped when the store is closed.
    _when_closed: Box<dyn Send + Sync>,
}

impl Shared {
    fn now(&self) -> Now {
        Now {
            clock: (self.clock)(),
            monotonic: self.state.queue.now(),
        }
    }

    /// The tree at the last cut, and its rows.
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        let snapshot = self.state.queue.gate.between_batches(|| {
            let applied = self.state.applied();
            Snapshot::new(applied.cut(), applied.tree(), self.store.view())
        });
        match snapshot {
            Some(snapshot) => Ok(snapshot),
            None => {
                self.state.commits.check()?;
                Err(ReplicaError::Closed)
            }
        }
    }

    /// The size on disk, as it is shown.
    fn measure(&self) {
        match self.store.disk_bytes() {
            Ok(bytes) => self.disk_bytes.store(bytes, Ordering::Relaxed),
            Err(error) => {
                let name = &self.state.name;
                tracing::warn!("storage '{name}': its size on disk is not known: {error}");
            }
        }
    }

    /// A root was made, or it covers more than before.
    fn tell(&self) {
        if let Some(tell) = self.on_root.get() {
            tell();
        }
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
        Self::open_tuned(
            name,
            store,
            options,
            rules,
            clock,
            when_closed,
            Tuning::default(),
        )
    }

    /// As [`open`](Self::open), with sizes and spans of one's own.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn open_tuned(
        name: &str,
        store: Box<dyn Store>,
        options: Options,
        rules: Arc<MergeRules>,
        clock: Clock,
        when_closed: impl Send + Sync + 'static,
        tuning: Tuning,
    ) -> Result<Self, OpenError> {
        let Loaded {
            mut tree,
            mut covered,
            put_rules,
            quarantined,
            replaced,
            latest,
        } = load(&*store)?;
        let by_clock = cut_at(clock(), options.settle);
        let lifetimes = Arc::clone(rules.lifetimes());
        covered.extend(tree.begin(lifetimes, by_clock, latest, options.died_until));
        // What a crash left behind, and what has died meanwhile.
        let leftovers = RowBatch {
            removes: covered,
            released: replaced,
            ..RowBatch::default()
        };
        if !leftovers.is_empty() {
            store.apply(&leftovers)?;
        }
        let kept = store.collection()?;
        let disk_bytes = store.disk_bytes()?;
        // Readers find the values of rules in memory.
        let (mut puts, mut damaged) = (Vec::new(), Vec::new());
        for (key, version) in put_rules {
            match store.read(&key, version) {
                Ok(Some(cell)) if cell.timestamp == version.timestamp => puts.push((key, cell)),
                Ok(_) => damaged.push((key, version)),
                Err(error) if error.is_damage() => damaged.push((key, version)),
                Err(error) => return Err(error.into()),
            }
        }
        let shared = Arc::new(Shared {
            state: Arc::new(State::new(
                name,
                options,
                tuning,
                tree,
                puts,
                quarantined,
                kept,
            )),
            clock,
            store,
            rules,
            folds: Folds::new(),
            on_root: OnceLock::new(),
            disk_bytes: AtomicU64::new(disk_bytes),
            committed_at_last_tidying: AtomicU64::new(u64::MAX),
            refuses_writes: AtomicBool::new(false),
            _when_closed: Box::new(when_closed),
        });
        let died = options.died_until.unwrap_or_default();
        let what = "the time by which values have died here before";
        shared.state.tell_if_behind(by_clock, died, what);
        if !damaged.is_empty() {
            shared
                .state
                .queue
                .request(write::request::Request::Mend(damaged));
        }
        let driver = Driver::new(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name(format!("mst {name}"))
            .spawn(move || driver.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How many keys there are to be shown, about. O(1).
    #[must_use]
    pub fn keys_hint(&self) -> usize {
        self.shared.state.applied().len() + self.queues().unsettled
    }

    /// The tree as it is at the last cut, and its cells. Waits for a batch that is being applied.
    ///
    /// # Errors
    /// If the replica failed while a batch was half applied.
    pub fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        self.shared.snapshot()
    }

    /// The tree as it is now, be a batch half applied.
    #[must_use]
    pub fn current_tree(&self) -> Tree {
        self.shared.state.current_tree()
    }

    /// The last root that was made. While updates settle, one is made at each whole
    /// second; when none do, after a twentieth of a second.
    #[must_use]
    pub fn published(&self) -> RootInfo {
        self.roots().published()
    }

    /// The roots that the tree has had.
    pub fn roots(&self) -> RwLockReadGuard<'_, RootHistory> {
        self.shared.state.roots()
    }

    /// The cut of this moment: what has a time below it is settled, or about to be.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.shared.state.cut_at((self.shared.clock)())
    }

    /// Has `tell` called whenever a root was made, or one was found to cover more
    /// updates than before. It is called on the thread that commits: it must not
    /// block. Only the first that is given is called.
    pub fn on_root(&self, tell: impl Fn() + Send + Sync + 'static) {
        // Whoever comes second has no use for it.
        let _ = self.shared.on_root.set(Box::new(tell));
    }

    /// Has `tell` called with values whose lifetime is over, when they have left the tree; of a batch
    /// of many not with all. It is called on the thread that commits: it must not block. Only the
    /// first that is given is called.
    pub fn on_dead(&self, tell: impl Fn(&[(CellKey, Timestamp)]) + Send + Sync + 'static) {
        // Whoever comes second has no use for it.
        let _ = self.shared.state.on_dead.set(Box::new(tell));
    }

    /// The watermark by which what is dead has left the tree, and is not taken; 0 if no key has a
    /// lifetime.
    #[must_use]
    pub fn died_until(&self) -> u64 {
        self.shared.state.died_until()
    }

    /// Whether deaths are behind the clock, as that leapt, and nothing has confirmed it.
    #[must_use]
    pub fn are_deaths_held(&self) -> bool {
        self.shared.state.held_deaths() > 0
    }

    /// Another clock shows this: that of another replica, or of who stamped a write.
    pub fn witness(&self, theirs: u64) {
        if !self.shared.state.lifetimes.is_empty() {
            self.shared.state.witness(theirs, (self.shared.clock)());
        }
    }

    /// How long cells are kept.
    #[must_use]
    pub fn lifetimes(&self) -> &Arc<Lifetimes> {
        &self.shared.state.lifetimes
    }

    /// What is in the tree that has a lifetime.
    #[must_use]
    pub fn fading(&self) -> FadingCells {
        FadingCells {
            cells: self.shared.state.applied().deaths().len(),
            held: self.shared.state.held_deaths(),
        }
    }

    /// What is still on its way into the tree.
    #[must_use]
    pub fn queues(&self) -> Queues {
        self.shared.state.queue.queues()
    }

    /// What has happened since the replica was opened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.state.counters.read()
    }

    /// The last writes that were refused, the newest at the end; a few.
    #[must_use]
    pub fn refused_writes(&self) -> Vec<RefusedWrite> {
        self.shared.state.refusals.list()
    }

    /// Bytes on disk, as of the last root that was made.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes.load(Ordering::Relaxed)
    }

    /// Why the replica takes no more writes, if it does not.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.shared.state.commits.failure()
    }

    /// Commits all that was handed over, and returns when that is done. Blocks
    /// on disk.
    ///
    /// # Errors
    /// If the store failed.
    pub fn sync(&self) -> Result<(), ReplicaError> {
        let sequence = self.shared.state.queue.request_commit();
        self.shared.state.commits.wait(sequence)
    }

    /// Has all that was handed over committed now, and returns the number of the
    /// last of it: when [`RootHistory::covered`] is as high, the root covers it.
    pub fn request_commit(&self) -> u64 {
        self.shared.state.queue.request_commit()
    }

    /// Waits until nothing is pending, or `deadline`; true if nothing is.
    /// Updates of a time to come are pending until then.
    #[must_use]
    pub fn wait_until_settled(&self, deadline: Instant) -> bool {
        self.shared.state.queue.wait_until_applied(deadline)
    }

    /// Begins to close the replica: no more is taken, what was handed over is
    /// committed.
    pub fn begin_close(&self) {
        self.shared.state.queue.close();
    }

    /// Whether it is being closed: what goes on at it and takes long has to end.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.shared.state.queue.is_closing()
    }

    /// After [`begin_close`](Self::begin_close): returns when all is committed
    /// and the store only has to be dropped. Blocks on disk.
    pub fn wait_until_closed(&self) {
        self.shared.state.commits.wait_until_closed();
    }

    /// Closes the replica: commits what was handed over, and returns when the
    /// store is closed. Blocks on disk.
    ///
    /// # Errors
    /// If the store failed, now or before.
    pub fn close(mut self) -> Result<(), ReplicaError> {
        self.begin_close();
        let thread = self.thread.take().map(JoinHandle::join);
        self.shared.state.commits.check()?;
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
