//! What can be wrong with a backup.

use std::io;

use thiserror::Error;

use super::FORMAT;
use crate::{mst::RootHash, sync::MessageError};

/// Why a backup cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It cannot be read or written.
    #[error("the backup cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// It is none.
    #[error("it is not a backup of this backend")]
    NotABackup,
    /// It was written by a version whose format this one does not know.
    #[error(
        "the backup has format {0}, this version reads format {FORMAT}: use a version that reads it"
    )]
    Format(u64),
    /// It ends too early.
    #[error("the backup is not complete: it ends {0}")]
    Truncated(String),
    /// It is not what was written.
    #[error("the backup is damaged {place}: {what}")]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// What is in it is not what its header says.
    #[error("the backup is damaged: its cells have the root {found}, its header says {expected}")]
    Root {
        /// What the header says.
        expected: RootHash,
        /// What was found.
        found: RootHash,
    },
    /// Cells that were handed over are not those of which the header tells.
    #[error("{found} cells were written to a backup of {expected}")]
    Cells {
        /// What the header says.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// The header is too long.
    #[error("the header of a backup would have {0} bytes")]
    Header(usize),
}

impl BackupError {
    pub(super) fn damaged(place: &str, what: impl ToString) -> Self {
        Self::Damaged {
            place: place.to_owned(),
            what: what.to_string(),
        }
    }

    /// A message in the backup that is none.
    pub(super) fn message(place: &str) -> impl Fn(MessageError) -> Self + '_ {
        move |error| Self::damaged(place, error)
    }
}
