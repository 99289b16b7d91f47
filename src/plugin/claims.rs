//! The folders that this process has open.
//!
//! The storage manager does not wait for a storage that it removes: when it adds one with
//! the same folder again, the old one may still be writing out what it holds. The new
//! storage then waits for the folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long to wait for a folder whose storage is being closed.
const CLOSING_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for a folder whose storage is not being closed yet: the storage
/// manager may have told it to stop a moment ago.
const PATIENCE: Duration = Duration::from_secs(2);

/// The claimed folders, and whether each is about to be released.
static CLAIMED: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());
static CHANGED: Condvar = Condvar::new();

fn claimed() -> MutexGuard<'static, BTreeMap<PathBuf, bool>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to open a folder, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim(PathBuf);

impl Claim {
    /// Blocks while another storage has the folder, as long as that may be expected to
    /// release it; then returns nothing.
    pub(super) fn wait_for(path: &Path) -> Option<Self> {
        Self::wait(path, PATIENCE, CLOSING_PATIENCE)
    }

    fn wait(path: &Path, patience: Duration, closing_patience: Duration) -> Option<Self> {
        let start = Instant::now();
        let mut claimed = claimed();
        loop {
            let Some(is_closing) = claimed.get(path) else {
                claimed.insert(path.to_owned(), false);
                return Some(Self(path.to_owned()));
            };
            let patience = match is_closing {
                true => closing_patience,
                false => patience,
            };
            let left = patience.checked_sub(start.elapsed())?;
            claimed = CHANGED
                .wait_timeout(claimed, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Announces that the claim on `path`, if there is one, will soon be dropped.
    pub(super) fn announce_closing(path: &Path) {
        if let Some(is_closing) = claimed().get_mut(path) {
            *is_closing = true;
            CHANGED.notify_all();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        claimed().remove(&self.0);
        CHANGED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_folder_is_one_claims_at_a_time() {
        let path = Path::new("/claimed/in/a/test");
        let try_claim = |path: &Path| Claim::wait(path, Duration::ZERO, LONG);
        let claim = try_claim(path).expect("free");
        assert!(
            try_claim(path).is_none(),
            "in use, and not about to be released"
        );
        assert!(try_claim(&path.join("other")).is_some());
        Claim::announce_closing(path);
        let waiting = std::thread::spawn(move || try_claim(path).is_some());
        drop(claim);
        assert!(waiting.join().expect("no panic"));
        assert!(try_claim(path).is_some());
    }
}
