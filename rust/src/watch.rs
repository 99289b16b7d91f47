//! What is put and deleted, and what storages repaired, as one stream.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use serde_json::Value as Json;
use zenoh::{
    Session, Wait,
    key_expr::KeyExpr,
    pubsub::Subscriber,
    sample::{Sample, SampleKind},
};

use crate::{Error, Stamp, error::refused};

/// Changes that may wait for whoever reads them.
pub const MAX_WAITING: usize = 16_384;

/// Keys of which the newest change is remembered, to tell late ones.
pub const MAX_REMEMBERED: usize = 65_536;

/// What became of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The new value; nothing if the key was deleted. Of a publication it is what was put: an increment,
    /// not the sum. Of any other it is the whole value.
    pub payload: Option<Vec<u8>>,
    /// Of the payload.
    pub encoding: String,
    /// When it was written; nothing if no router stamped it.
    pub stamp: Option<Stamp>,
    /// `publication`, `repair`, `restore`, `rollback`, or `expired`: its lifetime was over.
    pub by: String,
    /// The replica, or the session of the operator, that it came from; nothing of a publication.
    pub origin: Option<String>,
    /// Whether something newer of this key was told before: a late publication.
    pub outdated: bool,
}

/// Changes, from [`Store::watch`](crate::Store::watch); they end when it is dropped.
///
/// If nobody reads, changes are dropped beyond the first [`MAX_WAITING`] that wait, and counted.
#[derive(Debug)]
pub struct Watch {
    dropped: Arc<AtomicU64>,
    waiting: Receiver<(Sample, bool)>,
    newest: Newest,
    _subscribers: [Subscriber<()>; 2],
}

impl Watch {
    pub(crate) fn open(session: &Session, keys: &KeyExpr<'_>, feed: &str) -> Result<Self, Error> {
        let (sender, waiting) = sync_channel(MAX_WAITING);
        let dropped = Arc::default();
        let subscriber = |key: &str, from_feed| {
            let take = take(sender.clone(), Arc::clone(&dropped), from_feed);
            session
                .declare_subscriber(key.to_owned())
                .callback(take)
                .wait()
        };
        let subscribers = [subscriber(keys, false)?, subscriber(feed, true)?];
        Ok(Self {
            dropped,
            waiting,
            newest: Newest::default(),
            _subscribers: subscribers,
        })
    }

    /// The next change; nothing if none comes in time.
    ///
    /// # Errors
    /// If what a storage tells cannot be read.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Change>, Error> {
        match self.waiting.recv_timeout(timeout) {
            Ok((sample, from_feed)) => self.change(&sample, from_feed).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn change(&mut self, sample: &Sample, from_feed: bool) -> Result<Change, Error> {
        let key = sample.key_expr().as_str();
        let unreadable = || refused(format!("{key} tells of no change"));
        let (key, by, origin) = match from_feed {
            false => (key, "publication".to_owned(), None),
            true => {
                let (_, changed) = key.split_once("/changes/").ok_or_else(unreadable)?;
                let told = sample.attachment().ok_or_else(unreadable)?.to_bytes();
                let told: Json = serde_json::from_slice(&told).map_err(|_| unreadable())?;
                let by = told["by"].as_str().ok_or_else(unreadable)?.to_owned();
                (changed, by, told["from"].as_str().map(str::to_owned))
            }
        };
        let stamp = sample.timestamp().copied();
        Ok(Change {
            payload: match sample.kind() {
                SampleKind::Put => Some(sample.payload().to_bytes().into_owned()),
                SampleKind::Delete => None,
            },
            encoding: sample.encoding().to_string(),
            outdated: stamp.is_some_and(|stamp| self.newest.is_outdated(key, stamp)),
            key: key.to_owned(),
            stamp,
            by,
            origin,
        })
    }

    /// Changes that nobody read in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Each waits for the next change, and the last ends with the session.
impl Iterator for Watch {
    type Item = Result<Change, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (sample, from_feed) = self.waiting.recv().ok()?;
        Some(self.change(&sample, from_feed))
    }
}

/// Nobody waits for whoever watches.
fn take(
    sender: SyncSender<(Sample, bool)>,
    dropped: Arc<AtomicU64>,
    from_feed: bool,
) -> impl Fn(Sample) + Send + Sync + 'static {
    move |sample| match sender.try_send((sample, from_feed)) {
        // The watch has ended.
        Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        Err(TrySendError::Full(_)) => _ = dropped.fetch_add(1, Ordering::Relaxed),
    }
}

/// Of each key the newest that was told.
#[derive(Debug, Default)]
struct Newest {
    stamps: HashMap<String, Stamp>,
    /// With the stamp that was the newest then: the last entry of a key is the one that counts.
    order: VecDeque<(String, Stamp)>,
}

impl Newest {
    fn is_outdated(&mut self, key: &str, stamp: Stamp) -> bool {
        if self.stamps.get(key).is_some_and(|newest| stamp < *newest) {
            return true;
        }
        self.stamps.insert(key.to_owned(), stamp);
        self.order.push_back((key.to_owned(), stamp));
        while self.order.len() > MAX_REMEMBERED {
            if let Some((key, stamp)) = self.order.pop_front()
                && self.stamps.get(&key) == Some(&stamp)
            {
                self.stamps.remove(&key);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(time: usize) -> Stamp {
        format!("{time}/1").parse().expect("a stamp")
    }

    #[test]
    fn what_comes_late_is_told_from_what_is_new() {
        let mut newest = Newest::default();
        assert!(!newest.is_outdated("a", stamp(5)));
        assert!(newest.is_outdated("a", stamp(4)) && !newest.is_outdated("b", stamp(4)));
        assert!(!newest.is_outdated("a", stamp(5)) && !newest.is_outdated("a", stamp(6)));
        assert!(newest.is_outdated("a", stamp(5)));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut newest = Newest::default();
        for n in 0..=MAX_REMEMBERED {
            assert!(!newest.is_outdated(&n.to_string(), stamp(5)));
        }
        assert_eq!(newest.order.len(), MAX_REMEMBERED);
        assert!(newest.stamps.len() <= MAX_REMEMBERED);
        assert!(newest.is_outdated("1", stamp(4)) && !newest.is_outdated("0", stamp(4)));
        // One key that changes all the time does not grow either.
        for n in 6..3 * MAX_REMEMBERED {
            newest.is_outdated("x", stamp(n));
        }
        assert!(newest.order.len() <= MAX_REMEMBERED);
    }
}
