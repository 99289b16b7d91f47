//! What operators can ask for.

use super::asker;

/// Bytes of a frame of a rollback that is taken: one key may have that many.
pub(super) const MAX_ROLLBACK: usize = 64 << 20;

/// Bytes of a frame of a restore that is taken: that of one value of the longest.
const MAX_RESTORE: usize = (1 << 30) + (1 << 20);

/// The parameter of a status that is to be short, however many replicas there are.
pub(super) const BRIEF: &str = "brief";

/// The parameter of what is to be said, and not to be done.
pub(super) const DRY: &str = "dry";

/// Bytes of a payload that is a key, or names a replica.
const MAX_WORDS: usize = 128 << 10;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Status,
    Ui,
    Tree,
    Metrics,
    Proof,
    Keys,
    Cells,
    Verify,
    Scrub,
    Collect,
    Sync,
    Forget,
    Diff,
    Snapshot,
    Backup,
    Restore,
    Rollback,
}

impl Request {
    pub(super) const ALL: [Self; 17] = [
        Self::Status,
        Self::Ui,
        Self::Tree,
        Self::Metrics,
        Self::Proof,
        Self::Keys,
        Self::Cells,
        Self::Verify,
        Self::Scrub,
        Self::Collect,
        Self::Sync,
        Self::Forget,
        Self::Diff,
        Self::Snapshot,
        Self::Backup,
        Self::Restore,
        Self::Rollback,
    ];

    /// What follows the replica in the key expression.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Ui => "ui",
            Self::Tree => "tree",
            Self::Metrics => "metrics",
            Self::Proof => "proof",
            Self::Keys => "keys",
            Self::Cells => "cells",
            Self::Verify => "control/verify",
            Self::Scrub => "control/scrub",
            Self::Collect => "control/collect",
            Self::Sync => "control/sync",
            Self::Forget => "control/forget",
            Self::Diff => "control/diff",
            Self::Snapshot => "control/snapshot",
            Self::Backup => "control/backup",
            Self::Restore => "control/restore",
            Self::Rollback => "control/rollback",
        }
    }

    /// The parameters that it takes.
    pub(super) fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Status => &[BRIEF],
            Self::Ui | Self::Metrics => &[],
            Self::Tree => &["low", "high"],
            Self::Verify | Self::Backup | Self::Sync => &[asker::PARAMETER],
            Self::Restore => &[DRY, asker::PARAMETER],
            Self::Proof => &["key", "root"],
            Self::Cells => &["key"],
            Self::Keys => &[
                "after", "prefix", "match", "deleted", "bytes", "limit", "low", "high",
            ],
            Self::Scrub | Self::Collect => &["do", asker::PARAMETER],
            Self::Forget => &["member", asker::PARAMETER],
            Self::Diff => &["with"],
            Self::Snapshot => &["do", "name", asker::PARAMETER],
            Self::Rollback => &["snapshot", DRY, asker::PARAMETER],
        }
    }

    /// Bytes of the payload that are read; of what takes none it is not looked at.
    pub(super) fn max_payload(self) -> usize {
        match self {
            Self::Status | Self::Ui | Self::Tree | Self::Metrics => 0,
            Self::Verify | Self::Diff | Self::Backup => 0,
            Self::Proof | Self::Keys | Self::Cells => MAX_WORDS,
            Self::Scrub | Self::Collect | Self::Sync | Self::Forget | Self::Snapshot => MAX_WORDS,
            Self::Restore => MAX_RESTORE,
            Self::Rollback => MAX_ROLLBACK,
        }
    }
}
