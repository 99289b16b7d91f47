//! What a replica does: it takes writes, and carries out what its machine decides.

use std::{future::Future, time::Duration};

use rand::RngCore;

use super::{
    super::*,
    happening::{Happening, Message},
    node::{DRIFT, Joining, NodeView, at, id, settings},
    world::World,
};
use crate::{
    cell::{Cell, CellKey, Timestamp, Version, ntp64_span},
    replica::{Committed, Order},
};

impl World {
    /// A client at `node` writes; whoever can be reached gets it.
    pub(super) fn write(&mut self, node: usize, number: u32, delete: bool) {
        if self.nodes[node].is_down {
            return;
        }
        let timestamp = self.timestamp(node);
        let put = (!delete).then(|| self.merging.draw(number, &mut self.rng));
        let cells = self.merging.write(number, timestamp, put);
        for (key, cell) in &cells {
            self.wrote(key, cell);
        }
        self.publish(node, &Message::Update(cells.clone()));
        self.offer(node, cells);
    }

    /// The timestamp of a client at `node`.
    pub(super) fn timestamp(&mut self, node: usize) -> Timestamp {
        let wall = self.wall(node);
        let author = &mut self.nodes[node];
        author.last_timestamp = wall.max(author.last_timestamp + 1);
        Timestamp {
            time: author.last_timestamp,
            id: id(node).0,
        }
    }

    /// A client at `node` puts to a pattern, or deletes it; whoever can be reached gets it.
    pub(super) fn write_rule(&mut self, node: usize, delete: bool) {
        if self.nodes[node].is_down {
            return;
        }
        let timestamp = self.timestamp(node);
        let (key, cell) = self.merging.draw_rule(timestamp, delete, &mut self.rng);
        self.wrote(&key, &cell);
        let cells = vec![(key, cell)];
        self.publish(node, &Message::Update(cells.clone()));
        self.offer(node, cells);
    }

    pub(super) fn wrote(&mut self, key: &CellKey, cell: &Cell) {
        let version = Version::of(key, cell);
        self.latest = self.latest.max(cell.timestamp.time);
        self.written.insert(version);
        let winner = self.model.entry(key.clone()).or_insert(version);
        *winner = (*winner).max(version);
    }

    pub(super) fn update(&mut self, node: usize, key: CellKey, cell: Cell) -> bool {
        self.offer(node, vec![(key, cell)]).0
    }

    /// Cells of one write.
    pub(super) fn offer(
        &mut self,
        node: usize,
        cells: Vec<(CellKey, Cell)>,
    ) -> (bool, Option<Committed>) {
        let wall = self.wall(node);
        let target = &mut self.nodes[node];
        let latest = cells.iter().map(|(_, cell)| cell.timestamp.time).max();
        if latest > Some(wall.saturating_add(ntp64_span(DRIFT))) {
            target.refused += 1;
            return (false, None);
        }
        target.has_root |= target.replica.settle(at(wall, self.now));
        let outcome = target.replica.offer_all(cells);
        self.schedule(node);
        outcome
    }

    pub(super) fn settle(&mut self, node: usize) {
        let now = at(self.wall(node), self.now);
        let this = &mut self.nodes[node];
        this.has_root |= this.replica.settle(now);
    }

    /// Does what there is to do, as the loop of a replica does.
    pub(super) fn step(&mut self, node: usize) {
        self.settle(node);
        let mut has_ticked = false;
        loop {
            let this = &mut self.nodes[node];
            if let Some(joining) = &mut this.joining {
                if !joining.committed.as_mut().is_none_or(is_over) {
                    break;
                }
                let Joining {
                    cells,
                    useful,
                    sequence,
                    ..
                } = *joining;
                this.joins.joined(cells, useful, sequence);
                this.joining = None;
                // Perhaps all of it was there, and no root will be made of it.
                this.has_root = true;
            } else if let Some(action) = this.actions.pop_front() {
                self.act(node, action);
            } else if std::mem::take(&mut this.has_missed_tokens) {
                self.handle(node, Event::TokensMissed);
                self.look_at_tokens(node);
            } else if let Some(event) = this.events.pop_front() {
                self.handle(node, event);
            } else if std::mem::take(&mut this.has_root) {
                self.handle(node, Event::Root);
            } else if !has_ticked && this.machine.wake_at() <= Duration::from_millis(self.now) {
                has_ticked = true;
                self.handle(node, Event::Tick);
            } else {
                break;
            }
        }
        self.schedule(node);
    }

    /// Calls a machine, or makes one.
    pub(super) fn with_machine<T>(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Machine, &mut Context<'_>) -> T,
    ) -> T {
        let wall = self.wall(node);
        let rng = &mut self.rng;
        let mut random = || rng.next_u64();
        let this = &mut self.nodes[node];
        let mut context = Context {
            now: Duration::from_millis(self.now),
            wall,
            random: &mut random,
            view: &NodeView(&this.replica, wall, &this.joins),
        };
        call(&mut this.machine, &mut context)
    }

    fn handle(&mut self, node: usize, event: Event) {
        let this = &mut self.nodes[node];
        this.joins.tidy(this.replica.roots().covered());
        let actions = self.with_machine(node, |machine, context| machine.handle(event, context));
        self.nodes[node].actions.extend(actions);
    }

    fn act(&mut self, node: usize, action: Action) {
        match action {
            Action::Announce(bytes) => {
                let name = self.nodes[node].identity;
                self.publish(node, &Message::Announced(name, bytes));
            }
            Action::AskRoot(peer) => {
                if let Some(other) = self.reached(node, peer) {
                    self.send(node, other, Message::AskRoot(node, peer));
                }
            }
            Action::Ask(request, peer, query, bytes) => {
                let request = request | self.nodes[node].life << 32;
                let none = |text: &str| Message::Answer(request, Err(text.to_owned()));
                match self.reached(node, peer) {
                    Some(other) => {
                        let message = Message::Query(node, request, query, bytes);
                        self.send(node, other, message);
                        // The machine takes the first answer.
                        let timeout = REQUEST_TIMEOUT.as_millis() as u64;
                        self.at(timeout, Happening::Arrive(node, none("timeout")));
                    }
                    None => {
                        let none = none("there was no answer");
                        self.at(2, Happening::Arrive(node, none));
                    }
                }
            }
            Action::Join(_, cells) => self.join(node, cells, None),
            Action::JoinAt(horizon, _, cells) => self.join(node, cells, Some(horizon)),
            Action::Write(cells) => {
                for (key, cell) in cells {
                    self.written.insert(Version::of(&key, &cell));
                    self.latest = self.latest.max(cell.timestamp.time);
                    self.update(node, key, cell);
                }
            }
            Action::Order(order) => {
                let now = at(self.wall(node), self.now);
                let this = &mut self.nodes[node];
                this.has_root |= this.replica.settle(now);
                this.catch_ups += u64::from(order == Order::Catch);
                this.replica.order(order);
                this.has_root |= this.replica.settle(now);
            }
            Action::TakeNewIdentity => self.take_new_identity(node),
            Action::DeclareAgain => self.declare_again(node),
            Action::LookAtTokens => self.nodes[node].has_missed_tokens = true,
            Action::Report(_) => {}
        }
    }

    fn join(&mut self, node: usize, cells: Vec<(CellKey, Cell)>, asked: Option<u64>) {
        let (count, mut useful, mut committed) = (cells.len() as u64, 0, None);
        for (key, cell) in cells {
            let version = Version::of(&key, &cell);
            assert!(self.written.contains(&version), "nobody wrote it");
            let replica = &self.nodes[node].replica;
            let (lifetimes, died) = (replica.lifetimes(), replica.died_until());
            let is_dead = lifetimes.is_dead(&key.key, cell.timestamp, died);
            self.dead_pulled += u64::from(is_dead);
            let (is_newest, waits) = match asked {
                Some(horizon) => self.nodes[node].replica.join(key, cell, horizon),
                None => self.offer(node, vec![(key, cell)]),
            };
            useful += u64::from(is_newest);
            committed = waits.or(committed);
        }
        self.nodes[node].joining = Some(Joining {
            committed,
            cells: count,
            useful,
            sequence: self.nodes[node].replica.request_commit(),
        });
    }

    /// What the machine says when it begins anew, opened now.
    pub(super) fn new_settings(&mut self, node: usize) -> Settings {
        let (wall, nonce) = (self.wall(node), self.rng.next_u32());
        let name = self.nodes[node].identity;
        Settings {
            members: self.scenario.members(),
            ..settings(name, wall, nonce, self.scenario.sync_interval)
        }
    }

    fn take_new_identity(&mut self, node: usize) {
        self.undeclare(node);
        let mut name = [0; 16];
        self.rng.fill_bytes(&mut name);
        let this = &mut self.nodes[node];
        this.identity = ReplicaId(name);
        let settings = Settings {
            replica: this.identity,
            ..this.machine.settings().clone()
        };
        let machine =
            self.with_machine(node, |machine, context| machine.renamed(settings, context));
        self.nodes[node].machine = machine;
        self.declared(node);
    }

    fn declare_again(&mut self, node: usize) {
        self.undeclare(node);
        self.declared(node);
    }

    /// What was declared is declared anew: of what was not heard yet nothing is heard.
    fn declared(&mut self, node: usize) {
        self.nodes[node].events.clear();
        self.nodes[node].has_missed_tokens = true;
        self.greet(node);
    }

    /// What its queryable says of its root.
    pub(super) fn announcement(&self, node: usize) -> Option<Vec<u8>> {
        let wall = self.wall(node);
        let this = &self.nodes[node];
        let view = NodeView(&this.replica, wall, &this.joins);
        this.machine.announcement(&view, wall)
    }

    pub(super) fn answer(
        &self,
        node: usize,
        query: Query,
        bytes: &[u8],
    ) -> Result<Vec<u8>, String> {
        let this = &self.nodes[node];
        let view = NodeView(&this.replica, self.wall(node), &this.joins);
        let own = view.member_state();
        if let Some(own) = own.as_ref().filter(|_| is_lineage_query(bytes)) {
            return Ok(lineage_reply(&own.kept));
        }
        let admitted = admit_query(own.as_ref(), bytes);
        let (is_mirror, bytes) = admitted.map_err(|error| error.to_string())?;
        match query {
            Query::Digest => {
                let snapshot = view.0.snapshot().map_err(|error| error.to_string())?;
                let (tree, lifetimes) = (&snapshot.tree, view.0.lifetimes());
                let answer = answer_digests_to(tree, lifetimes, bytes, is_mirror);
                answer.map_err(|error| error.to_string())
            }
            Query::Entries => answer_entries(&view, bytes, true).map_err(|error| error.to_string()),
        }
    }
}

/// Whether a commit is over, well or not.
fn is_over(committed: &mut Committed) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(committed).poll(&mut context).is_ready()
}
