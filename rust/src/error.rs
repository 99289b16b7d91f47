//! What can go wrong.

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
    #[error(
        "no storage has shown the write {stamp} of {key} in time: it may be on its way, or refused (the \
         router's log says why), or stamped anew by a router whose clock is more than 500 ms behind \
         this machine's", key = .0.key, stamp = .0.stamp
    )]
    Unconfirmed(Box<Write>),
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

pub(crate) fn invalid<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(text.into()))
}

pub(crate) fn refused(text: impl Into<String>) -> Error {
    Error::Refused(text.into())
}
