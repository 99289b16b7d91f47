//! Gets, as they come from the network.
//!
//! The queryable's callback answers at once what memory has. All else goes to lanes, one
//! for gets of one key and one for gets with wildcards, so that a reader who takes nothing
//! holds up neither puts nor those who know the key.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Semaphore;
use zenoh::{
    bytes::ZBytes,
    key_expr::KeyExpr,
    query::{Parameters, Query, ZenohParameters},
    time::NTP64,
    Wait,
};
use zenoh_util::time_range::TimeRange;

use super::{
    keys::Prefix,
    lanes::{Full, Lane},
};
use crate::{
    cell::{intersect, Cell, Key},
    merge::Form,
    net::{convert, Operator},
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
            return self.later(&self.walks, query, move |this, query| {
                this.walk(query, &wanted);
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
                    return self.later(&self.keys, query, move |this, query| {
                        let read = this.replica.read(&stored);
                        this.reply_read(query, &wanted, query.key_expr().clone(), read);
                        this.operator.get_durations.observe(start.elapsed());
                    });
                }
            };
            if let Some(cell) = found {
                self.reply(&query, &wanted, query.key_expr().clone(), &cell);
            }
            return self.operator.get_durations.observe(start.elapsed());
        }
        self.later(&self.keys, query, move |this, query| {
            let read = this.read(&key, &wanted);
            this.reply_read(query, &wanted, query.key_expr().clone(), read);
        });
    }

    /// Has `work` done in a lane.
    fn later(
        self: &Arc<Self>,
        lane: &Lane,
        query: Query,
        work: impl FnOnce(&Self, &Query) + Send + 'static,
    ) {
        match lane.enter() {
            Ok(place) => {
                let this = Arc::clone(self);
                place.run(move || work(&this, &query));
            }
            Err(Full) => self.refuse(&query, "too many gets are going on; ask again later"),
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
    fn walk(&self, query: &Query, wanted: &Wanted) {
        let deadline = Instant::now() + self.reply_timeout;
        let places = self.prefix.places(query.key_expr());
        if let Some(key) = places.exact {
            self.walk_over(query, wanted, &key);
        }
        let Some(below) = places.below else {
            return;
        };
        self.replica.list(&below).for_each(|key, _| {
            self.walk_over(query, wanted, key);
            let is_in_time = Instant::now() < deadline;
            if !is_in_time {
                let (name, seconds) = (&self.name, self.reply_timeout.as_secs_f32());
                let pattern = query.key_expr();
                tracing::warn!(
                    "storage '{name}': a get of < {pattern} > was cut off: its answer took longer \
                     than `reply_timeout`, {seconds} s"
                );
                self.refuse(
                    query,
                    "the answer took longer than `reply_timeout`; it is cut off",
                );
            }
            is_in_time
        });
    }

    fn walk_over(&self, query: &Query, wanted: &Wanted, key: &Key) {
        let Some(full) = self.prefix.put_back(key) else {
            return;
        };
        if intersect(query.key_expr(), &full) {
            let start = Instant::now();
            let read = self.read(key, wanted);
            self.operator.get_durations.observe(start.elapsed());
            self.reply_read(query, wanted, full.into(), read);
        }
    }

    fn reply_read(
        &self,
        query: &Query,
        wanted: &Wanted,
        key: KeyExpr<'static>,
        read: Result<Option<Arc<Cell>>, GetError>,
    ) {
        match read {
            Ok(Some(cell)) => self.reply(query, wanted, key, &cell),
            Ok(None) => {}
            Err(error) => {
                let name = &self.name;
                tracing::warn!("storage '{name}': a get of < {key} > failed: {error}");
                self.refuse(query, &format!("{key}: {error}"));
            }
        }
    }

    fn reply(&self, query: &Query, wanted: &Wanted, key: KeyExpr<'static>, cell: &Cell) {
        let Some(value) = cell.value().filter(|_| wanted.has(cell)) else {
            return;
        };
        let timestamp = match convert::zenoh_timestamp(cell.timestamp) {
            Ok(timestamp) => timestamp,
            Err(error) => return self.refuse(query, &format!("{key}: {error}")),
        };
        let sent = query
            .reply(key, ZBytes::from(value.payload.clone()))
            .encoding(convert::encoding(value))
            .attachment(convert::attachment(value))
            .timestamp(timestamp)
            .wait();
        if let Err(error) = sent {
            tracing::debug!("storage '{}': an answer was not sent: {error}", self.name);
        }
    }

    fn refuse(&self, query: &Query, reason: &str) {
        if let Err(error) = query.reply_err(reason).wait() {
            tracing::debug!("storage '{}': an error was not sent: {error}", self.name);
        }
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
