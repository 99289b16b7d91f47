//! Errors of backups.

use std::io;

use thiserror::Error;

use super::FORMAT;
use crate::{mst::RootHash, sync::MessageError};

/// Why a backup cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Reading or writing failed.
    #[error("the backup cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// It is not a backup.
    #[error("it is not a backup of this backend")]
    NotABackup,
    /// It has a format that this version does not know.
    #[error(
        "the backup has format {0}, this version reads format {FORMAT}: use a version that reads it"
    )]
    Format(u64),
    /// It is incomplete.
    #[error("the backup is not complete: it ends {0}")]
    Truncated(String),
    /// It is damaged.
    #[error("the backup is damaged {place}: {what}")]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// Its cells do not have the root of its header.
    #[error("the backup is damaged: its cells have the root {found}, its header says {expected}")]
    Root {
        /// What the header says.
        expected: RootHash,
        /// What was found.
        found: RootHash,
    },
    /// The number of cells written is not that of the header.
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

    /// A frame that cannot be read.
    pub(super) fn message(place: &str) -> impl Fn(MessageError) -> Self + '_ {
        move |error| Self::damaged(place, error)
    }
}
