//! A replica that writes, and tells the recording what it has promised.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, rngs::StdRng};
use serde_json::json;
use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    collection::kept::Kept,
    config::{Durability, MergeConfig, StorageConfig},
    merge::{Lifetimes, MergeRules},
    replica::{BUCKET, Options, Replica, Tuning},
    store::{
        CellStore, Commit, DurableStore, KeyWalk, QuarantineStore, RowBatch, RowHead, StoreError,
        StoreTuning, StoreView, Versioned,
    },
};
use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use super::{
    history::{Group, History},
    interposer::Interposer,
};

pub const CACHE: u64 = 4 << 20;
const SYNC_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// Files that are so small that a short run fills many.
pub const SMALL: StoreTuning = StoreTuning {
    log_file: 6 << 10,
    log_kept: 18 << 10,
    slack: 64 << 10,
};

/// Marks of a recording: so many groups are being appended, or were, and are synced; and the clock shows a time.
pub const BEGUN: &str = "begun ";
pub const SYNCED: &str = "synced ";
pub const CLOCK: &str = "clock ";

/// The store, and a history of its log.
struct Told {
    store: DurableStore,
    history: Arc<Mutex<History>>,
    disk: Arc<Interposer>,
}

impl CellStore for Told {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, RowHead)) -> Result<(), StoreError> {
        self.store.scan(visit)
    }

    fn append<'a>(
        &self,
        group: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        commit: Commit,
    ) -> Result<u64, StoreError> {
        let group: Vec<(CellKey, Cell)> = group
            .map(|(key, cell)| (key.clone(), cell.clone()))
            .collect();
        let mut history = self.history.lock().expect("no panic");
        let versions = group.iter();
        let versions = versions.map(|(key, cell)| (key.clone(), Version::of(key, cell)));
        history.append(versions.collect());
        let groups = history.groups.len();
        drop(history);
        self.disk.mark(&format!("{BEGUN}{groups}"));
        let mut cells = group.iter().map(|(key, cell)| (key, cell));
        let number = self.store.append(&mut cells, commit)?;
        if commit == Commit::Synced {
            self.history.lock().expect("no panic").synced = groups;
            self.disk.mark(&format!("{SYNCED}{groups}"));
        }
        Ok(number)
    }

    fn apply(&self, batch: &RowBatch) -> Result<(), StoreError> {
        self.store.apply(batch)
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        self.store.read(key, at_least)
    }

    fn peek(&self, key: &CellKey, at_least: Version) -> Option<Arc<Cell>> {
        self.store.peek(key, at_least)
    }

    fn cache(&self, cells: &mut dyn Iterator<Item = Versioned>) {
        self.store.cache(cells);
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.store.disk_bytes()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }

    /// Whenever it is asked for.
    fn wants_rewrite(&self, _: bool) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn rewrite(&self, walk: &mut KeyWalk<'_>) -> Result<bool, StoreError> {
        self.store.rewrite(walk)
    }

    fn collection(&self) -> Result<Kept, StoreError> {
        self.store.collection()
    }

    fn keep_collection(&self, kept: &Kept) -> Result<(), StoreError> {
        self.store.keep_collection(kept)
    }

    fn set_aside(&self, cells: &[(CellKey, Arc<Cell>)]) -> Result<(), StoreError> {
        self.store.set_aside(cells)
    }

    fn aside(&self, visit: &mut dyn FnMut(CellKey, Cell)) -> Result<(), StoreError> {
        self.store.aside(visit)
    }

    fn drop_aside(&self) -> Result<(), StoreError> {
        self.store.drop_aside()
    }

    fn view(&self) -> Box<dyn StoreView> {
        self.store.view()
    }
}

impl QuarantineStore for Told {
    fn quarantine(&self, key: &CellKey, version: &Version) -> Result<(), StoreError> {
        self.store.quarantine(key, version)
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, Version)>, StoreError> {
        self.store.quarantined()
    }
}

/// Counters, sets and objects among keys of which the last writer wins.
pub fn rules() -> Arc<MergeRules> {
    Arc::new(merge_rules())
}

fn merge_rules() -> MergeRules {
    let rule = |keys: &str, strategy: &str| {
        let keys = OwnedKeyExpr::new(keys).expect("a key expression");
        (keys, strategy.into())
    };
    let config = MergeConfig {
        keys: vec![
            rule("power/count/*", "additive"),
            rule("power/object/*", "object"),
            rule("power/set/*", "set_union"),
        ],
        ..MergeConfig::default()
    };
    let all = keyexpr::new("power/**").expect("a key expression");
    MergeRules::new(&config, all, None).expect("the rules")
}

/// The same, and all but objects live for as long as it takes to write some hundred cells.
pub fn fading_rules() -> Arc<MergeRules> {
    let lives = json!({ "power/last/*": "2s", "power/count/*": "2s", "power/set/*": "3s" });
    let config = StorageConfig::parse("power", json!({ "lifetimes": lives })).expect("valid");
    let all = keyexpr::new("power/**").expect("a key expression");
    let lifetimes = Lifetimes::new(&config.lifetimes, all, None).expect("they match");
    let rules = merge_rules().with_lifetimes(lifetimes);
    Arc::new(rules.expect("they may fade"))
}

fn options(durability: Durability) -> Options {
    Options {
        durability,
        sync_every: SYNC_EVERY,
        settle: Duration::from_millis(200),
        max_clock_drift: Duration::from_secs(3600),
        keep_changes: true,
        collect_after: None,
        died_until: None,
    }
}

/// Bursts of a few updates, steps of a few cells and rows.
fn tuning() -> Tuning {
    Tuning {
        group: 16,
        sift_bytes: 1 << 10,
        joined_at_once: 8,
        applied_at_once: 6,
        hashed_at_once: 8,
        burst_updates: 12,
        max_deferred: 60,
        ..Tuning::default()
    }
}

/// A replica whose clock a test sets.
pub struct Writer {
    pub replica: Replica,
    pub history: Arc<Mutex<History>>,
    clock: Clock,
    /// The number of the next write, by which it is stamped.
    next: u64,
    /// Of so many keys the last writer wins.
    keys: u32,
    durability: Durability,
}

/// The clock of a replica, which only goes ahead. If what it shows makes a difference to what there must be,
/// the recording has it.
#[derive(Clone)]
struct Clock {
    time: Arc<AtomicU64>,
    disk: Option<Arc<Interposer>>,
}

impl Clock {
    fn get(&self) -> u64 {
        self.time.load(Ordering::SeqCst)
    }

    /// Told before it is so: nothing has died by a time that the recording has not.
    fn set(&self, time: u64) {
        if let Some(disk) = &self.disk
            && self.get() / BUCKET != time / BUCKET
        {
            disk.mark(&format!("{CLOCK}{time}"));
        }
        self.time.store(time, Ordering::SeqCst);
    }
}

impl Writer {
    pub fn open(
        folder: &Path,
        durability: Durability,
        history: History,
        disk: &Arc<Interposer>,
    ) -> Result<Self, String> {
        let before = history.before.iter();
        let latest = before.map(|(_, version)| version.timestamp.time).max();
        let latest = latest.max(Some(history.died).filter(|died| *died > 0));
        let next = latest.map_or(1, |latest| clock_steps(latest) + 40);
        let rules = Arc::clone(&history.rules);
        let history = Arc::new(Mutex::new(history));
        let store = Told {
            store: DurableStore::open_tuned(folder, CACHE, SMALL).map_err(|e| e.to_string())?,
            history: Arc::clone(&history),
            disk: Arc::clone(disk),
        };
        let is_fading = !rules.lifetimes().is_empty();
        // Of few keys nothing gets old.
        let keys = if is_fading { 40 } else { 6 };
        let clock = Clock {
            time: Arc::default(),
            disk: is_fading.then(|| Arc::clone(disk)),
        };
        clock.set(time_of(next));
        let told = clock.clone();
        let replica = Replica::open_tuned(
            "power",
            Box::new(store),
            options(durability),
            rules,
            Arc::new(move || told.get()),
            (),
            tuning(),
        );
        Ok(Self {
            replica: replica.map_err(|error| error.to_string())?,
            history,
            clock,
            next,
            keys,
            durability,
        })
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no panic")
    }

    /// Puts or deletes some key. Fails if the replica has failed.
    pub fn write(&mut self, random: &mut StdRng) -> Result<(Key, Cell), String> {
        let number = self.next;
        self.next += 1;
        let (key, cell) = any_write(number, self.keys, random);
        self.clock.set(time_of(number));
        let cells = versions_of(&key, &cell);
        self.history().written.extend(cells);
        let put = self.replica.put(key.clone(), cell.clone());
        let outcome = put.map_err(|error| error.to_string())?;
        if let Some(committed) = outcome.committed {
            committed.wait().map_err(|error| error.to_string())?;
            if self.durability == Durability::Always {
                self.assert_promised(&key, &cell);
            }
        }
        Ok((key, cell))
    }

    /// Writes of another writer, which may be made at the same time.
    pub fn some_writes(&self, writer: usize, count: usize) -> Vec<(Key, Cell)> {
        let write = |number: usize| {
            let key = OwnedKeyExpr::new(format!("power/last/{writer}/{number}"));
            let payload = Bytes::from(format!("{writer} {number}"));
            let value = Value {
                encoding_id: 0,
                schema: None,
                attachment: None,
                payload,
            };
            let timestamp = Timestamp {
                time: time_of(self.next) + number as u64,
                id: [1 + writer as u8; 16],
            };
            let content = Content::Value(value);
            (
                Key::from(Some(key.expect("a key expression"))),
                Cell { timestamp, content },
            )
        };
        (0..count).map(write).collect()
    }

    /// What was acknowledged is in the log.
    pub fn assert_promised(&self, key: &Key, cell: &Cell) {
        let cells = &self.history().cells;
        for (key, version) in versions_of(key, cell) {
            assert!(
                cells.has_heard_of(&key, version),
                "{key:?} is acknowledged and in no group"
            );
        }
    }

    /// Some time passes.
    fn pass(&mut self, buckets: u64) {
        self.next += 20 * buckets;
        self.clock.set(time_of(self.next));
    }

    /// Has all that was written come to its rows.
    pub fn settle(&mut self) -> Result<(), String> {
        self.pass(10);
        self.replica.sync().map_err(|error| error.to_string())?;
        let deadline = Instant::now() + PATIENCE;
        while !self
            .replica
            .wait_until_settled(Instant::now() + Duration::from_millis(2))
        {
            if let Some(failure) = self.replica.failure() {
                return Err(failure.to_string());
            }
            assert!(Instant::now() < deadline, "it does not settle");
        }
        Ok(())
    }

    /// Writes large values until the engine's journal has about so many bytes.
    pub fn fill_journal(&mut self, journal: &Path, bytes: usize) -> Result<(), String> {
        const LARGE: usize = 60_000;
        let mut written = 0;
        while written < bytes {
            for key in 0..6 {
                let payload = vec![1; LARGE];
                written += payload.len();
                let number = self.next;
                self.next += 1;
                self.clock.set(time_of(number));
                let name = OwnedKeyExpr::new(format!("power/last/{key}"));
                let value = Value {
                    encoding_id: 0,
                    schema: None,
                    attachment: None,
                    payload: Bytes::from(payload),
                };
                let timestamp = Timestamp {
                    time: time_of(number),
                    id: [1; 16],
                };
                let content = Content::Value(value);
                let cell = Cell { timestamp, content };
                let key = Key::from(Some(name.expect("a key expression")));
                let put = self.replica.put(key, cell);
                put.map_err(|error| error.to_string())?;
            }
            self.settle()?;
        }
        match journal.exists() {
            true => Ok(()),
            false => Err("the journal was given up too early".to_owned()),
        }
    }

    /// Takes a checkpoint, and reads it.
    fn checkpoint(&mut self) -> Result<(), String> {
        let (clock, replica) = (&self.clock, &self.replica);
        let checkpoint = thread::scope(|scope| {
            let checkpoint = scope.spawn(|| replica.checkpoint());
            while !checkpoint.is_finished() {
                clock.set(clock.get() + BUCKET / 4);
                thread::sleep(Duration::from_micros(200));
            }
            checkpoint.join().expect("no panic")
        });
        let checkpoint = checkpoint.map_err(|error| error.to_string())?;
        let is_read = checkpoint.for_each(|key, _, cell| {
            assert!(cell.is_some(), "{key:?} cannot be read");
            true
        });
        is_read.map_err(|error| error.to_string())?;
        let root = {
            let history = self.history();
            let lifetimes = history.rules.lifetimes();
            history.cells.root_at(lifetimes, checkpoint.cut)
        };
        assert_eq!(checkpoint.root(), root);
        let passed = clock_steps(self.clock.get());
        self.next = self.next.max(passed);
        Ok(())
    }

    fn scrub(&self) -> Result<(), String> {
        let scrubbed = self
            .replica
            .scrub(None, usize::MAX)
            .map_err(|error| error.to_string())?;
        assert!(scrubbed.damaged.is_empty(), "{:?}", scrubbed.damaged);
        Ok(())
    }

    /// Has all rows written anew while others are being written.
    fn rewrite(&mut self, random: &mut StdRng) -> Result<(), String> {
        let mut written = Vec::new();
        for _ in 0..random.gen_range(0..30) {
            written.push(self.write(random)?);
        }
        self.pass(random.gen_range(0..10));
        let rewritten = self.replica.tidy().map_err(|error| error.to_string())?;
        if let Some(failure) = self.replica.failure() {
            return Err(failure.to_string());
        }
        assert!(rewritten, "it was asked for");
        self.replica.sync().map_err(|error| error.to_string())?;
        let written = written.iter();
        written.for_each(|(key, cell)| self.assert_promised(key, cell));
        Ok(())
    }

    /// Writes for a while.
    pub fn run(&mut self, steps: usize, random: &mut StdRng) -> Result<(), String> {
        for _ in 0..steps {
            match random.gen_range(0..20) {
                0 => self.checkpoint()?,
                1 => self.scrub()?,
                2 | 3 => self.settle()?,
                6 => self.rewrite(random)?,
                kind => {
                    let burst = match kind {
                        4 | 5 => random.gen_range(10..40),
                        _ => random.gen_range(1..4),
                    };
                    let mut written = Vec::new();
                    for _ in 0..burst {
                        written.push(self.write(random)?);
                    }
                    self.replica.sync().map_err(|error| error.to_string())?;
                    let written = written.iter();
                    written.for_each(|(key, cell)| self.assert_promised(key, cell));
                }
            }
        }
        Ok(())
    }
}

/// The cells that a put writes.
fn versions_of(key: &Key, cell: &Cell) -> Group {
    let timestamp = cell.timestamp;
    let written = rules().write(key, cell.clone()).expect("it can be taken");
    let cells = written.into_iter().map(|(part, content)| {
        let key = key.clone();
        let key = CellKey { key, part };
        let version = Version::of(&key, &Cell { timestamp, content });
        (key, version)
    });
    cells.collect()
}

fn time_of(number: u64) -> u64 {
    1_000 * BUCKET + number * (BUCKET / 20)
}

/// The number of the first write after this time.
fn clock_steps(time: u64) -> u64 {
    (time - 1_000 * BUCKET) / (BUCKET / 20) + 1
}

fn any_write(number: u64, keys: u32, random: &mut StdRng) -> (Key, Cell) {
    let key = random.gen_range(0..keys);
    let kind = random.gen_range(0..10);
    let (name, payload): (_, Option<Vec<u8>>) = match kind {
        0 => (
            format!("power/count/{}", key % 2),
            Some(key.to_string().into_bytes()),
        ),
        1 | 2 => {
            let element = random.gen_range(0..9);
            let put = match random.gen_bool(0.7) {
                true => format!("{{\"add\":[{element},\"{element}\"]}}"),
                false => format!("{{\"remove\":[{element}]}}"),
            };
            (format!("power/set/{}", key % 2), Some(put.into_bytes()))
        }
        3 => {
            let put = format!("{{\"a{key}\":{number},\"b\":\"{number}\"}}");
            (format!("power/object/{}", key % 2), Some(put.into_bytes()))
        }
        4 => {
            let kind = ["count", "set", "object", "last", "last"][random.gen_range(0..5)];
            (format!("power/{kind}/{}", key % 2), None)
        }
        5 => {
            // It has a row of its own. Some are zeros, as a sector that was not written is.
            let mut payload = vec![0; random.gen_range(1_025..4_000)];
            if random.gen_bool(0.6) {
                random.fill(&mut payload[..]);
            }
            (format!("power/last/{key}"), Some(payload))
        }
        _ => {
            let mut payload = vec![0; random.gen_range(0..300)];
            random.fill(&mut payload[..]);
            (format!("power/last/{key}"), Some(payload))
        }
    };
    let content = payload.map_or(Content::Tombstone, |payload| {
        Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: number
                .is_multiple_of(7)
                .then(|| number.to_be_bytes()[..].into()),
            payload: Bytes::from(payload),
        })
    });
    let timestamp = Timestamp {
        time: time_of(number),
        id: [1; 16],
    };
    let key = OwnedKeyExpr::new(name).expect("a key expression");
    (Key::from(Some(key)), Cell { timestamp, content })
}
