//! What an error of the storage engine means.

use std::{io, path::Path};

use crate::store::StoreError;

/// The engine was asked to do `action` with the store in `path`, and cannot.
pub(super) fn engine_error(action: &'static str, path: &Path, error: fjall::Error) -> StoreError {
    StoreError::Engine {
        action,
        path: path.to_owned(),
        is_damage: is_damage(&error),
        source: Box::new(error),
    }
}

fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            is_unreadable(error)
        }
        fjall::Error::Poisoned | fjall::Error::Locked | fjall::Error::KeyspaceDeleted => false,
        _ => true,
    }
}

/// What a bad sector, a file that is too short or one with nonsense in it gives;
/// and one that is missing.
fn is_unreadable(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
    const EIO: i32 = 5;
    matches!(
        error.kind(),
        UnexpectedEof | InvalidData | InvalidInput | NotFound
    ) || error.raw_os_error() == Some(EIO)
}
