//! Chooses the log level of a report on replication.
//!
//! Without `RUST_LOG` the log shows errors only. Whatever keeps data from being
//! replicated is an error, as the operator has to act. Each pull from a peer repeats it,
//! so it is logged as an error once, and at debug from then on.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tracing::Level;
use xxhash_rust::xxh3::xxh3_64;

use crate::sync::{Isolation, Rejections, ReplicaId, Report};

/// Causes that are remembered, 40 bytes each at the most. Beyond that the earliest are
/// forgotten and would be logged as errors again: repeating a cause is better than hiding
/// one.
const MAX_CAUSES: usize = 1024;

/// What keeps a peer's data out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The peer is isolated, for the reason with this hash.
    Isolation(u64),
    /// Cells were rejected for this reason.
    Rejection(&'static str),
}

/// What was logged as an error.
#[derive(Default)]
pub(super) struct Told {
    /// The earliest first.
    causes: VecDeque<(ReplicaId, Cause)>,
}

impl Told {
    /// The level for this report. Remembers the causes of errors.
    pub(super) fn level(&mut self, report: &Report) -> Level {
        match report {
            Report::Isolated(peer, isolation) => {
                self.level_of(*peer, &[Cause::Isolation(hash(isolation))])
            }
            Report::Rejected(peer, rejections) => self.level_of(*peer, &causes(rejections)),
            Report::TooMuchAside { .. } => Level::ERROR,
            Report::Pulled { cells: 0, .. } => Level::DEBUG,
            Report::Pulled { .. } => Level::INFO,
            Report::SameIdentity { .. }
            | Report::NameClaimed { .. }
            | Report::Malformed(..)
            | Report::Failed(..) => Level::WARN,
        }
    }

    /// An error if one of the causes is new, otherwise debug.
    fn level_of(&mut self, peer: ReplicaId, causes: &[Cause]) -> Level {
        let mut level = Level::DEBUG;
        for cause in causes {
            let told = (peer, *cause);
            if self.causes.contains(&told) {
                continue;
            }
            level = Level::ERROR;
            if self.causes.len() == MAX_CAUSES {
                self.causes.pop_front();
            }
            self.causes.push_back(told);
        }
        level
    }
}

/// A hash, as reasons contain texts of other replicas, of any length.
fn hash(isolation: &Isolation) -> u64 {
    xxh3_64(isolation.to_string().as_bytes())
}

fn causes(rejections: &Rejections) -> Vec<Cause> {
    let Rejections {
        malformed,
        key_expr,
        digest,
        clock,
        too_large,
        strategy,
    } = *rejections;
    let counts = [
        ("malformed", malformed),
        ("key_expr", key_expr),
        ("digest", digest),
        ("clock", clock),
        ("too_large", too_large),
        ("strategy", strategy),
    ];
    let counted = counts.into_iter().filter(|(_, count)| *count > 0);
    counted.map(|(name, _)| Cause::Rejection(name)).collect()
}

/// Logs a report on the storage called `name`.
pub(super) fn tell(told: &Mutex<Told>, name: &str, report: &Report) {
    let level = told
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .level(report);
    // A level has to be known when this is compiled.
    match level {
        Level::ERROR => tracing::error!("storage '{name}': {report}"),
        Level::WARN => tracing::warn!("storage '{name}': {report}"),
        Level::INFO => tracing::info!("storage '{name}': {report}"),
        _ => tracing::debug!("storage '{name}': {report}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> ReplicaId {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        ReplicaId(id)
    }

    fn isolated(number: u16, key_expr: &str) -> Report {
        Report::Isolated(peer(number), Isolation::KeyExpr(key_expr.to_owned()))
    }

    fn rejected(number: u16, rejections: Rejections) -> Report {
        Report::Rejected(peer(number), rejections)
    }

    #[test]
    fn an_isolation_is_an_error_once_for_each_peer_and_reason() {
        let mut told = Told::default();
        assert_eq!(told.level(&isolated(1, "a/**")), Level::ERROR);
        assert_eq!(told.level(&isolated(1, "a/**")), Level::DEBUG);
        assert_eq!(told.level(&isolated(2, "a/**")), Level::ERROR);
        assert_eq!(told.level(&isolated(1, "a/*")), Level::ERROR);
        assert_eq!(told.level(&isolated(1, "a/**")), Level::DEBUG);
    }

    #[test]
    fn rejections_are_an_error_once_for_each_peer_and_reason() {
        let clock = |count| Rejections {
            clock: count,
            ..Rejections::default()
        };
        let mut told = Told::default();
        assert_eq!(told.level(&rejected(1, clock(1))), Level::ERROR);
        // Each pull has another number.
        for count in 1..5 {
            assert_eq!(told.level(&rejected(1, clock(count))), Level::DEBUG);
        }
        assert_eq!(told.level(&rejected(2, clock(1))), Level::ERROR);
        let both = Rejections {
            digest: 1,
            ..clock(1)
        };
        assert_eq!(told.level(&rejected(1, both)), Level::ERROR, "a new reason");
        assert_eq!(told.level(&rejected(1, both)), Level::DEBUG);
    }

    #[test]
    fn what_passes_by_itself_is_no_error() {
        let mut told = Told::default();
        let pulled = |cells| Report::Pulled {
            peer: peer(1),
            cells,
        };
        let failed = Report::Failed(peer(1), "there was no answer".to_owned());
        for _ in 0..2 {
            assert_eq!(told.level(&pulled(0)), Level::DEBUG);
            assert_eq!(told.level(&pulled(1)), Level::INFO);
            assert_eq!(told.level(&failed), Level::WARN);
        }
        assert!(told.causes.is_empty());
    }

    #[test]
    fn of_too_many_causes_the_earliest_are_forgotten() {
        let mut told = Told::default();
        let number = MAX_CAUSES as u16;
        for n in 0..=number {
            assert_eq!(told.level(&isolated(n, "a/**")), Level::ERROR);
        }
        assert_eq!(told.causes.len(), MAX_CAUSES);
        assert_eq!(told.level(&isolated(number, "a/**")), Level::DEBUG);
        assert_eq!(told.level(&isolated(1, "a/**")), Level::DEBUG);
        assert_eq!(told.level(&isolated(0, "a/**")), Level::ERROR);
    }
}
