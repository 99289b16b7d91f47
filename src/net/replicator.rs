//! The replication of one storage, and its state.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use zenoh::Session;

use super::{
    changes::Changes,
    dropped::Dropped,
    identity,
    links::{QUICKLY, get},
    random,
    served::Served,
    session::Way,
    told::Told,
    view::ReplicaView,
};
use crate::{
    config::ReplicationConfig,
    replica::{Clock, Replica},
    store::StoreError,
    sync::{
        AtHand, Context, Fingerprint, Forgotten, Group, Incarnation, MAX_MESSAGE, Machine,
        MemberSettings, PROTOCOL, ReplicaId, Settings, Token, Walk, Want,
    },
};

/// What to replicate, and how.
pub struct Replication {
    /// The name of the storage, for the log.
    pub name: String,
    /// The keys of the storage.
    pub group: Group,
    /// The options of replication.
    pub config: ReplicationConfig,
    /// The merge rules, as text.
    pub rules: String,
    /// How far ahead of the clock a timestamp may be.
    pub max_clock_drift: Duration,
    /// The folder of the data, which keeps the identity; none for a storage in memory.
    pub folder: Option<PathBuf>,
    /// Tells the time.
    pub clock: Clock,
    /// If the group collects.
    pub members: Option<MemberSettings>,
}

/// The state machine, and its view of the replica.
pub(super) struct Core {
    pub(super) machine: Machine,
    pub(super) view: ReplicaView,
}

/// Replicates one storage until it is stopped.
pub struct Replicator {
    pub(super) name: String,
    pub(super) replica: Arc<Replica>,
    pub(super) changes: Arc<Changes>,
    pub(super) dropped: Arc<Dropped>,
    pub(super) compression: bool,
    pub(super) served: Served,
    pub(super) at_hand: AtHand,
    pub(super) folder: Option<PathBuf>,
    pub(super) clock: Clock,
    pub(super) epoch: Instant,
    core: Mutex<Core>,
    pub(super) session: OnceLock<(Session, Way)>,
    pub(super) told: Mutex<Told>,
    pub(super) stop: Notify,
    pub(super) sync_now: Notify,
}

/// What a peer has and this replica lacks.
#[derive(Default)]
pub(super) struct Differences {
    pub(super) wants: Vec<Want>,
    /// False if there are more differences than are listed.
    pub(super) is_all: bool,
    pub(super) round_trips: usize,
    /// Bytes of queries and answers.
    pub(super) bytes: usize,
}

impl Replicator {
    /// Prepares replication; an [`Operator`](super::Operator) runs it. Blocks on disk.
    ///
    /// # Errors
    /// If the identity cannot be read or written.
    pub fn new(replica: Arc<Replica>, replication: Replication) -> Result<Self, StoreError> {
        let Replication {
            name,
            group,
            config,
            rules,
            max_clock_drift,
            folder,
            clock,
            members,
        } = replication;
        let identity = identity::load(&name, folder.as_deref())?;
        let settings = Settings {
            replica: identity,
            incarnation: Incarnation {
                started: clock(),
                nonce: random::number() as u32,
            },
            group,
            fingerprint: Fingerprint::of(&rules),
            sync_interval: config.sync_interval,
            max_clock_drift,
            members,
        };
        let view = ReplicaView::new(Arc::clone(&replica));
        let epoch = Instant::now();
        let machine = with_context(epoch, &clock, &view, |context| {
            Machine::new(settings, context)
        });
        Ok(Self {
            name,
            replica,
            changes: Arc::default(),
            dropped: Arc::default(),
            compression: config.compression,
            served: Served::default(),
            at_hand: AtHand::default(),
            folder,
            clock,
            epoch,
            core: Mutex::new(Core { machine, view }),
            session: OnceLock::new(),
            told: Mutex::default(),
            stop: Notify::new(),
            sync_now: Notify::new(),
        })
    }

    /// Stops the loop soon.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// This replica's announcement, as bytes.
    pub(super) fn announcement(&self) -> Option<Vec<u8>> {
        let core = self.core();
        core.machine.announcement(&core.view, (self.clock)())
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This replica's current identity.
    pub(super) fn identity(&self) -> ReplicaId {
        self.core().machine.settings().replica
    }

    /// Compares with all peers, and returns those that are present and not isolated.
    pub(super) fn sync_now(&self) -> Vec<ReplicaId> {
        self.sync_now.notify_one();
        let peers = self.core().machine.status().peers;
        let asked = peers.into_iter();
        let asked = asked.filter(|peer| peer.present && peer.isolation.is_none());
        asked.map(|peer| peer.replica).collect()
    }

    /// Forgets a replica that is gone.
    pub(super) fn forget(&self, peer: &ReplicaId) -> Forgotten {
        self.core().machine.forget(peer)
    }

    /// Finds what `peer` has and this replica lacks.
    ///
    /// # Errors
    /// If the peer gives no answer, or a bad one.
    pub(super) async fn differences(&self, peer: ReplicaId) -> Result<Differences, String> {
        let (session, _) = self
            .session
            .get()
            .ok_or("there is no session yet; ask again")?;
        let token = Token {
            replica: peer,
            ..self.token()
        };
        let mut found = Differences::default();
        let mut walk = Walk::new(self.replica.current_tree(), peer, random::number());
        while let Some(query) = walk.ask() {
            found.bytes += query.len();
            let key_expr = format!("{token}/digest");
            let answer = get(session.clone(), key_expr, QUICKLY, query, MAX_MESSAGE).await?;
            found.bytes += answer.len();
            found.round_trips += 1;
            walk.answer(&answer).map_err(|error| error.to_string())?;
        }
        (found.wants, found.is_all) = walk.finish();
        Ok(found)
    }

    pub(super) fn token(&self) -> Token {
        let core = self.core();
        let settings = core.machine.settings();
        Token {
            protocol: PROTOCOL,
            group: settings.group.clone(),
            replica: settings.replica,
        }
    }
}

/// Runs the state machine with the time as it is.
pub(super) fn with_context<T>(
    epoch: Instant,
    clock: &Clock,
    view: &ReplicaView,
    run: impl FnOnce(&mut Context<'_>) -> T,
) -> T {
    run(&mut Context {
        now: epoch.elapsed(),
        wall: clock(),
        random: &mut random::number,
        view,
    })
}
