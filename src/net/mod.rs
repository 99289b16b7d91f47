//! The Zenoh session: does what [`sync`](crate::sync) decides, and answers the
//! queries of other replicas.
//!
//! | part | what it is |
//! |---|---|
//! | `session` | where the session comes from |
//! | `routers` | which timestamps routers made |
//! | `replicator` | the loop of one replica: events in, actions out |
//! | `links` | what one replica declares, and what it asks |
//! | `serve` | answers to queries |
//! | `view` | a replica, as the state machine reads it |
//! | `operator`, `answers` | what operators can ask for |
//! | `authority` | who may have it done |
//! | `words`, `replier` | a query of an operator, and the replies |
//! | `asker` | whether whoever asked is still there |
//! | `status`, `metrics` | all of it in JSON, and for Prometheus |
//! | `text` | texts of others, for the log |
//! | `told` | how loudly an operator is told of it |

mod answers;
mod asker;
mod authority;
mod identity;
mod links;
mod metrics;
mod operator;
mod queryable;
mod random;
mod replicator;
mod replier;
mod routers;
mod serve;
mod session;
mod status;
mod text;
mod told;
mod view;
mod words;

pub use operator::Operator;
pub(crate) use random::number as random_number;
pub use replicator::{Replication, Replicator};
pub use routers::Routers;
pub use session::{attach, Sessions};
