//! What can be wrong with a store.

use std::{io, path::PathBuf, time::Duration};

use thiserror::Error;

#[cfg(feature = "durable")]
use super::Owner;
use crate::cell::DecodeError;

/// Why a store cannot be opened, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refuses.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The storage engine refuses.
    #[error("the storage engine cannot {action} {path}: {source}")]
    Engine {
        /// What was tried.
        action: &'static str,
        /// In which folder.
        path: PathBuf,
        /// Whether it found files that are not what was written.
        is_damage: bool,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The storage engine has stopped after an error that it does not tell.
    #[error(
        "the storage engine has stopped after an error, and cannot {action} {path}; {}",
        trial(trial_error.as_ref())
    )]
    Stopped {
        /// What was tried.
        action: &'static str,
        /// In which folder.
        path: PathBuf,
        /// What a trial write in the folder fails with, if it does.
        trial_error: Option<io::Error>,
    },
    /// Another process, or another storage of this one, has the folder open.
    #[error("{path} is in use by another storage or process; give each storage a `dir` of its own")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds something else.
    #[error(
        "{path} holds files that are not of this backend ({found}); \
         it is left as it is: choose another `dir`, or move them away"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the files in it.
        found: String,
    },
    /// The folder is of another storage, or does not say of which.
    #[cfg(feature = "durable")]
    #[error(
        "{path} {}, and this storage is on {asked}; it is left as it is: choose another `dir`, or have \
         it be this storage's with `{}`",
        whose(owner.as_deref()), asked.adopt_command(path)
    )]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Whose it is, if it says so.
        owner: Option<Box<Owner>>,
        /// The storage that it was opened for.
        asked: Box<Owner>,
    },
    /// Of two folders one is inside the other.
    #[error(
        "{path} and {other}, which is a storage's, are one inside the other; give each storage a `dir` \
         of its own"
    )]
    Overlap {
        /// The folder.
        path: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// There is no storage in the folder, and there has to be one.
    #[error(
        "{path} holds no storage, and with `create: false` or `read_only: true` none is made: correct `dir` or `root`, or \
         mount the disk"
    )]
    Absent {
        /// The folder.
        path: PathBuf,
    },
    /// There is no storage of which anything could be saved.
    #[error("{path} holds no storage")]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that is to be made is there, and not empty.
    #[error("{path} is not empty; give a folder that is missing or empty")]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was written by a version whose format this one does not know.
    #[error(
        "{path} has format version {found}, this version of the backend knows {known} only; \
         it is left as it is: use the version that wrote it, or another `dir`"
    )]
    Version {
        /// The folder.
        path: PathBuf,
        /// The version that was found.
        found: u32,
        /// The version that is known.
        known: u32,
    },
    /// The folder says that it holds a storage, and does not hold one.
    #[error("{path} is missing, or some of it, although the folder above was in use")]
    Missing {
        /// What is missing.
        path: PathBuf,
    },
    /// What names the storage engine's files is not what was written.
    #[error("{path}, a list of the storage engine's files, is damaged")]
    List {
        /// The file.
        path: PathBuf,
    },
    /// The floor of the collection cannot be read.
    #[error(
        "{path} is damaged: it says below which time no write is taken, so that nothing that was \
         deleted comes back; remove it if no publisher holds older values back"
    )]
    Floor {
        /// The file.
        path: PathBuf,
    },
    /// What is to be set aside has nowhere to be kept.
    #[error("a storage in memory keeps nothing aside")]
    NothingAside,
    /// What was set aside is damaged.
    #[error("{path} is damaged in line {line}: what it says there was set aside cannot be read")]
    Aside {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A row is not what a row is.
    #[error("a row in {path} is damaged, at key {key}: {source}")]
    Row {
        /// The folder.
        path: PathBuf,
        /// The row's key, as far as it is text.
        key: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The write-ahead log is not what was written.
    #[error("the write-ahead log is damaged, at byte {at} of {path}: {reason}")]
    Log {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// The payload of a value is not where its row says.
    #[error("the value at key {key} in {path} has lost its payload of {expected} bytes")]
    Payload {
        /// The folder.
        path: PathBuf,
        /// The row's key.
        key: String,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A row is sound, and not the one that was written.
    #[error("the cell at key {key} in {path} is damaged: it is not what its digest says")]
    Digest {
        /// The folder.
        path: PathBuf,
        /// The row's key, as far as it is text.
        key: String,
    },
    /// Rows do not ascend.
    #[error("the rows in {path} are damaged: they do not ascend at key {key}")]
    Order {
        /// The folder.
        path: PathBuf,
        /// The key of the row that is not above the one before, as far as it is
        /// text.
        key: String,
    },
    /// A cell that was written is not there.
    #[error("a cell of key {key} is damaged: it is not on the disk any more")]
    Lost {
        /// The key.
        key: String,
    },
    /// The storage engine does not come to an end.
    #[error(
        "the storage engine does not write {path} out, for {waited:?} now; \
         is the disk slow, or a file damaged?"
    )]
    Stuck {
        /// The folder.
        path: PathBuf,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// The disk has no room to write the rows anew.
    #[error(
        "the disk of {path} has {free} bytes left, and writing all rows anew may take {needed}; make \
         room"
    )]
    Room {
        /// The folder.
        path: PathBuf,
        /// Bytes that it may take.
        needed: u64,
        /// Bytes that are left.
        free: u64,
    },
    /// A failure made for a test.
    #[cfg(test)]
    #[error("this commit was made to fail")]
    Made,
}

fn trial(error: Option<&io::Error>) -> String {
    match error {
        Some(error) => format!("a trial write there fails: {error}"),
        None => "a trial write there succeeds, so a file cannot be read, or the cause has passed"
            .to_owned(),
    }
}

#[cfg(feature = "durable")]
fn whose(owner: Option<&Owner>) -> String {
    match owner {
        Some(owner) => format!("is of a storage on {owner}"),
        None => "does not say whose it is, as its file OWNER is missing or damaged".to_owned(),
    }
}

impl StoreError {
    /// Whether what is on the disk is damaged: trying again does not help, and
    /// neither does another disk or more memory.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Row { .. } | Self::Payload { .. } | Self::Digest { .. } | Self::Order { .. } => {
                true
            }
            Self::Log { .. } | Self::Missing { .. } | Self::List { .. } | Self::Lost { .. } => true,
            Self::Engine { is_damage, .. } => *is_damage,
            _ => false,
        }
    }
}
