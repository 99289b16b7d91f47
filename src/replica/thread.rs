//! The threads of a replica. One drives the [core](super::core), with the clock and the store. The
//! other appends groups to the log while that applies what is due.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use super::{
    Damage, Discarded, Failure, Now, Shared,
    core::{Core, Task},
    write::group::Group,
};
use crate::{
    cell::{CellKey, Version},
    config::Durability,
    store::{Commit, RowBatch, StoreError, Write},
};

pub(super) struct Driver {
    shared: Arc<Shared>,
    core: Core,
    log: Option<LogThread>,
}

/// What came of a group; the panic, if it was one.
type Appended = std::thread::Result<Result<u64, StoreError>>;

/// Appends one group at a time.
struct LogThread {
    groups: mpsc::SyncSender<Arc<Group>>,
    appended: mpsc::Receiver<Appended>,
    /// A group is being appended.
    is_busy: bool,
    thread: JoinHandle<()>,
}

impl LogThread {
    /// Nothing if there are too many threads: then groups are appended by the other.
    fn spawn(shared: &Arc<Shared>) -> Option<Self> {
        let (groups, to_append) = mpsc::sync_channel::<Arc<Group>>(1);
        let (done, appended) = mpsc::sync_channel(1);
        let shared = Arc::clone(shared);
        let append = move || {
            for group in to_append {
                let appended = catch_unwind(AssertUnwindSafe(|| append(&shared, &group)));
                drop(group);
                if done.send(appended).is_err() {
                    break;
                }
                shared.state.queue.nudge();
            }
        };
        let thread = std::thread::Builder::new().name("mst log".to_owned());
        Some(Self {
            thread: thread.spawn(append).ok()?,
            groups,
            appended,
            is_busy: false,
        })
    }

    /// Waits until the thread has let go of the store.
    fn end(self) {
        drop(self.groups);
        // A panic of it was told before.
        let _ = self.thread.join();
    }
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let core = Core::new(Arc::clone(&shared.state), shared.store.keeps_cells());
        let log = match shared.store.keeps_cells() {
            true => LogThread::spawn(&shared),
            false => None,
        };
        Self { shared, core, log }
    }

    /// Works until the queue is closed, or something fails; and then sees to it that nobody waits
    /// for more.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let work = AssertUnwindSafe(|| self.work());
        if let Err(panic) = catch_unwind(work) {
            let message = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
                (Some(message), _) => message.clone(),
                (None, Some(message)) => (*message).to_owned(),
                (None, None) => "no message".to_owned(),
            };
            shared.state.fail(Failure::Panic(message));
        }
        if let Some(log) = self.log.take() {
            log.end();
        }
        drop(self);
        if let Some(failure) = shared.state.end() {
            let name = &shared.state.name;
            tracing::error!("storage '{name}' takes no more writes: {failure}");
        }
        shared.state.commits.close();
    }

    fn now(&self) -> Now {
        self.shared.now()
    }

    fn work(&mut self) {
        loop {
            self.finish_append(false);
            match self.core.next_task(self.now()) {
                Task::Append(group) => self.append(group),
                Task::Store(rows) => self.store(&rows),
                Task::Tell { is_made } => {
                    if is_made {
                        self.shared.measure();
                    }
                    self.shared.tell();
                }
                Task::Checkpoint(receiver) => {
                    // Whoever has stopped waiting does not need it.
                    let _ = receiver.send(self.shared.snapshot());
                }
                Task::Mend(cells) => cells
                    .into_iter()
                    .for_each(|(key, version)| self.mend(key, version)),
                Task::Keep(kept) => {
                    let result = self.shared.store.keep_collection(&kept);
                    let now = self.now();
                    self.core.collection_kept(kept, result, now);
                    self.shared.tell();
                }
                Task::SetAside(cells) => self.set_aside(cells),
                Task::Refold(cells) => {
                    let folds = &self.shared.folds;
                    cells.iter().for_each(|cell| folds.forget(&cell.key));
                    self.shared.tell();
                }
                Task::Again => {}
                Task::Wait(until, may_commit) => self.shared.state.queue.wait(until, may_commit),
                Task::End => break,
            }
        }
        self.finish_append(true);
        if self.shared.state.commits.failure().is_none()
            && let Err(error) = self.shared.store.flush()
        {
            let name = &self.shared.state.name;
            tracing::warn!("storage '{name}': {error}; what was committed is safe");
        }
    }

    /// Has a group appended beside what is to be applied, if anything is.
    fn append(&mut self, group: Arc<Group>) {
        let is_apply_due = self.core.is_apply_due_now(self.now());
        let log = self.log.as_mut().filter(|_| is_apply_due);
        let group = match log {
            Some(log) => match log.groups.send(group) {
                Ok(()) => {
                    log.is_busy = true;
                    return;
                }
                Err(mpsc::SendError(group)) => group,
            },
            None => group,
        };
        let appended = append(&self.shared, &group);
        drop(group);
        self.core.appended(appended);
    }

    /// Takes what came of a group that was being appended, if that is over.
    fn finish_append(&mut self, is_awaited: bool) {
        let Some(log) = self.log.as_mut().filter(|log| log.is_busy) else {
            return;
        };
        let appended = match is_awaited {
            true => log.appended.recv().ok(),
            false => log.appended.try_recv().ok(),
        };
        if let Some(appended) = appended {
            log.is_busy = false;
            self.core
                .appended(appended.unwrap_or_else(|panic| resume_unwind(panic)));
        }
    }

    fn store(&mut self, rows: &RowBatch) {
        let store = &self.shared.store;
        let stored = store.apply(rows);
        let now = self.now();
        self.core.stored(stored, now, &|cells| store.cache(cells));
    }

    /// Sets cells aside that are to leave the tree. One that cannot be read stays, and is looked at.
    fn set_aside(&mut self, cells: Vec<Discarded>) {
        let (mut may_go, mut aside) = (Vec::with_capacity(cells.len()), Vec::new());
        let mut damaged = Vec::new();
        for Discarded {
            key,
            version,
            is_aside,
        } in cells
        {
            match self.shared.store.read(&key, version) {
                _ if !is_aside => may_go.push(key),
                Ok(Some(cell)) if Version::of(&key, &cell) == version => {
                    may_go.push(key.clone());
                    aside.push((key, cell));
                }
                Ok(_) => damaged.push((key, version)),
                Err(error) if error.is_damage() => damaged.push((key, version)),
                Err(error) => return self.core.set_aside(Err(error)),
            }
        }
        let state = &self.shared.state;
        if !aside.is_empty() {
            if let Err(error) = self.shared.store.set_aside(&aside) {
                return self.core.set_aside(Err(error));
            }
            state.counters.set_aside.add_many(aside.len());
            let (name, cells) = (&state.name, aside.len());
            tracing::error!(
                "storage '{name}': set {cells} cells aside, which the other replicas do not have: they \
                 are in the file ASIDE of its folder"
            );
        }
        for (key, version) in damaged {
            self.mend(key, version);
        }
        self.core.set_aside(Ok(may_go));
    }

    /// Looks at a cell that is said to be damaged, and mends it if it is.
    fn mend(&mut self, key: CellKey, version: Version) {
        let shared = Arc::clone(&self.shared);
        let (state, name) = (&shared.state, &shared.state.name);
        // What is replaced already, or about to be, needs no mending.
        let is_there = state.applied().get(&key).map(super::TreeEntry::version) == Some(version);
        if !is_there || !state.queue.is_applied(&key) {
            return;
        }
        let reason = match shared.is_damaged(&key, &version) {
            Ok(None) => return,
            Ok(Some(reason)) => reason,
            Err(error) => {
                tracing::warn!("storage '{name}': a cell cannot be checked: {error}");
                return;
            }
        };
        state.counters.damaged.add();
        let damage = Damage {
            key,
            version,
            reason,
        };
        let key = &damage.key;
        if let Some(cell) = shared.known(key, &version) {
            let write = Write {
                key: key.clone(),
                cell,
                version,
            };
            match shared.store.apply(&RowBatch::from(vec![write])) {
                Ok(()) => {
                    state.counters.repaired.add();
                    tracing::error!(
                        "storage '{name}': a cell was damaged, and is written anew: {damage}"
                    );
                }
                Err(error) => state.fail(error.into()),
            }
            return;
        }
        if let Err(error) = shared.store.quarantine(key, &version) {
            return state.fail(error.into());
        }
        tracing::error!(
            "storage '{name}': a cell is damaged, and in quarantine until another replica sends \
             it, or its key is written anew: {damage}"
        );
        self.core.evict(key, version, state.queue.now());
        shared.folds.forget(&key.key);
    }
}

/// Appends a group to the log, and tells those who wait for it.
fn append(shared: &Shared, group: &Group) -> Result<u64, StoreError> {
    let newest = group.updates.iter().filter(|update| update.is_newest);
    let mut cells = newest.map(|update| (&update.key, &*update.cell));
    let commit = match shared.state.options.durability {
        Durability::Always | Durability::Interval => Commit::Synced,
        Durability::None => Commit::Buffered,
    };
    let number = shared.store.append(&mut cells, commit)?;
    shared.state.acknowledge(group);
    Ok(number)
}
