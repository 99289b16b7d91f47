//! Writes: stamped, sent, and confirmed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use zenoh::{Wait, bytes::Encoding, key_expr::OwnedKeyExpr, qos::CongestionControl};
use zenoh_backend_mst::cell::Key;

use super::{Store, confirming::confirm};
use crate::{Error, Stamp, Write, error::invalid, limits};

/// How long a call at most looks for a write of before, until it sends it again.
const LOOK: Duration = Duration::from_secs(1);

/// A write that is not sent yet.
pub(crate) struct Begun {
    pub(crate) write: Write,
    /// No storage can have it.
    is_new: bool,
}

impl Store {
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
    /// [`Error::Unconfirmed`] or [`Error::NotShown`] if no storage shows it in time.
    pub fn put(
        &self,
        key: &str,
        payload: impl Into<Vec<u8>>,
        encoding: &str,
    ) -> Result<Write, Error> {
        self.write(self.begin(key, None)?, Some((payload.into(), encoding)))
    }

    /// Puts a value with a stamp. With one that was used before it is that write, which is sent again
    /// unless a storage shows that it has it.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`] or [`Error::NotShown`] if no storage shows it in time.
    pub fn put_at(
        &self,
        key: &str,
        payload: impl Into<Vec<u8>>,
        encoding: &str,
        stamp: Stamp,
    ) -> Result<Write, Error> {
        let begun = self.begin(key, Some(stamp))?;
        self.write(begun, Some((payload.into(), encoding)))
    }

    /// Deletes a key, and returns when a storage has taken that.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`] or [`Error::NotShown`] if no storage shows it in time.
    pub fn delete(&self, key: &str) -> Result<Write, Error> {
        self.write(self.begin(key, None)?, None)
    }

    /// Deletes a key with a stamp: what was written later stays.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`] or [`Error::NotShown`] if no storage shows it in time.
    pub fn delete_at(&self, key: &str, stamp: Stamp) -> Result<Write, Error> {
        self.write(self.begin(key, Some(stamp))?, None)
    }

    /// Returns when a storage shows that it has taken the write.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`] if none does in time, and [`Error::NotShown`] if the storages answer
    /// without it.
    pub fn confirm(&self, write: Write) -> Result<Write, Error> {
        confirm(self, write, self.timeout)
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

    /// A put of this payload and encoding, or a delete: sent unless it was made before and a storage
    /// shows it, and confirmed.
    ///
    /// To send it once more than needed does no harm: it is one write. So whoever does not answer does
    /// not keep it from being sent.
    pub(crate) fn write(&self, begun: Begun, put: Option<(Vec<u8>, &str)>) -> Result<Write, Error> {
        let Begun { write, is_new } = begun;
        limits::check(&write, &self.stored(&write.key)?)?;
        let start = Instant::now();
        if !is_new && self.search(&write, (self.timeout / 8).min(LOOK))?.is_found {
            return Ok(write);
        }
        self.send(&write, put)?;
        confirm(self, write, self.timeout.saturating_sub(start.elapsed()))
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

    /// The key as a storage keeps it, if it has it.
    fn stored(&self, key: &str) -> Result<Key, Error> {
        Ok(match self.relative(key).unwrap_or(Some(key)) {
            None => Key::NONE,
            Some(relative) => Key::from(Some(OwnedKeyExpr::new(relative)?)),
        })
    }
}
