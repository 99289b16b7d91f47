//! What operators can ask of a storage, and who answers them.
//!
//! ```text
//! @mst/2/<group>/<replica>/status             how it is, in JSON
//! @mst/2/<group>/<replica>/metrics            the same, for Prometheus
//! @mst/2/<group>/<replica>/proof              a proof of a key
//! @mst/2/<group>/<replica>/keys, cells        what it holds
//! @mst/2/<group>/<replica>/control/<verb>     what changes something, or takes long
//! @mst/2/<group>/<replica>/asker/<session>    a liveliness token of whoever asks for that
//! ```
//!
//! A storage that is not replicated has them too; it has no token, and answers no
//! replica.

use std::sync::{atomic::AtomicU64, Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::{mpsc, Notify, OwnedSemaphorePermit, Semaphore};
use zenoh::{query::Query as ZQuery, session::Session};

use super::{
    asker::{self, Asker},
    authority::{admit, Demand, Pace},
    identity,
    queryable::{self, Route},
    replicator::Replicator,
    replier::Replier,
    session::Sessions,
    status,
};
use crate::{
    admin::Administration,
    config::Operators,
    metrics::Histogram,
    store::StoreError,
    sync::{ReplicaId, Token, PROTOCOL},
};

/// Queries that wait to be taken; more are answered with nothing.
const MAX_ASKED: usize = 64;

/// Bytes of a frame of a rollback that is taken: one key may have that many.
pub(super) const MAX_ROLLBACK: usize = 64 << 20;

/// Bytes of a frame of a restore that is taken: that of one value of the longest.
const MAX_RESTORE: usize = (1 << 30) + (1 << 20);

/// Bytes of a payload that is a key, or names a replica.
const MAX_WORDS: usize = 128 << 10;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Status,
    Metrics,
    Proof,
    Keys,
    Cells,
    Verify,
    Scrub,
    Sync,
    Diff,
    Snapshot,
    Backup,
    Restore,
    Rollback,
}

impl Request {
    pub(super) const ALL: [Self; 13] = [
        Self::Status,
        Self::Metrics,
        Self::Proof,
        Self::Keys,
        Self::Cells,
        Self::Verify,
        Self::Scrub,
        Self::Sync,
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
            Self::Metrics => "metrics",
            Self::Proof => "proof",
            Self::Keys => "keys",
            Self::Cells => "cells",
            Self::Verify => "control/verify",
            Self::Scrub => "control/scrub",
            Self::Sync => "control/sync",
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
            Self::Status | Self::Metrics => &[],
            Self::Verify | Self::Backup | Self::Sync | Self::Restore => &[asker::PARAMETER],
            Self::Proof => &["key", "root"],
            Self::Cells => &["key"],
            Self::Keys => &["after", "match", "deleted", "limit", "low", "high"],
            Self::Scrub => &["do", asker::PARAMETER],
            Self::Diff => &["with"],
            Self::Snapshot => &["do", "name", asker::PARAMETER],
            Self::Rollback => &["snapshot", asker::PARAMETER],
        }
    }

    /// Bytes of the payload that are read; of what takes none it is not looked at.
    pub(super) fn max_payload(self) -> usize {
        match self {
            Self::Status | Self::Metrics | Self::Verify | Self::Diff | Self::Backup => 0,
            Self::Proof | Self::Keys | Self::Cells => MAX_WORDS,
            Self::Scrub | Self::Sync | Self::Snapshot => MAX_WORDS,
            Self::Restore => MAX_RESTORE,
            Self::Rollback => MAX_ROLLBACK,
        }
    }
}

/// A storage, as operators see it.
pub struct Operator {
    pub(super) admin: Administration,
    /// If the storage is replicated.
    pub(super) replicator: Option<Arc<Replicator>>,
    /// How long puts and deletes take.
    pub put_durations: Histogram,
    /// How long gets of a key take.
    pub get_durations: Histogram,
    /// If it is not replicated.
    own_identity: ReplicaId,
    /// As it was given, for the status.
    configuration: Value,
    /// What is done for those who ask.
    operators: Operators,
    /// Queries that were refused.
    refused: AtomicU64,
    /// The change that was written to the log last: a restore is one, of many frames.
    last_change: Mutex<String>,
    stop: Notify,
}

impl Operator {
    /// For a storage, which was configured so, and is replicated so if it is. Blocks
    /// on disk.
    ///
    /// # Errors
    /// If the identity cannot be read or written.
    pub fn new(
        admin: Administration,
        replicator: Option<Arc<Replicator>>,
        configuration: Value,
        operators: Operators,
    ) -> Result<Self, StoreError> {
        let own_identity = match &replicator {
            Some(replicator) => replicator.identity(),
            None => identity::load(&admin.name, admin.folder())?,
        };
        Ok(Self {
            admin,
            replicator,
            put_durations: Histogram::new(),
            get_durations: Histogram::new(),
            own_identity,
            configuration,
            operators,
            refused: AtomicU64::new(0),
            last_change: Mutex::default(),
            stop: Notify::new(),
        })
    }

    /// What can be asked of the storage.
    #[must_use]
    pub fn admin(&self) -> &Administration {
        &self.admin
    }

    /// Which replica this is, for now.
    pub(super) fn identity(&self) -> ReplicaId {
        let replicator = self.replicator.as_ref();
        replicator.map_or(self.own_identity, |replicator| replicator.identity())
    }

    /// The status of the storage. Documented, field by field, in docs/operators.md.
    #[must_use]
    pub fn status(&self) -> Value {
        status::storage_status(self, self.configuration.clone())
    }

    /// Whether this change is another than the last.
    pub(super) fn is_new_change(&self, change: &str) -> bool {
        let mut last = self
            .last_change
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_new = *last != change;
        if is_new {
            change.clone_into(&mut last);
        }
        is_new
    }

    /// Ends [`run`](Self::run), soon.
    pub fn stop(&self) {
        self.stop.notify_one();
        if let Some(replicator) = &self.replicator {
            replicator.stop();
        }
    }

    /// Replicates the storage, if it is replicated, and answers operators; until it
    /// is stopped.
    pub async fn run(self: Arc<Self>, sessions: Arc<Sessions>) {
        if let Some(replicator) = self.replicator.clone() {
            return replicator.run(sessions, self).await;
        }
        if self.operators == Operators::None {
            return self.stop.notified().await;
        }
        let opened = tokio::select! {
            opened = sessions.get_for_operators() => opened,
            () = self.stop.notified() => return,
        };
        let Some((session, _)) = opened else {
            return;
        };
        let own = Token {
            protocol: PROTOCOL,
            group: self.admin.group.clone(),
            replica: self.own_identity,
        };
        let own = own.to_string();
        let (serving, routes) = Serving::start(&session, &own, &self);
        match queryable::declare(&session, &own, routes).await {
            Ok(declared) => {
                self.stop.notified().await;
                drop(declared);
                drop(serving);
            }
            Err(error) => {
                let name = &self.admin.name;
                tracing::error!("storage '{name}': operators cannot ask for anything: {error}");
            }
        }
    }
}

/// Answers operators, for as long as this is there.
pub(super) struct Serving(tokio::task::JoinHandle<()>);

impl Serving {
    /// Answers for what is below `own`. The routes lead to it, and have to be declared.
    pub(super) fn start(
        session: &Session,
        own: &str,
        operator: &Arc<Operator>,
    ) -> (Self, Vec<Route>) {
        let (sender, asked) = mpsc::channel(MAX_ASKED);
        let answered: &[Request] = match operator.operators {
            Operators::None => &[],
            Operators::Read | Operators::All => &Request::ALL,
        };
        let routes = answered.iter().map(|&request| {
            let sender = sender.clone();
            Route::new(request.name(), move |query| {
                // A query that is dropped is answered with nothing.
                let _ = sender.try_send((request, query));
            })
        });
        let routes = routes.collect();
        let (session, operator) = (session.clone(), Arc::clone(operator));
        let serving = tokio::spawn(serve(session, operator, Arc::from(own), asked));
        (Self(serving), routes)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Queries of one pace: so many are answered at a time, and so many more wait.
struct Queue {
    room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Queue {
    fn new(at_a_time: usize, waiting: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(at_a_time + waiting)),
            turns: Arc::new(Semaphore::new(at_a_time)),
        }
    }

    /// A place, if there is one; it is given back when it is dropped.
    fn enter(&self) -> Option<Place> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some(Place {
            _room: room,
            turns: Arc::clone(&self.turns),
        })
    }
}

/// A place in a queue.
struct Place {
    _room: OwnedSemaphorePermit,
    turns: Arc<Semaphore>,
}

impl Place {
    /// Waits until it is one's turn, which lasts as long as what is returned.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

/// The queues of a storage. None of them holds up another.
struct Queues {
    quick: Queue,
    frames: Queue,
    peers: Queue,
    long: Queue,
}

impl Queues {
    fn new() -> Self {
        Self {
            quick: Queue::new(4, 64),
            frames: Queue::new(2, 16),
            peers: Queue::new(2, 16),
            // What takes long is not worth to wait for.
            long: Queue::new(2, 0),
        }
    }

    fn of(&self, pace: Pace) -> &Queue {
        match pace {
            Pace::Quick => &self.quick,
            Pace::Frame => &self.frames,
            Pace::Peer => &self.peers,
            Pace::Long => &self.long,
        }
    }
}

/// Answers queries until no more can come. What blocks on disk or takes long is
/// done on threads for that.
async fn serve(
    session: Session,
    operator: Arc<Operator>,
    own: Arc<str>,
    mut asked: mpsc::Receiver<(Request, ZQuery)>,
) {
    let queues = Queues::new();
    while let Some((request, query)) = asked.recv().await {
        let demand = Demand::of(request, query.parameters());
        let refused = admit(operator.operators, demand, &query).err();
        let mut refused = refused.map(|error| error.to_string());
        let mut place = match refused {
            None => queues.of(demand.pace).enter(),
            Some(_) => queues.quick.enter(),
        };
        if place.is_none() && demand.pace != Pace::Quick {
            refused = Some("too much is going on that takes long; ask again later".to_owned());
            place = queues.quick.enter();
        }
        // A query that is dropped is answered with nothing.
        let Some(place) = place else {
            continue;
        };
        let asked = Asked {
            session: session.clone(),
            operator: Arc::clone(&operator),
            own: Arc::clone(&own),
            demand,
            query,
        };
        tokio::spawn(async move {
            let turn = place.turn().await;
            asked.answer(refused).await;
            drop(turn);
        });
    }
}

/// A query whose turn it is.
struct Asked {
    session: Session,
    operator: Arc<Operator>,
    own: Arc<str>,
    demand: Demand,
    query: ZQuery,
}

impl Asked {
    /// Answers it, or says why it is refused.
    async fn answer(self, refused: Option<String>) {
        let found = match self.demand.pace {
            Pace::Peer if refused.is_none() => {
                Some(self.operator.find_differences(&self.query).await)
            }
            _ => None,
        };
        let (found, refused) = match found {
            Some(Err(error)) => (None, Some(error.to_string())),
            Some(Ok(found)) => (Some(found), refused),
            None => (None, refused),
        };
        let answered = tokio::task::spawn_blocking(move || {
            let Self {
                session,
                operator,
                own,
                demand,
                query,
            } = self;
            let key = format!("{own}/{}", demand.request.name());
            let replier = Replier::new(&operator.admin.name, &query, &key, &operator.refused);
            if let Some(reason) = refused {
                return replier.error(&reason);
            }
            match Asker::of(&session, &own, &query) {
                Ok(asker) => {
                    operator.answer(demand, &query, found.as_ref(), &replier.to(asker));
                }
                Err(error) => replier.error(&error.to_string()),
            }
        });
        if let Err(error) = answered.await {
            tracing::error!("a query of an operator was not answered: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_an_end_and_holds_up_no_other() {
        let queues = Queues::new();
        let long: Vec<_> = std::iter::from_fn(|| queues.long.enter()).collect();
        assert_eq!(long.len(), 2);
        let peers: Vec<_> = std::iter::from_fn(|| queues.peers.enter()).collect();
        assert_eq!(peers.len(), 18);
        for pace in [Pace::Quick, Pace::Frame] {
            let place = queues.of(pace).enter().expect("room");
            let turn = Arc::clone(&place.turns).try_acquire_owned();
            assert!(turn.is_ok(), "{pace:?}");
        }
        drop(long);
        assert!(queues.long.enter().is_some());
    }
}
