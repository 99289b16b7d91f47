//! A process that is killed while it writes loses nothing that it acknowledged.
//!
//! A child writes to a durable replica and says on its standard output what has
//! been acknowledged; the parent kills it (`SIGKILL`) at a random instant, opens
//! the folder, and compares it with a model. Then the next child goes on from
//! there, 200 times with each durability.
//!
//! Some keys are counters, sets and objects, whose puts write several cells, and some
//! writes come in bursts, of which none is waited for before all are made. Every write is a function of its number, so what the folder should hold is
//! known from the number of the last write in it; and as writes are committed in
//! order, it must hold exactly the writes up to that one: none is missing, and no
//! group is half there.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    config::{Durability, MergeConfig},
    merge::{Form, MergeRules},
    mst::{Mst, Resident, RootHash},
    replica::{BUCKET, Clock, Lookup, Options, Replica},
    store::{CellStore, DurableStore, MemoryStore, QuarantineStore},
};
use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

const MODES: [&str; 3] = ["always", "interval", "none"];
/// Of each durability, each of which has as many processes at a time: 200 kills.
const THREADS_EACH: u64 = 2;
const FOLDERS_EACH: u64 = 10;
const KILLS_PER_FOLDER: u64 = 10;
const KEYS: u64 = 300;
/// Keys of each strategy that merges.
const MERGED_KEYS: u64 = 4;
/// Writes that are not waited for before the last of them is made.
const MAX_BURST: u64 = 150;
const CACHE: u64 = 8 << 20;
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// A child that says nothing for this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let args: Vec<String> = env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("--child") => child(Path::new(&args[2]), parse_mode(&args[3]), number(&args[4])),
        Some("--verify") => verify(Path::new(&args[2]), parse_mode(&args[3]), args.len() > 4),
        // The test runner's flags (`--list`, filters) come here too.
        Some("--list") => println!("crash: test"),
        _ => parent(),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn parse_mode(text: &str) -> Durability {
    match text {
        "always" => Durability::Always,
        "interval" => Durability::Interval,
        "none" => Durability::None,
        other => panic!("no such mode: {other}"),
    }
}

/// Write `number`: what key, when, what. Some are deletes, some large, some of a part of a value.
fn write(number: u64) -> (Key, Cell) {
    let mut rng = StdRng::seed_from_u64(number);
    let merged = rng.gen_range(0..MERGED_KEYS);
    let (name, payload) = match rng.gen_range(0..14) {
        0 => (format!("crash/last/{}", rng.gen_range(0..KEYS)), None),
        1 => {
            let kind = ["count", "set", "object"][rng.gen_range(0..3)];
            (format!("crash/{kind}/{merged}"), None)
        }
        2 => {
            let amount = rng.gen_range(-9i64..100).to_string();
            (format!("crash/count/{merged}"), Some(amount.into_bytes()))
        }
        3 => {
            let (one, other) = (rng.gen_range(0..20), rng.gen_range(0..20));
            let put = format!("{{\"add\":[{one},\"{one}\"],\"remove\":[\"-{other}\"]}}");
            (format!("crash/set/{merged}"), Some(put.into_bytes()))
        }
        4 => {
            let fields = (0..rng.gen_range(1..8)).map(|_| rng.gen_range(0..30));
            let fields: Vec<_> = fields
                .map(|field: u32| format!("\"f{field}\":{number}"))
                .collect();
            let put = format!("{{{}}}", fields.join(","));
            (format!("crash/object/{merged}"), Some(put.into_bytes()))
        }
        kind => {
            let length = match kind {
                5 => 3_000,
                _ => rng.gen_range(0..200),
            };
            let mut payload = vec![0u8; length];
            rng.fill(&mut payload[..]);
            let name = format!("crash/last/{}", rng.gen_range(0..KEYS));
            (name, Some(payload))
        }
    };
    let content = payload.map_or(Content::Tombstone, |payload| {
        Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
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

/// How many writes are made from this one on before they are waited for.
fn burst_from(number: u64) -> u64 {
    let mut rng = StdRng::seed_from_u64(!number);
    match rng.gen_range(0..8) {
        0 => rng.gen_range(2..=MAX_BURST),
        _ => 1,
    }
}

/// Counters, sets and objects among keys of which the last writer wins.
fn rules() -> Arc<MergeRules> {
    let rule = |keys: &str, strategy: &str| {
        let keys = OwnedKeyExpr::new(keys).expect("a key expression");
        (keys, strategy.into())
    };
    let config = MergeConfig {
        keys: vec![
            rule("crash/count/*", "additive"),
            rule("crash/object/*", "object"),
            rule("crash/set/*", "set_union"),
        ],
        ..MergeConfig::default()
    };
    let all = keyexpr::new("crash/**").expect("a key expression");
    Arc::new(MergeRules::new(&config, all, None).expect("the rules"))
}

/// What there is after some writes.
#[derive(Default)]
struct Model {
    cells: BTreeMap<CellKey, Version>,
}

impl Model {
    /// Writes are joined in the order of their times.
    fn of(rules: &MergeRules, writes: u64) -> Self {
        let mut model = Self::default();
        for number in 0..writes {
            let (key, cell) = write(number);
            let timestamp = cell.timestamp;
            if matches!(cell.content, Content::Tombstone) {
                // It covers whatever there was.
                model.cells.retain(|held, _| held.key != key);
            }
            for (part, content) in rules.write(&key, cell).expect("it can be taken") {
                let key = key.clone();
                let key = CellKey { key, part };
                let version = Version::of(&key, &Cell { timestamp, content });
                model.cells.insert(key, version);
            }
        }
        model
    }

    fn root(&self) -> RootHash {
        let entries = self.cells.iter();
        let entries = entries.map(|(key, version)| (key.clone(), *version));
        let Ok(root) = Mst::from_sorted(Resident::default(), entries).root();
        root
    }
}

/// Fifty writes to a bucket, so that some are pending whenever it ends.
fn time_of(number: u64) -> u64 {
    1_000 * BUCKET + number * (BUCKET / 50)
}

fn open(path: &Path, durability: Durability, clock: Clock) -> Replica {
    let store = DurableStore::open(path, CACHE).expect("the store opens");
    open_store(store, durability, clock)
}

fn open_store<S: CellStore + QuarantineStore + 'static>(
    store: S,
    durability: Durability,
    clock: Clock,
) -> Replica {
    let options = Options {
        durability,
        sync_every: SYNC_EVERY,
        settle: Duration::from_millis(500),
        max_clock_drift: Duration::from_secs(10),
        keep_changes: false,
        collect_after: None,
        died_until: None,
    };
    let opened = Replica::open("crash", Box::new(store), options, rules(), clock, ());
    opened.expect("the replica opens")
}

/// Writes from number `next` on until it is killed, and says of each write
/// when, in microseconds, it began and was acknowledged.
fn child(path: &Path, durability: Durability, next: u64) {
    let now = Arc::new(AtomicU64::new(time_of(next)));
    let clock = Arc::clone(&now);
    let replica = open(
        path,
        durability,
        Arc::new(move || clock.load(Ordering::Relaxed)),
    );
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "open").expect("the parent listens");
    let start = Instant::now();
    let mut next = next;
    loop {
        let burst: Vec<_> = (next..next + burst_from(next))
            .map(|number| {
                let (key, cell) = write(number);
                now.store(cell.timestamp.time, Ordering::Relaxed);
                let began = start.elapsed().as_micros();
                let outcome = replica.put(key, cell).expect("the write is taken");
                let ended = start.elapsed().as_micros();
                (number, began, ended, outcome.committed)
            })
            .collect();
        for (number, began, mut ended, committed) in burst {
            if let Some(committed) = committed {
                committed.wait().expect("the write is committed");
                ended = start.elapsed().as_micros();
            }
            // In one piece, so that no line is half there.
            let line = format!("{number} {began} {ended}\n");
            stdout
                .write_all(line.as_bytes())
                .expect("the parent listens");
            next = number + 1;
        }
    }
}

/// Compares the folder with the model, and says how many writes it holds. That
/// is all writes up to one.
///
/// A process of its own, so that it can leave the folder as a killed one does;
/// or, `properly`, closed.
fn verify(path: &Path, durability: Durability, properly: bool) {
    let replica = open(path, durability, Arc::new(|| u64::MAX / 2));
    let snapshot = replica.snapshot().expect("sound");
    let Ok(check) = snapshot.tree.check();
    assert_eq!(check, Ok(()));
    let Ok(cells) = snapshot.tree.iter();
    let last = cells
        .map(|cell| {
            let Ok((_, held)) = cell;
            held.timestamp().time
        })
        .max();
    let is_there = |number: &u64| last.is_some_and(|last| time_of(*number) <= last);
    let found = (0..).take_while(is_there).count() as u64;
    assert_eq!(
        snapshot.root(),
        Model::of(&rules(), found).root(),
        "not the writes up to {found}"
    );
    assert_eq!(replica.published().root, snapshot.root());
    // One without a disk, to which the same is put.
    let other = open_store(MemoryStore, durability, Arc::new(|| u64::MAX / 2));
    let mut last: BTreeMap<Key, Cell> = BTreeMap::new();
    for number in 0..found {
        let (key, cell) = write(number);
        other.put(key.clone(), cell.clone()).expect("it is taken");
        last.insert(key, cell);
    }
    for (key, cell) in &last {
        let found = read(&replica, key);
        assert_eq!(found, read(&other, key), "{key:?}");
        if key.to_string().starts_with("crash/last/") {
            let expected = cell.value().map(|_| cell);
            assert_eq!(found.as_deref(), expected, "{key:?}");
        }
    }
    if properly {
        replica.close().expect("the replica closes");
    }
    println!("{found}");
    // Nothing is dropped.
    std::process::exit(0);
}

fn read(replica: &Replica, key: &Key) -> Option<Arc<Cell>> {
    match replica.get(key, Form::Native) {
        Lookup::Absent => None,
        Lookup::Found(cell) => Some(cell),
        Lookup::Stored(stored) => replica.read(&stored).expect("a read"),
    }
}

/// A write that was acknowledged.
struct Acknowledged {
    number: u64,
    began: u64,
    ended: u64,
}

impl Acknowledged {
    /// Nothing, if the line is not whole.
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            number: next()?,
            began: next()?,
            ended: next()?,
        })
    }
}

struct Case {
    folder: PathBuf,
    mode: &'static str,
    rng: StdRng,
    /// The number of the next write.
    next: u64,
    lost: usize,
}

impl Case {
    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.arg(what).arg(&self.folder).arg(self.mode);
        command
    }

    fn round(&mut self) {
        let mut child = self
            .command("--child")
            .arg(self.next.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            let lines = BufReader::new(stdout).split(b'\n');
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let first = lines
            .recv_timeout(PATIENCE)
            .expect("the child opens the folder");
        assert_eq!(first, "open");
        thread::sleep(Duration::from_micros(self.rng.gen_range(0..150_000)));
        child.kill().expect("the child is killed");
        child.wait().expect("the child is gone");
        reader.join().expect("the reader ends");
        let lines: Vec<String> = lines.into_iter().collect();
        let acknowledged: Vec<_> = lines
            .iter()
            .filter_map(|line| Acknowledged::parse(line))
            .collect();

        let found = self.verify();
        let written = acknowledged
            .last()
            .map_or(self.next, |last| last.number + 1);
        // So many more may have been on their way.
        assert!(found <= written + MAX_BURST, "{found} writes of {written}");
        assert!(
            found >= self.next,
            "{found} writes, {} were there before",
            self.next
        );
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|write| write.number >= found)
            .collect();
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            assert_ne!(
                self.mode,
                "always",
                "{} acknowledged writes are lost",
                lost.len()
            );
            // The first was acknowledged after it came to the queue, and the last
            // began before its age was looked at: so this holds to the letter.
            let span = last.began.saturating_sub(first.ended);
            let promise = SYNC_EVERY.as_micros() as u64;
            assert!(
                span <= promise || self.mode == "none",
                "writes of {span} us are lost, {promise} are allowed"
            );
        }
        self.lost += lost.len();
        self.next = found;
    }

    fn verify(&mut self) -> u64 {
        let mut command = self.command("--verify");
        if self.rng.gen_bool(0.3) {
            command.arg("properly");
        }
        let output = command.stderr(Stdio::inherit()).output().expect("it runs");
        assert!(output.status.success(), "{}: {}", self.mode, output.status);
        number(String::from_utf8_lossy(&output.stdout).trim())
    }
}

fn parent() {
    let seed = env::var("MST_CRASH_SEED").map_or_else(|_| rand::random(), |seed| number(&seed));
    let kills = FOLDERS_EACH * KILLS_PER_FOLDER * THREADS_EACH;
    println!("killing a writer {kills} times with each durability; MST_CRASH_SEED={seed}");
    let start = Instant::now();
    let threads: Vec<_> = MODES
        .iter()
        .flat_map(|mode| (0..THREADS_EACH).map(move |thread| (*mode, thread)))
        .map(|(mode, thread)| {
            let first = seed.wrapping_add(thread * FOLDERS_EACH);
            thread::spawn(move || kill_in_folders(mode, first))
        })
        .collect();
    let (mut passed, mut failed) = (0, 0);
    for thread in threads {
        match thread.join() {
            Ok(()) => passed += 1,
            Err(_) => failed += 1,
        }
    }
    println!("{:.1?}", start.elapsed());
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        std::process::exit(1);
    }
}

fn kill_in_folders(mode: &'static str, first_seed: u64) {
    let (mut kept, mut lost) = (0, 0);
    for folder_number in 0..FOLDERS_EACH {
        let folder = tempfile::tempdir().expect("a folder");
        let mut case = Case {
            folder: folder.path().join("store"),
            mode,
            rng: StdRng::seed_from_u64(first_seed.wrapping_add(folder_number)),
            next: 0,
            lost: 0,
        };
        (0..KILLS_PER_FOLDER).for_each(|_| case.round());
        kept += case.next;
        lost += case.lost;
    }
    // A run in which nothing was written would prove nothing.
    assert!(kept > 1_000, "only {kept} writes");
    println!("{mode}: {kept} writes kept, {lost} lost that were not promised");
}
