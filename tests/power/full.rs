//! A disk that is really full, for this system: no interposer.

use std::{env, fs, path::Path, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use zenoh_backend_mst::{
    cell::{Cell, Content, Key, Timestamp, Value},
    config::Durability,
    merge::{Form, MergeRules},
    replica::{BUCKET, Lookup, Options, Replica},
    store::DurableStore,
};
use zenoh_keyexpr::OwnedKeyExpr;

const CACHE: u64 = 8 << 20;
const PAYLOAD: usize = 60_000;
/// Far more than there is room for.
const MOST: u64 = 4_000;
/// What takes the room of a small file system until somebody removes it.
const BALLAST: &str = "ballast";

fn open(folder: &Path) -> Replica {
    let options = Options {
        durability: Durability::Always,
        sync_every: Duration::from_millis(100),
        settle: Duration::from_millis(200),
        max_clock_drift: Duration::from_secs(10),
        keep_changes: false,
        collect_after: None,
        died_until: None,
    };
    let store = DurableStore::open(&folder.join("store"), CACHE).expect("the store opens");
    let clock = Arc::new(|| u64::MAX / 2);
    let rules = Arc::new(MergeRules::lww());
    Replica::open("full", Box::new(store), options, rules, clock, ()).expect("the replica opens")
}

fn write(number: u64) -> (Key, Cell) {
    let key = OwnedKeyExpr::new(format!("full/{number}")).expect("a key expression");
    let mut payload = vec![0; PAYLOAD];
    // No engine makes it small.
    let mut state = number + 1;
    for byte in &mut payload {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    let timestamp = Timestamp {
        time: 1_000 * BUCKET + number,
        id: [1; 16],
    };
    let value = Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: Bytes::from(payload),
    };
    (
        Key::from(Some(key)),
        Cell {
            timestamp,
            content: Content::Value(value),
        },
    )
}

/// Writes until that fails, and tells how many writes were acknowledged, and why not more.
fn put_until_full(replica: &Replica) -> (u64, String) {
    for number in 0..MOST {
        let (key, cell) = write(number);
        let committed = replica.put(key, cell).map(|put| put.committed);
        let waited = committed.and_then(|committed| committed.map_or(Ok(()), |c| c.wait()));
        if let Err(error) = waited {
            return (number, error.to_string());
        }
    }
    panic!("{MOST} values of {PAYLOAD} bytes were written: the disk is not full");
}

/// The child: fills the disk, and says how far it came.
pub fn fill(folder: &Path, reason: &str) {
    let replica = open(folder);
    let (acknowledged, error) = put_until_full(&replica);
    let failure = replica
        .failure()
        .expect("it says that it failed")
        .to_string();
    assert!(error.contains(&failure), "{error}; {failure}");
    assert!(
        failure.contains(reason),
        "the reason is not told: {failure}"
    );
    assert!(replica.close().is_err());
    println!("{acknowledged}");
}

/// There is room: all that was acknowledged is there, and more can be written.
pub fn go_on(folder: &Path, acknowledged: u64) {
    let _ = fs::remove_file(folder.join(BALLAST));
    let replica = open(folder);
    for number in 0..acknowledged {
        let (key, cell) = write(number);
        let read = match replica.get(&key, Form::Native) {
            Lookup::Absent => None,
            Lookup::Found(cell) => Some(cell),
            Lookup::Stored(stored) => replica.read(&stored).expect("a read"),
        };
        assert_eq!(
            read.as_deref(),
            Some(&cell),
            "write {number} of {acknowledged}"
        );
    }
    let (key, cell) = write(acknowledged + 1);
    replica.put(key, cell).expect("taken");
    replica.sync().expect("it goes on");
    replica.close().expect("closed");
}

fn run(mut command: Command) -> Result<String, String> {
    let output = command.output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() {
        true => Ok(told),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn shell(script: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(env::current_exe().expect("this program"))
        .arg(folder);
    command
}

fn go_on_in(folder: &Path, acknowledged: &str) {
    let mut again = Command::new(env::current_exe().expect("this program"));
    again.arg("--go-on").arg(folder).arg(acknowledged);
    run(again).expect("it goes on");
}

/// No file may become larger than 3 MiB: a file of the log would have 4.
pub fn limited(folder: &Path) -> String {
    fs::create_dir_all(folder).expect("a folder");
    // The engine makes its journal larger than that at first.
    go_on_in(folder, "0");
    // In units of 512 bytes, but of 1,024 in some shells.
    let script = "trap '' XFSZ; ulimit -f 6144; exec \"$0\" --fill \"$1\" 'File too large'";
    let acknowledged = run(shell(script, folder)).expect("it fills");
    go_on_in(folder, &acknowledged);
    fs::remove_dir_all(folder).expect("removed");
    format!("{acknowledged} values until a file might not grow")
}

/// A file system of a few MiB, where this system lets one have it.
pub fn mounted(folder: &Path) -> String {
    fs::create_dir_all(folder).expect("a folder");
    let may = run(shell(
        "unshare -rm mount -t tmpfs -o size=1m tmpfs \"$1\"",
        folder,
    ));
    if may.is_err() {
        return "this system lets nobody mount a file system: not tried".to_owned();
    }
    let script = "exec unshare -rm sh -c 'mount -t tmpfs -o size=12m tmpfs \"$1\" \
         && head -c 4000000 /dev/zero > \"$1\"/ballast \
         && told=$(\"$0\" --fill \"$1\" \"No space left on device\") \
         && \"$0\" --go-on \"$1\" $told && echo $told' \"$0\" \"$1\"";
    let acknowledged = run(shell(script, folder)).expect("it fills, and goes on");
    format!("{acknowledged} values until the file system was full")
}
