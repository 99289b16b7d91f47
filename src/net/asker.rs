//! Tells whether the client that asked for long work is still there.
//!
//! Zenoh does not tell: it accepts an answer that nobody takes. So the asker declares a
//! liveliness token, `@mst/2/<group>/<replica>/asker/<id>`, and names its ID in the
//! query. The token goes with its session (by an interruption, a crash or a cut link),
//! and the replica can stop its work.

use std::sync::{
    atomic::{AtomicBool, Ordering},
    Arc,
};

use zenoh::{
    pubsub::Subscriber, query::Query as ZQuery, sample::SampleKind, session::Session, Wait,
};

use crate::admin::AdminError;

/// The parameter of a query that names the asker.
pub(super) const PARAMETER: &str = "asker";

/// The most digits that a session's ID has.
const MAX_DIGITS: usize = 32;

/// The client that asked.
pub(super) struct Asker {
    is_gone: Arc<AtomicBool>,
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
        let is_gone = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&is_gone);
        let declared = session
            .liveliness()
            .declare_subscriber(format!("{own}/{PARAMETER}/{id}"))
            .history(true)
            .callback(move |sample| {
                tell.store(sample.kind() == SampleKind::Delete, Ordering::Relaxed);
            })
            .wait();
        if let Err(error) = &declared {
            tracing::warn!("cannot watch whether {id}, which asked {own}, is still there: {error}");
        }
        Ok(declared.ok().map(|subscriber| Self {
            is_gone,
            _subscriber: subscriber,
        }))
    }

    /// Whether the asker was there, and has gone.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}
