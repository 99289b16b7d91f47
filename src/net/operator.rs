//! What operators can ask of a storage, and who answers them.
//!
//! ```text
//! @mst/2/<group>/<replica>/status             how it is, in JSON
//! @mst/2/<group>/<replica>/ui                 a page for a browser
//! @mst/2/<group>/<replica>/tree               a node of the tree, in JSON
//! @mst/2/<group>/<replica>/metrics            the same, for Prometheus
//! @mst/2/<group>/<replica>/proof              a proof of a key
//! @mst/2/<group>/<replica>/keys, cells        what it holds
//! @mst/2/<group>/<replica>/changes/<key>       samples of what pub/sub did not bring
//! @mst/2/<group>/<replica>/control/<verb>     what changes something, or takes long
//! @mst/2/<group>/<replica>/asker/<session>    a liveliness token of whoever asks for that
//! ```
//!
//! A storage that is not replicated has them too; it has no token, and answers no
//! replica.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicU64};

use serde_json::Value;
use tokio::sync::Notify;

use super::{
    changes::{Changes, Way},
    dropped::Dropped,
    identity,
    replicator::Replicator,
    whereabouts::Found,
};
use crate::{
    admin::Administration, config::Operators, metrics::Histogram, store::StoreError,
    sync::ReplicaId,
};

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
    pub(super) own_identity: ReplicaId,
    /// As it was given, for the status.
    pub(super) configuration: Value,
    /// What is done for those who ask.
    pub(super) operators: Operators,
    /// What is published that pub/sub did not bring.
    pub(super) changes: Arc<Changes>,
    /// What there was no room for.
    pub(crate) dropped: Arc<Dropped>,
    /// Where it is.
    pub(super) found: Arc<Found>,
    /// Queries that were refused.
    pub(super) refused: AtomicU64,
    /// The change that was written to the log last: a restore is one, of many frames.
    last_change: Mutex<String>,
    pub(super) stop: Notify,
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
        let changes = replicator
            .as_ref()
            .map_or_else(Arc::default, |replicator| Arc::clone(&replicator.changes));
        let dropped = replicator
            .as_ref()
            .map_or_else(Arc::default, |replicator| Arc::clone(&replicator.dropped));
        let feed = Arc::clone(&changes);
        let own: Arc<str> = own_identity.to_string().into();
        admin.replica.on_dead(move |dead| {
            for (key, timestamp) in dead {
                feed.tell(key, *timestamp, Way::Expiry, &own);
            }
        });
        Ok(Self {
            dropped,
            found: Arc::default(),
            admin,
            replicator,
            put_durations: Histogram::new(),
            get_durations: Histogram::new(),
            own_identity,
            configuration,
            operators,
            changes,
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

    /// Ends [`run`](Self::run) soon.
    pub fn stop(&self) {
        self.stop.notify_one();
        if let Some(replicator) = &self.replicator {
            replicator.stop();
        }
    }
}
