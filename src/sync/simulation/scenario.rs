//! What a run is to be like.

use std::time::Duration;

use rand::{rngs::StdRng, Rng};

/// What a run is to be like.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) replicas: usize,
    pub(super) keys: u32,
    /// Faults happen for so long.
    pub(super) faults: Duration,
    /// Writes a second, all together.
    pub(super) writes: u32,
    /// Of a thousand messages, so many are lost, and so many come twice.
    pub(super) loss: u32,
    pub(super) duplication: u32,
    pub(super) delay: Duration,
    /// Between two announcements, if nothing happens.
    pub(super) sync_interval: Duration,
    /// How far clocks are off.
    pub(super) skew: Duration,
    /// Whether they are never set right.
    pub(super) is_skew_lasting: bool,
    /// Between a change of the network and the next.
    pub(super) cuts_every: Duration,
    pub(super) crashes_every: Duration,
    /// For how long one that crashed is down, at the most.
    pub(super) downtime: Duration,
    /// Whether one replica joins when the faults are half over.
    pub(super) is_one_late: bool,
    /// Whether all links are cut at last, and healed together.
    pub(super) is_cut_at_last: bool,
}

impl Scenario {
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        let skew: Duration = match rng.gen_range(0..4) {
            0 => Duration::from_secs(rng.gen_range(1..240)),
            1 => Duration::from_millis(rng.gen_range(0..2000)),
            _ => Duration::ZERO,
        };
        Self {
            replicas: rng.gen_range(2..=12),
            keys: *[3, 40, 400].get(rng.gen_range(0..3)).unwrap(),
            faults: Duration::from_secs(rng.gen_range(3..15)),
            writes: *[0, 5, 60].get(rng.gen_range(0..3)).unwrap(),
            loss: rng.gen_range(0..300),
            duplication: rng.gen_range(0..300),
            delay: Duration::from_millis(rng.gen_range(1..400)),
            sync_interval: Duration::from_secs(30),
            skew,
            cuts_every: Duration::from_millis(rng.gen_range(300..5000)),
            crashes_every: Duration::from_millis(rng.gen_range(1000..20_000)),
            // What is stamped by one may not be too far ahead for another.
            is_skew_lasting: skew < Duration::from_secs(2) && rng.gen(),
            downtime: Duration::from_millis(rng.gen_range(0..8000)),
            is_one_late: rng.gen_ratio(1, 4),
            is_cut_at_last: rng.gen(),
        }
    }

    /// Nothing goes wrong.
    pub(super) fn calm(replicas: usize) -> Self {
        Self {
            replicas,
            keys: 1000,
            faults: Duration::ZERO,
            writes: 0,
            loss: 0,
            duplication: 0,
            delay: Duration::from_millis(2),
            sync_interval: Duration::from_secs(30),
            skew: Duration::ZERO,
            cuts_every: Duration::MAX,
            crashes_every: Duration::MAX,
            is_skew_lasting: false,
            downtime: Duration::ZERO,
            is_one_late: false,
            is_cut_at_last: false,
        }
    }
}
