//! Writes, syncs and reads that fail, and a disk that is full, at each place in turn.

use std::{fs, path::PathBuf, sync::Arc};

use rand::{SeedableRng, rngs::StdRng};
use zenoh_backend_mst::config::Durability;

use super::{
    check::open,
    history::History,
    interposer::{Fault, Interposer},
    power_cuts::STORE,
    workload::Writer,
};

/// Steps of the workload, and of what is written after a failure.
const STEPS: usize = 12;
const STEPS_AFTER: usize = 3;

pub struct Failing {
    pub folder: PathBuf,
    pub disk: Arc<Interposer>,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    pub cases: usize,
    /// Nothing could be opened.
    pub refused: usize,
    /// The replica failed, and said why.
    pub failed: usize,
    /// What failed was of no consequence.
    pub harmless: usize,
}

/// How a run ended.
struct Ended {
    history: History,
    /// Why it ended early.
    error: Option<String>,
    was_open: bool,
    /// Calls of the kind until it was open, and in all.
    opening: u64,
    calls: u64,
    failed: u64,
}

impl Failing {
    /// Tries so many places, each in a run of its own.
    pub fn try_fault(&self, fault: Fault, places: u64, seed: u64) -> Result<Tried, String> {
        let mut tried = Tried::default();
        let Ended { opening, calls, .. } = self.run(fault, i64::MAX as u64, seed)?;
        // One in four while it opens, evenly, and the others while it writes.
        let of_opening = places / 4;
        for place in 0..places {
            // Runs differ a little: the engine has threads of its own.
            let at = match place.checked_sub(of_opening) {
                None => opening * place / of_opening,
                Some(place) => opening + (calls - opening) * place / (places - of_opening),
            };
            let durability = format!("seed {seed}, {fault:?} at {at} of {calls}");
            let ended = self.run(fault, at, seed.wrapping_add(place));
            let judged = ended.and_then(|ended| self.judge(fault, &ended, &mut tried, seed));
            judged.map_err(|reason| {
                let kept = self.folder.join(format!("kept-{at}"));
                fs::rename(self.folder.join("failing"), kept).expect("kept");
                format!("{durability}: {reason}")
            })?;
        }
        Ok(tried)
    }

    fn store(&self) -> PathBuf {
        self.folder.join("failing").join(STORE)
    }

    fn run(&self, fault: Fault, at: u64, seed: u64) -> Result<Ended, String> {
        let folder = self.folder.join("failing");
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("removed");
        }
        fs::create_dir_all(&folder).expect("a folder");
        let mut random = StdRng::seed_from_u64(seed);
        let durability = match seed % 2 {
            0 => Durability::Always,
            _ => Durability::Interval,
        };
        let history = History::after(Vec::new());
        self.disk.fail(&folder, fault, at);
        let mut writer = match Writer::open(&self.store(), durability, history, &self.disk) {
            Ok(writer) => writer,
            Err(error) => {
                let counted = self.disk.counted();
                self.disk.stop();
                return Ok(Ended {
                    history: History::after(Vec::new()),
                    error: Some(error),
                    was_open: false,
                    opening: counted.calls,
                    calls: counted.calls,
                    failed: counted.failed,
                });
            }
        };
        let opening = self.disk.counted().calls;
        let mut error = writer.run(STEPS, &mut random).err();
        if let Some(failure) = writer.replica.failure() {
            let refused = writer.write(&mut random).err();
            let Some(refused) = refused else {
                return Err("a put was taken after the failure".to_owned());
            };
            if !refused.contains(&failure.to_string()) {
                return Err(format!(
                    "a put is refused for another reason, {refused}, than {failure}"
                ));
            }
            error = Some(failure.to_string());
        } else if let Some(error) = error {
            return Err(format!("the storage does not say that it failed: {error}"));
        }
        let published = writer.replica.published();
        if !writer
            .history()
            .is_of_synced(&published.root, published.cut)
        {
            return Err("a root of something that was not written was published".to_owned());
        }
        let history = Arc::clone(&writer.history);
        let closed = writer.replica.close().map_err(|error| error.to_string());
        let counted = self.disk.counted();
        self.disk.stop();
        let history = history.lock().expect("no panic").clone();
        Ok(Ended {
            history,
            error: error.or(closed.err()),
            was_open: true,
            opening,
            calls: counted.calls,
            failed: counted.failed,
        })
    }

    fn judge(
        &self,
        fault: Fault,
        ended: &Ended,
        tried: &mut Tried,
        seed: u64,
    ) -> Result<(), String> {
        tried.cases += 1;
        let why: &[&str] = match fault {
            Fault::Full => &["No space left on device"],
            Fault::Write | Fault::Sync => &["Input/output error"],
            // What the engine's own thread cannot read it does not tell, and a trial write does not show.
            Fault::Read => &["Input/output error", "a file cannot be read"],
        };
        let is_told = |error: &str| why.iter().any(|why| error.contains(why));
        match &ended.error {
            Some(error) if !is_told(error) => {
                return Err(format!("the reason is not told: {error}"));
            }
            Some(error) if ended.failed == 0 => {
                return Err(format!("nothing failed, but: {error}"));
            }
            Some(_) if ended.was_open => tried.failed += 1,
            Some(_) => tried.refused += 1,
            None => tried.harmless += 1,
        }
        // There is room again, or another disk.
        let found =
            open(&self.store()).map_err(|refused| format!("opened again: {}", refused.reason))?;
        let (promised, begun) = (ended.history.synced, ended.history.groups.len());
        if ended
            .history
            .groups_of(&found.root, promised..=begun, 0)
            .is_none()
        {
            return Err(format!("it does not hold {promised} to {begun} groups"));
        }
        let history = History::after(found.cells);
        let writer = Writer::open(&self.store(), Durability::Always, history, &self.disk);
        let mut writer = writer.map_err(|error| format!("it does not go on: {error}"))?;
        let went_on = writer.run(STEPS_AFTER, &mut StdRng::seed_from_u64(seed));
        went_on.map_err(|error| format!("it does not go on: {error}"))?;
        let history = Arc::clone(&writer.history);
        writer.replica.close().map_err(|error| error.to_string())?;
        let found = open(&self.store()).map_err(|refused| refused.reason)?;
        let root = history.lock().expect("no panic").cells.root();
        match found.root == root {
            true => Ok(()),
            false => Err("what was written afterwards is not there".to_owned()),
        }
    }
}
