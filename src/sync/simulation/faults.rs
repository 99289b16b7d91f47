//! What goes wrong, and how it ends.

use rand::Rng;

use super::{
    super::*,
    happening::{Happening, Message},
    node::{SETTLE, START, at},
    world::World,
};
use crate::replica::{Lost, SimulatedReplica};

impl World {
    /// A crash; with folders that are copied, perhaps one after which the folder is an older one, or
    /// is copied to another replica, too.
    pub(super) fn crash_somehow(&mut self, node: usize) {
        self.crash(node);
        if !self.scenario.has_copies || !self.nodes[node].is_down {
            return;
        }
        match self.rng.gen_range(0..4) {
            0 => {
                let this = &mut self.nodes[node];
                this.image = this.saved.clone().unwrap_or_default();
            }
            1 => {
                let other = self.rng.gen_range(0..self.nodes.len());
                self.crash(other);
                if self.nodes[other].is_down {
                    self.nodes[other].image = self.nodes[node].image.clone();
                    self.nodes[other].identity = self.nodes[node].identity;
                }
            }
            _ => self.nodes[node].saved = Some(self.nodes[node].image.clone()),
        }
    }

    /// What is not on disk is lost, with all that the machine knew.
    pub(super) fn crash(&mut self, node: usize) {
        if self.nodes[node].is_down {
            return;
        }
        let linked = self.linked(node);
        let now = at(self.wall(node), self.now);
        let (name, lost) = (self.nodes[node].identity, self.lost(node));
        let version = self.nodes[node].version;
        let this = &mut self.nodes[node];
        let empty = SimulatedReplica::new(SETTLE, now);
        this.image = std::mem::replace(&mut this.replica, empty).crash(lost);
        this.life += 1;
        this.is_down = true;
        for other in linked {
            self.send(node, other, Message::Gone(node, name, version));
        }
        let most = self.scenario.downtime.as_millis() as u64;
        let downtime = self.rng.gen_range(0..=most);
        self.at(downtime, Happening::Restart(node));
    }

    /// Of what a crash may take back: all, nothing, or a part.
    fn lost(&mut self, node: usize) -> Lost {
        let most = self.nodes[node].replica.most_lost();
        let (batches, groups) = match self.rng.gen_range(0..3) {
            0 => (most.batches, most.groups),
            1 => (0, 0),
            _ => (
                self.rng.gen_range(0..=most.batches),
                self.rng.gen_range(0..=most.groups),
            ),
        };
        Lost {
            batches,
            groups,
            is_append_torn: self.rng.r#gen(),
        }
    }

    pub(super) fn restart(&mut self, node: usize) {
        if !std::mem::take(&mut self.nodes[node].is_down) {
            return;
        }
        if self.scenario.clocks.is_1970 && self.faulty && self.rng.gen_ratio(1, 3) {
            // It has no clock of its own, and has not heard of the time yet.
            let booted = (START >> 32) as i64 * 1000 + self.now as i64;
            self.nodes[node].skew = -booted;
        }
        let image = std::mem::take(&mut self.nodes[node].image);
        let replica = self.opened(node, image);
        let this = &mut self.nodes[node];
        this.replica = replica;
        this.joins = Joins::default();
        this.joining = None;
        this.actions.clear();
        this.events.clear();
        this.has_root = false;
        this.has_missed_tokens = false;
        this.wakes = u64::MAX;
        let settings = self.new_settings(node);
        let machine = self.with_machine(node, |_, context| Machine::new(settings, context));
        self.nodes[node].machine = machine;
        self.schedule(node);
        self.greet(node);
    }

    /// A clock is set: rightly, or wrongly.
    pub(super) fn jump(&mut self) {
        let node = self.rng.gen_range(0..self.nodes.len());
        let skew = self.scenario.clocks.skew.as_millis() as i64;
        self.nodes[node].skew = match self.rng.r#gen() {
            true => 0,
            false => self.rng.gen_range(-skew..=skew),
        };
        self.step(node);
    }

    pub(super) fn change_links(&mut self) {
        let n = self.nodes.len();
        match self.rng.gen_range(0..4) {
            // Two halves.
            0 => {
                let side: Vec<bool> = (0..n).map(|_| self.rng.r#gen()).collect();
                for (a, b) in pairs(n) {
                    self.set_link(a, b, side[a] == side[b]);
                }
            }
            // One way of one link.
            1 => {
                let (a, b) = (self.rng.gen_range(0..n), self.rng.gen_range(0..n));
                if a != b {
                    let is_up = self.rng.r#gen();
                    self.set_link(a, b, is_up);
                }
            }
            // One alone.
            2 => {
                let alone = self.rng.gen_range(0..n);
                for (a, b) in pairs(n) {
                    self.set_link(a, b, a != alone && b != alone);
                }
            }
            _ => self.heal(),
        }
    }

    pub(super) fn cut_all(&mut self) {
        for (a, b) in pairs(self.nodes.len()) {
            self.set_link(a, b, false);
        }
    }

    pub(super) fn heal(&mut self) {
        for (a, b) in pairs(self.nodes.len()) {
            self.set_link(a, b, true);
        }
    }

    /// All are up, nothing is lost any more, disks are well, and clocks are set right, unless they are
    /// to stay wrong.
    pub(super) fn end_faults(&mut self) {
        self.faulty = false;
        for node in 0..self.nodes.len() {
            if self.nodes[node].replica.has_failed() {
                self.crash(node);
            }
            if !self.scenario.clocks.is_skew_lasting {
                self.nodes[node].skew = 0;
                self.nodes[node].drift = 0;
            }
            self.restart(node);
            self.nodes[node].replica.mend_disk();
            self.step(node);
        }
    }
}

pub(super) fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)))
}
