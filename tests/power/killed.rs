//! A process is killed, and the power is lost when the store is opened again: what the killed one wrote
//! and did not sync is then still in the memory of the system, and may be lost.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use rand::{SeedableRng as _, rngs::StdRng};
use zenoh_backend_mst::config::Durability;

use super::{
    check::open,
    cut::{Loss, Playing},
    history::History,
    image::Image,
    interposer::{Interposer, interposed},
    power_cuts::STORE,
    recording::Recording,
    workload::Writer,
};

const STEPS: usize = 12;

/// Losses of power for each process that is killed.
const CUTS: usize = 15;

/// Where the store of a process is that was killed, and what is recorded of it.
const WRITTEN: &str = "written";
const FIRST: &str = "first.recording";
const SECOND: &str = "second.recording";

pub struct Killed {
    pub folder: PathBuf,
    pub disk: Arc<Interposer>,
}

/// Lets a process write, and end as if by SIGKILL. Not to be called with an interposer: its filter is
/// inherited, and is of one process.
pub fn kill_one(library: &Path, folder: &Path, seed: u64) {
    fs::create_dir_all(folder.join(WRITTEN)).expect("a folder");
    let mut child = interposed(library);
    child.arg("--live").arg(folder).arg(seed.to_string());
    let status = child.stderr(Stdio::null()).status().expect("it starts");
    assert_eq!(
        status.code(),
        None,
        "seed {seed}: it was to be killed: {status}"
    );
}

/// The process that is killed, with all its threads where they are.
pub fn live(folder: &Path, seed: u64) -> ! {
    let disk = Arc::new(Interposer::of_this_process());
    let (folder, file) = (folder.join(WRITTEN), folder.join(FIRST));
    disk.record(&folder, &file);
    let durability = match seed % 2 {
        0 => Durability::None,
        _ => Durability::Interval,
    };
    let history = History::after(Vec::new());
    let writer = Writer::open(&folder.join(STORE), durability, history, &disk);
    let mut writer = writer.expect("a new store");
    let mut random = StdRng::seed_from_u64(seed);
    writer.run(STEPS, &mut random).expect("it writes");
    disk.kill()
}

impl Killed {
    /// Returns how many images were tried.
    pub fn try_seed(&self, seed: u64) -> Result<usize, String> {
        let of_seed = |reason| format!("killed, seed {seed}: {reason}");
        self.try_life(seed).map_err(of_seed)
    }

    fn try_life(&self, seed: u64) -> Result<usize, String> {
        let folder = self.folder.join(seed.to_string());
        let (first, second) = (folder.join(FIRST), folder.join(SECOND));
        let (image, folder) = (folder.join("image"), folder.join(WRITTEN));
        self.disk.record(&folder, &second);
        let found = open(&folder.join(STORE));
        self.disk.stop();
        let found = found.map_err(|refused| refused.reason)?;
        let mut calls = fs::read(&first).expect("the recording");
        let read = |file: &Path| Recording::read(file, &folder, Image::default(), &HashMap::new());
        let killed_at = read(&first).ops.len();
        calls.extend(fs::read(&second).expect("the recording"));
        fs::write(&first, calls).expect("written");
        let recording = read(&first);
        let all = recording.ops.len();
        let mut random = StdRng::seed_from_u64(seed);
        let mut playing = Playing::new(&recording);
        for number in 0..CUTS {
            let at = killed_at + (all - killed_at) * (number + 1) / CUTS;
            playing.play_to(at);
            // But for a sector that is torn.
            let loss = Loss::ALL[number % (Loss::ALL.len() - 1)];
            let _ = fs::remove_dir_all(&image);
            fs::create_dir_all(&image).expect("a folder");
            playing.cut(loss, &mut random).write(&image);
            let of_cut = |reason| format!("after call {at} of {all}, {loss:?}: {reason}");
            let again = open(&image.join(STORE)).map_err(|refused| of_cut(refused.reason))?;
            // What it was opened with, and closed, stays.
            if at == all && again.root != found.root {
                return Err(of_cut("the root is not what it was".to_owned()));
            }
        }
        Ok(CUTS)
    }
}
