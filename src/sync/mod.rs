//! Anti-entropy: how replicas of one storage come to hold the same.
//!
//! Replicas announce their roots. One that hears of a root that is not its own,
//! over a cut of which it knows its own, *pulls*: it asks the other for what has
//! changed there since a root that both have had; if none is known, where their
//! trees differ, from the root down, then for the cells that it lacks. It joins
//! them. It pulls nothing from one that is merely behind. When all have pulled
//! from one another, all hold the join of what they held.
//!
//! All of this is a state machine, [`Machine`]: (time, event) in, actions out. It
//! does no I/O and has no clock and no randomness of its own, so that thousands
//! of replicas can be simulated on virtual time.
//!
//! | part | what it is |
//! |---|---|
//! | `identity` | groups, replicas, and their names in Zenoh |
//! | `wire` | bytes: numbers, keys, limits |
//! | `announcement`, `delta`, `digests`, `entries` | the messages |
//! | `cells`, `salted` | what they are made of: cells, and digests of a few bytes |
//! | `compare` | a tree against what a peer says of its own |
//! | `pull` | one repair: from the first query to the last cell |
//! | `peers` | what is known of the others |
//! | `admission` | what may be believed of the cells of others |
//! | `machine` | when to announce, how the others stand |
//! | `pulling` | whom to pull from, when, and what follows from how it went |
//! | `interface`, `report` | what goes into the machine, and what comes out |
//! | `respond` | answers to queries |
//! | `walk` | where two replicas differ, for people |
//!
//! **Termination.** Each query of digests is about ranges that lie strictly
//! within those of the query before, with at least one entry less; a pull ends
//! when none is left. **Bounds**: the constants below, and those of `machine`.

mod admission;
mod announcement;
mod cells;
mod compare;
mod delta;
mod digests;
mod entries;
mod identity;
mod interface;
mod machine;
mod peers;
mod pull;
mod pulling;
mod report;
mod respond;
mod salted;
mod walk;
mod wire;

#[cfg(test)]
mod delta_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod pulling_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use announcement::Announcement;
pub(crate) use cells::{cells_block, read_cells_block, CellsWriter, CELL_OVERHEAD};
pub use cells::{Received, CHECK_BYTES};
pub use delta::{DeltaQuery, DeltaReply, Progress, MAX_HELD, MAX_ROOTS};
pub use digests::{Differing, DigestQuery, DigestReply, Fragment, Range};
pub use entries::{EntriesQuery, EntriesReply, Want};
pub use identity::{
    Fingerprint, Group, Incarnation, InvalidReplicaId, ReplicaId, Token, PREFIX, PROTOCOL,
};
pub use interface::{Action, Context, Event, Query, Settings, Status, View};
pub use machine::Machine;
pub use peers::{Isolation, PeerStatus, Relation};
pub use pull::Rejections;
pub use pulling::REQUEST_TIMEOUT;
pub use report::Report;
pub use respond::{answer_digests, answer_entries, RespondError, Source};
pub use salted::{Salted, Short, WIDTHS};
pub use walk::Walk;
pub use wire::{MessageError, MAX_KEY_TEXT};

/// Bytes of a query, and of an answer that the asker asks for, about: more means
/// fewer round trips, less means that less is lost with one.
pub const MESSAGE_BYTES: usize = 512 << 10;

/// Bytes of a message that is not refused, longer than [`MESSAGE_BYTES`] by what
/// the last key may add. One that carries a single cell may be longer.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Bytes of keys, written out, after which a sender ends a message, so that the
/// receiver finds less than [`MAX_KEY_TEXT`].
const MAX_KEY_TEXT_SENT: usize = MAX_KEY_TEXT / 2;
