//! A process that is killed while it writes loses nothing that it acknowledged.
//!
//! A child writes to a durable replica and says on its standard output what has
//! been acknowledged; the parent kills it (`SIGKILL`) at a random instant, opens
//! the folder, and compares it with a model. Then the next child goes on from
//! there, 200 times in all.
//!
//! Every write is a function of its number, so what the folder should hold is
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
    config::Durability,
    merge::{Form, MergeRules},
    mst::{Mst, Resident, RootHash},
    replica::{BUCKET, Clock, Lookup, Options, Replica},
    store::DurableStore,
};

/// Of each durability: 200 kills in all.
const FOLDERS_EACH: u64 = 10;
const KILLS_PER_FOLDER: u64 = 10;
const KEYS: u64 = 300;
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
        other => panic!("no such mode: {other}"),
    }
}

/// Write `number`: what key, when, what. Some are deletes, some large.
fn write(number: u64) -> (CellKey, Cell) {
    let mut rng = StdRng::seed_from_u64(number);
    let key = format!("crash/{}", rng.gen_range(0..KEYS));
    let content = match rng.gen_range(0..10) {
        0 => Content::Tombstone,
        kind => {
            let length = if kind == 1 {
                3_000
            } else {
                rng.gen_range(0..200)
            };
            let mut payload = vec![0u8; length];
            rng.fill(&mut payload[..]);
            Content::Value(Value {
                encoding_id: kind,
                schema: None,
                attachment: None,
                payload: Bytes::from(payload),
            })
        }
    };
    let timestamp = Timestamp {
        time: time_of(number),
        id: [1; 16],
    };
    let key = CellKey::own(Key::from(Some(key.try_into().expect("a key expression"))));
    (key, Cell { timestamp, content })
}

/// Fifty writes to a bucket, so that some are pending whenever it ends.
fn time_of(number: u64) -> u64 {
    1_000 * BUCKET + number * (BUCKET / 50)
}

fn open(path: &Path, durability: Durability, clock: Clock) -> Replica {
    let options = Options {
        durability,
        sync_every: SYNC_EVERY,
        settle: Duration::from_millis(500),
        max_clock_drift: Duration::from_secs(10),
        keep_changes: false,
        collect_after: None,
    };
    let store = DurableStore::open(path, CACHE).expect("the store opens");
    let rules = Arc::new(MergeRules::lww());
    Replica::open("crash", Box::new(store), options, rules, clock, ()).expect("the replica opens")
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
    for number in next.. {
        let (key, cell) = write(number);
        now.store(cell.timestamp.time, Ordering::Relaxed);
        let began = start.elapsed().as_micros();
        let outcome = replica.put(key.key, cell).expect("the write is taken");
        if let Some(committed) = outcome.committed {
            committed.wait().expect("the write is committed");
        }
        let ended = start.elapsed().as_micros();
        // In one piece, so that no line is half there.
        let line = format!("{number} {began} {ended}\n");
        stdout
            .write_all(line.as_bytes())
            .expect("the parent listens");
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
    let model: BTreeMap<CellKey, Cell> = (0..found).map(write).collect();
    assert_eq!(
        snapshot.root(),
        root_of(&model),
        "not the writes up to {found}"
    );
    assert_eq!(replica.published().root, snapshot.root());
    for (key, cell) in &model {
        let read = match replica.get(&key.key, Form::Native) {
            Lookup::Absent => None,
            Lookup::Found(cell) => Some(cell),
            Lookup::Stored(stored) => replica.read(&stored).expect("a read"),
        };
        let expected = cell.value().map(|_| cell);
        assert_eq!(read.as_deref(), expected, "{key:?}");
    }
    if properly {
        replica.close().expect("the replica closes");
    }
    println!("{found}");
    // Nothing is dropped.
    std::process::exit(0);
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
        thread::sleep(Duration::from_micros(self.rng.gen_range(0..180_000)));
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
        // One more may have been on its way.
        assert!(found <= written + 1, "{found} writes of {written}");
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
            assert_eq!(
                self.mode,
                "interval",
                "{} acknowledged writes are lost",
                lost.len()
            );
            // The first was acknowledged after it came to the queue, and the last
            // began before its age was looked at: so this holds to the letter.
            let span = last.began.saturating_sub(first.ended);
            let promise = SYNC_EVERY.as_micros() as u64;
            assert!(
                span <= promise,
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

fn root_of(model: &BTreeMap<CellKey, Cell>) -> RootHash {
    let entries = model
        .iter()
        .map(|(key, cell)| (key.clone(), Version::of(key, cell)));
    let Ok(root) = Mst::from_sorted(Resident::default(), entries).root();
    root
}

fn parent() {
    let seed = env::var("MST_CRASH_SEED").map_or_else(|_| rand::random(), |seed| number(&seed));
    let kills = 2 * FOLDERS_EACH * KILLS_PER_FOLDER;
    println!("killing a writer {kills} times; MST_CRASH_SEED={seed}");
    let start = Instant::now();
    let threads = ["always", "interval"].map(|mode| {
        thread::spawn(move || {
            let (mut kept, mut lost) = (0, 0);
            for folder_number in 0..FOLDERS_EACH {
                let folder = tempfile::tempdir().expect("a folder");
                let mut case = Case {
                    folder: folder.path().join("store"),
                    mode,
                    rng: StdRng::seed_from_u64(seed.wrapping_add(folder_number)),
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
        })
    });
    let results = threads.map(thread::JoinHandle::join);
    let failed = results.iter().filter(|result| result.is_err()).count();
    println!("{:.1?}", start.elapsed());
    println!("{} passed, {failed} failed", results.len() - failed);
    if failed > 0 {
        std::process::exit(1);
    }
}
