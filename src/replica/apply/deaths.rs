//! Lifetimes in the tree: what is dead leaves it, and is not joined.

use std::sync::Arc;

use super::{
    dying::Deaths, fading::Fading, joined::Joined, tree::AppliedTree, watermark::cut_above,
};
use crate::{cell::CellKey, merge::Lifetimes};

impl AppliedTree {
    /// The lifetimes of the tree.
    pub(in crate::replica) fn deaths(&self) -> &Deaths {
        &self.deaths
    }

    /// Gives its cut and lifetimes to a tree that was built without, and takes out what is dead: those
    /// cells, and whether their payload is apart. O(n), and O(1) if there are no lifetimes.
    ///
    /// What is in rows is applied. Should there be cells of a time to come, since the clock was set back
    /// or their writer's is ahead, the cut is where they are; but nothing dies by such a time. As the
    /// clock, whose cut is `clock`, may have leapt while the storage was closed, only that is dead which
    /// is so at `latest`, the latest time of a cell, too; and as that may have been stamped while the clock
    /// was wrong, by the watermark by which cells `died` when the storage was open, if that is known. The
    /// rest follows as after any other leap.
    pub(in crate::replica) fn begin(
        &mut self,
        lifetimes: Arc<Lifetimes>,
        clock: u64,
        latest: u64,
        died: Option<u64>,
    ) -> Vec<(CellKey, bool)> {
        self.set_cut(clock.max(cut_above(latest)));
        self.deaths = Deaths {
            lifetimes,
            until: clock.min(cut_above(latest)).min(died.unwrap_or(u64::MAX)),
            fading: Fading::default(),
        };
        if self.deaths.are_none() {
            return Vec::new();
        }
        let Self { tree, deaths, .. } = self;
        let Ok(cells) = tree.iter();
        for entry in cells {
            let Ok((key, held)) = entry;
            deaths.joined(key, held.timestamp().time);
        }
        let mut joined = Joined::new(true);
        while self.fade(&mut joined, usize::MAX) {}
        if self.deaths.fading.len() == 0 {
            // There is nothing that a leap of the clock could destroy.
            self.deaths.until = clock;
        }
        joined.covered
    }

    /// What is dead at this watermark is not joined from now on, and is to be [taken out](Self::fade).
    pub(in crate::replica) fn begin_deaths(&mut self, until: u64) {
        self.deaths.until = self.deaths.until.max(until);
    }

    /// Takes out of the tree what is dead, and looks at no more than `most` cells for that; true if
    /// there may be more.
    pub(in crate::replica) fn fade(&mut self, joined: &mut Joined, most: usize) -> bool {
        for _ in 0..most {
            let Some(looked_at) = self.deaths.fading.take(self.deaths.until) else {
                return false;
            };
            let Some(key) = looked_at else {
                continue;
            };
            let Some(timestamp) = self.get(&key).map(|held| held.timestamp()) else {
                continue;
            };
            let lifetime = self.deaths.lifetimes.of(&key.key);
            let leaves_at =
                lifetime.map_or(u64::MAX, |lifetime| lifetime.leaves_at(timestamp.time));
            if leaves_at > self.deaths.until {
                self.deaths.fading.add(&key, leaves_at);
                continue;
            }
            let Some((removed, was_last)) = self.remove(&key) else {
                continue;
            };
            if was_last {
                joined.unmerged.push(key.key.clone());
            }
            joined.die(key, &removed, leaves_at);
        }
        true
    }
}
