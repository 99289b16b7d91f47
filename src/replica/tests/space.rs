//! What overwriting takes of the disk, and of those who write. It takes minutes: `scripts/soak-space`.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::*;
use crate::config::Durability;

const KEYS: u64 = 200;
const LENGTH: usize = 100_000;
const PUTS: u64 = 6_000;
/// As often as a storage is tidied.
const TIDIED_EVERY: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_secs(600);

fn used_bytes(path: &Path) -> io::Result<u64> {
    let metadata = match fs::symlink_metadata(path) {
        // The engine removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        metadata => metadata?,
    };
    let mut used = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            used += used_bytes(&entry?.path())?;
        }
    }
    Ok(used)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.expect("a clock that is set");
    (since.as_secs() << 32) + ((u64::from(since.subsec_nanos()) << 32) / 1_000_000_000)
}

#[test]
#[ignore = "it takes minutes, and measures: scripts/soak-space"]
fn what_is_overwritten_gives_its_space_back_and_stalls_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    // As by default.
    let store = DurableStore::open(folder.path(), 64 << 20).expect("a store");
    let options = Options {
        durability: Durability::Interval,
        sync_every: Duration::from_millis(1_000),
        settle: Duration::from_millis(1_000),
        max_clock_drift: Duration::from_secs(10),
        keep_changes: false,
        collect_after: None,
        died_until: None,
    };
    let rules = Arc::new(crate::merge::MergeRules::lww());
    let clock = Arc::new(now);
    let replica = Replica::open("space", Box::new(store), options, rules, clock, ());
    let replica = replica.expect("the replica opens");
    let (begun, mut tidied) = (Instant::now(), Instant::now());
    let (mut longest, mut most) = (Duration::ZERO, 0);
    let mut state = 1u64;
    for number in 0..PUTS {
        // Such as does not compress.
        let payload = (0..LENGTH / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let value = Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: payload.collect::<Vec<u8>>().into(),
        };
        let timestamp = Timestamp {
            time: now(),
            id: [1; 16],
        };
        let content = Content::Value(value);
        let start = Instant::now();
        let key = key(&format!("space/{}", number % KEYS));
        let put = replica.put(key, Cell { timestamp, content });
        let outcome = put.expect("it is taken");
        if let Some(committed) = outcome.committed {
            committed.wait().expect("committed");
        }
        longest = longest.max(start.elapsed());
        if tidied.elapsed() >= TIDIED_EVERY {
            replica.tidy().expect("tidied");
            tidied = Instant::now();
        }
        if number % 100 == 99 {
            most = most.max(used_bytes(folder.path()).expect("measured"));
        }
    }
    let written = begun.elapsed();
    let live = KEYS * LENGTH as u64;
    let allowed = 5 * live + (64 << 20);
    println!(
        "{PUTS} puts in {written:.1?}, the longest took {longest:.1?}; at most {most} bytes, {allowed} are allowed"
    );
    let (quiet, mut came_back) = (Instant::now(), None);
    while quiet.elapsed() < QUIET {
        std::thread::sleep(TIDIED_EVERY);
        let rewritten = replica.tidy().expect("tidied");
        let used = used_bytes(folder.path()).expect("measured");
        if rewritten || used <= allowed && came_back.is_none() {
            println!("after {:.0?} of quiet: {used} bytes", quiet.elapsed());
        }
        if used <= allowed {
            came_back.get_or_insert(quiet.elapsed());
        }
    }
    let used = used_bytes(folder.path()).expect("measured");
    println!("after {:.0?} of quiet: {used} bytes", quiet.elapsed());
    assert!(replica.failure().is_none());
    assert!(used <= allowed, "{used} bytes are used, {allowed} allowed");
    assert!(longest <= Duration::from_secs(1), "a put took {longest:?}");
}
