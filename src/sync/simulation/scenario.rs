//! What a run is to be like.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};

use super::{super::*, node::SETTLE};

/// What goes wrong beside lost, late and repeated messages, cut links, crashes, and clocks that are
/// off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Network,
    /// Disks are slow, or fail, and lose what is not synced.
    Disks,
    /// Clocks jump, drift, and begin in 1970.
    Clocks,
    /// Links are slow; queries are answered with errors, or too late; events are dropped.
    Links,
    /// Folders are copied, or put back as they were once.
    Folders,
    /// All of that.
    All,
}

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
    /// How long updates take to settle.
    pub(super) settle: Duration,
    /// Between two announcements, if nothing happens.
    pub(super) sync_interval: Duration,
    /// Between a change of the network and the next.
    pub(super) cuts_every: Duration,
    pub(super) crashes_every: Duration,
    /// For how long one that crashed is down, at the most.
    pub(super) downtime: Duration,
    /// Whether one replica joins when the faults are half over.
    pub(super) is_one_late: bool,
    /// Whether all links are cut at last, and healed together.
    pub(super) is_cut_at_last: bool,
    pub(super) clocks: Clocks,
    pub(super) disks: Disks,
    pub(super) links: Links,
    /// Whether some that crash come back with an older folder, or with that of another.
    pub(super) has_copies: bool,
    /// Whether some keys have a lifetime.
    pub(super) has_lifetimes: bool,
    /// If the replicas collect: what is so old; and how long a member may be silent.
    pub(super) collects: Option<(Duration, Duration)>,
}

/// What clocks do.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    /// How far they are off.
    pub(super) skew: Duration,
    /// Whether they are never set right.
    pub(super) is_skew_lasting: bool,
    /// By how much they may go wrong in a million.
    pub(super) drift: i64,
    /// Between two times that one is set.
    pub(super) jumps_every: Duration,
    /// Whether a replica may come up in 1970.
    pub(super) is_1970: bool,
}

/// What disks do.
#[derive(Clone, Debug)]
pub(super) struct Disks {
    /// How long a write takes, at the most.
    pub(super) slowest: Duration,
    /// Of a thousand writes, so many fail.
    pub(super) failing: u32,
    /// Whether some replicas do not sync what they acknowledge.
    pub(super) is_any_durability: bool,
}

/// What links do, beside losing messages.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// What a link carries.
    pub(super) bytes_a_second: Option<u64>,
    /// Of a thousand queries, so many are answered with an error.
    pub(super) errors: u32,
    /// Of a thousand events, so many find no room in the queue of events.
    pub(super) dropped: u32,
}

fn some(rng: &mut StdRng, from: &[u64]) -> Duration {
    Duration::from_millis(from[rng.gen_range(0..from.len())])
}

impl Clocks {
    const RIGHT: Self = Self {
        skew: Duration::ZERO,
        is_skew_lasting: false,
        drift: 0,
        jumps_every: Duration::MAX,
        is_1970: false,
    };

    fn draw(rng: &mut StdRng) -> Self {
        let skew = match rng.gen_range(0..4) {
            0 => Duration::from_secs(rng.gen_range(1..240)),
            1 => Duration::from_millis(rng.gen_range(0..2000)),
            _ => Duration::ZERO,
        };
        Self {
            skew,
            // What is stamped by one may not be too far ahead for another.
            is_skew_lasting: skew < Duration::from_secs(2) && rng.r#gen(),
            ..Self::RIGHT
        }
    }

    fn draw_wrong(rng: &mut StdRng) -> Self {
        let is_skew_lasting = rng.gen_ratio(1, 3);
        let skew = match is_skew_lasting {
            true => Duration::from_millis(rng.gen_range(0..4500)),
            false => some(rng, &[0, 500, 500, 9000, 9000, 60_000, 60_000, 600_000]),
        };
        Self {
            skew,
            is_skew_lasting,
            drift: *[0, 100, 10_000].get(rng.gen_range(0..3)).unwrap(),
            jumps_every: match is_skew_lasting {
                true => Duration::MAX,
                false => Duration::from_millis(rng.gen_range(500..5000)),
            },
            is_1970: !is_skew_lasting && rng.r#gen(),
        }
    }
}

impl Scenario {
    pub(super) fn draw(kind: Kind, rng: &mut StdRng) -> Self {
        let (is_disk, is_clock) = (
            matches!(kind, Kind::Disks | Kind::All),
            matches!(kind, Kind::Clocks | Kind::All),
        );
        let is_link = matches!(kind, Kind::Links | Kind::All);
        let is_copy = matches!(kind, Kind::Folders | Kind::All);
        let mut scenario = Self {
            replicas: rng.gen_range(2..=12),
            keys: *[3, 40, 400].get(rng.gen_range(0..3)).unwrap(),
            faults: Duration::from_secs(rng.gen_range(3..15)),
            writes: *[0, 5, 60].get(rng.gen_range(0..3)).unwrap(),
            loss: rng.gen_range(0..300),
            duplication: rng.gen_range(0..300),
            delay: Duration::from_millis(rng.gen_range(1..400)),
            cuts_every: Duration::from_millis(rng.gen_range(300..5000)),
            crashes_every: Duration::from_millis(rng.gen_range(1000..20_000)),
            downtime: Duration::from_millis(rng.gen_range(0..8000)),
            is_one_late: rng.gen_ratio(1, 4),
            is_cut_at_last: rng.r#gen(),
            clocks: match is_clock {
                true => Clocks::draw_wrong(rng),
                false => Clocks::draw(rng),
            },
            ..Self::calm(2)
        };
        if is_disk {
            scenario.disks = Disks {
                slowest: some(rng, &[0, 20, 300, 3000]),
                failing: *[0, 2, 30].get(rng.gen_range(0..3)).unwrap(),
                is_any_durability: rng.r#gen(),
            };
        }
        if is_disk || is_copy {
            scenario.crashes_every = Duration::from_millis(rng.gen_range(500..4000));
            scenario.downtime = Duration::from_millis(rng.gen_range(0..2000));
        }
        if is_link {
            scenario.links = Links {
                bytes_a_second: rng.r#gen::<bool>().then(|| rng.gen_range(1000..20_000)),
                errors: rng.gen_range(0..300),
                dropped: rng.gen_range(0..200),
            };
        }
        scenario.has_copies = is_copy;
        scenario
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
            settle: SETTLE,
            sync_interval: Duration::from_secs(30),
            cuts_every: Duration::MAX,
            crashes_every: Duration::MAX,
            downtime: Duration::ZERO,
            is_one_late: false,
            is_cut_at_last: false,
            clocks: Clocks::RIGHT,
            disks: Disks {
                slowest: Duration::ZERO,
                failing: 0,
                is_any_durability: false,
            },
            links: Links {
                bytes_a_second: None,
                errors: 0,
                dropped: 0,
            },
            has_copies: false,
            has_lifetimes: false,
            collects: None,
        }
    }

    /// What the members of the group have in common, if they collect.
    pub(super) fn members(&self) -> Option<MemberSettings> {
        let (_, max_absence) = self.collects?;
        Some(MemberSettings { max_absence })
    }

    /// Whether a write may be lost that a client was not promised, or with a folder.
    pub(super) fn loses_writes(&self) -> bool {
        let Disks {
            slowest,
            failing,
            is_any_durability,
        } = self.disks;
        let is_disk = slowest > Duration::ZERO || failing > 0 || is_any_durability;
        // A replica refuses what its own client stamped, if its clock was set back since.
        let is_refused = self.clocks.jumps_every < Duration::MAX || self.clocks.is_1970;
        is_disk || is_refused || self.has_copies
    }
}
