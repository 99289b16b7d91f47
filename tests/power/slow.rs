//! A disk whose syncs take long.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use zenoh_backend_mst::{config::Durability, merge::Form, replica::Lookup};

use super::{history::History, interposer::Interposer, workload::Writer};

/// Milliseconds of a sync, as of a slow SD card.
const SYNC_MILLIS: u64 = 20;
const WRITERS: usize = 8;
const WRITES_EACH: usize = 25;
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Slow {
    pub folder: PathBuf,
    pub disk: Arc<Interposer>,
}

impl Slow {
    fn open(&self, name: &str) -> (PathBuf, Writer) {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let history = History::after(Vec::new());
        let writer = Writer::open(
            &folder.join("store"),
            Durability::Always,
            history,
            &self.disk,
        );
        (folder, writer.expect("it opens"))
    }

    /// Those who wait for a sync are committed together by the next one.
    pub fn writers_share_syncs(&self) -> String {
        let (folder, writer) = self.open("shared");
        self.disk.slow(&folder, SYNC_MILLIS);
        let replica = &writer.replica;
        thread::scope(|scope| {
            for thread in 0..WRITERS {
                let writes = writer.some_writes(thread, WRITES_EACH);
                scope.spawn(move || {
                    for (key, cell) in writes {
                        let put = replica.put(key, cell).expect("taken");
                        if let Some(committed) = put.committed {
                            committed.wait().expect("committed");
                        }
                    }
                });
            }
        });
        let syncs = self.disk.counted().syncs;
        self.disk.stop();
        let puts = WRITERS * WRITES_EACH;
        assert!(syncs as usize <= puts / 2, "{puts} puts took {syncs} syncs");
        writer.replica.close().expect("closed");
        format!("{puts} puts of {WRITERS} writers took {syncs} syncs of {SYNC_MILLIS} ms")
    }

    /// While a sync does not end nobody waits for it but those who were promised it.
    pub fn nobody_else_waits(&self) {
        let (folder, mut held) = self.open("held");
        let (_, mut other) = self.open("other");
        let mut random = StdRng::seed_from_u64(1);
        self.disk.hold(&folder);
        let writes = held.some_writes(0, 20);
        let mut waiting = Vec::new();
        for (key, cell) in &writes {
            let put = held.replica.put(key.clone(), cell.clone()).expect("taken");
            waiting.extend(put.committed);
        }
        self.wait_for_a_sync();
        assert_eq!(waiting.len(), writes.len());
        // Puts to another storage.
        for _ in 0..20 {
            other
                .write(&mut random)
                .expect("written, while the sync does not end");
        }
        // Gets from this one.
        for (key, _) in &writes {
            let found = held.replica.get(key, Form::Native);
            assert!(!matches!(found, Lookup::Absent), "{key:?} is not shown");
        }
        // More puts.
        let more = held.some_writes(1, 20);
        for (key, cell) in &more {
            let put = held.replica.put(key.clone(), cell.clone()).expect("taken");
            waiting.extend(put.committed);
        }
        assert!(
            waiting.iter().all(|committed| !committed.is_known()),
            "the sync has not ended"
        );
        self.disk.stop();
        for committed in waiting {
            committed.wait().expect("committed");
        }
        held.settle().expect("settled");
        held.replica.close().expect("closed");
        other.replica.close().expect("closed");
    }

    fn wait_for_a_sync(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.disk.counted().syncs == 0 {
            assert!(Instant::now() < deadline, "nothing is synced");
            thread::yield_now();
        }
    }
}
