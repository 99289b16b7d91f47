//! The folders and groups that this process has open.
//!
//! Both doors, the volume and `serve`, claim what they open here, so that none has what
//! the other has.
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

use crate::store::StoreError;

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

/// The one path of a folder, by whatever links it is reached.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = path.ancestors().find_map(|ancestor| {
        let real = ancestor.canonicalize().ok()?;
        // The rest is not there yet.
        let rest = path.strip_prefix(ancestor).ok()?;
        // Without a slash at the end if that is nothing.
        Some(real.join(rest).components().collect())
    });
    found.unwrap_or(path)
}

/// The right to open a folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim(PathBuf);

impl Claim {
    /// Blocks while another storage has the folder, one in it or one around it, as long as that may
    /// be expected to release it.
    ///
    /// # Errors
    /// If another storage has it all the same.
    pub(crate) fn wait_for(path: &Path) -> Result<Self, StoreError> {
        Self::wait(path, PATIENCE, CLOSING_PATIENCE)
    }

    fn wait(
        path: &Path,
        patience: Duration,
        closing_patience: Duration,
    ) -> Result<Self, StoreError> {
        let path = real(path);
        let start = Instant::now();
        let mut claimed = claimed();
        loop {
            let overlaps = |other: &Path| path.starts_with(other) || other.starts_with(&path);
            let Some((other, is_closing)) = claimed.iter().find(|(other, _)| overlaps(other))
            else {
                claimed.insert(path.clone(), false);
                return Ok(Self(path));
            };
            let patience = match is_closing {
                true => closing_patience,
                false => patience,
            };
            let Some(left) = patience.checked_sub(start.elapsed()) else {
                return Err(match *other == path {
                    true => StoreError::Locked { path },
                    false => StoreError::Overlap {
                        other: other.clone(),
                        path,
                    },
                });
            };
            claimed = CHANGED
                .wait_timeout(claimed, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Announces that the claim on `path`, if there is one, will soon be dropped.
    pub(crate) fn announce_closing(path: &Path) {
        if let Some(is_closing) = claimed().get_mut(&real(path)) {
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

/// Blocks until nobody has `path`, or for as long as a storage that is being closed may
/// take; true if nobody has it.
pub(crate) fn wait_until_released(path: &Path) -> bool {
    let path = &real(path);
    let claimed = claimed();
    let waited = CHANGED.wait_timeout_while(claimed, CLOSING_PATIENCE, |claimed| {
        claimed.contains_key(path)
    });
    let (claimed, _) = waited.unwrap_or_else(PoisonError::into_inner);
    !claimed.contains_key(path)
}

/// By which way puts and gets come to a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The storage manager calls the volume.
    Volume,
    /// [`serve`](crate::serve) has a subscriber and a queryable of its own.
    Served,
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Volume => "the storage manager",
            Self::Served => "the plugin `mst`",
        })
    }
}

/// The groups of open storages, each with its door and how many storages have it there.
static GROUPS: Mutex<BTreeMap<String, (Door, usize)>> = Mutex::new(BTreeMap::new());
static GROUPS_CHANGED: Condvar = Condvar::new();

/// The right to take the puts of a group at one door, until it is dropped.
#[derive(Debug)]
pub(crate) struct GroupClaim(String);

impl GroupClaim {
    /// Blocks for a moment if the other door has the group, whose storage may have been
    /// told to stop.
    ///
    /// # Errors
    /// The door that has it: each put would be taken twice, each get answered twice.
    pub(crate) fn wait_for(group: &str, door: Door) -> Result<Self, Door> {
        Self::wait(group, door, PATIENCE)
    }

    fn wait(group: &str, door: Door, patience: Duration) -> Result<Self, Door> {
        let is_others = |groups: &mut BTreeMap<String, (Door, usize)>| {
            groups.get(group).is_some_and(|(other, _)| *other != door)
        };
        let groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = GROUPS_CHANGED.wait_timeout_while(groups, patience, is_others);
        let (mut groups, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let (holder, count) = groups.entry(group.to_owned()).or_insert((door, 0));
        if *holder != door {
            return Err(*holder);
        }
        *count += 1;
        Ok(Self(group.to_owned()))
    }
}

impl Drop for GroupClaim {
    fn drop(&mut self) {
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, count)) = groups.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                groups.remove(&self.0);
            }
        }
        GROUPS_CHANGED.notify_all();
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
            try_claim(path).is_err(),
            "in use, and not about to be released"
        );
        for other in ["/claimed/in/a/test/inside", "/claimed/in/a", "/claimed"] {
            assert!(try_claim(Path::new(other)).is_err(), "{other}");
        }
        assert!(try_claim(Path::new("/claimed/in/a/tests")).is_ok());
        Claim::announce_closing(path);
        let waiting = std::thread::spawn(move || try_claim(path).is_ok());
        drop(claim);
        assert!(waiting.join().expect("no panic"));
        assert!(try_claim(path).is_ok());
    }

    #[test]
    fn a_folder_is_the_same_by_whatever_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).expect("made");
        std::os::unix::fs::symlink(&real, &link).expect("made");
        let claim = |path: &Path| Claim::wait(path, Duration::ZERO, LONG);
        let first = claim(&real.join("not/there")).expect("free");
        assert!(claim(&link.join("not/there")).is_err());
        assert!(claim(&link).is_err());
        drop(first);
        assert!(claim(&link).is_ok());
    }

    #[test]
    fn a_group_has_one_door_at_a_time() {
        let group = "claimed%2fin%2fa%2ftest";
        let claim = |door| GroupClaim::wait(group, door, Duration::ZERO);
        let first = claim(Door::Volume).expect("free");
        let second = claim(Door::Volume).expect("several volumes may have it");
        assert_eq!(claim(Door::Served).err(), Some(Door::Volume));
        drop(first);
        assert_eq!(claim(Door::Served).err(), Some(Door::Volume));
        let waiting =
            std::thread::spawn(move || GroupClaim::wait(group, Door::Served, LONG).is_ok());
        drop(second);
        assert!(waiting.join().expect("no panic"));
        assert!(claim(Door::Volume).is_ok(), "it was released again");
    }
}
