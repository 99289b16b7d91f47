//! The only place where this crate waits.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const LEAST_SHARE: Duration = Duration::from_millis(100);

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

/// How long one question of a wait waits for its answers: half as long as was waited before.
///
/// So one that does not answer does not keep the others from being asked again, and one that takes long
/// to answer is heard at last.
pub(crate) fn share(left: Duration, timeout: Duration) -> Duration {
    let waited = timeout.saturating_sub(left);
    left.min(LEAST_SHARE.max(waited / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_wait_longer_the_longer_they_were_in_vain() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(10), seconds(10)), LEAST_SHARE);
        assert_eq!(share(seconds(6), seconds(10)), seconds(2));
        assert_eq!(share(seconds(1), seconds(10)), seconds(1));
        assert_eq!(share(FIRST_PAUSE, FIRST_PAUSE), FIRST_PAUSE);
    }

    #[test]
    fn what_is_no_answer_is_asked_again_and_any_other_error_ends_it() {
        let mut asked = 0;
        let found = first(Duration::from_secs(60), |_| {
            asked += 1;
            match asked {
                1 => Err(Error::NoAnswer("none".to_owned())),
                2 => Ok(None),
                _ => Ok(Some(asked)),
            }
        });
        assert_eq!(found.expect("no error"), Some(3));
        let none = first::<()>(Duration::ZERO, |_| Ok(None));
        assert_eq!(none.expect("no error"), None);
        let error = first::<()>(Duration::from_secs(60), |_| {
            Err(Error::Refused("no".to_owned()))
        });
        assert!(matches!(error, Err(Error::Refused(_))));
    }
}
