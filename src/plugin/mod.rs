//! The volume and storages that zenohd's storage manager sees.
//!
//! This layer has no logic of its own: it translates calls, and keeps whatever may block
//! on disk off the storage manager's threads, of which all storages share two.

mod claims;
mod convert;
mod scrub;
mod stop;
mod storage;
mod unstamped;
mod volume;

pub use volume::{MstVolume, VOLUME_NAME};

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that may block on disk, for all storages together.
const BLOCKING_THREADS: usize = 32;

/// This library's own runtime. Another library's runtime, which is out of reach from
/// here, polls the methods of a storage.
///
/// It lives as long as the process.
fn runtime() -> std::io::Result<&'static Handle> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("mst")
        .build()?;
    Ok(RUNTIME.get_or_init(|| runtime).handle())
}
