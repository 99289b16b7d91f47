//! Puts, deletes, and what other replicas hold: checked, turned into cells, and offered to the queue.

use std::sync::{Arc, atomic::Ordering};

use smallvec::smallvec;
use zenoh_keyexpr::OwnedKeyExpr;

use super::{
    acks::CommitTracker,
    queue::{Fence, Taken},
    state::{Offer, Offers},
};
use crate::{
    cell::{Cell, CellKey, Key, MAX_KEY_BYTES, Timestamp, Version, ntp64_span},
    merge::ttl_of,
    replica::{
        MAX_VALUE_BYTES, Outcome, Refusal, Replica, ReplicaError, TreeEntry, counters::Counter,
    },
    wildcard::{
        self, InvalidRule, MAX_FOREIGN_RULES, MAX_FOREIGN_RULES_BYTES, MAX_RULES, MAX_RULES_BYTES,
        rule_key,
    },
};

impl Replica {
    /// Puts a value to `key`, or deletes it: `cell` is what its clients say, which
    /// the strategy that merges the key turns into cells. Costs memory work.
    ///
    /// # Errors
    /// If the write is [refused](Refusal), if the replica [failed](crate::replica::Failure), or if it
    /// is closed. Then nothing is written.
    pub fn put(&self, key: Key, cell: Cell) -> Result<Outcome, ReplicaError> {
        let shared = &*self.shared;
        let counter = match cell.value() {
            Some(_) => &shared.state.counters.puts,
            None => &shared.state.counters.deletes,
        };
        let timestamp = cell.timestamp;
        if key.is_pattern() {
            let refusal = Refusal::from(InvalidRule::Kind);
            return Err(self.refused(&key, timestamp, refusal).into());
        }
        self.check_ttl(&key, &cell)?;
        if shared.rules.is_lww() {
            let key = CellKey::own(key);
            self.check_and_note(&key, &cell)?;
            return self.write(
                smallvec![(key, Arc::new(cell), None)],
                Fence::Floor,
                counter,
            );
        }
        let cells = self.cells_of(key.clone(), cell);
        let cells = cells.map_err(|refusal| self.refused(&key, timestamp, refusal))?;
        let offered = cells.into_iter();
        let offered = offered.map(|(key, cell)| (key, Arc::new(cell), None));
        self.write(offered.collect(), Fence::Floor, counter)
    }

    /// Puts a value to all keys that a pattern matches, or deletes them, known or not, by a
    /// [rule](crate::wildcard). Nothing is written if there is no room for the rule: `None`.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn write_rule(
        &self,
        pattern: OwnedKeyExpr,
        cell: Cell,
    ) -> Result<Option<Outcome>, ReplicaError> {
        let shared = &*self.shared;
        let is_put = cell.value().is_some();
        let bytes = pattern.len() + cell.value_bytes();
        let key = rule_key(pattern, is_put);
        let rules = shared.state.queue.rules();
        let has_room = rules.len() < MAX_RULES && rules.bytes() + bytes <= MAX_RULES_BYTES;
        if !(has_room || rules.has(&key)) || wildcard::check(&key, &cell).is_err() {
            return Ok(None);
        }
        self.check_ttl(&key.key, &cell)?;
        self.check_and_note(&key, &cell)?;
        let counter = match is_put {
            true => &shared.state.counters.puts,
            false => &shared.state.counters.deletes,
        };
        let offer = (key, Arc::new(cell), None);
        self.write(smallvec![offer], Fence::Floor, counter)
            .map(Some)
    }

    /// The cells that a put writes, each of which may be written.
    fn cells_of(&self, key: Key, cell: Cell) -> Result<Vec<(CellKey, Cell)>, Refusal> {
        let timestamp = cell.timestamp;
        // What is too large is not taken to pieces.
        let own = CellKey::own(key);
        self.check(&own, &cell)?;
        let key = own.key;
        let written = self.shared.rules.write(&key, cell)?;
        let cells = written.into_iter().map(|(part, content)| {
            let key = key.clone();
            (CellKey { key, part }, Cell { timestamp, content })
        });
        let cells: Vec<_> = cells.collect();
        for (key, cell) in &cells {
            self.check(key, cell)?;
        }
        Ok(cells)
    }

    pub(super) fn write(
        &self,
        offers: Offers,
        fence: Fence,
        counter: &Counter,
    ) -> Result<Outcome, ReplicaError> {
        if self.shared.refuses_writes.load(Ordering::Relaxed)
            && let Some((key, cell, _)) = offers.first()
        {
            return Err(self
                .refused(&key.key, cell.timestamp, Refusal::ReadOnly)
                .into());
        }
        let state = &*self.shared.state;
        let patience = state.options.patience();
        let now = state.queue.now();
        let offered = match state.lifetimes.is_empty() {
            true => None,
            false => offers
                .first()
                .map(|(key, cell, _)| (key.key.clone(), cell.timestamp)),
        };
        let (is_newest, committed, is_full) =
            match state.queue.offer(offers, fence, patience, now, &state.tree) {
                Taken::Closed => {
                    state.commits.check()?;
                    return Err(ReplicaError::Closed);
                }
                Taken::Late {
                    key,
                    timestamp,
                    floor,
                } => {
                    let refusal = Refusal::Late { timestamp, floor };
                    state.count_late(&key, &refusal);
                    return Err(self.refused(&key, timestamp, refusal).into());
                }
                Taken::Outdated => {
                    if let Some((key, timestamp)) = offered {
                        state.count_if_dead(&key, timestamp);
                    }
                    (false, None, false)
                }
                Taken::Yes {
                    sequence,
                    is_newest,
                    wait,
                    is_full,
                } => {
                    let committed = || CommitTracker::committed(&state.commits, sequence);
                    (is_newest, wait.then(committed), is_full)
                }
            };
        counter.add();
        if !is_newest {
            state.counters.outdated.add();
        }
        Ok(Outcome {
            is_newest,
            committed,
            is_full,
        })
    }

    /// Joins a cell that another replica holds: as [`put`](Self::put), but it is
    /// counted as merged.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn merge(&self, key: CellKey, cell: Cell) -> Result<Outcome, ReplicaError> {
        self.join((key, Arc::new(cell), None), Fence::Open)
    }

    /// As [`merge`](Self::merge), of a cell that another replica sent when it was asked at this
    /// horizon. If that is not the horizon any more nothing is written.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn merge_asked(
        &self,
        key: CellKey,
        cell: Cell,
        horizon: u64,
    ) -> Result<Outcome, ReplicaError> {
        self.join((key, Arc::new(cell), None), Fence::Horizon(horizon))
    }

    /// As [`merge`](Self::merge), of a cell that was hashed before: this is what came of
    /// it.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn merge_hashed(
        &self,
        key: CellKey,
        cell: Cell,
        version: Version,
    ) -> Result<Outcome, ReplicaError> {
        self.join((key, Arc::new(cell), Some(Box::new(version))), Fence::Open)
    }

    fn join(&self, offered: Offer, fence: Fence) -> Result<Outcome, ReplicaError> {
        let (key, cell, _) = &offered;
        self.check_and_note(key, cell)?;
        let merged = &self.shared.state.counters.merged;
        self.write(smallvec![offered], fence, merged)
    }

    /// Joins a cell of a backup: as [`merge_hashed`](Self::merge_hashed), unless it is
    /// [late](Self::is_late).
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn restore(
        &self,
        key: CellKey,
        cell: Cell,
        version: Version,
    ) -> Result<Outcome, ReplicaError> {
        let fence = match self.is_accounted_for(&key, &version) {
            true => Fence::Open,
            false => Fence::Floor,
        };
        self.join((key, Arc::new(cell), Some(Box::new(version))), fence)
    }

    /// Whether a cell of a backup is stamped below the floor, and so is not restored: it may have been
    /// deleted, and that collected. What is in quarantine is missing, and is taken; what is there
    /// already, or covered, is no news.
    #[must_use]
    pub fn is_late(&self, key: &CellKey, version: &Version) -> bool {
        let floor = self.shared.state.queue.floor();
        version.timestamp.time < floor && !self.is_accounted_for(key, version)
    }

    /// Whether it is known what became of a cell, however old it is.
    fn is_accounted_for(&self, key: &CellKey, version: &Version) -> bool {
        let state = &self.shared.state;
        if version.timestamp.time >= state.queue.floor() {
            return false;
        }
        let tree = state.applied();
        tree.get(key).map(TreeEntry::version) >= Some(*version)
            || tree.covering(key) >= Some(version.timestamp)
            || state.quarantine.lost(key) >= Some(*version)
    }

    /// Refuses all writes from now on.
    pub fn refuse_writes(&self) {
        self.shared.refuses_writes.store(true, Ordering::Relaxed);
    }

    /// Counts a put that a router stamped and a strategy merges, and refuses it if it `is_refused`.
    ///
    /// # Errors
    /// If it is refused.
    pub fn note_stamp_of_router(
        &self,
        key: &Key,
        timestamp: Timestamp,
        is_refused: bool,
    ) -> Result<(), ReplicaError> {
        self.shared.state.counters.stamped_by_routers.add();
        match is_refused {
            true => Err(self
                .refused(key, timestamp, Refusal::StampedByRouter)
                .into()),
            false => Ok(()),
        }
    }

    /// Counts and remembers a write that is refused.
    fn refused(&self, key: &Key, timestamp: Timestamp, refusal: Refusal) -> Refusal {
        let state = &self.shared.state;
        state.counters.refused.add();
        let now = (self.shared.clock)();
        state
            .refusals
            .add(&key.to_string(), timestamp, now, &refusal);
        refusal
    }

    /// As [`check`](Self::check), and [notes](Self::refused) a refusal.
    fn check_and_note(&self, key: &CellKey, cell: &Cell) -> Result<(), Refusal> {
        let checked = self.check(key, cell);
        checked.map_err(|refusal| self.refused(&key.key, cell.timestamp, refusal))
    }

    /// Checks for how long a value is to be shown, if it says so. What is hidden and never leaves is
    /// counted.
    fn check_ttl(&self, key: &Key, cell: &Cell) -> Result<(), Refusal> {
        let Some(value) = cell.value().filter(|value| value.schema.is_some()) else {
            return Ok(());
        };
        let ttl = ttl_of(value);
        let ttl = ttl.map_err(|error| self.refused(key, cell.timestamp, error.into()))?;
        let state = &self.shared.state;
        if ttl.is_some() && !key.is_pattern() && state.lifetimes.of(key).is_none() {
            state.count_ttl_without_lifetime(key);
        }
        Ok(())
    }

    fn check(&self, key: &CellKey, cell: &Cell) -> Result<(), Refusal> {
        let allowed = self.shared.state.options.max_clock_drift;
        let now = (self.shared.clock)();
        if cell.timestamp.time > now.saturating_add(ntp64_span(allowed)) {
            return Err(Refusal::AheadOfClock {
                timestamp: cell.timestamp,
                now,
                allowed,
            });
        }
        let bytes = key.canonical_len();
        if bytes > MAX_KEY_BYTES {
            return Err(Refusal::KeyTooLong { bytes });
        }
        if key.key.has_too_many_chunks() {
            return Err(Refusal::TooManyChunks);
        }
        let bytes = cell.value_bytes();
        if bytes > MAX_VALUE_BYTES {
            return Err(Refusal::ValueTooLong { bytes });
        }
        if key.key.is_pattern() {
            wildcard::check(key, cell)?;
            let rules = self.shared.state.queue.rules();
            let has_room = rules.len() < MAX_FOREIGN_RULES
                && rules.bytes() + key.text_and_part_len() + bytes <= MAX_FOREIGN_RULES_BYTES;
            if !has_room && !rules.has(key) {
                return Err(Refusal::TooManyRules);
            }
        }
        Ok(())
    }
}
