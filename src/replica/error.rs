//! What can be wrong with a write.

use std::{
    io,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use thiserror::Error;

use super::MAX_VALUE_BYTES;
use crate::{
    cell::{MAX_KEY_BYTES, MAX_KEY_CHUNKS, Timestamp, ntp64_duration},
    merge::{InvalidPut, InvalidTtl, ReadError, RejectedPut},
    store::StoreError,
    wildcard::InvalidRule,
};

/// Why a write is not taken, though nothing is wrong with the replica.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The storage is only read.
    #[error("the storage has `read_only: true`, and takes no writes")]
    ReadOnly,
    /// The timestamp is further ahead of this router's clock than is allowed.
    #[error(
        "its timestamp {timestamp} is {ahead:.1?} ahead of this router's clock, \
         `max_clock_drift` allows {allowed:?}: set the writer's clock, or this router's",
        ahead = ntp64_duration(timestamp.time.saturating_sub(*now))
    )]
    AheadOfClock {
        /// The timestamp.
        timestamp: Timestamp,
        /// This router's clock, NTP64.
        now: u64,
        /// How far ahead it may be.
        allowed: Duration,
    },
    /// A router stamped it, and the storage takes only what clients stamped.
    #[error(
        "a router stamped it, not its client, and with `unstamped: \"refuse\"` merged keys take no \
         such puts: let the client stamp its puts (`timestamping`)"
    )]
    StampedByRouter,
    /// The timestamp is below the floor of the storage's collection.
    #[error(
        "its timestamp {timestamp} is from before {}, and what was deleted before that may have been \
         collected: `collect.after` says how old a write may be",
        humantime::format_rfc3339_millis(UNIX_EPOCH + ntp64_duration(*floor))
    )]
    Late {
        /// The timestamp.
        timestamp: Timestamp,
        /// The floor, NTP64.
        floor: u64,
    },
    /// The key is too long.
    #[error(
        "its key has {bytes} bytes, together with an element or field if it is made of such; \
         allowed are {MAX_KEY_BYTES}"
    )]
    KeyTooLong {
        /// Bytes of the key.
        bytes: usize,
    },
    /// The key has too many chunks.
    #[error("its key has more than {MAX_KEY_CHUNKS} chunks")]
    TooManyChunks,
    /// The value is too long.
    #[error("its value has {bytes} bytes, allowed are {MAX_VALUE_BYTES}")]
    ValueTooLong {
        /// Bytes of the value.
        bytes: usize,
    },
    /// The key is a pattern, and the cell is no rule for it.
    #[error("its key has wildcards: {0}")]
    InvalidRule(#[from] InvalidRule),
    /// There are too many rules.
    #[error("its key has wildcards, and the storage has as many rules as it takes")]
    TooManyRules,
    /// For how long it is to be shown is not understood.
    #[error(transparent)]
    InvalidTtl(#[from] InvalidTtl),
    /// The strategy that merges the key cannot take the value.
    #[error("`{strategy}` cannot take it: {reason}")]
    InvalidPut {
        /// The strategy.
        strategy: Arc<str>,
        /// Why not.
        reason: InvalidPut,
    },
}

impl From<RejectedPut> for Refusal {
    fn from(RejectedPut { strategy, reason }: RejectedPut) -> Self {
        Self::InvalidPut { strategy, reason }
    }
}

/// Why a replica does not do what it was asked.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// The write was refused; all else goes on.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The store failed. What was committed is safe; nothing more is written
    /// until the storage is opened anew.
    #[error(
        "the storage takes no more writes, because of this: {0}; what was committed is safe; \
         remove the cause, then restart the storage"
    )]
    Failed(Arc<Failure>),
    /// The replica was closed.
    #[error("the storage is closed")]
    Closed,
}

/// Why a key cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GetError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was found damaged.
    #[error(
        "the value of '{key}' of {timestamp} is damaged, and in quarantine until another replica \
         sends it, or the key is written anew"
    )]
    Quarantined {
        /// The key.
        key: String,
        /// When the damaged cell was written.
        timestamp: Timestamp,
    },
    /// It is not known how to read what is there.
    #[error(transparent)]
    Merge(#[from] ReadError),
    /// The strategy panicked, which is a mistake in it.
    #[error("the strategy that reads it panicked, which is a mistake in it")]
    Panic,
}

/// Why a replica takes no more writes.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that commits panicked, which is a mistake in this program.
    #[error("the thread that commits panicked: {0}; please report it")]
    Panic(String),
}

/// Why a replica cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread could be started.
    #[error("no thread could be started: {0}")]
    Thread(#[from] io::Error),
    /// The thread that builds the tree panicked, which is a mistake in this
    /// program.
    #[error("the tree could not be built, which is a mistake in this program; please report it")]
    Panic,
}
