//! The threads of this library.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that may block on disk or on a reader, for all storages together.
const BLOCKING_THREADS: usize = 64;

/// This library's own runtime. Another library's runtime, which is out of reach from
/// here, polls the methods of a volume's storage.
///
/// It lives as long as the process.
pub(crate) fn runtime() -> std::io::Result<&'static Handle> {
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
