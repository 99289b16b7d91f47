//! A storage, and its replicas, as a client sees them.

mod asking;
mod replicas;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value as Json, json};
use zenoh::{
    Session, Wait, bytes::Encoding, key_expr::OwnedKeyExpr, qos::CongestionControl, sample::Sample,
};
use zenoh_backend_mst::mst::RootHash;

use crate::{
    Error, Stamp, Write,
    cells::{Cell, cells},
    error::{invalid, refused},
    waiting::first,
};

/// The hash of all that a storage holds, by which proofs are verified.
pub type Root = RootHash;

/// How long a call waits unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

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
