//! The rounds of the scrub.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

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

/// Varies the pause by up to a fifth, so that storages do not keep step.
fn jittered(pause: Duration) -> Duration {
    let part = crate::net::random_number() % 401;
    pause * (800 + part as u32) / 1000
}
