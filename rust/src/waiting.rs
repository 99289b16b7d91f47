//! The only place where this crate waits.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The first result of `ask`; nothing if there is none in time.
///
/// `ask` is given the time that is left, and asked at least once. That it has no answer is no result.
pub(crate) fn first<T>(
    timeout: Duration,
    mut ask: impl FnMut(Duration) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let left = timeout.saturating_sub(start.elapsed()).max(FIRST_PAUSE);
        match ask(left) {
            Ok(None) | Err(Error::NoAnswer(_)) => {}
            other => return other,
        }
        if start.elapsed() + pause >= timeout {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}
