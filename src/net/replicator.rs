//! The loop of one replica: events in, actions out.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::{mpsc, Notify};
use zenoh::Session;

use super::{
    identity,
    links::{get, Events, Links, MAX_ASKED},
    metrics,
    operator::{Operator, Serving},
    random,
    serve::{serve, Served},
    session::{Sessions, Way},
    status::replication_status,
    told::{tell, Told},
    view::ReplicaView,
};
use crate::{
    cell::{Cell, CellKey},
    config::ReplicationConfig,
    metrics::ReplicationMetrics,
    replica::{Clock, Replica, ReplicaError},
    store::StoreError,
    sync::{
        Action, Context, Event, Fingerprint, Group, Incarnation, Machine, ReplicaId, Settings,
        Token, Walk, Want, PROTOCOL,
    },
};

/// The pause after a declaration has failed; it doubles, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
}

/// The state machine, and its view of the replica.
struct Core {
    machine: Machine,
    view: ReplicaView,
}

/// Replicates one storage until it is stopped.
pub struct Replicator {
    pub(super) name: String,
    pub(super) replica: Arc<Replica>,
    pub(super) compression: bool,
    pub(super) served: Served,
    folder: Option<PathBuf>,
    clock: Clock,
    epoch: Instant,
    core: Mutex<Core>,
    session: OnceLock<(Session, Way)>,
    told: Mutex<Told>,
    stop: Notify,
    sync_now: Notify,
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
        };
        let view = ReplicaView::new(Arc::clone(&replica));
        let epoch = Instant::now();
        let machine = with_context(epoch, &clock, &view, |context| {
            Machine::new(settings, context)
        });
        Ok(Self {
            name,
            replica,
            compression: config.compression,
            served: Served::default(),
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

    /// The status of replication.
    pub fn status(&self) -> Value {
        let core = self.core();
        let (settings, status) = (core.machine.settings().clone(), core.machine.status());
        let useless = core.view.useless();
        drop(core);
        replication_status(
            &settings,
            &status,
            &self.served,
            useless,
            self.session.get().map(|(_, way)| *way),
        )
    }

    /// The metrics of replication.
    pub(super) fn metrics(&self) -> ReplicationMetrics {
        let core = self.core();
        let (status, useless) = (core.machine.status(), core.view.useless());
        drop(core);
        metrics::replication(&status, &self.served, useless)
    }

    /// This replica's announcement, as bytes.
    pub(super) fn announcement(&self) -> Option<Vec<u8>> {
        let core = self.core();
        core.machine.announcement(&core.view, (self.clock)())
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replicates until stopped, and answers operators in the replica's name.
    pub(super) async fn run(self: Arc<Self>, sessions: Arc<Sessions>, operator: Arc<Operator>) {
        let (session, way) = tokio::select! {
            opened = sessions.get() => opened,
            () = self.stop.notified() => return,
        };
        // It is set once: there is one session for good.
        let _ = self.session.set((session.clone(), way));
        let roots = Arc::new(Notify::new());
        let made = Arc::clone(&roots);
        self.replica.on_root(move || made.notify_one());
        let mut pause = FIRST_PAUSE;
        loop {
            let (events, received) = Events::new();
            let (asked_sender, asked) = mpsc::channel(MAX_ASKED);
            let token = self.token();
            let own: Arc<str> = Arc::from(token.to_string());
            let (of_operators, routes) = Serving::start(&session, &own, &operator);
            let declared =
                Links::declare(session.clone(), token, events, asked_sender, routes).await;
            let mut links = match declared {
                Ok(links) => links,
                Err(error) => {
                    let (name, seconds) = (&self.name, pause.as_secs());
                    tracing::error!(
                        "storage '{name}' is not replicated: {error}; trying again in {seconds} s"
                    );
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.notified() => return,
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            pause = FIRST_PAUSE;
            let serving = tokio::spawn(serve(Arc::clone(&self), own, asked));
            let end = self.work(&mut links, received, &roots).await;
            drop(links);
            drop(of_operators);
            serving.abort();
            match end {
                End::Stopped => return,
                End::DeclareAgain => {}
            }
        }
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
            let answer = get(session.clone(), format!("{token}/digest"), query).await?;
            found.bytes += answer.len();
            found.round_trips += 1;
            walk.answer(&answer).map_err(|error| error.to_string())?;
        }
        (found.wants, found.is_all) = walk.finish();
        Ok(found)
    }

    fn token(&self) -> Token {
        let core = self.core();
        let settings = core.machine.settings();
        Token {
            protocol: PROTOCOL,
            group: settings.group.clone(),
            replica: settings.replica,
        }
    }

    async fn work(
        &self,
        links: &mut Links,
        mut events: mpsc::Receiver<Event>,
        roots: &Notify,
    ) -> End {
        // Those that are there are about to appear, and the others are gone.
        let mut next = Event::TokensMissed;
        loop {
            if let Some(end) = self.happened(next, links, roots).await {
                return end;
            }
            if links.has_missed_tokens() {
                // What was seen before comes before what is seen anew.
                links.look_away();
                while let Ok(event) = events.try_recv() {
                    if let Some(end) = self.happened(event, links, roots).await {
                        return end;
                    }
                }
                if let Some(end) = self.happened(Event::TokensMissed, links, roots).await {
                    return end;
                }
                if let Err(error) = links.look_at_tokens().await {
                    let name = &self.name;
                    tracing::error!(
                        "storage '{name}': declaring its token and queryables again: {error}"
                    );
                    return End::DeclareAgain;
                }
            }
            let wake_at = self.core().machine.wake_at();
            let pause = wake_at.saturating_sub(self.epoch.elapsed());
            next = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => event,
                    None => return End::Stopped,
                },
                () = roots.notified() => Event::Root,
                () = self.sync_now.notified() => Event::SyncNow,
                () = tokio::time::sleep(pause) => Event::Tick,
                () = self.stop.notified() => return End::Stopped,
            };
        }
    }

    /// Handles an event and carries out all resulting actions, even if the loop then
    /// ends.
    async fn happened(&self, event: Event, links: &Links, roots: &Notify) -> Option<End> {
        let mut end = None;
        for action in self.handle(event) {
            end = self.act(action, links, roots).await.or(end);
        }
        end
    }

    fn handle(&self, event: Event) -> Vec<Action> {
        let mut core = self.core();
        let Core { machine, view } = &mut *core;
        view.tidy();
        with_context(self.epoch, &self.clock, view, |context| {
            machine.handle(event, context)
        })
    }

    async fn act(&self, action: Action, links: &Links, roots: &Notify) -> Option<End> {
        match action {
            Action::Announce(bytes) => {
                if let Err(error) = links.announce(bytes).await {
                    let name = &self.name;
                    tracing::warn!("storage '{name}': its root was not announced: {error}");
                }
            }
            Action::AskRoot(replica) => links.ask_root(replica),
            Action::Ask(request, replica, query, bytes) => {
                links.ask(request, replica, query, bytes);
            }
            Action::Join(cells) => self.join(cells, roots).await,
            Action::TakeNewIdentity => {
                self.take_new_identity();
                return Some(End::DeclareAgain);
            }
            Action::DeclareAgain => return Some(End::DeclareAgain),
            Action::Report(report) => tell(&self.told, &self.name, &report),
        }
        None
    }

    /// Joins a peer's cells, no faster than they can be committed.
    async fn join(&self, cells: Vec<(CellKey, Cell)>, roots: &Notify) {
        let (count, mut useful) = (cells.len() as u64, 0);
        let (mut waits, mut refused) = (None, None);
        for (key, cell) in cells {
            match self.replica.merge(key, cell) {
                Ok(outcome) => {
                    useful += u64::from(outcome.is_newest);
                    waits = outcome.committed.or(waits);
                }
                // What a client's put would be refused for.
                Err(ReplicaError::Refused(refusal)) => {
                    let (count, _) = refused.get_or_insert((0u64, refusal));
                    *count += 1;
                }
                // The store failed, which is in the log and in the status; this
                // pull counts as useless, and the next comes later.
                Err(_) => break,
            }
        }
        if let Some((count, first)) = refused {
            let name = &self.name;
            let cells = if count == 1 { "cell was" } else { "cells were" };
            tracing::warn!(
                "storage '{name}': {count} {cells} refused when they were joined: {first}"
            );
        }
        let sequence = self.replica.request_commit();
        if let Some(committed) = waits {
            // A failure is shown in the status, and to those who write.
            let _ = committed.await;
        }
        self.core().view.joined(count, useful, sequence);
        // Perhaps all of it was there, and no root will be made of it.
        roots.notify_one();
    }

    fn take_new_identity(&self) {
        let mut core = self.core();
        let Core { machine, view } = &mut *core;
        let mut settings = machine.settings().clone();
        settings.replica = random::identity();
        let (name, identity) = (&self.name, settings.replica);
        if let Some(folder) = &self.folder {
            if let Err(error) = identity::keep(folder, identity) {
                tracing::error!("storage '{name}': its new identity could not be saved: {error}");
            }
        }
        tracing::warn!("storage '{name}': it is replica {identity} from now on");
        *machine = with_context(self.epoch, &self.clock, view, |context| {
            Machine::renamed(settings, context)
        });
    }
}

/// Why the loop ended.
enum End {
    Stopped,
    /// Declare again, under the same identity or another.
    DeclareAgain,
}

fn with_context<T>(
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
