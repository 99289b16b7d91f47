//! What an error of the storage engine means.

use std::{fmt, io, path::Path};

use crate::store::StoreError;

/// The engine was asked to do `action` with the store in `path`, and cannot.
pub(super) fn engine_error(action: &'static str, path: &Path, error: fjall::Error) -> StoreError {
    StoreError::Engine {
        action,
        path: path.to_owned(),
        is_damage: is_damage(&error),
        source: Box::new(Reason(error)),
    }
}

/// What the engine says, in words where it says it by a name.
#[derive(Debug)]
struct Reason(fjall::Error);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            fjall::Error::Poisoned => f.write_str(
                "an earlier write of its own failed; the disk may be full, or a file damaged",
            ),
            fjall::Error::Storage(fjall::LsmError::ChecksumMismatch { .. }) => {
                f.write_str("a block of one of its files is not what was written")
            }
            fjall::Error::InvalidVersion(_)
            | fjall::Error::Storage(fjall::LsmError::InvalidVersion(_)) => {
                f.write_str("its files are of another version of it")
            }
            error => error.fmt(f),
        }
    }
}

impl std::error::Error for Reason {}

fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            is_unreadable(error)
        }
        fjall::Error::JournalRecovery(_)
        | fjall::Error::Decompress(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_) => true,
        fjall::Error::Storage(error) => is_damaged_table(error),
        // Another version of the engine, a folder that is none of its own, and whatever else there will
        // be say nothing of what is in the files.
        _ => false,
    }
}

fn is_damaged_table(error: &fjall::LsmError) -> bool {
    use fjall::LsmError::{
        ChecksumMismatch, Decompress, InvalidHeader, InvalidTag, InvalidTrailer, Unrecoverable,
        Utf8,
    };
    // That its files are all there was looked at before.
    matches!(
        error,
        ChecksumMismatch { .. }
            | Decompress(_)
            | InvalidHeader(_)
            | InvalidTag(_)
            | InvalidTrailer
            | Unrecoverable
            | Utf8(_)
    )
}

/// What a bad sector, a file that is too short or one with nonsense in it gives;
/// and one that is missing.
fn is_unreadable(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    const EIO: i32 = 5;
    matches!(error.kind(), UnexpectedEof | InvalidData | NotFound)
        || error.raw_os_error() == Some(EIO)
}

#[cfg(test)]
mod tests {
    use io::ErrorKind::{
        InvalidData, InvalidInput, NotFound, PermissionDenied, StorageFull, UnexpectedEof,
    };

    use super::*;

    #[test]
    fn only_what_the_files_say_is_damage() {
        let of = |source: fjall::Error| engine_error("open", Path::new(""), source).is_damage();
        let table = |error| of(fjall::Error::Storage(error));
        let io = |kind: io::ErrorKind| fjall::Error::Io(kind.into());
        for kind in [NotFound, InvalidData, UnexpectedEof] {
            assert!(of(io(kind)), "{kind}");
            assert!(table(fjall::LsmError::Io(kind.into())), "{kind}");
        }
        // A permission, a full disk, a file system that does not know a flag.
        for kind in [PermissionDenied, StorageFull, InvalidInput] {
            assert!(!of(io(kind)), "{kind}");
        }
        assert!(of(fjall::Error::Io(io::Error::from_raw_os_error(5))));
        assert!(of(fjall::Error::InvalidTrailer) && of(fjall::Error::InvalidTag(("a", 9))));
        assert!(table(fjall::LsmError::InvalidTrailer) && table(fjall::LsmError::Unrecoverable));
        let poisoned = Reason(fjall::Error::Poisoned).to_string();
        assert!(poisoned.contains("disk may be full"), "{poisoned}");
        for other in [
            fjall::Error::InvalidVersion(None),
            fjall::Error::Poisoned,
            fjall::Error::KeyspaceDeleted,
            fjall::Error::Locked,
            fjall::Error::Unrecoverable,
            fjall::Error::Storage(fjall::LsmError::InvalidVersion(9)),
        ] {
            assert!(!of(other));
        }
    }
}
