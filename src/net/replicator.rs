//! The loop of one replica: events in, actions out.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use serde_json::Value;
use tokio::sync::{mpsc, Notify};

use super::{
    links::{Events, Links, MAX_ASKED},
    random,
    serve::{serve, Served},
    session::{Sessions, Way},
    status::replication_status,
    view::ReplicaView,
};
use crate::{
    cell::{Cell, CellKey},
    config::ReplicationConfig,
    replica::{Clock, Replica, ReplicaError},
    store::{read_identity, write_identity, StoreError},
    sync::{
        Action, Context, Event, Fingerprint, Group, Incarnation, Machine, ReplicaId, Report,
        Settings, Token, PROTOCOL,
    },
};

/// Gives the status of the storage, to be shown to whoever asks for it in Zenoh.
pub type StatusSource = Box<dyn Fn() -> Value + Send + Sync>;

/// What is to be replicated, and how.
pub struct Replication {
    /// The name of the storage, for the log.
    pub name: String,
    /// The keys of the storage.
    pub group: Group,
    /// How it was configured.
    pub config: ReplicationConfig,
    /// The rules by which puts are merged, as text.
    pub rules: String,
    /// How far ahead of the clock a timestamp may be.
    pub max_clock_drift: std::time::Duration,
    /// The folder of the data, where the identity is kept; nothing if the data is
    /// gone with the process.
    pub folder: Option<PathBuf>,
    /// Tells the time.
    pub clock: Clock,
}

/// A replica's machine, and what it reads.
struct Core {
    machine: Machine,
    view: ReplicaView,
}

/// Replicates one storage, until it is stopped.
pub struct Replicator {
    pub(super) name: String,
    pub(super) replica: Arc<Replica>,
    pub(super) compression: bool,
    pub(super) served: Served,
    folder: Option<PathBuf>,
    clock: Clock,
    epoch: Instant,
    core: Mutex<Core>,
    way: OnceLock<Way>,
    status: OnceLock<StatusSource>,
    stop: Notify,
}

impl Replicator {
    /// Prepares to replicate; [`run`](Self::run) does it. Blocks on disk.
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
        let identity = match &folder {
            None => random::identity(),
            Some(folder) => load_identity(&name, folder)?,
        };
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
            way: OnceLock::new(),
            status: OnceLock::new(),
            stop: Notify::new(),
        })
    }

    /// Says where the status of the whole storage is to be had.
    pub fn set_status_source(&self, source: StatusSource) {
        // Whoever comes second has no use for it.
        let _ = self.status.set(source);
    }

    /// Ends [`run`](Self::run), soon.
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
            self.way.get().copied(),
        )
    }

    pub(super) fn status_text(&self) -> String {
        let status = self.status.get();
        status
            .map_or_else(|| self.status(), |status| status())
            .to_string()
    }

    /// What this replica has to say of itself.
    pub(super) fn announcement(&self) -> Option<Vec<u8>> {
        let core = self.core();
        core.machine.announcement(&core.view)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replicates until it is stopped.
    pub async fn run(self: Arc<Self>, sessions: Arc<Sessions>) {
        let (session, way) = tokio::select! {
            opened = sessions.get() => opened,
            () = self.stop.notified() => return,
        };
        // It is set once: there is one session for good.
        let _ = self.way.set(way);
        let roots = Arc::new(Notify::new());
        let made = Arc::clone(&roots);
        self.replica.on_root(move || made.notify_one());
        loop {
            let (events, received) = Events::new();
            let (asked_sender, asked) = mpsc::channel(MAX_ASKED);
            let token = self.token();
            let own = Arc::from(token.to_string());
            let declared = Links::declare(session.clone(), token, events, asked_sender).await;
            let links = match declared {
                Ok(links) => links,
                Err(error) => {
                    let name = &self.name;
                    tracing::error!("storage '{name}' is not replicated: {error}");
                    return;
                }
            };
            let serving = tokio::spawn(serve(Arc::clone(&self), own, asked));
            let end = self.work(&links, received, &roots).await;
            drop(links);
            serving.abort();
            match end {
                End::Stopped => return,
                End::DeclareAgain => {}
            }
        }
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

    async fn work(&self, links: &Links, mut events: mpsc::Receiver<Event>, roots: &Notify) -> End {
        let mut asked: Option<Vec<Action>> = Some(self.handle(Event::Tick));
        loop {
            for action in asked.take().unwrap_or_default() {
                if let Some(end) = self.act(action, links, roots).await {
                    return end;
                }
            }
            let wake_at = self.core().machine.wake_at();
            let pause = wake_at.saturating_sub(self.epoch.elapsed());
            let event = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => event,
                    None => return End::Stopped,
                },
                () = roots.notified() => Event::Root,
                () = tokio::time::sleep(pause) => Event::Tick,
                () = self.stop.notified() => return End::Stopped,
            };
            asked = Some(self.handle(event));
        }
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
            Action::Report(report) => self.report(&report),
        }
        None
    }

    /// Joins cells of another replica, no faster than they can be committed.
    async fn join(&self, cells: Vec<(CellKey, Cell)>, roots: &Notify) {
        let (count, mut useful) = (cells.len() as u64, 0);
        let mut waits = None;
        for (key, cell) in cells {
            match self.replica.merge(key, cell) {
                Ok(outcome) => {
                    useful += u64::from(outcome.is_newest);
                    waits = outcome.committed.or(waits);
                }
                // What a client's put would be refused for.
                Err(ReplicaError::Refused(refusal)) => {
                    let name = &self.name;
                    tracing::warn!("storage '{name}': a cell was not joined: {refusal}");
                }
                // The store failed, which is in the log and in the status; this
                // pull counts as useless, and the next comes later.
                Err(_) => break,
            }
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
            if let Err(error) = write_identity(folder, &identity.to_string()) {
                tracing::error!("storage '{name}': its new identity was not kept: {error}");
            }
        }
        tracing::warn!("storage '{name}': it is replica {identity} from now on");
        *machine = with_context(self.epoch, &self.clock, view, |context| {
            Machine::new(settings, context)
        });
    }

    fn report(&self, report: &Report) {
        let name = &self.name;
        match report {
            Report::Pulled { cells: 0, .. } => tracing::debug!("storage '{name}': {report}"),
            Report::Pulled { .. } => tracing::info!("storage '{name}': {report}"),
            _ => tracing::warn!("storage '{name}': {report}"),
        }
    }
}

/// Why the loop ended.
enum End {
    Stopped,
    /// With another identity, or the same.
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

/// The identity that is kept with the data, made if there is none.
fn load_identity(name: &str, folder: &std::path::Path) -> Result<ReplicaId, StoreError> {
    let kept = read_identity(folder)?;
    if let Some(Ok(identity)) = kept.as_deref().map(str::parse) {
        return Ok(identity);
    }
    if kept.is_some() {
        tracing::warn!("storage '{name}': its identity is damaged, and a new one is made");
    }
    let identity = random::identity();
    write_identity(folder, &identity.to_string())?;
    Ok(identity)
}
