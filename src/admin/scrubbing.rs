//! The scrub: compares every cell with the disk, a few at a time.
//!
//! Its progress is kept beside the data, so that a storage whose router restarts every
//! day completes a pass as well.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    cell::CellKey,
    config::ScrubConfig,
    hex,
    replica::{Damage, Replica},
    store::{Sidecar, StoreError},
};

/// The time between two rounds, unless the interval demands shorter ones.
const ROUND: Duration = Duration::from_secs(60);

/// The fewest rounds in a pass.
const ROUNDS: u32 = 60;

/// Cells of a round that are checked in one go.
pub(super) const CHUNK: usize = 256;

/// The most damages that are remembered for the status.
const REMEMBERED: usize = 100;

/// The progress of the scrub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubState {
    /// Whether it is paused.
    pub paused: bool,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Cells that this pass has checked.
    pub checked: u64,
    /// When this pass began, NTP64.
    pub started: Option<u64>,
    /// When the last pass ended, NTP64.
    pub completed: Option<u64>,
    /// The latest damage that was found since the storage was opened.
    pub damaged: Vec<Damage>,
    /// The last cell that was checked.
    after: Option<CellKey>,
}

/// A scrub, and its pace.
#[derive(Debug)]
pub struct Scrubbing {
    interval: Duration,
    folder: Option<PathBuf>,
    state: Mutex<ScrubState>,
    /// TreeEntry while the state is written, so that the last state written is the current
    /// one.
    writing: Mutex<()>,
}

impl Scrubbing {
    /// Continues from the state in `folder`. Blocks on disk.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn open(config: ScrubConfig, folder: Option<PathBuf>) -> Result<Self, StoreError> {
        let kept = match &folder {
            Some(folder) => Sidecar::Scrub.read(folder)?,
            None => None,
        };
        // An invalid state counts as none: the pass starts afresh.
        let kept = kept.and_then(|line| serde_json::from_str::<Value>(&line).ok());
        let mut state = kept.as_ref().map(read_state).unwrap_or_default();
        state.enabled = config.enabled;
        Ok(Self {
            interval: config.interval,
            folder,
            state: Mutex::new(state),
            writing: Mutex::new(()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, ScrubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The progress.
    pub fn state(&self) -> ScrubState {
        self.lock().clone()
    }

    /// Pauses it until it is resumed, even across restarts, or resumes it. Blocks on
    /// disk.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub fn pause(&self, paused: bool) -> Result<(), StoreError> {
        self.lock().paused = paused;
        self.keep()
    }

    fn keep(&self) -> Result<(), StoreError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let line = state_json(&self.lock()).to_string();
        Sidecar::Scrub.write(folder, &line)
    }

    /// The time between two rounds; the caller adds its jitter.
    #[must_use]
    pub fn pause_between_rounds(&self) -> Duration {
        ROUND.min(self.interval / ROUNDS)
    }

    /// Checks as many cells as are due in a round, so that all are checked in the
    /// interval. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read for another reason than damage, or the state cannot be
    /// written.
    pub fn round(&self, replica: &Replica, now: u64) -> Result<(), StoreError> {
        {
            let state = self.lock();
            if state.paused || !state.enabled {
                return Ok(());
            }
        }
        let rounds = self.interval.as_secs_f64() / self.pause_between_rounds().as_secs_f64();
        let cells = replica.published().cells;
        let mut left = (cells as f64 / rounds).ceil().max(1.0) as usize;
        while left > 0 {
            let after = self.lock().after.clone();
            let scrubbed = replica.scrub(after.as_ref(), left.min(CHUNK))?;
            if replica.is_closing() {
                break;
            }
            left = left.saturating_sub(CHUNK);
            let mut state = self.lock();
            state.started.get_or_insert(now);
            state.checked += scrubbed.checked as u64;
            state.after = scrubbed.next;
            state.remember(scrubbed.damaged);
            if state.after.is_none() {
                state.completed = Some(now);
                (state.started, state.checked) = (None, 0);
                break;
            }
        }
        self.keep()
    }

    /// Checks all cells at once. `progress` gets the number of cells checked, the number
    /// of all, and the damage found; it says whether to go on. The state is as after a
    /// pass of the scrub. Blocks on disk.
    ///
    /// # Errors
    /// As [`round`](Self::round).
    pub(super) fn pass(
        &self,
        replica: &Replica,
        now: &dyn Fn() -> u64,
        progress: &mut dyn FnMut(u64, u64, &[Damage]) -> bool,
    ) -> Result<(), StoreError> {
        let tree = replica.current_tree();
        let of = tree.len() as u64;
        let (mut after, mut checked) = (None, 0);
        loop {
            let scrubbed = replica.scrub_tree(&tree, after.as_ref(), CHUNK)?;
            checked += scrubbed.checked as u64;
            let goes_on = progress(checked, of, &scrubbed.damaged) && !replica.is_closing();
            self.lock().remember(scrubbed.damaged);
            after = scrubbed.next;
            if after.is_none() || !goes_on {
                break;
            }
        }
        if after.is_none() && !replica.is_closing() {
            let mut state = self.lock();
            state.completed = Some(now());
            (state.started, state.checked, state.after) = (None, 0, None);
        }
        self.keep()
    }
}

impl ScrubState {
    /// The state in one word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (self.enabled, self.paused) {
            (false, _) => "off",
            (true, true) => "paused",
            (true, false) => "running",
        }
    }

    fn remember(&mut self, damaged: Vec<Damage>) {
        self.damaged.extend(damaged);
        let too_many = self.damaged.len().saturating_sub(REMEMBERED);
        self.damaged.drain(..too_many);
    }
}

fn state_json(state: &ScrubState) -> Value {
    let after = state.after.as_ref();
    json!({
        "paused": state.paused,
        "checked": state.checked,
        "started": state.started,
        "completed": state.completed,
        "after": after.map(|key| hex::encode(&key.to_canonical())),
    })
}

fn read_state(kept: &Value) -> ScrubState {
    let after = kept["after"].as_str().and_then(hex::decode);
    let after = after.and_then(|bytes| CellKey::from_canonical(&bytes).ok());
    ScrubState {
        paused: kept["paused"].as_bool().unwrap_or_default(),
        checked: kept["checked"].as_u64().unwrap_or_default(),
        started: kept["started"].as_u64(),
        completed: kept["completed"].as_u64(),
        after,
        ..ScrubState::default()
    }
}
