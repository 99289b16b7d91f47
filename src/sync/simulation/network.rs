//! The network: links, tokens, messages, and what becomes of them.

use rand::Rng;

use super::{
    super::*,
    happening::{Happening, Message},
    node::{Node, token},
    world::World,
};

/// What waits for a link at the most, in milliseconds; what comes then is dropped.
const MAX_BACKLOG: u64 = 5000;

impl World {
    pub(super) fn delay(&mut self) -> u64 {
        let most = self.scenario.delay.as_millis() as u64;
        self.rng.gen_range(1..=most.max(1))
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        let is_token = matches!(message, Message::Appeared(..) | Message::Gone(..));
        let is_down = self.nodes[from].is_down || self.nodes[to].is_down;
        if !is_token && (is_down || !self.links[from][to]) {
            return;
        }
        let is_update = matches!(message, Message::Update(_));
        if !is_token && !is_update && self.nodes[from].version != self.nodes[to].version {
            // They are reached by other names.
            return;
        }
        let bytes = message.bytes() as u64;
        if !matches!(message, Message::Update(_)) {
            self.largest_message = self.largest_message.max(bytes as usize);
            self.bytes += bytes;
            self.nodes[from].sent += bytes;
        }
        // Tokens are the router's state, not messages that get lost.
        let mut queued = 0;
        if self.faulty && !is_token && from != to {
            if self.rng.gen_ratio(self.scenario.loss.min(999), 1000) {
                return;
            }
            if self.rng.gen_ratio(self.scenario.duplication, 1000) {
                let delay = self.delay();
                self.at(delay, Happening::Arrive(to, message.clone()));
            }
            if let Some(rate) = self.scenario.links.bytes_a_second {
                let begins = self.busy[from][to].max(self.now);
                if begins > self.now + MAX_BACKLOG {
                    return;
                }
                self.busy[from][to] = begins + bytes * 1000 / rate;
                queued = self.busy[from][to] - self.now;
            }
        }
        let delay = queued + self.delay();
        self.at(delay, Happening::Arrive(to, message));
    }

    /// To all that it reaches.
    pub(super) fn publish(&mut self, from: usize, message: &Message) {
        for other in 0..self.nodes.len() {
            if other != from {
                self.send(from, other, message.clone());
            }
        }
    }

    pub(super) fn is_linked(&self, a: usize, b: usize) -> bool {
        let are_up = !self.nodes[a].is_down && !self.nodes[b].is_down;
        are_up && self.links[a][b] && self.links[b][a]
    }

    pub(super) fn linked(&self, node: usize) -> Vec<usize> {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        others
            .filter(|other| self.is_linked(node, *other))
            .collect()
    }

    /// One of those that a query to this name reaches.
    pub(super) fn reached(&mut self, from: usize, name: ReplicaId) -> Option<usize> {
        let linked = self.linked(from).into_iter();
        let named: Vec<usize> = linked
            .filter(|other| self.nodes[*other].identity == name)
            .filter(|other| self.nodes[*other].version == self.nodes[from].version)
            .collect();
        match named.len() {
            0 => None,
            some => Some(named[self.rng.gen_range(0..some)]),
        }
    }

    fn send_token(&mut self, from: usize, to: usize) {
        let Node {
            identity, version, ..
        } = self.nodes[from];
        self.send(from, to, Message::Appeared(from, identity, version));
    }

    /// A replica's token appears to those that it is linked to, and theirs to it.
    pub(super) fn greet(&mut self, node: usize) {
        for other in self.linked(node) {
            self.send_token(node, other);
            self.send_token(other, node);
        }
    }

    /// Its token disappears.
    pub(super) fn undeclare(&mut self, node: usize) {
        let Node {
            identity, version, ..
        } = self.nodes[node];
        for other in self.linked(node) {
            self.send(node, other, Message::Gone(node, identity, version));
        }
    }

    pub(super) fn set_link(&mut self, a: usize, b: usize, is_up: bool) {
        let was = self.is_linked(a, b);
        self.links[a][b] = is_up;
        match (was, self.is_linked(a, b)) {
            (true, false) => {
                for (from, to) in [(a, b), (b, a)] {
                    let Node {
                        identity, version, ..
                    } = self.nodes[from];
                    self.send(from, to, Message::Gone(from, identity, version));
                }
            }
            (false, true) => {
                self.send_token(a, b);
                self.send_token(b, a);
            }
            _ => {}
        }
    }

    /// An event for a node's machine, for which there may be no room.
    pub(super) fn event(&mut self, node: usize, event: Event) {
        if self.faulty && self.rng.gen_ratio(self.scenario.links.dropped, 1000) {
            let is_token = matches!(event, Event::Appeared(_) | Event::Gone(_));
            self.nodes[node].has_missed_tokens |= is_token;
        } else {
            self.nodes[node].events.push_back(event);
        }
        self.step(node);
    }

    /// By how much a version differs from that of a node.
    fn differs(&self, node: usize, version: u8) -> i8 {
        version as i8 - self.nodes[node].version as i8
    }

    /// Whether a node has this name and version.
    fn is_named(&self, node: usize, name: ReplicaId, version: u8) -> bool {
        let node = &self.nodes[node];
        node.identity == name && node.version == version
    }

    /// What is seen when tokens are looked at anew.
    pub(super) fn look_at_tokens(&mut self, node: usize) {
        for other in self.linked(node) {
            let Node {
                identity, version, ..
            } = self.nodes[other];
            let token = token(identity, self.differs(node, version));
            self.nodes[node].events.push_back(Event::Appeared(token));
        }
    }

    pub(super) fn arrive(&mut self, to: usize, message: Message) {
        if self.nodes[to].is_down {
            return;
        }
        match message {
            Message::Update(cells) => {
                self.offer(to, cells);
            }
            Message::Appeared(other, name, version) => {
                if self.is_named(other, name, version) && self.is_linked(to, other) {
                    let token = token(name, self.differs(to, version));
                    self.event(to, Event::Appeared(token));
                }
            }
            Message::Gone(other, name, version) => {
                if !self.is_named(other, name, version) || !self.is_linked(to, other) {
                    let token = token(name, self.differs(to, version));
                    self.event(to, Event::Gone(token));
                }
            }
            Message::Announced(from, bytes) => self.event(to, Event::Announced(from, bytes)),
            Message::AskRoot(from, name) => {
                // What the queryable answers: one's announcement of now.
                if let Some(bytes) = self.announcement(to) {
                    self.send(to, from, Message::Announced(name, bytes));
                }
            }
            Message::Query(from, request, query, bytes) => {
                if let Some(until) = self.nodes[to].replica.is_half_applied_until() {
                    // It is answered when the batch has ended.
                    let later = (until.as_millis() as u64).saturating_sub(self.now) + 1;
                    let message = Message::Query(from, request, query, bytes);
                    return self.at(later, Happening::Arrive(to, message));
                }
                let is_error = self.faulty && self.rng.gen_ratio(self.scenario.links.errors, 1000);
                let answer = match is_error {
                    true => Err("its disk cannot be read".to_owned()),
                    false => self.answer(to, query, &bytes),
                };
                let answer = self.say(to, query, &bytes, answer);
                self.send(to, from, Message::Answer(request, answer));
            }
            Message::Answer(request, answer) => {
                if request >> 32 == self.nodes[to].life {
                    self.event(to, Event::Answer(request & 0xffff_ffff, answer));
                }
            }
        }
    }
}
