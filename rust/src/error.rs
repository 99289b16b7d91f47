//! What can go wrong.

use std::{convert::Infallible, fmt};

use thiserror::Error as ThisError;

use crate::Write;

/// An error of this crate.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// No storage has shown a write in time. It may be on its way, or have been refused.
    ///
    /// [`Store::confirm`](crate::Store::confirm) waits on for it; the same call with its stamp sends it
    /// again, as the same write.
    #[error("no storage has shown {0}")]
    Unconfirmed(Box<Unshown>),
    /// The storages answer, and none of them shows a write.
    ///
    /// The reason is known if a storage knows it. Otherwise the write was refused, or was taken and has
    /// gone since, by a delete with wildcards, a lifetime or a collection: no trace is left of such a write.
    #[error("the storages answer, and none shows {0}")]
    NotShown(Box<Unshown>),
    /// What was waited for did not come in time.
    #[error("{0}")]
    NoAnswer(String),
    /// A storage answered with an error, or with what is none of its answers.
    #[error("{0}")]
    Refused(String),
    /// What was given cannot be, or what is there is of another kind: nothing was sent, or nothing is
    /// believed.
    #[error("{0}")]
    Invalid(String),
    /// An error of Zenoh.
    #[error("{0}")]
    Zenoh(#[from] zenoh::Error),
}

impl Error {
    /// The write that was sent and not confirmed, if it is that: its stamp is for the retry.
    #[must_use]
    pub fn write(&self) -> Option<&Write> {
        match self {
            Self::Unconfirmed(unshown) | Self::NotShown(unshown) => Some(&unshown.write),
            _ => None,
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A write that no storage shows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Unshown {
    /// What was sent.
    pub write: Write,
    /// Why it is not shown, as far as the replicas know it.
    pub reason: String,
}

impl fmt::Display for Unshown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Write { key, stamp, .. } = &self.write;
        write!(f, "the write {stamp} of {key}: {}", self.reason)
    }
}

pub(crate) fn invalid<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(text.into()))
}

pub(crate) fn refused(text: impl Into<String>) -> Error {
    Error::Refused(text.into())
}
