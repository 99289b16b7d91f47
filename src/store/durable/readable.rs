//! What can be read of a damaged store.

use std::path::Path;

use super::{
    catch_up::Newest, engine::Engine, folder::Folders, layout, rows::scan_readable, wal::Wal,
    StoreError, Write,
};

/// Shows what can be read of a damaged store: first rows from both ends, then the log.
///
/// # Errors
/// What `save` fails with.
pub(super) fn read_damaged(
    path: &Path,
    cache_size: u64,
    save: &mut dyn FnMut(Write) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut result = Ok(());
    let folders = Folders::in_store(path);
    // Where it lacks something the engine would remove the rest.
    let engine =
        layout::check(path, &folders).and_then(|()| Engine::open(path, &folders, cache_size));
    if let Ok(engine) = engine {
        let snapshot = engine.database.snapshot();
        for is_backward in [false, true] {
            let read = scan_readable(&engine.rows, &snapshot, is_backward, &mut |write| {
                result = save(write);
                result.is_ok()
            });
            match (&result, read) {
                (Err(_), _) => return result,
                // All of it: there is nothing left for the way back.
                (Ok(()), Ok(())) => break,
                (Ok(()), Err(error)) => {
                    tracing::warn!("saving what can be read of a store: {error}");
                }
            }
        }
    }
    let mut newest = Newest::default();
    Wal::salvage(&folders.log, &mut |key, cell| {
        newest.join(Write::of(key, cell))
    });
    newest.0.into_values().try_for_each(save)
}
