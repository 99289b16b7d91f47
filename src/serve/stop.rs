//! A stop that loses nothing: SIGTERM and SIGINT close the storages of this process, and then end
//! it as they would have.
//!
//! zenohd handles no signal: without this, one is a kill, and what a storage had shown to a get and
//! not committed yet is lost.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    iterator::Signals,
    low_level::emulate_default_handler,
};

use crate::replica::Replica;

/// How long a stop waits for storages to be closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The signals that ask a process to end.
const STOPS: [i32; 2] = [SIGTERM, SIGINT];

/// The replicas of this process that may be open.
static OPEN: Mutex<Vec<Weak<Replica>>> = Mutex::new(Vec::new());

/// Has a stop close this replica, too.
pub(crate) fn closes(replica: &Arc<Replica>) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|replica| replica.strong_count() > 0);
    open.push(Arc::downgrade(replica));
}

/// Handles the signals from now on. Only the first call does anything.
///
/// # Errors
/// If the handlers cannot be installed, or no thread be started.
pub(crate) fn handle_signals() -> io::Result<()> {
    static HANDLED: OnceLock<()> = OnceLock::new();
    if HANDLED.set(()).is_err() {
        return Ok(());
    }
    // Whoever asks twice does not want to wait.
    let is_stopping = Arc::new(AtomicBool::new(false));
    for signal in STOPS {
        flag::register_conditional_default(signal, Arc::clone(&is_stopping))?;
    }
    let mut signals = Signals::new(STOPS)?;
    let stop = move || {
        if let Some(signal) = signals.forever().next() {
            is_stopping.store(true, Ordering::Relaxed);
            let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
            let open: Vec<_> = open.iter().filter_map(Weak::upgrade).collect();
            close_all(&open, PATIENCE);
            if let Err(error) = emulate_default_handler(signal) {
                tracing::error!("cannot end the process by signal {signal}: {error}");
            }
        }
    };
    std::thread::Builder::new()
        .name("mst stop".to_owned())
        .spawn(stop)?;
    Ok(())
}

/// Closes replicas side by side: what was handed over is committed. Waits for no longer than
/// `patience`.
fn close_all(replicas: &[Arc<Replica>], patience: Duration) {
    let deadline = Instant::now() + patience;
    let (closed, is_closed) = mpsc::channel();
    for replica in replicas {
        replica.begin_close();
        let (replica, closed) = (Arc::clone(replica), closed.clone());
        let wait = move || {
            replica.wait_until_closed();
            // Nobody waits any more if it took too long.
            let _ = closed.send(());
        };
        if let Err(error) = std::thread::Builder::new().spawn(wait) {
            tracing::error!("cannot wait for a storage to be closed: {error}");
        }
    }
    drop(closed);
    for done in 0..replicas.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if is_closed.recv_timeout(left).is_err() {
            let open = replicas.len() - done;
            tracing::error!(
                "{open} of {} storages were not closed within {} s; what they had not committed \
                 is lost",
                replicas.len(),
                patience.as_secs()
            );
            return;
        }
    }
}
