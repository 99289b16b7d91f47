//! How a command ends: the exit codes, and errors that say what to do next.

use std::{fmt, io, path::PathBuf, process::ExitCode, time::Duration};

use thiserror::Error;
use zenoh_backend_mst::{backup::BackupError, store::StoreError};

/// What a command that came to its end has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done; and what was asked is so.
    Yes,
    /// It is done; but roots or keys differ, there is damage, a proof does not
    /// hold, or there is no such key.
    No,
}

impl Answer {
    /// Yes, if it is so.
    pub(crate) fn of(is_so: bool) -> Self {
        match is_so {
            true => Self::Yes,
            false => Self::No,
        }
    }
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Yes => Self::SUCCESS,
            Answer::No => Self::from(1),
        }
    }
}

/// Why a command did not come to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// What was asked for makes no sense as it was written.
    #[error("{0}")]
    Usage(String),
    /// Several fit where one is needed.
    #[error("several {what} fit, and one is needed; choose with {option}:{}", Listed(.found))]
    Several {
        /// Storages, or replicas.
        what: &'static str,
        /// The option that chooses.
        option: &'static str,
        /// Those that fit.
        found: Vec<String>,
    },
    /// There is no session.
    #[error(
        "cannot connect to {to}: {reason}; see whether a router runs there, or name another with -e"
    )]
    Connect {
        /// Where to.
        to: String,
        /// What Zenoh says.
        reason: String,
    },
    /// No storage answers.
    #[error(
        "no storage of this backend answers at {to} (waited {}); see whether the router has one, \
         and, if it has access control, whether it lets this client get @mst/**", Seconds(.waited)
    )]
    NoStorage {
        /// Through which routers it was asked.
        to: String,
        /// For how long at the most.
        waited: Duration,
    },
    /// No answer came, or no further one.
    #[error(
        "no answer from {whom} within {}; wait longer with --timeout, or see whether it still \
         runs (`mstctl replicas`)", Seconds(.waited)
    )]
    Silent {
        /// What was asked.
        whom: String,
        /// How long was waited.
        waited: Duration,
    },
    /// Nobody is there who could answer.
    #[error(
        "nobody answers for {0}: the replica has gone, or its backend is too old to know this \
         command; `mstctl replicas` shows who is there"
    )]
    Nobody(String),
    /// None of those that are there is meant.
    #[error("there is no {what} `{wanted}`; found:{}", Listed(.found))]
    NoSuch {
        /// A storage, or a replica.
        what: &'static str,
        /// What was asked for.
        wanted: String,
        /// Those that are there.
        found: Vec<String>,
    },
    /// The router, or a storage in it, said no.
    #[error("{whom} refused: {reason}")]
    Refused {
        /// What was asked.
        whom: String,
        /// What it said.
        reason: String,
    },
    /// An answer is not what it should be.
    #[error(
        "{whom} answered what this tool does not understand: {problem}; use an mstctl of the \
         version of the router's backend ({ours} is this one's)", ours = env!("CARGO_PKG_VERSION")
    )]
    Answer {
        /// What was asked.
        whom: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file or folder is there, or is not, where it should not be, or should.
    #[error("{}: {problem}", path.display())]
    Place {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A backup is damaged.
    #[error("{}: {source}; nothing was changed, use another backup", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BackupError,
    },
    /// A data folder cannot be used.
    #[error("{source}{}", Advice(.source))]
    Store {
        /// What is wrong with it.
        #[from]
        source: StoreError,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// The user was asked, and did not say yes.
    #[error("nothing was changed")]
    Declined,
    /// The user ended it.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Several { .. } => 2,
            Self::Connect { .. }
            | Self::NoStorage { .. }
            | Self::Silent { .. }
            | Self::Nobody(_)
            | Self::NoSuch { .. } => 3,
            Self::Refused { .. } | Self::Answer { .. } => 4,
            Self::File { .. }
            | Self::Place { .. }
            | Self::Backup { .. }
            | Self::Store { .. }
            | Self::Output(_) => 5,
            Self::Declined | Self::Interrupted => 130,
        }
    }

    /// Whether nobody reads what is written any more, as with `| head`: there is
    /// nothing to complain of.
    pub(crate) fn is_end_of_reader(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What an error of Zenoh says, without the place in its sources.
pub(crate) fn of_zenoh(error: &zenoh::Error) -> String {
    let text = error.to_string();
    let place = text.rfind(" at ");
    let place = place.filter(|place| text[*place..].contains(".rs:"));
    let said = place.map_or(text.as_str(), |place| &text[..place]);
    said.trim_end_matches(['.', '!', ' ']).to_owned()
}

/// Makes an error of an operation on a file.
pub(crate) fn file_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File {
        action,
        path,
        source,
    }
}

/// A line for each.
struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(" nothing");
        }
        self.0.iter().try_for_each(|item| write!(f, "\n  {item}"))
    }
}

struct Seconds<'a>(&'a Duration);

impl fmt::Display for Seconds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// What to do about a folder, where its error speaks to the router.
struct Advice<'a>(&'a StoreError);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            StoreError::Locked { .. } => f.write_str(
                " (to use it with --dir, stop its router first; or ask the router, without --dir)",
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_table() {
        let silent = Error::Silent {
            whom: "x".to_owned(),
            waited: Duration::from_millis(1500),
        };
        assert_eq!(silent.code(), 3);
        assert!(silent.to_string().contains("within 1.5 s"), "{silent}");
        let refused = Error::Refused {
            whom: "x".to_owned(),
            reason: "no".to_owned(),
        };
        assert_eq!(refused.code(), 4);
        assert_eq!(Error::Usage(String::new()).code(), 2);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(file_error("read", "f")(missing).code(), 5);
        assert_eq!(Error::Interrupted.code(), 130);
        assert_eq!(Answer::of(true), Answer::Yes);
        assert_eq!(Answer::of(false), Answer::No);
    }

    #[test]
    fn what_fits_is_listed() {
        let several = Error::Several {
            what: "storages",
            option: "-s",
            found: vec!["a/**".to_owned(), "b/**".to_owned()],
        };
        let text = several.to_string();
        assert!(text.contains("-s:\n  a/**\n  b/**"), "{text}");
        assert_eq!(several.code(), 2);
    }

    #[test]
    fn errors_of_zenoh_do_not_show_its_sources() {
        let said = |text: &str| of_zenoh(&text.to_owned().into());
        assert_eq!(said("no way at all"), "no way at all");
        let text = "Unable to connect to [tcp/at/b]!  at /x/y.rs:447.";
        assert_eq!(said(text), "Unable to connect to [tcp/at/b]");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = Error::Output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(gone.is_end_of_reader());
        assert!(!Error::Interrupted.is_end_of_reader());
    }

    #[test]
    fn a_folder_in_use_comes_with_advice() {
        let locked = StoreError::Locked {
            path: "/data".into(),
        };
        let error = Error::from(locked);
        assert_eq!(error.code(), 5);
        assert!(error.to_string().contains("stop its router"), "{error}");
    }
}
