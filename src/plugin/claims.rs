//! Which folders this process has open.
//!
//! The storage manager does not wait for a storage that it removes: when it adds
//! one with the same folder again, the old one may still be there, writing out
//! what it holds. Whoever wants the folder waits for it.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// For how long a folder is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

static CLAIMED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
static RELEASED: Condvar = Condvar::new();

/// The right to open a folder, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim(PathBuf);

impl Claim {
    /// Blocks while another has the folder, for ten seconds at the most; then
    /// there is nothing.
    pub(super) fn wait_for(path: &Path) -> Option<Self> {
        Self::wait_until(path, Instant::now() + PATIENCE)
    }

    fn wait_until(path: &Path, deadline: Instant) -> Option<Self> {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if claimed.get_or_insert_default().insert(path.to_owned()) {
                return Some(Self(path.to_owned()));
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            claimed = RELEASED
                .wait_timeout(claimed, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.get_or_insert_default().remove(&self.0);
        RELEASED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_claims_at_a_time() {
        let path = Path::new("/claimed/in/a/test");
        let claim = Claim::wait_until(path, Instant::now()).expect("free");
        assert!(Claim::wait_until(path, Instant::now()).is_none());
        assert!(Claim::wait_until(&path.join("other"), Instant::now()).is_some());
        let waiting = std::thread::spawn(|| Claim::wait_for(path).is_some());
        drop(claim);
        assert!(waiting.join().expect("no panic"));
        assert!(Claim::wait_until(path, Instant::now()).is_some());
    }
}
