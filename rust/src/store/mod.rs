//! A storage, and its replicas, as a client sees them.

mod asking;
mod confirming;
mod replicas;
mod writing;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value as Json, json};
use zenoh::{Session, key_expr::OwnedKeyExpr, sample::Sample};
use zenoh_backend_mst::mst::RootHash;

use crate::{
    Error, Stamp,
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
        let mut last = None;
        let found = first(self.timeout, |left| {
            last = self.value(key, left)?;
            Ok(until(last.as_ref()).then_some(()))
        })?;
        match found {
            Some(()) => Ok(last),
            None => Err(Error::NoAnswer(format!(
                "{key} is not what was waited for; the last value was {last:?}"
            ))),
        }
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
        let samples = self.each(&format!("{key}?raw"), self.timeout, None)?;
        samples
            .map(|sample| cells(&sample?.payload().to_bytes()))
            .collect()
    }

    fn value(&self, key: &str, timeout: Duration) -> Result<Option<Value>, Error> {
        let samples = self.samples(key, timeout)?;
        samples
            .first()
            .map(|sample| self.as_value(sample))
            .transpose()
    }

    fn all(&self, selector: &str, timeout: Duration) -> Result<BTreeMap<String, Value>, Error> {
        let samples = self.samples(selector, timeout)?;
        let values = samples.iter().map(|sample| {
            let value = self.as_value(sample)?;
            Ok((value.key.clone(), value))
        });
        values.collect()
    }

    fn as_value(&self, sample: &Sample) -> Result<Value, Error> {
        let key = sample.key_expr().to_string();
        let Some(stamp) = sample.timestamp().copied() else {
            return Err(refused(format!(
                "{key}: the answer has no timestamp, so no storage gave it"
            )));
        };
        self.has_read(stamp);
        Ok(Value {
            key,
            payload: sample.payload().to_bytes().into_owned(),
            encoding: sample.encoding().to_string(),
            stamp,
        })
    }
    /// What is stamped from now on is later. Not if that is so far ahead that a router would not keep the
    /// stamp: then the clock does not take it.
    fn has_read(&self, stamp: Stamp) {
        if let Some(clock) = self.session.hlc() {
            let _ = clock.update_with_timestamp(&stamp);
        }
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
