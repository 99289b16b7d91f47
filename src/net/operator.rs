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

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, Notify, Semaphore};
use zenoh::{query::Query as ZQuery, session::Session};

use super::{
    answers::Replier,
    asker::{self, Asker},
    identity,
    queryable::{self, Route},
    replicator::Replicator,
    session::Sessions,
    status,
};
use crate::{
    admin::Administration,
    metrics::Histogram,
    store::StoreError,
    sync::{ReplicaId, Token, PROTOCOL},
};

/// Queries that wait to be answered; more are refused.
const MAX_ASKED: usize = 64;

/// Queries that are answered at a time: those that are soon, and the others.
const QUICK_AT_A_TIME: usize = 4;
const LONG_AT_A_TIME: usize = 2;

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
    const ALL: [Self; 13] = [
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
            Self::Status | Self::Metrics | Self::Sync | Self::Restore => &[],
            Self::Verify | Self::Backup => &[asker::PARAMETER],
            Self::Proof => &["key", "root"],
            Self::Cells => &["key"],
            Self::Keys => &["after", "match", "deleted", "limit", "low", "high"],
            Self::Scrub => &["do", asker::PARAMETER],
            Self::Diff => &["with"],
            Self::Snapshot => &["do", "name", asker::PARAMETER],
            Self::Rollback => &["snapshot", asker::PARAMETER],
        }
    }

    /// Whether it may take long.
    fn is_long(self) -> bool {
        matches!(
            self,
            Self::Verify | Self::Scrub | Self::Snapshot | Self::Backup | Self::Rollback
        )
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
        let routes = Request::ALL.map(|request| {
            let sender = sender.clone();
            Route::new(request.name(), move |query| {
                // A query that is dropped is answered with nothing.
                let _ = sender.try_send((request, query));
            })
        });
        let (session, operator) = (session.clone(), Arc::clone(operator));
        let serving = tokio::spawn(serve(session, operator, Arc::from(own), asked));
        (Self(serving), routes.into())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
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
    let quick = Arc::new(Semaphore::new(QUICK_AT_A_TIME));
    let long = Arc::new(Semaphore::new(LONG_AT_A_TIME));
    while let Some((request, query)) = asked.recv().await {
        let key = format!("{own}/{}", request.name());
        // What is soon over is worth to wait for.
        let permit = match request.is_long() {
            true => Arc::clone(&long).try_acquire_owned().ok(),
            false => Arc::clone(&quick).acquire_owned().await.ok(),
        };
        let (session, own) = (session.clone(), Arc::clone(&own));
        let operator = Arc::clone(&operator);
        tokio::task::spawn_blocking(move || {
            let replier = Replier::new(&operator.admin.name, &query, &key);
            let Some(_permit) = permit else {
                return replier.error("too much is going on that takes long; ask again later");
            };
            let asker = match request.is_long() {
                true => Asker::of(&session, &own, &query),
                false => Ok(None),
            };
            match asker {
                Ok(asker) => operator.answer(request, &query, &replier.to(asker)),
                Err(error) => replier.error(&error.to_string()),
            }
        });
    }
}
