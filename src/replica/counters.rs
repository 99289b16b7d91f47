//! What has happened since the replica was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_many(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// The counters.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(super) $name: Counter,)+
        }

        /// The values of the counters at one time.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Counters {
            /// All values. Each is exact; they are not of one instant.
            #[must_use]
            pub fn read(&self) -> Counts {
                Counts { $($name: self.$name.read(),)+ }
            }
        }
    };
}

counters! {
    /// Values that were written, outdated ones among them.
    puts,
    /// Tombstones that were written, outdated ones among them.
    deletes,
    /// Cells of other replicas that were joined, outdated ones among them.
    merged,
    /// Reads.
    gets,
    /// Writes that came when a later one of the same key was there.
    outdated,
    /// Writes that were refused.
    refused,
    /// Puts to merged keys that a router stamped, refused ones among them.
    stamped_by_routers,
    /// Writes that were dropped, since there was no room for them and their publishers did
    /// not want to wait.
    dropped,
    /// Cells whose lifetime was over, and which left the tree.
    expired,
    /// Writes whose lifetime was over before they came.
    dead,
    /// Puts that are hidden after some time, by their encoding, and whose key has no lifetime.
    ttl_without_lifetime,
    /// Writes that were refused since they were stamped below the floor.
    refused_late,
    /// Tombstones that were collected: of keys.
    collected_tombstones,
    /// Delete rules that were collected.
    collected_rules,
    /// Cells that were set aside, as the other replicas do not have them.
    set_aside,
    /// Groups that were committed to the store.
    commits,
    /// Cells in these groups.
    committed_cells,
    /// Cells of the tree that were compared with what is on the disk.
    scrubbed,
    /// Cells that were found damaged.
    damaged,
    /// Of these, those that were written anew, or replaced by what others sent.
    repaired,
}
