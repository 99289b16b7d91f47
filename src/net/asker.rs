//! Whether whoever asked for something that takes long is still there.
//!
//! Zenoh does not say so: an answer that nobody takes any more is sent all the same. So
//! whoever asks declares a liveliness token, `@mst/2/<group>/<replica>/asker/<id>`, and
//! names its ID in the query. It goes when its session does, be it by an interruption,
//! a crash or a link that is cut; and then nothing need be done for it any more.

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

/// Digits that the ID of a session has, at the most.
const MAX_DIGITS: usize = 32;

/// Whoever asked.
pub(super) struct Asker {
    is_gone: Arc<AtomicBool>,
    _subscriber: Subscriber<()>,
}

impl Asker {
    /// The one that a query names, if it does, which is to the replica `own`.
    ///
    /// # Errors
    /// If what it is named cannot be the ID of a session.
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

    /// Whether it was there, and is no more.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}
