//! A storage, as the storage manager calls it.

use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::Instant,
};

use async_trait::async_trait;
use tokio::sync::Notify;
use zenoh::{
    bytes::{Encoding, ZBytes},
    key_expr::OwnedKeyExpr,
    query::Parameters,
    time::Timestamp as ZenohTimestamp,
    Result as ZResult,
};
use zenoh_backend_traits::{Storage, StorageInsertionResult, StoredData};
use zenoh_util::ffi::JsonValue;

use super::{claims::Claim, convert, runtime, unstamped::UnstampedDeletes};
use crate::{
    cell::{Cell, Key},
    merge::Form,
    net::{Operator, Routers},
    replica::{Lookup, Outcome, Replica, ReplicaError},
};

/// Parameters of a get: the cells of a key instead of its value; the value as JSON.
const RAW: &str = "raw";
const JSON: &str = "json";

pub(super) struct MstStorage {
    /// Present until the storage is dropped.
    replica: Arc<Replica>,
    /// The folder, if the storage is durable.
    path: Option<PathBuf>,
    operator: Arc<Operator>,
    stop_scrub: Arc<Notify>,
    was_listed: AtomicBool,
    routers: Arc<Routers>,
    deletes: UnstampedDeletes,
}

impl MstStorage {
    pub(super) fn new(
        operator: Arc<Operator>,
        stop_scrub: Arc<Notify>,
        routers: Arc<Routers>,
    ) -> Self {
        let admin = operator.admin();
        Self {
            replica: Arc::clone(&admin.replica),
            path: admin.folder().map(Into::into),
            operator,
            stop_scrub,
            was_listed: AtomicBool::new(false),
            routers,
            deletes: UnstampedDeletes::default(),
        }
    }

    /// Puts a cell. True if the write is the newest of its key.
    async fn write(
        &self,
        write: impl FnOnce(&Replica) -> Result<Outcome, ReplicaError>,
    ) -> ZResult<bool> {
        // The storage manager logs an error in its debug form, in which a text is
        // readable.
        let start = Instant::now();
        let outcome = write(&self.replica).map_err(|error| error.to_string())?;
        if let Some(committed) = outcome.committed {
            committed.await.map_err(|error| error.to_string())?;
        }
        self.operator.put_durations.observe(start.elapsed());
        Ok(outcome.is_newest)
    }

    /// The value of a key, in the form that the parameters ask for.
    async fn read(&self, key: Key, parameters: &str) -> ZResult<Option<Arc<Cell>>> {
        let parameters = Parameters::from(parameters);
        if parameters.contains_key(RAW) {
            let replica = Arc::clone(&self.replica);
            let reading = runtime()?.spawn_blocking(move || replica.raw(&key));
            return Ok(reading.await??.map(Arc::new));
        }
        let form = match parameters.contains_key(JSON) {
            true => Form::Json,
            false => Form::Native,
        };
        match self.replica.get(&key, form) {
            Lookup::Absent => Ok(None),
            Lookup::Found(cell) => Ok(Some(cell)),
            Lookup::Stored(stored) => {
                let replica = Arc::clone(&self.replica);
                let reading = runtime()?.spawn_blocking(move || replica.read(&stored));
                Ok(reading.await??)
            }
        }
    }
}

impl Drop for MstStorage {
    /// The replica closes on its own thread, and the last reference to it is dropped on
    /// ours, not on the storage manager's, which may not block.
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            Claim::announce_closing(path);
        }
        self.operator.stop();
        self.stop_scrub.notify_one();
        self.replica.begin_close();
        if let Ok(runtime) = runtime() {
            let replica = Arc::clone(&self.replica);
            runtime.spawn_blocking(move || replica.wait_until_closed());
        }
    }
}

#[async_trait]
impl Storage for MstStorage {
    fn get_admin_status(&self) -> JsonValue {
        self.operator.status().into()
    }

    /// `Inserted` says that the value is now the key's; whether there was one before is
    /// not looked up, as the caller does not use it.
    async fn put(
        &mut self,
        key: Option<OwnedKeyExpr>,
        payload: ZBytes,
        encoding: Encoding,
        timestamp: ZenohTimestamp,
    ) -> ZResult<StorageInsertionResult> {
        let cell = convert::value_cell(&payload, &encoding, &timestamp);
        if payload.is_empty() && self.deletes.overrides(&cell.timestamp) {
            self.replica.count_lost_put();
            return Ok(StorageInsertionResult::Outdated);
        }
        match self.write(|replica| replica.put(key.into(), cell)).await? {
            true => Ok(StorageInsertionResult::Inserted),
            false => Ok(StorageInsertionResult::Outdated),
        }
    }

    /// A delete that a router stamped deletes the known version; see
    /// [`delete_known`](Replica::delete_known).
    async fn delete(
        &mut self,
        key: Option<OwnedKeyExpr>,
        timestamp: ZenohTimestamp,
    ) -> ZResult<StorageInsertionResult> {
        let tombstone = convert::tombstone(&timestamp);
        let is_newest = if self.routers.has(&tombstone.timestamp.id) {
            self.deletes.remember(tombstone.timestamp);
            self.write(|replica| replica.delete_known(key.into())).await
        } else {
            self.write(|replica| replica.put(key.into(), tombstone))
                .await
        };
        match is_newest? {
            true => Ok(StorageInsertionResult::Deleted),
            false => Ok(StorageInsertionResult::Outdated),
        }
    }

    async fn get(
        &mut self,
        key: Option<OwnedKeyExpr>,
        parameters: &str,
    ) -> ZResult<Vec<StoredData>> {
        let start = Instant::now();
        let cell = self.read(key.into(), parameters).await?;
        self.operator.get_durations.observe(start.elapsed());
        let data = cell.map(|cell| convert::stored_data(&cell)).transpose()?;
        Ok(data.flatten().into_iter().collect())
    }

    async fn get_all_entries(&self) -> ZResult<Vec<(Option<OwnedKeyExpr>, ZenohTimestamp)>> {
        // The storage manager asks first, when it has created the storage. It would keep
        // the answer forever, hundreds of bytes a key, in a cache of the newest
        // timestamps, which it never reads for a storage of our capability. So the first
        // answer is empty.
        if !self.was_listed.swap(true, Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let mut entries = Vec::with_capacity(self.replica.keys_hint());
        let mut error = None;
        let mut timestamps = convert::Timestamps::default();
        self.replica.for_each_key(|key, timestamp| {
            match timestamps.zenoh_timestamp(timestamp) {
                Ok(timestamp) => entries.push((key.as_key_expr().cloned(), timestamp)),
                Err(invalid) => error = Some(invalid),
            };
        });
        error.map_or(Ok(entries), Err)
    }
}
