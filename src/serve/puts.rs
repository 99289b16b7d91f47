//! Puts and deletes, as they come from the network.
//!
//! The subscriber's callback runs on a thread that routes, once for each sample, in the
//! order of each link. Nobody is told when a put is taken, so nobody waits for a commit.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use zenoh::{
    Session,
    qos::CongestionControl,
    sample::{Sample, SampleKind},
    time::Timestamp as ZenohTimestamp,
};
use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use super::{
    keys::{Prefix, Relative},
    lanes::Lane,
    log_limit::LogLimit,
    stamps::Stamps,
};
use crate::{
    cell::{Cell, Key, Timestamp, Value, intersect},
    net::{Operator, convert},
    replica::{Committed, Listing, Outcome, Replica, ReplicaError},
    wildcard::{MAX_PATTERN_BYTES, MAX_RULE_VALUE_BYTES, MAX_RULES, MAX_RULES_BYTES},
};

/// How long a put waits for room at the most: for as long Zenoh lets a link wait.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Updates with wildcards that wait while another is expanded.
const MAX_EXPANDING: usize = 8;

/// How often the log says that puts are dropped, and how many lines of each span say that one was
/// refused: each has its own reason.
const TELL_DROPPED_EVERY: Duration = Duration::from_secs(60);
const TELL_REFUSED_EVERY: Duration = Duration::from_secs(1);
const TELL_REFUSED: u32 = 20;

/// How often the log says that an update with wildcards was no rule.
const TELL_EXPANDED_EVERY: Duration = Duration::from_secs(60);

/// Takes the puts and deletes of a storage.
pub(super) struct Intake {
    name: String,
    replica: Arc<Replica>,
    operator: Arc<Operator>,
    prefix: Prefix,
    session: Session,
    stamps: Stamps,
    /// Whether the queue was full when something was offered last.
    is_full: AtomicBool,
    /// Ready when the queue has room again.
    room: Mutex<Option<Arc<Committed>>>,
    expanding: Lane,
    dropped: LogLimit,
    refused: LogLimit,
    expanded: LogLimit,
}

/// What an update with wildcards does to each of the keys that are known.
enum Expanded {
    /// Writes this.
    Write(Cell),
    /// Puts this value, if a strategy merges what is put to the key.
    Merge(Cell, Value),
    /// Deletes what was known when it came.
    DeleteKnown,
}

impl Intake {
    pub(super) fn new(
        operator: &Arc<Operator>,
        prefix: Prefix,
        session: &Session,
        stamps: Stamps,
        runtime: &tokio::runtime::Handle,
    ) -> Self {
        let admin = operator.admin();
        Self {
            name: admin.name.clone(),
            replica: Arc::clone(&admin.replica),
            operator: Arc::clone(operator),
            prefix,
            session: session.clone(),
            stamps,
            is_full: AtomicBool::new(false),
            room: Mutex::default(),
            // One after the other.
            expanding: Lane::new(runtime, 1, MAX_EXPANDING),
            dropped: LogLimit::new(1, TELL_DROPPED_EVERY),
            refused: LogLimit::new(TELL_REFUSED, TELL_REFUSED_EVERY),
            expanded: LogLimit::new(1, TELL_EXPANDED_EVERY),
        }
    }

    /// Takes a sample.
    pub(super) fn take(self: &Arc<Self>, sample: &Sample) {
        let start = Instant::now();
        if self.is_full.load(Ordering::Acquire) {
            let may_wait = sample.congestion_control() != CongestionControl::Drop;
            if !self.has_room(may_wait.then(|| start + MAX_WAIT)) {
                return self.count_dropped(sample, start);
            }
        }
        if sample.key_expr().is_wild() {
            return self.expand(sample);
        }
        // Whatever the subscriber gets begins with the prefix.
        let Some(key) = self.prefix.strip(sample.key_expr()) else {
            return;
        };
        let written = match (sample.kind(), self.timestamp_of_client(sample)) {
            (SampleKind::Put, timestamp) => self.put(key, self.value(sample, timestamp)),
            (SampleKind::Delete, Some(timestamp)) => {
                self.replica.put(key, convert::tombstone(&timestamp))
            }
            (SampleKind::Delete, None) => self.replica.delete_known(key),
        };
        self.offered(written, sample.kind(), sample.key_expr());
        self.operator.put_durations.observe(start.elapsed());
    }

    fn put(&self, key: Key, cell: Cell) -> Result<Outcome, ReplicaError> {
        self.stamps.check(&self.replica, &key, &cell)?;
        self.replica.put(key, cell)
    }

    /// The timestamp of a client. Routers timestamp the puts of those that do not; a delete
    /// that a router stamped, as its REST plugin does, was not stamped by its client.
    fn timestamp_of_client(&self, sample: &Sample) -> Option<ZenohTimestamp> {
        let timestamp = *sample.timestamp()?;
        let by_router = sample.kind() == SampleKind::Delete
            && self.stamps.is_of_router(&timestamp.get_id().to_le_bytes());
        (!by_router).then_some(timestamp)
    }

    /// A put as a cell. One without a timestamp gets that of its arrival.
    fn value(&self, sample: &Sample, timestamp: Option<ZenohTimestamp>) -> Cell {
        let timestamp = timestamp.unwrap_or_else(|| self.session.new_timestamp());
        convert::value_cell(
            sample.payload(),
            sample.encoding(),
            sample.attachment(),
            &timestamp,
        )
    }

    /// Whether there is room in the queue, by `deadline` if one is given.
    fn has_room(&self, deadline: Option<Instant>) -> bool {
        let room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(committed) = room.clone() else {
            return true;
        };
        drop(room);
        let has_room = match deadline {
            Some(deadline) => committed.wait_until(deadline),
            None => committed.is_known(),
        };
        if has_room {
            let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
            // Unless it is full again.
            if room
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &committed))
            {
                *room = None;
                self.is_full.store(false, Ordering::Release);
            }
        }
        has_room
    }

    /// Looks at what came of an offer.
    fn offered(&self, written: Result<Outcome, ReplicaError>, kind: SampleKind, key: &keyexpr) {
        match written {
            Ok(Outcome {
                is_full: true,
                committed: Some(committed),
                ..
            }) => {
                let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
                *room = Some(Arc::new(committed));
                self.is_full.store(true, Ordering::Release);
            }
            Ok(_) => {}
            Err(error) => {
                if let Some(count) = self.refused.one_more(Instant::now()) {
                    let name = &self.name;
                    tracing::error!(
                        "storage '{name}': `{kind}` on < {key} > failed with: {error} ({count} \
                         failed since the last line)"
                    );
                }
            }
        }
    }

    fn count_dropped(&self, sample: &Sample, now: Instant) {
        self.replica.count_dropped();
        if let Some(count) = self.dropped.one_more(now) {
            let (name, key) = (&self.name, sample.key_expr());
            let source = sample.source_info().map(|info| info.source_id().zid());
            let source =
                source.map_or_else(|| "an unknown publisher".to_owned(), |zid| zid.to_string());
            tracing::error!(
                "storage '{name}': {count} puts and deletes were dropped, the last on < {key} > of \
                 {source}: they come faster than they can be stored, and their publishers did not \
                 ask for congestion control `Block`"
            );
        }
    }

    /// Writes an update of a pattern as a rule, for keys that are not known, too; and what is to be done
    /// to those that are, if anything is.
    fn rule(&self, pattern: &keyexpr, cell: Cell) -> Option<Expanded> {
        let kind = match cell.value() {
            Some(_) => SampleKind::Put,
            None => SampleKind::Delete,
        };
        let relative = match pattern.len() > MAX_PATTERN_BYTES {
            // It would be no rule.
            true => None,
            false => Some(self.prefix.relative(pattern)),
        };
        let Some(Relative { patterns, keys }) = relative else {
            self.tell_expanded(kind, pattern);
            return Some(Expanded::Write(cell));
        };
        for relative in patterns {
            match self.replica.write_rule(relative, cell.clone()) {
                Ok(Some(outcome)) => self.offered(Ok(outcome), kind, pattern),
                Ok(None) => {
                    self.tell_expanded(kind, pattern);
                    return Some(Expanded::Write(cell));
                }
                Err(error) => {
                    self.offered(Err(error), kind, pattern);
                    return None;
                }
            }
        }
        for key in keys {
            // A put changes what there is.
            if cell.value().is_none() || self.replica.last_write(&key).is_some() {
                self.offered(self.put(key, cell.clone()), kind, pattern);
            }
        }
        let value = cell.value().filter(|_| !self.replica.is_lww()).cloned();
        value.map(|value| Expanded::Merge(cell, value))
    }

    fn tell_expanded(&self, kind: SampleKind, pattern: &keyexpr) {
        if let Some(count) = self.expanded.one_more(Instant::now()) {
            let name = &self.name;
            tracing::warn!(
                "storage '{name}': `{kind}` on < {pattern} > reaches only the keys that are known \
                 here, as {count} in all since the last line: as rules there may be {MAX_RULES}, of \
                 {MAX_RULES_BYTES} bytes, with patterns of {MAX_PATTERN_BYTES} bytes and values of \
                 {MAX_RULE_VALUE_BYTES}"
            );
        }
    }

    /// Does a put with wildcards, or a delete that its client stamped, by a rule; any other delete to each
    /// key that is known. What is known is found out at once, so it hits nothing that comes later.
    fn expand(self: &Arc<Self>, sample: &Sample) {
        let pattern: OwnedKeyExpr = sample.key_expr().clone().into();
        let what = match (sample.kind(), self.timestamp_of_client(sample)) {
            (SampleKind::Put, timestamp) => self.rule(&pattern, self.value(sample, timestamp)),
            (SampleKind::Delete, Some(timestamp)) => {
                self.rule(&pattern, convert::tombstone(&timestamp))
            }
            (SampleKind::Delete, None) => Some(Expanded::DeleteKnown),
        };
        let Some(what) = what else {
            return;
        };
        let places = self.prefix.places(&pattern);
        if let Some(key) = places.exact
            && let Some(timestamp) = self.replica.last_write(&key)
        {
            self.update(&what, &pattern, key, timestamp);
        }
        let Some(below) = places.below else {
            return;
        };
        let place = self.expanding.enter();
        let may_wait = sample.congestion_control() != CongestionControl::Drop;
        if place.is_err() && !may_wait {
            return self.count_dropped(sample, Instant::now());
        }
        let listing = self.replica.list(&below);
        let this = Arc::clone(self);
        let work = move || this.expand_to(listing, &what, &pattern);
        match place {
            Ok(place) => place.run(work),
            // Its publisher asked to wait.
            Err(_) => work(),
        }
    }

    fn expand_to(&self, listing: Listing, what: &Expanded, pattern: &keyexpr) {
        listing.for_each(|key, timestamp| {
            let full = self.prefix.put_back(key);
            if !full.is_some_and(|full| intersect(pattern, &full)) {
                return true;
            }
            while self.is_full.load(Ordering::Acquire) {
                // As long as it takes; a storage that fails or closes says so to all.
                self.has_room(Some(Instant::now() + MAX_WAIT));
            }
            self.update(what, pattern, key.clone(), timestamp)
        });
    }

    /// Updates one of many keys, which was written last at `known`. False if there is no
    /// point in going on.
    fn update(&self, what: &Expanded, pattern: &keyexpr, key: Key, known: Timestamp) -> bool {
        let (kind, written) = match what {
            Expanded::DeleteKnown => (SampleKind::Delete, self.replica.delete_version(key, known)),
            Expanded::Merge(_, value) if !self.replica.merges(&key, value) => return true,
            Expanded::Merge(cell, _) => (SampleKind::Put, self.put(key, cell.clone())),
            Expanded::Write(cell) => {
                let kind = match cell.value() {
                    Some(_) => SampleKind::Put,
                    None => SampleKind::Delete,
                };
                (kind, self.put(key, cell.clone()))
            }
        };
        let goes_on = !matches!(written, Err(ReplicaError::Closed | ReplicaError::Failed(_)));
        self.offered(written, kind, pattern);
        goes_on
    }
}
