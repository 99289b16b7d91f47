//! The loop of one replica: events in, actions out.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use zenoh::Session;

use super::{
    changes::Way,
    identity,
    links::{AskedSenders, Links, MAX_ASKED},
    mailbox::Mailbox,
    queryable::Route,
    random,
    replicator::{Core, Replicator, with_context},
    serve::serve,
    session::Sessions,
    told::tell,
};
use crate::{
    cell::{Cell, CellKey},
    replica::ReplicaError,
    sync::{Action, Event, ReplicaId},
};

/// The pause after a declaration has failed; it doubles, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Replicator {
    /// Replicates until stopped. `answer_operators` says with which routes operators are
    /// answered in the replica's name, for as long as what comes with them is there.
    pub(super) async fn run<G>(
        self: Arc<Self>,
        sessions: Arc<Sessions>,
        answer_operators: impl Fn(&Session, &str) -> (G, Vec<Route>),
    ) {
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
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&self.dropped)));
        loop {
            mailbox.declared();
            let (roots_sender, roots_asked) = mpsc::channel(MAX_ASKED);
            let (others_sender, others_asked) = mpsc::channel(MAX_ASKED);
            let senders = AskedSenders {
                roots: roots_sender,
                others: others_sender,
            };
            let token = self.token();
            let own: Arc<str> = Arc::from(token.to_string());
            let (of_operators, routes) = answer_operators(&session, &own);
            let (of_links, to) = (session.clone(), Arc::clone(&mailbox));
            let declared =
                Links::declare(of_links, token, to, &senders, routes, &self.dropped).await;
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
            let serving = [roots_asked, others_asked]
                .map(|asked| tokio::spawn(serve(Arc::clone(&self), Arc::clone(&own), asked)));
            let end = self.work(&mut links, &mailbox, &roots).await;
            drop(links);
            drop(of_operators);
            serving.iter().for_each(JoinHandle::abort);
            match end {
                End::Stopped => return,
                End::DeclareAgain => {}
            }
        }
    }

    async fn work(&self, links: &mut Links, mailbox: &Mailbox, roots: &Notify) -> End {
        // Those that are there are about to appear, and the others are gone.
        let mut next = Event::TokensMissed;
        loop {
            if let Some(end) = self.happened(next, links, mailbox, roots).await {
                return end;
            }
            if mailbox.has_missed_tokens() {
                // What was seen before does not come after what is seen anew.
                links.look_away();
                mailbox.forget_tokens();
                let missed = self.happened(Event::TokensMissed, links, mailbox, roots);
                if let Some(end) = missed.await {
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
                event = mailbox.take() => event,
                () = roots.notified() => Event::Root,
                () = self.sync_now.notified() => Event::SyncNow,
                () = tokio::time::sleep(pause) => Event::Tick,
                () = self.stop.notified() => return End::Stopped,
            };
        }
    }

    /// Handles an event and carries out all resulting actions, even if the loop then
    /// ends.
    async fn happened(
        &self,
        event: Event,
        links: &Links,
        mailbox: &Mailbox,
        roots: &Notify,
    ) -> Option<End> {
        let mut end = None;
        for action in self.handle(event) {
            end = self.act(action, links, mailbox, roots).await.or(end);
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

    async fn act(
        &self,
        action: Action,
        links: &Links,
        mailbox: &Mailbox,
        roots: &Notify,
    ) -> Option<End> {
        match action {
            Action::Announce(bytes) => {
                if let Err(error) = links.announce(bytes).await {
                    let name = &self.name;
                    tracing::warn!("storage '{name}': its root was not announced: {error}");
                }
            }
            Action::AskRoot(replica) => links.ask_root(replica),
            Action::Ask(request, replica, query, bytes) => {
                let terms = self.core().machine.terms(&replica);
                links.ask(request, replica, query, terms, bytes);
            }
            Action::Join(from, cells) => self.join(from, cells, None, roots).await,
            Action::JoinAt(horizon, from, cells) => {
                self.join(from, cells, Some(horizon), roots).await;
            }
            Action::Write(cells) => self.write_of_members(cells),
            Action::Order(order) => self.replica.order(order),
            Action::TakeNewIdentity => {
                self.take_new_identity();
                return Some(End::DeclareAgain);
            }
            Action::DeclareAgain => return Some(End::DeclareAgain),
            Action::LookAtTokens => mailbox.miss_tokens(),
            Action::Report(report) => tell(&self.told, &self.name, &report),
        }
        None
    }

    /// Writes what members of the group have to know of each other.
    fn write_of_members(&self, cells: Vec<(CellKey, Cell)>) {
        for (key, cell) in cells {
            // If the replica has failed, that is in the log and in the status.
            if let Err(error) = self.replica.merge(key, cell) {
                let name = &self.name;
                tracing::warn!("storage '{name}': a cell of its members was not written: {error}");
            }
        }
    }

    /// Joins a peer's cells, no faster than they can be committed; of a group that collects, those that
    /// were `asked` for at the horizon that is.
    async fn join(
        &self,
        from: ReplicaId,
        cells: Vec<(CellKey, Cell)>,
        asked: Option<u64>,
        roots: &Notify,
    ) {
        let from: Arc<str> = from.to_string().into();
        let (count, mut useful) = (cells.len() as u64, 0);
        let (mut waits, mut refused) = (None, None);
        for (key, cell) in cells {
            let (told, timestamp) = (key.clone(), cell.timestamp);
            let merged = match asked {
                Some(horizon) => self.replica.merge_asked(key, cell, horizon),
                None => self.replica.merge(key, cell),
            };
            match merged {
                Ok(outcome) => {
                    useful += u64::from(outcome.is_newest);
                    if outcome.is_newest && !told.key.is_member_key() {
                        self.changes.tell(&told, timestamp, Way::Repair, &from);
                    }
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
        self.core().view.joins.joined(count, useful, sequence);
        // Perhaps all of it was there, and no root will be made of it.
        roots.notify_one();
    }

    fn take_new_identity(&self) {
        let mut core = self.core();
        let Core { machine, view } = &mut *core;
        let mut settings = machine.settings().clone();
        settings.replica = random::identity();
        let (name, identity) = (&self.name, settings.replica);
        if let Some(folder) = &self.folder
            && let Err(error) = identity::keep(folder, identity)
        {
            tracing::error!("storage '{name}': its new identity could not be saved: {error}");
        }
        tracing::warn!("storage '{name}': it is replica {identity} from now on");
        *machine = with_context(self.epoch, &self.clock, view, |context| {
            machine.renamed(settings, context)
        });
    }
}

/// Why the loop ended.
enum End {
    Stopped,
    /// Declare again, under the same identity or another.
    DeclareAgain,
}
