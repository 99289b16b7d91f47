//! A storage, and its replicas, as a client sees them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value as Json, json};
use zenoh::{
    Session, Wait,
    bytes::Encoding,
    key_expr::{KeyExpr, OwnedKeyExpr},
    qos::CongestionControl,
    query::{ConsolidationMode, Reply},
    sample::Sample,
    time::NTP64,
};
use zenoh_backend_mst::mst::RootHash;

use crate::{
    Error, Stamp, Verified, Watch, Write,
    cells::{Cell, cells},
    error::{invalid, refused},
    verified::verify,
    waiting::first,
};

/// The hash of all that a storage holds, by which proofs are verified.
pub type Root = RootHash;

/// How long a call waits unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What Zenoh says in place of the answers that are missing when the time is up.
const OUT_OF_TIME: &str = "Timeout";

/// The configuration of a client of the routers at these endpoints, such as `tcp/127.0.0.1:7447`.
///
/// # Errors
/// If one of them is no endpoint.
pub fn client_config<'a>(
    endpoints: impl IntoIterator<Item = &'a str>,
) -> Result<zenoh::Config, Error> {
    let endpoints: Vec<_> = endpoints.into_iter().collect();
    let config = json!({
        "mode": "client",
        "connect": { "endpoints": endpoints },
        "timestamping": { "enabled": true },
    });
    Ok(zenoh::Config::from_json5(&config.to_string())?)
}

/// What a key has.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The key.
    pub key: String,
    /// What was put, or what it was merged to.
    pub payload: Vec<u8>,
    /// Of the payload, such as `text/plain`.
    pub encoding: String,
    /// That of the newest write that is part of it.
    pub stamp: Stamp,
}

impl Value {
    /// The payload as text.
    ///
    /// # Errors
    /// If it is none.
    pub fn text(&self) -> Result<&str, Error> {
        let text = std::str::from_utf8(&self.payload);
        text.or_else(|_| invalid(format!("the value of {} is no text", self.key)))
    }

    /// The payload as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> Result<Json, Error> {
        let json = serde_json::from_slice(&self.payload);
        json.or_else(|_| invalid(format!("the value of {} is no JSON", self.key)))
    }
}

/// A write that is not sent yet.
pub(crate) struct Begun {
    pub(crate) write: Write,
    /// No storage can have it.
    is_new: bool,
}

/// The storages with one key expression and `strip_prefix`, on the session of a client. Clones are the
/// same.
#[derive(Clone, Debug)]
pub struct Store {
    session: Session,
    key_expr: String,
    strip_prefix: Option<String>,
    /// What the keys begin with under which its replicas are asked.
    group: String,
    timeout: Duration,
}

impl Store {
    /// The storages with this key expression and `strip_prefix`.
    ///
    /// # Errors
    /// If it is no key expression, or the session makes no timestamps: its configuration needs
    /// `timestamping: { enabled: true }`, which [`client_config`] has.
    pub fn new(
        session: &Session,
        key_expr: &str,
        strip_prefix: Option<&str>,
    ) -> Result<Self, Error> {
        if session.hlc().is_none() {
            return invalid(
                "the session makes no timestamps: enable `timestamping` in its configuration",
            );
        }
        let key_expr = OwnedKeyExpr::autocanonize(key_expr.to_owned())?.to_string();
        let parts = [Some(key_expr.as_str()), strip_prefix];
        let parts: Vec<_> = parts.into_iter().flatten().map(escaped).collect();
        Ok(Self {
            session: session.clone(),
            group: format!("@mst/2/{}", parts.join("~")),
            strip_prefix: strip_prefix.map(str::to_owned),
            timeout: TIMEOUT,
            key_expr,
        })
    }

    /// The same, whose calls wait for so long at the most.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// A stamp for a write that may have to be repeated: keep it until the write is confirmed. It is
    /// later than those before it, and than what was read.
    ///
    /// # Errors
    /// If the session makes none any more.
    pub fn stamp(&self) -> Result<Stamp, Error> {
        match self.session.hlc() {
            Some(clock) => Ok(clock.new_timestamp()),
            None => invalid("the session makes no timestamps"),
        }
    }

    /// Puts a value, and returns when a storage has taken it.
    ///
    /// # Errors
    /// If no storage shows it in time.
    pub fn put(
        &self,
        key: &str,
        payload: impl Into<Vec<u8>>,
        encoding: &str,
    ) -> Result<Write, Error> {
        self.write(self.begin(key, None)?, Some((payload.into(), encoding)))
    }

    /// Puts a value with a stamp. With one that was used before it is that write, which is sent again
    /// only if no storage has it.
    ///
    /// # Errors
    /// If no storage shows it in time.
    pub fn put_at(
        &self,
        key: &str,
        payload: impl Into<Vec<u8>>,
        encoding: &str,
        stamp: Stamp,
    ) -> Result<Write, Error> {
        self.write(
            self.begin(key, Some(stamp))?,
            Some((payload.into(), encoding)),
        )
    }

    /// Deletes a key, and returns when a storage has taken that.
    ///
    /// # Errors
    /// If no storage shows it in time.
    pub fn delete(&self, key: &str) -> Result<Write, Error> {
        self.write(self.begin(key, None)?, None)
    }

    /// Deletes a key with a stamp: what was written later stays.
    ///
    /// # Errors
    /// If no storage shows it in time.
    pub fn delete_at(&self, key: &str, stamp: Stamp) -> Result<Write, Error> {
        self.write(self.begin(key, Some(stamp))?, None)
    }

    /// A write to one key, with a new stamp unless one is given.
    pub(crate) fn begin(&self, key: &str, stamp: Option<Stamp>) -> Result<Begun, Error> {
        if key.contains('*') {
            return invalid(format!(
                "{key} has a wildcard, and a write that is confirmed is of one key"
            ));
        }
        let write = Write {
            key: key.to_owned(),
            stamp: stamp.map_or_else(|| self.stamp(), Ok)?,
            elements: BTreeSet::new(),
            fields: BTreeSet::new(),
        };
        let is_new = stamp.is_none();
        Ok(Begun { write, is_new })
    }

    /// A put of this payload and encoding, or a delete: sent unless a storage has it, and confirmed.
    pub(crate) fn write(&self, begun: Begun, put: Option<(Vec<u8>, &str)>) -> Result<Write, Error> {
        let Begun { write, is_new } = begun;
        if is_new || !self.was_taken(&write, self.timeout)? {
            self.send(&write, put)?;
        }
        self.confirm(write)
    }

    fn send(&self, write: &Write, put: Option<(Vec<u8>, &str)>) -> Result<(), Error> {
        match put {
            Some((payload, encoding)) => self
                .session
                .put(&write.key, payload)
                .encoding(Encoding::from(encoding))
                .timestamp(write.stamp)
                .congestion_control(CongestionControl::Block)
                .wait()?,
            None => self
                .session
                .delete(&write.key)
                .timestamp(write.stamp)
                .congestion_control(CongestionControl::Block)
                .wait()?,
        }
        Ok(())
    }

    /// Returns when a storage shows that it has taken the write.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`] if none does in time.
    pub fn confirm(&self, write: Write) -> Result<Write, Error> {
        let taken = first(self.timeout, |left| {
            Ok(self.was_taken(&write, left)?.then_some(()))
        })?;
        match taken {
            Some(()) => Ok(write),
            None => Err(Error::Unconfirmed(Box::new(write))),
        }
    }

    /// Waits until so many replicas hold a write, or what replaced it; returns their identities.
    /// Whether it is on their disks is a matter of their `durability`.
    ///
    /// # Errors
    /// If fewer do in time.
    pub fn replicated(&self, write: &Write, replicas: usize) -> Result<BTreeSet<String>, Error> {
        let mut holders = BTreeSet::new();
        let enough = first(self.timeout, |left| {
            for (replica, shown) in self.cells_of_replicas(&write.key, "*", left)? {
                if write.is_in(&shown) {
                    holders.insert(replica);
                }
            }
            Ok((holders.len() >= replicas).then_some(()))
        })?;
        match enough {
            Some(()) => Ok(holders),
            None => Err(Error::NoAnswer(format!(
                "of {replicas} replicas {} have {} at {}",
                holders.len(),
                write.key,
                write.stamp
            ))),
        }
    }

    /// Waits until the roots of all replicas that answer include a write, or what replaced it.
    ///
    /// # Errors
    /// If they do not in time.
    pub fn settled(&self, write: &Write) -> Result<(), Error> {
        let over = first(self.timeout, |left| {
            let mut behind = BTreeSet::new();
            for status in self.statuses_within(left)? {
                let cut = NTP64::parse_rfc3339(field(&status, "cut")?);
                let cut = cut.map_err(|_| refused("a status has a cut that is no time"))?;
                if cut <= *write.stamp.get_time() {
                    return Ok(None);
                }
                behind.insert(field(&status, "identity")?.to_owned());
            }
            let is_any = !behind.is_empty();
            for (replica, shown) in self.cells_of_replicas(&write.key, "*", left)? {
                if write.is_in(&shown) {
                    behind.remove(&replica);
                }
            }
            Ok((is_any && behind.is_empty()).then_some(()))
        })?;
        over.ok_or_else(|| {
            let (key, stamp) = (&write.key, write.stamp);
            Error::NoAnswer(format!("not all roots include {key} at {stamp}"))
        })
    }

    /// The value of a key; nothing if there is none.
    ///
    /// # Errors
    /// If it is not known in time what it is.
    pub fn get(&self, key: &str) -> Result<Option<Value>, Error> {
        self.value(key, self.timeout)
    }

    /// The value of a key when it is one of which `until` says so.
    ///
    /// # Errors
    /// If it is none in time.
    pub fn get_until(
        &self,
        key: &str,
        mut until: impl FnMut(Option<&Value>) -> bool,
    ) -> Result<Option<Value>, Error> {
        let found = first(self.timeout, |left| {
            let value = self.value(key, left)?;
            Ok(until(value.as_ref()).then_some(value))
        })?;
        found.ok_or_else(|| Error::NoAnswer(format!("{key} is not what was waited for")))
    }

    /// The value of a key when it is at least as new as a stamp. A merged value can be as new and lack
    /// older writes: [`Store::replicated`] knows.
    ///
    /// # Errors
    /// If it is not in time.
    pub fn get_since(&self, key: &str, stamp: Stamp) -> Result<Option<Value>, Error> {
        self.get_until(key, |value| value.is_some_and(|value| value.stamp >= stamp))
    }

    /// The values of all keys that match, ascending; each as new as the newest answer had it.
    ///
    /// # Errors
    /// If they are not known in time.
    pub fn get_all(&self, selector: &str) -> Result<BTreeMap<String, Value>, Error> {
        self.all(selector, self.timeout)
    }

    /// The values of many keys as they were at one moment: they are read until two reads in a row are
    /// the same. Between these two there was a moment at which all keys had these values, as far as the
    /// reachable replicas knew.
    ///
    /// # Errors
    /// If they do not stand still for so long.
    pub fn snapshot(&self, selectors: &[&str]) -> Result<BTreeMap<String, Value>, Error> {
        let mut last = None;
        let found = first(self.timeout, |left| {
            let mut now = BTreeMap::new();
            for selector in selectors {
                now.extend(self.all(selector, left)?);
            }
            let is_still = last.as_ref() == Some(&now);
            last = Some(now);
            Ok(if is_still { last.take() } else { None })
        })?;
        let reason = "the keys changed in each read: read fewer at a time";
        found.ok_or_else(|| Error::NoAnswer(reason.to_owned()))
    }

    /// The cells of a key, of each storage that answers.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn cells(&self, key: &str) -> Result<Vec<Vec<Cell>>, Error> {
        self.raw(key, self.timeout)
    }

    /// The root that so many replicas, and all that answer, have at the same time.
    ///
    /// # Errors
    /// If they have none in time.
    pub fn root(&self, replicas: usize) -> Result<Root, Error> {
        let mut seen = BTreeMap::new();
        let common = first(self.timeout, |left| {
            seen.clear();
            for status in self.statuses_within(left)? {
                let (identity, root) = (field(&status, "identity")?, field(&status, "root")?);
                seen.insert(identity.to_owned(), root.to_owned());
            }
            let roots: BTreeSet<_> = seen.values().cloned().collect();
            let mut roots = roots.into_iter();
            Ok(match (roots.next(), roots.next()) {
                (Some(root), None) if seen.len() >= replicas => Some(root),
                _ => None,
            })
        })?;
        let root = common.ok_or_else(|| {
            Error::NoAnswer(format!(
                "{replicas} replicas have no root in common: {seen:?}"
            ))
        })?;
        let bytes = zenoh_backend_mst::hex::decode(&root);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(RootHash)
            .ok_or_else(|| refused("a status has a root that is none"))
    }

    /// All cells of a key, proven against a root that the caller trusts. Nothing is believed of what a
    /// storage says but what the root proves.
    ///
    /// # Errors
    /// [`Error::Refused`] if no replica has this root now, and [`Error::Invalid`] if what one shows does
    /// not hold.
    pub fn verified(&self, key: &str, root: &Root) -> Result<Verified, Error> {
        let relative = self.relative(key)?;
        let selector = format!("{}/*/proof?root={root}", self.group);
        let mut refusals = Vec::new();
        for reply in self.replies(&selector, self.timeout, Some(key), ConsolidationMode::None)? {
            let sample = match reply.into_result() {
                Ok(sample) => sample,
                Err(error) => {
                    refusals.push(text_of(&error.payload().to_bytes()));
                    continue;
                }
            };
            let replica = replica_of(&sample)?;
            let shown = self.cells_of_replicas(key, &replica, self.timeout)?;
            let shown = shown.into_iter().flat_map(|(_, cells)| cells);
            return verify(key, relative, root, &sample.payload().to_bytes(), shown);
        }
        let refusals = match refusals.is_empty() {
            true => "no answer".to_owned(),
            false => refusals.join("; "),
        };
        Err(refused(format!(
            "no proof of {key} under {root}: {refusals}"
        )))
    }

    /// The status of each replica that answers.
    ///
    /// # Errors
    /// If one is not to be read.
    pub fn statuses(&self) -> Result<Vec<Json>, Error> {
        self.statuses_within(self.timeout)
    }

    /// The identity of the replica at the router that this session is connected with.
    ///
    /// # Errors
    /// If there is none.
    pub fn nearest(&self) -> Result<String, Error> {
        for router in self.session.info().routers_zid().wait() {
            let selector = format!("@/{router}/router/status/plugins/*/storages/*");
            for sample in self.samples(&selector, self.timeout, None, true)? {
                let status = json_of(&sample)?;
                let given = &status["configuration"];
                let prefix = given["strip_prefix"].as_str();
                if given["key_expr"] == *self.key_expr && prefix == self.strip_prefix.as_deref() {
                    return Ok(field(&status, "identity")?.to_owned());
                }
            }
        }
        Err(Error::NoAnswer(format!(
            "no router that this session is connected with shows a storage {}",
            self.key_expr
        )))
    }

    /// What is put and deleted from now on, and what the replica nearby gets in another way: by a
    /// repair, a restored backup, a rollback.
    ///
    /// # Errors
    /// If there is no replica at the router, or it is no key expression.
    pub fn watch(&self, key_expr: &str) -> Result<Watch, Error> {
        let key_expr = KeyExpr::autocanonize(key_expr.to_owned())?;
        let feed = format!("{}/{}/changes/{key_expr}", self.group, self.nearest()?);
        Watch::open(&self.session, &key_expr, &feed)
    }

    fn was_taken(&self, write: &Write, timeout: Duration) -> Result<bool, Error> {
        let value = self.value(&write.key, timeout)?;
        if value.is_some_and(|value| value.stamp == write.stamp) {
            return Ok(true);
        }
        let shown = self.raw(&write.key, timeout)?;
        Ok(shown.iter().any(|cells| write.was_taken(cells)))
    }

    fn value(&self, key: &str, timeout: Duration) -> Result<Option<Value>, Error> {
        let samples = self.samples(key, timeout, None, false)?;
        samples
            .first()
            .map(|sample| self.as_value(sample))
            .transpose()
    }

    fn all(&self, selector: &str, timeout: Duration) -> Result<BTreeMap<String, Value>, Error> {
        let samples = self.samples(selector, timeout, None, false)?;
        let values = samples.iter().map(|sample| {
            let value = self.as_value(sample)?;
            Ok((value.key.clone(), value))
        });
        values.collect()
    }

    fn raw(&self, key: &str, timeout: Duration) -> Result<Vec<Vec<Cell>>, Error> {
        let samples = self.samples(&format!("{key}?raw"), timeout, None, true)?;
        let shown = samples
            .iter()
            .map(|sample| cells(&sample.payload().to_bytes()));
        shown.collect()
    }

    fn as_value(&self, sample: &Sample) -> Result<Value, Error> {
        let key = sample.key_expr().to_string();
        let Some(stamp) = sample.timestamp().copied() else {
            return Err(refused(format!(
                "{key}: the answer has no timestamp, so no storage gave it"
            )));
        };
        // What is stamped from now on is later. Not if that is so far ahead that a router would not
        // keep the stamp: then the clock does not take it.
        if let Some(clock) = self.session.hlc() {
            let _ = clock.update_with_timestamp(&stamp);
        }
        Ok(Value {
            key,
            payload: sample.payload().to_bytes().into_owned(),
            encoding: sample.encoding().to_string(),
            stamp,
        })
    }

    fn statuses_within(&self, timeout: Duration) -> Result<Vec<Json>, Error> {
        let samples = self.samples(&format!("{}/*/status", self.group), timeout, None, true)?;
        samples.iter().map(json_of).collect()
    }

    fn cells_of_replicas(
        &self,
        key: &str,
        replica: &str,
        timeout: Duration,
    ) -> Result<Vec<(String, Vec<Cell>)>, Error> {
        let selector = format!("{}/{replica}/cells", self.group);
        let samples = self.samples(&selector, timeout, Some(key), true)?;
        let shown = samples.iter().map(|sample| {
            let cells = cells(&sample.payload().to_bytes())?;
            Ok((replica_of(sample)?, cells))
        });
        shown.collect()
    }

    /// Of each key the newest answer, or with `each` those of all that answered in time.
    ///
    /// `Refused` for an error, and `NoAnswer` if the newest answer may be missing.
    fn samples(
        &self,
        selector: &str,
        timeout: Duration,
        payload: Option<&str>,
        each: bool,
    ) -> Result<Vec<Sample>, Error> {
        let consolidation = match each {
            true => ConsolidationMode::None,
            false => ConsolidationMode::Latest,
        };
        let mut found = Vec::new();
        for reply in self.replies(selector, timeout, payload, consolidation)? {
            match reply.into_result() {
                Ok(sample) => found.push(sample),
                Err(error) => match &*text_of(&error.payload().to_bytes()) {
                    OUT_OF_TIME if each => {}
                    OUT_OF_TIME => {
                        return Err(Error::NoAnswer(format!(
                            "{selector}: not all storages answered within {timeout:?}"
                        )));
                    }
                    text => return Err(refused(format!("{selector}: {text}"))),
                },
            }
        }
        Ok(found)
    }

    fn replies(
        &self,
        selector: &str,
        timeout: Duration,
        payload: Option<&str>,
        consolidation: ConsolidationMode,
    ) -> Result<impl Iterator<Item = Reply> + use<>, Error> {
        let mut get = self
            .session
            .get(selector)
            .consolidation(consolidation)
            .timeout(timeout)
            .congestion_control(CongestionControl::Block);
        if let Some(payload) = payload {
            get = get.payload(payload);
        }
        Ok(get.wait()?.into_iter())
    }

    /// A key without the `strip_prefix`; nothing if it is that itself.
    fn relative<'a>(&self, key: &'a str) -> Result<Option<&'a str>, Error> {
        let Some(prefix) = &self.strip_prefix else {
            return Ok(Some(key));
        };
        match key.strip_prefix(prefix.as_str()) {
            Some("") => Ok(None),
            Some(rest) if rest.starts_with('/') => Ok(Some(&rest[1..])),
            _ => invalid(format!("{key} is not within {prefix}")),
        }
    }
}

fn json_of(sample: &Sample) -> Result<Json, Error> {
    let json = serde_json::from_slice(&sample.payload().to_bytes());
    json.map_err(|error| refused(format!("{} is not to be read: {error}", sample.key_expr())))
}

fn field<'a>(status: &'a Json, name: &str) -> Result<&'a str, Error> {
    let field = status[name].as_str();
    field.ok_or_else(|| refused(format!("a status has no {name}")))
}

/// Whose answer it is: the chunk after the group's.
fn replica_of(sample: &Sample) -> Result<String, Error> {
    let replica = sample.key_expr().as_str().split('/').nth(3);
    let replica = replica.map(str::to_owned);
    replica.ok_or_else(|| refused(format!("{} is of no replica", sample.key_expr())))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key expression as one chunk of another.
fn escaped(part: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02x}"),
    };
    part.bytes().map(escape).collect()
}
