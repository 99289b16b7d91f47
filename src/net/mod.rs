//! The Zenoh session: carries out what [`sync`](crate::sync) decides, and answers the
//! queries of other replicas and of operators.
//!
//! | part | purpose |
//! |---|---|
//! | `session` | obtains the session |
//! | `routers` | recognizes timestamps that routers made |
//! | `replicator`, `replication_loop` | the state of one replica, and its loop: events in, actions out |
//! | `mailbox` | what waits for the loop |
//! | `links` | a replica's declarations, and its queries to peers |
//! | `serve`, `served` | answers to peers' queries, and how many |
//! | `view` | the replica, as the state machine reads it |
//! | `request` | what operators can ask for |
//! | `operator`, `serving`, `queues`, `answers` | answers to operators |
//! | `convert` | Zenoh's types and ours |
//! | `changes` | tells those who listen what pub/sub did not bring |
//! | `authority` | decides who may have it done |
//! | `words`, `replier` | an operator's query, and the replies |
//! | `outbox` | where replies wait to be sent |
//! | `asker` | tells whether a client is still waiting for its answer |
//! | `page` | the page that shows all of it in a browser |
//! | `held` | pages of keys and nodes of the tree, as JSON |
//! | `status`, `metrics` | the state as JSON, and for Prometheus |
//! | `text` | texts of others, for the log |
//! | `told` | chooses the log level of a report |
//! | `dropped` | counts what there was no room for |
//! | `whereabouts` | the router and the host |

mod answers;
mod asker;
mod authority;
mod changes;
pub(crate) mod convert;
pub(crate) mod dropped;
mod held;
mod identity;
mod links;
mod mailbox;
mod metrics;
mod operator;
pub(crate) mod outbox;
mod page;
mod parts;
mod queryable;
mod queues;
mod random;
mod replication_loop;
mod replicator;
mod replier;
mod request;
mod routers;
mod serve;
mod served;
mod serving;
mod session;
pub mod status;
mod text;
mod told;
mod view;
mod whereabouts;
mod words;

pub use operator::Operator;
pub(crate) use random::number as random_number;
pub use replicator::{Replication, Replicator};
pub use routers::Routers;
pub use session::{Sessions, attach};
pub use whereabouts::Whereabouts;
