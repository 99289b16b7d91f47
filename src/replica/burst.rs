//! Bursts: while updates come as fast as they do only for a while, they are taken and
//! committed, and what else is to be done for them is done afterwards: what was only written
//! ahead goes to its rows, and what has settled into the tree.
//!
//! That is most of the work that an update is, and it takes processor time from those who
//! put. It can wait a little: readers do not miss it, and a root is made late rather than
//! wrong. It cannot wait for long, as other replicas hear of it only then, and what is
//! pending takes memory.
//!
//! No clock: times are parameters.

use std::time::{Duration, Instant};

use super::inbox::GROUP;

/// So many updates in such a time are a burst: some 40,000 a second. Tests, which make
/// few, have bursts too.
const MANY: usize = if cfg!(test) { 8 } else { GROUP };
const WINDOW: Duration = Duration::from_millis(100);

/// Work is not put off for longer, nor beyond so many updates, nor so many bytes of them.
const MAX_TIME: Duration = Duration::from_secs(2);
const MAX_UPDATES: usize = 64 * MANY;
const MAX_BYTES: usize = 128 << 20;

#[derive(Debug, Default)]
pub(super) struct Burst {
    /// When updates were taken last.
    last: Option<Instant>,
    /// How many had come then, less [`MANY`] for each [`WINDOW`]; never more than twice as
    /// many, so that a lull is noticed soon.
    level: f64,
    /// When it began, if there is one; and how many came since.
    since: Option<Instant>,
    updates: usize,
    bytes: usize,
    /// Until when work is put off.
    until: Option<Instant>,
}

impl Burst {
    /// Some updates were taken at a time, all that had come since the last; and how many
    /// bytes they are.
    pub(super) fn taken(&mut self, updates: usize, bytes: usize, now: Instant) {
        if updates == 0 {
            return;
        }
        const MOST: f64 = MANY as f64;
        let last = self.last.replace(now);
        let elapsed = last.map_or(Duration::MAX, |last| now.duration_since(last));
        let left = self.level - MOST * elapsed.as_secs_f64() / WINDOW.as_secs_f64();
        self.level = (left.max(0.0) + updates as f64).min(2.0 * MOST);
        // If there is nothing left it may be the only one, however many they are.
        if left <= 0.0 || self.level < MOST {
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
        let until = (now + WINDOW).min(since + MAX_TIME);
        let is_small = self.updates <= MAX_UPDATES && self.bytes <= MAX_BYTES;
        self.until = (is_small && until > now).then_some(until);
    }

    /// Until when work is put off; nothing if it is not.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Takes `updates` every so many milliseconds, `times` over; and for how many of them
    /// what settles was put off.
    fn put_off(
        burst: &mut Burst,
        now: &mut Instant,
        updates: usize,
        every: u32,
        times: u32,
    ) -> u32 {
        let mut put_off = 0;
        for _ in 0..times {
            *now += MILLI * every;
            burst.taken(updates, 100 * updates, *now);
            put_off += u32::from(burst.until(*now).is_some());
        }
        put_off
    }

    #[test]
    fn work_is_put_off_while_many_updates_come_and_no_longer() {
        let (mut burst, mut now) = (Burst::default(), Instant::now());
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
        let (mut burst, mut now) = (Burst::default(), Instant::now());
        // As many as the level sinks by, and as many again until it is high.
        let times = put_off(&mut burst, &mut now, MANY / 4, 12, 20);
        assert!((14..=16).contains(&times), "{times}");
    }

    #[test]
    fn what_comes_steadily_is_no_burst() {
        let (mut burst, mut now) = (Burst::default(), Instant::now());
        assert_eq!(put_off(&mut burst, &mut now, MANY / 2, 51, 100), 0);
        assert_eq!(put_off(&mut burst, &mut now, MANY / 8, 13, 100), 0);
        assert_eq!(put_off(&mut burst, &mut now, MANY, 101, 100), 0);
        assert_eq!(put_off(&mut burst, &mut now, 10 * MANY, 1_001, 100), 0);
    }

    #[test]
    fn a_burst_puts_off_for_a_time_and_a_number_of_updates_and_then_not_before_it_is_over() {
        let (mut burst, mut now) = (Burst::default(), Instant::now());
        // 64 groups, the first of which may be the only one.
        assert_eq!(put_off(&mut burst, &mut now, MANY, 10, 1_000), 64);
        assert_eq!(put_off(&mut burst, &mut now, 1, 150, 1), 0, "a lull");
        assert_eq!(put_off(&mut burst, &mut now, MANY, 90, 1_000), 23, "2 s");
        assert_eq!(put_off(&mut burst, &mut now, 1, 150, 1), 0, "a lull");
        assert_eq!(put_off(&mut burst, &mut now, MANY, 10, 5), 5, "another one");
        burst.taken(MANY, MAX_BYTES, now + MILLI);
        assert_eq!(burst.until(now + MILLI), None, "too much memory");
    }
}
