//! Tells whether the client that asked for long work is still there.
//!
//! Zenoh does not tell: it accepts an answer that nobody takes. So the asker declares a
//! liveliness token, `@mst/2/<group>/<replica>/asker/<id>`, and names its ID in the
//! query. The token goes with its session (by an interruption, a crash or a cut link),
//! and the replica can stop its work.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use zenoh::{
    Wait, pubsub::Subscriber, query::Query as ZQuery, sample::SampleKind, session::Session,
};

use crate::admin::AdminError;

/// The parameter of a query that names the asker.
pub(super) const PARAMETER: &str = "asker";

/// The most digits that a session's ID has.
const MAX_DIGITS: usize = 32;

/// For how long the token of an asker is waited for: the query may be faster.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the token tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    /// Nothing was seen of it yet.
    #[default]
    Unseen,
    There,
    Gone,
}

/// The presence, and those who wait for it.
#[derive(Default)]
struct Seen {
    presence: Mutex<Presence>,
    changed: Condvar,
}

impl Seen {
    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, presence: Presence) {
        *self.presence() = presence;
        self.changed.notify_all();
    }

    /// Whether it is there, which it may be within a time.
    fn is_there_within(&self, patience: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.presence(), patience, |presence| {
                *presence == Presence::Unseen
            });
        let (presence, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *presence == Presence::There
    }
}

/// The client that asked.
pub(super) struct Asker {
    id: String,
    seen: Arc<Seen>,
    _subscriber: Subscriber<()>,
}

impl Asker {
    /// The asker that a query names, if it names one; `own` is the replica's token.
    ///
    /// # Errors
    /// If the parameter cannot be the ID of a session.
    pub(super) fn of(
        session: &Session,
        own: &str,
        query: &ZQuery,
    ) -> Result<Option<Self>, AdminError> {
        let Some(id) = query.parameters().get(PARAMETER) else {
            return Ok(None);
        };
        let is_id =
            (1..=MAX_DIGITS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(AdminError::Parameter {
                name: PARAMETER,
                value: id.to_owned(),
                allowed: "the ID of a Zenoh session",
            });
        }
        let seen = Arc::new(Seen::default());
        let tell = Arc::clone(&seen);
        let declared = session
            .liveliness()
            .declare_subscriber(format!("{own}/{PARAMETER}/{id}"))
            .history(true)
            .callback(move |sample| {
                tell.see(match sample.kind() {
                    SampleKind::Put => Presence::There,
                    SampleKind::Delete => Presence::Gone,
                });
            })
            .wait();
        if let Err(error) = &declared {
            tracing::warn!("cannot watch whether {id}, which asked {own}, is still there: {error}");
        }
        Ok(declared.ok().map(|subscriber| Self {
            id: id.to_owned(),
            seen,
            _subscriber: subscriber,
        }))
    }

    /// The ID of its session, as it says.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether its token is there, which is waited for a moment.
    pub(super) fn is_there(&self) -> bool {
        self.seen.is_there_within(PATIENCE)
    }

    /// Whether the asker was there, and has gone.
    pub(super) fn is_gone(&self) -> bool {
        *self.seen.presence() == Presence::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asker_is_there_between_its_coming_and_its_going() {
        let seen = Arc::new(Seen::default());
        assert!(!seen.is_there_within(Duration::ZERO));
        let waiting = Arc::clone(&seen);
        let waiter = std::thread::spawn(move || waiting.is_there_within(Duration::from_secs(60)));
        seen.see(Presence::There);
        assert!(waiter.join().expect("it ends"));
        seen.see(Presence::Gone);
        assert!(!seen.is_there_within(Duration::from_secs(60)));
    }
}
