//! The Zenoh session: does what [`sync`](crate::sync) decides, and answers the
//! queries of other replicas.
//!
//! | part | what it is |
//! |---|---|
//! | `session` | where the session comes from |
//! | `replicator` | the loop of one replica: events in, actions out |
//! | `links` | what one replica declares, and what it asks |
//! | `serve` | answers to queries |
//! | `view` | a replica, as the state machine reads it |
//! | `status` | all of it in JSON |

mod links;
mod random;
mod replicator;
mod serve;
mod session;
mod status;
mod view;

pub use replicator::{Replication, Replicator, StatusSource};
pub use session::{attach, Sessions};
