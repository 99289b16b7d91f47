//! The feed of changes: a sample for each that came to the storage by another way than by pub/sub.
//!
//! ```text
//! @mst/2/<group>/<replica>/changes/<key>
//! ```
//!
//! Whoever subscribes to a storage's keys hears what is put and deleted. What is repaired, restored
//! or rolled back, and what is gone since its lifetime is over, nobody publishes: a subscriber hears
//! it here. Nothing is published while nobody
//! listens, and whoever writes never waits for the feed: if it cannot keep up, changes are dropped
//! and counted.

mod queue;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::json;
use tokio::sync::Notify;
use zenoh::{
    Result as ZResult, Session, Wait,
    bytes::ZBytes,
    qos::{CongestionControl, Priority},
    time::Timestamp as ZenohTimestamp,
};

pub(crate) use self::queue::Way;
use self::queue::{Changed, Queue};
use crate::{
    cell::{Cell, CellKey, Key, Timestamp},
    merge::Form,
    net::{convert, status::ChangeFeed},
    replica::{GetError, Lookup, Replica},
    sync::Group,
};

/// What the keys of the feed have after that of the replica.
const CHANGES: &str = "changes";

/// The feed of a storage.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    is_heard: AtomicBool,
    queue: Mutex<Queue>,
    queued: Notify,
    published: AtomicU64,
    dropped: AtomicU64,
}

/// Numbers of a feed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChangeCounts {
    pub(super) queued: u64,
    pub(super) published: u64,
    pub(super) dropped: u64,
}

impl Changes {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody listens. If not, nothing has to be told.
    pub(crate) fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::Acquire)
    }

    /// Tells of a cell that came so, and is the newest of its key and part.
    pub(crate) fn tell(&self, key: &CellKey, timestamp: Timestamp, way: Way, from: &Arc<str>) {
        if !self.is_heard() {
            return;
        }
        let changed = Changed {
            key: key.key.clone(),
            own: key.part.is_empty().then_some(timestamp),
            timestamp,
            way,
            from: Arc::clone(from),
        };
        match self.queue().push(changed) {
            true => self.queued.notify_one(),
            false => self.count_dropped(),
        }
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> ChangeCounts {
        ChangeCounts {
            queued: self.queue().len() as u64,
            published: self.published.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// For the status.
    pub(super) fn status(&self) -> ChangeFeed {
        let counts = self.counts();
        ChangeFeed {
            heard: self.is_heard(),
            queued: counts.queued,
            published: counts.published,
            dropped: counts.dropped,
        }
    }

    fn listens(&self, is_heard: bool) {
        self.is_heard.store(is_heard, Ordering::Release);
        if !is_heard {
            self.queue().clear();
        }
    }
}

/// Publishes what a feed has.
pub(super) struct Feed {
    pub(super) changes: Arc<Changes>,
    pub(super) replica: Arc<Replica>,
    pub(super) group: Group,
    /// The storage's name, for the log.
    pub(super) name: String,
    pub(super) session: Session,
    /// What the keys begin with.
    pub(super) own: String,
}

impl Feed {
    /// Publishes until it is aborted.
    pub(super) async fn run(self) {
        let this = Arc::new(self);
        let name = &this.name;
        if let Err(error) = Arc::clone(&this).publish().await {
            tracing::error!("storage '{name}': its changes are not published: {error}");
        }
        this.changes.listens(false);
    }

    async fn publish(self: Arc<Self>) -> ZResult<()> {
        let all = format!("{}/{CHANGES}/**", self.own);
        let publisher = self.session.declare_publisher(all).await?;
        let changes = Arc::clone(&self.changes);
        let _listener = publisher
            .matching_listener()
            .callback(move |status| changes.listens(status.matching()))
            .await?;
        // The listener is told of what changes from here on.
        if publisher.matching_status().await?.matching() {
            self.changes.listens(true);
        }
        loop {
            self.changes.queued.notified().await;
            loop {
                let this = Arc::clone(&self);
                // Reads the disk, and waits for those who listen: then it does not hold the storage.
                let is_any = tokio::task::spawn_blocking(move || {
                    let next = this.next();
                    drop(this);
                    next.map(Publishing::finish).is_some()
                });
                if !is_any.await? {
                    break;
                }
            }
        }
    }

    /// The next change that is to be published, if there is one.
    fn next(&self) -> Option<Publishing> {
        if !self.changes.is_heard() {
            return None;
        }
        let changed = self.changes.queue().pop()?;
        Some(Publishing {
            message: self.message(&changed),
            changes: Arc::clone(&self.changes),
            session: self.session.clone(),
            name: self.name.clone(),
            key: changed.key,
        })
    }

    /// What a key has now. Nothing if that is not what came: it is newer then, and told by whoever made
    /// it.
    fn message(&self, changed: &Changed) -> ZResult<Option<Message>> {
        let value = self.read(changed)?;
        let timestamp = match (&value, changed.way) {
            (Some(cell), _) => Some(cell.timestamp),
            // Nothing is left that has a timestamp.
            (None, Way::Expiry) => Some(changed.timestamp),
            (None, _) => self.replica.latest(&changed.key),
        };
        let Some(timestamp) = timestamp else {
            return Ok(None);
        };
        let is_folded = changed.own.is_none() || self.replica.is_merged(&changed.key);
        if !is_folded && changed.own != Some(timestamp) {
            return Ok(None);
        }
        let Some(full) = self.group.full_key(&changed.key) else {
            return Ok(None);
        };
        let attachment = json!({ "by": changed.way.name(), "from": &*changed.from });
        Ok(Some(Message {
            key: format!("{}/{CHANGES}/{full}", self.own),
            value,
            timestamp: convert::zenoh_timestamp(timestamp)?,
            attachment: attachment.to_string(),
        }))
    }

    fn read(&self, changed: &Changed) -> Result<Option<Arc<Cell>>, GetError> {
        match self.replica.get(&changed.key, Form::Native) {
            Lookup::Absent => Ok(None),
            Lookup::Found(cell) => Ok(Some(cell)),
            Lookup::Stored(stored) => self.replica.read(&stored),
        }
    }
}

/// A sample to be published.
struct Message {
    key: String,
    /// Nothing if the key was deleted.
    value: Option<Arc<Cell>>,
    timestamp: ZenohTimestamp,
    attachment: String,
}

impl Message {
    fn publish(self, session: &Session) -> ZResult<()> {
        let Self {
            key,
            value,
            timestamp,
            attachment,
        } = self;
        // Whoever listens sets the pace; what does not keep up waits in the queue, or is dropped
        // there and counted.
        let (congestion_control, priority) = (CongestionControl::Block, Priority::DataLow);
        match value.as_deref().and_then(Cell::value) {
            Some(value) => session
                .put(key, ZBytes::from(value.payload.clone()))
                .encoding(convert::encoding(value))
                .timestamp(timestamp)
                .attachment(attachment)
                .congestion_control(congestion_control)
                .priority(priority)
                .wait(),
            None => session
                .delete(key)
                .timestamp(timestamp)
                .attachment(attachment)
                .congestion_control(congestion_control)
                .priority(priority)
                .wait(),
        }
    }
}

/// A change that is about to be published, and who is told what came of it.
struct Publishing {
    message: ZResult<Option<Message>>,
    changes: Arc<Changes>,
    session: Session,
    name: String,
    key: Key,
}

impl Publishing {
    /// Waits for those who listen.
    fn finish(self) {
        let published = self.message.and_then(|message| match message {
            Some(message) => message.publish(&self.session).map(|()| 1),
            None => Ok(0),
        });
        match published {
            Ok(count) => {
                self.changes.published.fetch_add(count, Ordering::Relaxed);
            }
            Err(error) => {
                self.changes.count_dropped();
                let (name, key) = (&self.name, &self.key);
                tracing::warn!("storage '{name}': a change of '{key}' was not published: {error}");
            }
        }
    }
}
