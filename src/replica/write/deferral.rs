//! Defers applying updates to rows and tree while they arrive in a burst.
//!
//! Applying is most of the work that an update is, and takes processor time from those who put. It
//! can wait a little: readers see pending updates, and a root is made late rather than wrong. It
//! cannot wait for long: other replicas learn of an update only when it is applied, and pending
//! updates take memory.
//!
//! No clock: times are parameters.

use std::time::Duration;

use crate::replica::Tuning;

#[derive(Debug, Default)]
pub(in crate::replica) struct WriteDeferral {
    /// When updates were taken last.
    last: Option<Duration>,
    /// How many had come then, less the updates of a burst for each window that passed; never more
    /// than twice as many, so that a lull is noticed soon.
    level: f64,
    /// When the burst began, if there is one; and how many came since.
    since: Option<Duration>,
    updates: usize,
    bytes: usize,
    until: Option<Duration>,
}

impl WriteDeferral {
    /// Updates were taken, all that had come since the last; `bytes` is their size.
    pub(in crate::replica) fn taken(
        &mut self,
        updates: usize,
        bytes: usize,
        now: Duration,
        tuning: &Tuning,
    ) {
        if updates == 0 {
            return;
        }
        let (many, window) = (tuning.burst_updates as f64, tuning.burst_window);
        let last = self.last.replace(now);
        let elapsed = last.map_or(Duration::MAX, |last| now.saturating_sub(last));
        let left = self.level - many * elapsed.as_secs_f64() / window.as_secs_f64();
        self.level = (left.max(0.0) + updates as f64).min(2.0 * many);
        // An empty level means that a single batch, of any size, is not yet a burst.
        if left <= 0.0 || self.level < many {
            self.since = None;
            self.until = None;
            return;
        }
        if self.since.is_none() {
            (self.updates, self.bytes) = (0, 0);
        }
        let since = *self.since.get_or_insert(now);
        self.updates += updates;
        self.bytes += bytes;
        let until = (now + window).min(since + tuning.max_deferral);
        let is_small =
            self.updates <= tuning.max_deferred && self.bytes <= tuning.max_deferred_bytes;
        self.until = (is_small && until > now).then_some(until);
    }

    /// Until when applying is deferred; nothing if it is not.
    pub(in crate::replica) fn until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const MANY: usize = 8;
    const WINDOW: Duration = Duration::from_millis(100);

    /// Takes `updates` every so many milliseconds, `times` over; and for how many of them
    /// what settles was put off.
    fn put_off(
        burst: &mut WriteDeferral,
        now: &mut Duration,
        updates: usize,
        every: u32,
        times: u32,
    ) -> u32 {
        let mut put_off = 0;
        for _ in 0..times {
            *now += MILLI * every;
            burst.taken(updates, 100 * updates, *now, &Tuning::small());
            put_off += u32::from(burst.until(*now).is_some());
        }
        put_off
    }

    #[test]
    fn work_is_put_off_while_many_updates_come_and_no_longer() {
        let (mut burst, mut now) = (WriteDeferral::default(), Duration::ZERO);
        assert_eq!(
            put_off(&mut burst, &mut now, MANY, 40, 1),
            0,
            "it may be the only one"
        );
        assert_eq!(put_off(&mut burst, &mut now, MANY, 40, 20), 20);
        let until = burst.until(now).expect("put off");
        assert!(until <= now + WINDOW);
        assert_eq!(burst.until(until), None, "nothing more came");
        assert_eq!(put_off(&mut burst, &mut now, 1, 150, 1), 0, "fewer came");
    }

    #[test]
    fn how_many_come_at_a_time_does_not_matter() {
        let (mut burst, mut now) = (WriteDeferral::default(), Duration::ZERO);
        // As many as the level sinks by, and as many again until it is high.
        let times = put_off(&mut burst, &mut now, MANY / 4, 12, 20);
        assert!((14..=16).contains(&times), "{times}");
    }

    #[test]
    fn what_comes_steadily_is_no_burst() {
        let (mut burst, mut now) = (WriteDeferral::default(), Duration::ZERO);
        assert_eq!(put_off(&mut burst, &mut now, MANY / 2, 51, 100), 0);
        assert_eq!(put_off(&mut burst, &mut now, MANY / 8, 13, 100), 0);
        assert_eq!(put_off(&mut burst, &mut now, MANY, 101, 100), 0);
        assert_eq!(put_off(&mut burst, &mut now, 10 * MANY, 1_001, 100), 0);
    }

    #[test]
    fn a_burst_puts_off_for_a_time_and_a_number_of_updates_and_then_not_before_it_is_over() {
        let (mut burst, mut now) = (WriteDeferral::default(), Duration::ZERO);
        // 64 groups, the first of which may be the only one.
        assert_eq!(put_off(&mut burst, &mut now, MANY, 10, 1_000), 64);
        assert_eq!(put_off(&mut burst, &mut now, 1, 150, 1), 0, "a lull");
        assert_eq!(put_off(&mut burst, &mut now, MANY, 90, 1_000), 23, "2 s");
        assert_eq!(put_off(&mut burst, &mut now, 1, 150, 1), 0, "a lull");
        assert_eq!(put_off(&mut burst, &mut now, MANY, 10, 5), 5, "another one");
        let most = Tuning::small().max_deferred_bytes;
        burst.taken(MANY, most, now + MILLI, &Tuning::small());
        assert_eq!(burst.until(now + MILLI), None, "too much memory");
    }
}
