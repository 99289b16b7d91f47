//! The lifetimes by which cells of a folder have died: a storage opens with none that are longer.

use std::{path::Path, time::Duration};

use zenoh::Result as ZResult;

use crate::{
    cell::{ntp64_millis, ntp64_span},
    config::LifetimesConfig,
    merge::RememberedLifetimes,
    store::{Sidecar, StoreError, is_made},
};

/// Checks the lifetimes of a storage that is about to be opened, at `now` in NTP64, and remembers them
/// from now on, if the folder is made already: in a new one nothing may be before. The watermark by which
/// cells have died there, in NTP64, if that is known. Blocks on disk.
///
/// # Errors
/// If they are longer than those by which cells have died, or the disk fails.
pub(super) fn check(folder: &Path, lifetimes: &LifetimesConfig, now: u64) -> ZResult<Option<u64>> {
    let mut died_until = None;
    if let Some(line) = Sidecar::Lifetimes.read(folder)? {
        let remembered: RememberedLifetimes = serde_json::from_str(&line).map_err(|error| {
            let path = folder.join("LIFETIMES");
            format!(
                "{} is damaged: {error}; delete it, if the lifetimes of the storage have not become \
                 longer since it was closed",
                path.display()
            )
        })?;
        remembered.check(lifetimes, ntp64_millis(now))?;
        died_until = Some(ntp64_span(Duration::from_millis(remembered.until)));
    }
    if is_made(folder) {
        remember(folder, lifetimes, died_until.unwrap_or(now))?;
    }
    Ok(died_until)
}

/// Remembers that cells died by these lifetimes up to `until`, in NTP64. Blocks on disk.
///
/// A crash may leave what was remembered a minute before. Then it is not seen that a step of new
/// lifetimes began in between, while the storage did not know of it; that it began before, or that there
/// is none, is seen as ever.
///
/// # Errors
/// If the disk cannot be written.
pub(super) fn remember(
    folder: &Path,
    lifetimes: &LifetimesConfig,
    until: u64,
) -> Result<(), StoreError> {
    if lifetimes.keys.is_empty() {
        return Sidecar::Lifetimes.remove(folder);
    }
    let remembered = RememberedLifetimes {
        until: ntp64_millis(until),
        lifetimes: lifetimes.clone(),
    };
    // It cannot fail: all keys are text.
    let line = serde_json::to_string(&remembered).unwrap_or_default();
    Sidecar::Lifetimes.write(folder, &line)
}
