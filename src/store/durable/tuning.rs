//! Sizes that trade disk space for work. Tests, which write little, make them small, so that they
//! come to the same places.

use super::wal;

/// When files of a [`DurableStore`](super::DurableStore) are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTuning {
    /// Bytes of a file of the write-ahead log beyond which another is begun.
    pub log_file: u64,
    /// Bytes of full files of the log that are in rows, but not in tables, at which the engine is made
    /// to write tables.
    pub log_kept: u64,
    /// Bytes that files may have beside twice those of the rows before the rows are written anew.
    pub slack: u64,
}

impl StoreTuning {
    /// Bytes of the log that are kept, at the least.
    const MIN_LOG_KEPT: u64 = 16 << 20;

    /// Less than the engine's journal may have.
    const SLACK: u64 = 48 << 20;

    /// As is right for a store with a cache of this size.
    #[must_use]
    pub fn of_cache(cache_size: u64) -> Self {
        Self {
            log_file: wal::FILE_BYTES,
            log_kept: Self::MIN_LOG_KEPT.max(cache_size / 4),
            slack: Self::SLACK,
        }
    }
}
