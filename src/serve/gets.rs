//! Gets, as they come from the network.
//!
//! The queryable's callback answers at once what memory has. All else goes to lanes, one
//! for gets of one key and one for gets with wildcards, so that a reader who takes nothing
//! holds up neither puts nor those who know the key.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Semaphore;
use zenoh::{
    Wait,
    bytes::ZBytes,
    key_expr::KeyExpr,
    query::{Parameters, Query, ZenohParameters},
    time::NTP64,
};
use zenoh_util::time_range::TimeRange;

use super::{
    keys::Prefix,
    lanes::{Full, Lane},
};
use crate::{
    cell::{Cell, Key, intersect},
    merge::Form,
    net::{
        Operator, convert,
        dropped::count,
        outbox::{Outbox, Sending},
    },
    replica::{GetError, Lookup, Replica},
};

/// Gets of one key that are read from the disk at a time, and that wait for it.
const KEYS_AT_A_TIME: usize = 4;
const KEYS_WAITING: usize = 4096;

/// Gets with wildcards that are answered at a time, and that wait for it.
const WALKS_AT_A_TIME: usize = 4;
const WALKS_WAITING: usize = 256;

/// Gets with wildcards that are answered at a time, of all storages together: some of the
/// threads that may block stay free.
const ALL_WALKS_AT_A_TIME: usize = 16;

/// For how long a reader is waited for who is to be told that the answer was cut off.
const LAST_WORD: Duration = Duration::from_secs(5);

fn all_walks() -> &'static Arc<Semaphore> {
    static ALL: OnceLock<Arc<Semaphore>> = OnceLock::new();
    ALL.get_or_init(|| Arc::new(Semaphore::new(ALL_WALKS_AT_A_TIME)))
}

/// Parameters of a get. Zenoh's begin with an underscore; `_raw` is its REST plugin's,
/// and says nothing to a storage.
const RAW: &str = "raw";
const JSON: &str = "json";
const TIME: &str = "_time";
const OTHERS: [&str; 2] = ["_anyke", "_raw"];

/// What a get asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// The cells of a key instead of its value.
    pub(super) raw: bool,
    pub(super) form: Form,
    /// What was written in this time.
    pub(super) written: Option<TimeRange<SystemTime>>,
}

impl Wanted {
    /// Reads the parameters. Those that are not known are a mistake if they begin as
    /// Zenoh's do, and else meant for others.
    pub(super) fn parse(parameters: &Parameters, now: SystemTime) -> Result<Self, String> {
        for (name, _) in parameters.iter() {
            if name.starts_with('_') && name != TIME && !OTHERS.contains(&name) {
                return Err(format!(
                    "the parameter `{name}` is not known here; there are `_time`, `raw` and `json`"
                ));
            }
        }
        let written = parameters.time_range().transpose();
        let written = written.map_err(|error| format!("the parameter `_time`: {error}"))?;
        Ok(Self {
            raw: parameters.contains_key(RAW),
            form: match parameters.contains_key(JSON) {
                true => Form::Json,
                false => Form::Native,
            },
            written: written.map(|range| range.resolve_at(now)),
        })
    }

    fn has(&self, cell: &Cell) -> bool {
        let time = || NTP64(cell.timestamp.time).to_system_time();
        self.written
            .as_ref()
            .is_none_or(|range| range.contains(time()))
    }
}

/// A get whose turn it is, and where its answers go.
struct Get {
    query: Query,
    outbox: Outbox,
}

/// Answers the gets of a storage.
pub(super) struct Answers {
    name: String,
    replica: Arc<Replica>,
    operator: Arc<Operator>,
    prefix: Prefix,
    reply_timeout: Duration,
    keys: Lane,
    walks: Lane,
}

impl Answers {
    pub(super) fn new(
        operator: &Arc<Operator>,
        prefix: Prefix,
        reply_timeout: Duration,
        runtime: &tokio::runtime::Handle,
    ) -> Self {
        let admin = operator.admin();
        Self {
            name: admin.name.clone(),
            replica: Arc::clone(&admin.replica),
            operator: Arc::clone(operator),
            prefix,
            reply_timeout,
            keys: Lane::new(runtime, KEYS_AT_A_TIME, KEYS_WAITING),
            walks: Lane::new(runtime, WALKS_AT_A_TIME, WALKS_WAITING).sharing(all_walks()),
        }
    }

    /// Answers a query, at once or later.
    pub(super) fn answer(self: &Arc<Self>, query: Query) {
        let start = Instant::now();
        let wanted = match Wanted::parse(query.parameters(), SystemTime::now()) {
            Ok(wanted) => wanted,
            Err(reason) => return self.refuse(&query, &reason),
        };
        if query.key_expr().is_wild() {
            return self.later(&self.walks, query, Outbox::stream, move |this, get| {
                this.walk(get, &wanted);
            });
        }
        let Some(key) = self.prefix.strip(query.key_expr()) else {
            return;
        };
        if !wanted.raw {
            let found = match self.replica.get(&key, wanted.form) {
                Lookup::Absent => None,
                Lookup::Found(cell) => Some(cell),
                Lookup::Stored(stored) => {
                    return self.later(&self.keys, query, Outbox::few, move |this, get| {
                        let read = this.replica.read(&stored);
                        this.reply_read(get, &wanted, get.query.key_expr().clone(), read);
                        this.operator.get_durations.observe(start.elapsed());
                    });
                }
            };
            if let Some(cell) = found {
                let send = self.reply(&query, &wanted, query.key_expr().clone(), &cell);
                send.map(|send| send());
            }
            return self.operator.get_durations.observe(start.elapsed());
        }
        self.later(&self.keys, query, Outbox::few, move |this, get| {
            let read = this.read(&key, &wanted);
            this.reply_read(get, &wanted, get.query.key_expr().clone(), read);
        });
    }

    /// Has `work` done in a lane. Neither who waits for a turn nor who waits for the reader holds the
    /// storage.
    fn later(
        self: &Arc<Self>,
        lane: &Lane,
        query: Query,
        outbox: impl FnOnce() -> Outbox + Send + 'static,
        work: impl FnOnce(&Self, &Get) + Send + 'static,
    ) {
        match lane.enter() {
            Ok(place) => {
                let this: Weak<Self> = Arc::downgrade(self);
                place.run(move || {
                    let outbox = outbox();
                    let get = Get { query, outbox };
                    // Of a storage that has gone meanwhile there is no answer.
                    if let Some(this) = this.upgrade() {
                        work(&this, &get);
                    }
                    get.outbox.send_all();
                });
            }
            Err(Full) => {
                count(&self.operator.dropped.gets);
                self.refuse(&query, "too many gets are going on; ask again later");
            }
        }
    }

    fn read(&self, key: &Key, wanted: &Wanted) -> Result<Option<Arc<Cell>>, GetError> {
        if wanted.raw {
            return Ok(self.replica.raw(key)?.map(Arc::new));
        }
        match self.replica.get(key, wanted.form) {
            Lookup::Absent => Ok(None),
            Lookup::Found(cell) => Ok(Some(cell)),
            Lookup::Stored(stored) => self.replica.read(&stored),
        }
    }

    /// Answers for all keys that match, of those that there are now.
    fn walk(&self, get: &Get, wanted: &Wanted) {
        let deadline = Instant::now() + self.reply_timeout;
        let pattern = get.query.key_expr();
        let places = self.prefix.places(pattern);
        if let Some(key) = places.exact {
            self.walk_over(get, wanted, &key, deadline);
        }
        let Some(below) = places.below else {
            return;
        };
        self.replica.list(&below).for_each(|key, _| {
            let is_taken = self.walk_over(get, wanted, key, deadline);
            if self.replica.is_closing() {
                let reason = "the storage is being closed; the answer is cut off";
                self.put(get, self.refusal(&get.query, reason), Instant::now());
                return false;
            }
            let is_in_time = Instant::now() < deadline;
            if !is_in_time {
                let (name, seconds) = (&self.name, self.reply_timeout.as_secs_f32());
                tracing::warn!(
                    "storage '{name}': a get of < {pattern} > was cut off: its answer took longer \
                     than `reply_timeout`, {seconds} s"
                );
                let reason = "the answer took longer than `reply_timeout`; it is cut off";
                // A reader that is slow gets to know it.
                self.put(get, self.refusal(&get.query, reason), deadline + LAST_WORD);
            }
            is_taken && is_in_time
        });
    }

    /// False if no further answer has to be tried.
    fn walk_over(&self, get: &Get, wanted: &Wanted, key: &Key, deadline: Instant) -> bool {
        let Some(full) = self.prefix.put_back(key) else {
            return true;
        };
        if !intersect(get.query.key_expr(), &full) {
            return true;
        }
        let start = Instant::now();
        let read = self.read(key, wanted);
        self.operator.get_durations.observe(start.elapsed());
        self.reply_to(get, wanted, full.into(), read, deadline)
    }

    /// Answers a get of a key with what was read.
    fn reply_read(
        &self,
        get: &Get,
        wanted: &Wanted,
        key: KeyExpr<'static>,
        read: Result<Option<Arc<Cell>>, GetError>,
    ) {
        let deadline = Instant::now() + self.reply_timeout;
        self.reply_to(get, wanted, key, read, deadline);
    }

    fn reply_to(
        &self,
        get: &Get,
        wanted: &Wanted,
        key: KeyExpr<'static>,
        read: Result<Option<Arc<Cell>>, GetError>,
        deadline: Instant,
    ) -> bool {
        let send = match read {
            Ok(Some(cell)) => self.reply(&get.query, wanted, key, &cell),
            Ok(None) => None,
            Err(error) => {
                let name = &self.name;
                tracing::warn!("storage '{name}': a get of < {key} > failed: {error}");
                Some(self.refusal(&get.query, &format!("{key}: {error}")))
            }
        };
        send.is_none_or(|send| self.put(get, send, deadline))
    }

    /// Gives an answer away; false if no further one has to be tried.
    fn put(&self, get: &Get, send: Sending, deadline: Instant) -> bool {
        let goes_on = || Instant::now() < deadline && !self.replica.is_closing();
        get.outbox.put(send, &goes_on)
    }

    /// Sends a cell, if it is wanted, when it is called.
    fn reply(
        &self,
        query: &Query,
        wanted: &Wanted,
        key: KeyExpr<'static>,
        cell: &Cell,
    ) -> Option<Sending> {
        let value = cell.value().filter(|_| wanted.has(cell))?;
        let timestamp = match convert::zenoh_timestamp(cell.timestamp) {
            Ok(timestamp) => timestamp,
            Err(error) => return Some(self.refusal(query, &format!("{key}: {error}"))),
        };
        let (query, name) = (query.clone(), self.name.clone());
        let (payload, encoding) = (
            ZBytes::from(value.payload.clone()),
            convert::encoding(value),
        );
        let attachment = convert::attachment(value);
        Some(Box::new(move || {
            let reply = query.reply(key, payload).encoding(encoding);
            let reply = reply.attachment(attachment).timestamp(timestamp);
            let sent = reply.wait();
            if let Err(error) = &sent {
                tracing::debug!("storage '{name}': an answer was not sent: {error}");
            }
            sent.is_ok()
        }))
    }

    /// Says why there is no answer, when it is called.
    fn refusal(&self, query: &Query, reason: &str) -> Sending {
        let (query, name, reason) = (query.clone(), self.name.clone(), reason.to_owned());
        Box::new(move || {
            let sent = query.reply_err(reason).wait();
            if let Err(error) = &sent {
                tracing::debug!("storage '{name}': an error was not sent: {error}");
            }
            sent.is_ok()
        })
    }

    /// Says at once why there is no answer.
    fn refuse(&self, query: &Query, reason: &str) {
        self.refusal(query, reason)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Timestamp;

    #[test]
    fn parameters_that_are_not_understood_are_an_error() {
        let parse = |text: &str| Wanted::parse(&Parameters::from(text), SystemTime::UNIX_EPOCH);
        for wrong in ["_tim=[..]", "a;_filter=x", "_time=yesterday", "_"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for taken in ["", "a=1;b", "_raw=true", "_anyke;json", "_time=[..]"] {
            assert!(parse(taken).is_ok(), "{taken}");
        }
        let wanted = parse("raw;json").expect("known");
        assert_eq!((wanted.raw, wanted.form), (true, Form::Json));
        assert!(!parse("_raw=true").expect("of REST").raw);
    }

    #[test]
    fn only_what_was_written_in_the_time_is_wanted() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let is_wanted = |range: &str, seconds: u64| {
            let parameters = format!("_time={range}");
            let wanted = Wanted::parse(&Parameters::from(parameters.as_str()), now);
            let timestamp = Timestamp {
                time: seconds << 32,
                id: [1; 16],
            };
            wanted.expect("a range").has(&Cell::tombstone(timestamp))
        };
        assert!(is_wanted("[now(-10s)..now()]", 995));
        assert!(!is_wanted("[now(-10s)..now()]", 985));
        assert!(!is_wanted("[now(-10s)..now()]", 1001));
        assert!(is_wanted("[..now(-10s)]", 5));
    }
}
