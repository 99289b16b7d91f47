//! The rounds of the scrub, and of tidying.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use super::held::HeldFolder;
use crate::{admin::Administration, net::Operator, replica::Clock};

/// Compares a storage's cells with the disk, a few at a time, until stopped.
pub(crate) async fn scrub(operator: Arc<Operator>, clock: Clock, stop: Arc<Notify>) {
    loop {
        let pause = jittered(operator.admin().scrubbing.pause_between_rounds());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.notified() => return,
        }
        let name = operator.admin().name.clone();
        let (operator, clock) = (Arc::clone(&operator), Arc::clone(&clock));
        let round = tokio::task::spawn_blocking(move || {
            let Administration {
                scrubbing,
                replica,
                name,
                ..
            } = operator.admin();
            if let Err(error) = scrubbing.round(replica, clock()) {
                tracing::warn!("storage '{name}': the scrub failed, and is tried again: {error}");
            }
        });
        if round.await.is_err() {
            // The engine may panic over damaged files. Other cells can still be checked.
            let name = &name;
            tracing::error!("storage '{name}': a round of the scrub panicked");
        }
    }
}

/// How often one looks whether a store has to be tidied; and after how many looks it is kept by which
/// watermark cells have died.
const TIDYING_PAUSE: Duration = Duration::from_secs(10);
const REMEMBER_AFTER: u32 = 6;

/// Has a storage's store rewritten where that is worth while, until stopped.
pub(crate) async fn tidy(
    operator: Arc<Operator>,
    held: Option<Weak<HeldFolder>>,
    stop: Arc<Notify>,
) {
    let mut looks = 0u32;
    loop {
        tokio::select! {
            () = tokio::time::sleep(jittered(TIDYING_PAUSE)) => {}
            () = stop.notified() => return,
        }
        let name = operator.admin().name.clone();
        let operator = Arc::clone(&operator);
        looks = looks.wrapping_add(1);
        let is_kept = looks.is_multiple_of(REMEMBER_AFTER);
        let held = held.clone().filter(|_| is_kept);
        let tidying = tokio::task::spawn_blocking(move || {
            let replica = &operator.admin().replica;
            if let Some(held) = held.and_then(|held| held.upgrade()) {
                held.note_died(replica.died_until());
                held.remember();
            }
            replica.tidy()
        });
        match tidying.await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!("storage '{name}': its rows were written anew"),
            Ok(Err(error)) => {
                tracing::warn!("storage '{name}': its rows were not written anew: {error}");
            }
            // The engine may panic over damaged files.
            Err(_) => tracing::error!("storage '{name}': writing its rows anew panicked"),
        }
    }
}

/// Varies the pause by up to a fifth, so that storages do not keep step.
fn jittered(pause: Duration) -> Duration {
    let part = crate::net::random_number() % 401;
    pause * (800 + part as u32) / 1000
}
