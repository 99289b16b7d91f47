//! Anti-entropy: makes the replicas of a storage converge.
//!
//! Replicas announce their roots. A replica that hears a root that differs from its own
//! over a cut that both know *pulls*: it asks the peer for what has changed there since a
//! root that both have had; if they know none, it asks where their trees differ, from the
//! root down, then for the cells that it lacks. It joins them. It pulls nothing from a
//! peer that is merely behind. When all have pulled from one another, all hold the join
//! of what they held.
//!
//! All of this is a state machine, [`Machine`]: (time, event) in, actions out. It has no
//! I/O, clock or randomness of its own, so that tests can simulate thousands of replicas
//! on virtual time.
//!
//! | part | purpose |
//! |---|---|
//! | `identity` | groups, replicas, and their names in Zenoh |
//! | `wire` | bytes: numbers, keys, limits |
//! | `announcement`, `delta`, `digests`, `entries` | the messages |
//! | `cells`, `fragment`, `salted` | their parts: cells, what one has in a range, and truncated digests |
//! | `compare` | compares a tree with what a peer says of its own |
//! | `pull` | one repair: from the first query to the last cell |
//! | `peers` | the state of each peer |
//! | `admission` | checks the cells of others |
//! | `refused` | remembers what was not taken |
//! | `machine` | announcements, and the relations of peers |
//! | `members`, `catching` | collection: who is a member, when a horizon is adopted, who catches up |
//! | `mirror`, `lineages`, `asked` | what a replica that catches up finds, and what queries say of horizons |
//! | `known` | remembers replicas, and forgets them |
//! | `naming` | handles doubles, and replicas whose token is not there |
//! | `choosing` | chooses the peer to pull from |
//! | `pull_state` | what a replica is at: a pull, or waiting for what it brought |
//! | `pulling` | begins, continues and ends pulls, and handles the outcome |
//! | `interface`, `report` | the machine's inputs and outputs |
//! | `view` | what it sees of its replica |
//! | `joins` | which of the joined cells are part of the root |
//! | `respond` | answers to queries |
//! | `walk` | lists where two replicas differ, for operators |
//!
//! **Termination.** Each digest query is about ranges that lie strictly within those of
//! the query before, with at least one entry less; a pull ends when none is left.
//! **Bounds**: the constants below, and those of `machine`.

mod admission;
mod announcement;
mod announcing;
mod asked;
mod catching;
mod cells;
mod choosing;
mod compare;
mod delta;
mod digests;
mod entries;
mod fragment;
mod identity;
mod interface;
mod joins;
mod known;
mod lineages;
mod machine;
mod members;
mod mirror;
mod naming;
mod pace;
mod pauses;
mod peers;
mod pieces;
mod pull;
mod pull_state;
mod pulling;
mod refused;
mod rejections;
mod report;
mod respond;
mod salted;
mod view;
mod walk;
mod wire;

#[cfg(test)]
mod delta_tests;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod pieces_tests;
#[cfg(test)]
mod pulling_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod watermark_tests;

pub use admission::Admission;
pub use announcement::{Announcement, Stand};
pub use asked::Asked;
pub(crate) use cells::{CELL_OVERHEAD, CellsWriter, cells_block, read_cells_block};
pub use cells::{CHECK_BYTES, Received};
pub use delta::{DeltaQuery, DeltaReply, MAX_HELD, MAX_ROOTS, Progress};
pub use digests::{Differing, DigestQuery, DigestReply};
pub use entries::{EntriesQuery, EntriesReply, Want};
pub use fragment::{Fragment, Range};
pub use identity::{
    Fingerprint, Group, Incarnation, InvalidReplicaId, PREFIX, PROTOCOL, ReplicaId, Token,
};
pub use interface::{Action, Context, Event, Query, Settings, Status};
pub use joins::Joins;
pub use known::Forgotten;
pub use lineages::{is_lineage_query, lineage_reply, read_lineage, standing_of};
pub use machine::Machine;
pub use members::{MemberSettings, Waits};
pub use pace::{Precedence, REQUEST_TIMEOUT, Terms};
pub use peers::{Isolation, PeerStatus, Relation};
pub use pieces::{AtHand, Notice, PieceQuery, PieceReply};
pub use rejections::Rejections;
pub use report::Report;
pub use respond::{
    RespondError, Source, admit_query, answer_digests, answer_digests_to, answer_entries,
};
pub use salted::{Salted, Short, WIDTHS};
pub use view::View;
pub use walk::Walk;
pub use wire::{MAX_KEY_TEXT, MessageError};

/// About the size of a query, and of an answer that the asker asks for: larger ones save
/// round trips, smaller ones lose less with one message.
pub const MESSAGE_BYTES: usize = 512 << 10;

/// The most bytes of a message, longer than [`MESSAGE_BYTES`] by what the last key may
/// add. A value that does not fit comes in [pieces](PieceQuery).
pub const MAX_MESSAGE: usize = 4 << 20;

/// The most bytes of a query that is read: one that is asked with [`MESSAGE_BYTES`] is longer by its last
/// part alone.
pub const MAX_QUERY: usize = 2 * MESSAGE_BYTES + (128 << 10);

/// The most bytes of an answer for which `asked` were asked, as it was packed, and unpacked: the last key
/// may make it longer, and the notices of large values.
#[must_use]
pub fn max_answer(asked: usize) -> usize {
    (asked + asked / 2 + (128 << 10)).min(MAX_MESSAGE)
}

/// The most wants of a query, and cells of an answer: what is small on its way takes more in memory.
const MAX_WANTS: usize = MESSAGE_BYTES / 16;
const MAX_CELLS: usize = MESSAGE_BYTES / 16;

/// Bytes of written-out keys after which a sender ends a message, so that the receiver
/// finds less than [`MAX_KEY_TEXT`].
const MAX_KEY_TEXT_SENT: usize = MAX_KEY_TEXT / 2;
