//! A storage, as the storage manager calls it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use zenoh::{
    Result as ZResult,
    bytes::{Encoding, ZBytes},
    key_expr::OwnedKeyExpr,
    query::Parameters,
    time::Timestamp as ZenohTimestamp,
};
use zenoh_backend_traits::{Storage, StorageInsertionResult, StoredData};
use zenoh_util::ffi::JsonValue;

use super::unstamped::UnstampedDeletes;
use crate::{
    cell::{Cell, Key},
    merge::Form,
    net::convert,
    replica::{Lookup, Outcome, Replica, ReplicaError},
    serve::{Opened, Stamps, runtime},
};

/// Parameters of a get: the cells of a key instead of its value; the value as JSON.
const RAW: &str = "raw";
const JSON: &str = "json";

pub(super) struct MstStorage {
    opened: Opened,
    was_listed: AtomicBool,
    stamps: Stamps,
    deletes: UnstampedDeletes,
}

impl MstStorage {
    pub(super) fn new(opened: Opened, stamps: Stamps) -> Self {
        Self {
            opened,
            was_listed: AtomicBool::new(false),
            stamps,
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
        let outcome = write(&self.opened.replica).map_err(|error| error.to_string())?;
        if let Some(committed) = outcome.committed {
            committed.await.map_err(|error| error.to_string())?;
        }
        self.opened.operator.put_durations.observe(start.elapsed());
        Ok(outcome.is_newest)
    }

    /// The value of a key, in the form that the parameters ask for.
    async fn read(&self, key: Key, parameters: &str) -> ZResult<Option<Arc<Cell>>> {
        let parameters = Parameters::from(parameters);
        if parameters.contains_key(RAW) {
            let replica = Arc::clone(&self.opened.replica);
            let reading = runtime()?.spawn_blocking(move || replica.raw(&key));
            return Ok(reading.await??.map(Arc::new));
        }
        let form = match parameters.contains_key(JSON) {
            true => Form::Json,
            false => Form::Native,
        };
        match self.opened.replica.get(&key, form) {
            Lookup::Absent => Ok(None),
            Lookup::Found(cell) => Ok(Some(cell)),
            Lookup::Stored(stored) => {
                let replica = Arc::clone(&self.opened.replica);
                let reading = runtime()?.spawn_blocking(move || replica.read(&stored));
                Ok(reading.await??)
            }
        }
    }
}

/// A cell as a get returns it: nothing for a tombstone.
fn stored_data(cell: &Cell) -> ZResult<Option<StoredData>> {
    let Some(value) = cell.value() else {
        return Ok(None);
    };
    Ok(Some(StoredData {
        payload: ZBytes::from(value.payload.clone()),
        encoding: convert::encoding(value),
        timestamp: convert::zenoh_timestamp(cell.timestamp)?,
    }))
}

#[async_trait]
impl Storage for MstStorage {
    fn get_admin_status(&self) -> JsonValue {
        self.opened.operator.status().into()
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
        let cell = convert::value_cell(&payload, &encoding, None, &timestamp);
        if payload.is_empty() && self.deletes.overrides(&cell.timestamp) {
            self.opened.replica.count_lost_put();
            return Ok(StorageInsertionResult::Outdated);
        }
        let key = Key::from(key);
        let write = |replica: &Replica| {
            self.stamps.check(replica, &key, &cell)?;
            replica.put(key, cell)
        };
        match self.write(write).await? {
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
        let is_newest = if self.stamps.is_of_router(&tombstone.timestamp.id) {
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
        self.opened.operator.get_durations.observe(start.elapsed());
        let data = cell.map(|cell| stored_data(&cell)).transpose()?;
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
        let mut entries = Vec::with_capacity(self.opened.replica.keys_hint());
        let mut error = None;
        let mut timestamps = convert::Timestamps::default();
        self.opened.replica.for_each_key(|key, timestamp| {
            match timestamps.zenoh_timestamp(timestamp) {
                Ok(timestamp) => entries.push((key.as_key_expr().cloned(), timestamp)),
                Err(invalid) => error = Some(invalid),
            };
        });
        error.map_or(Ok(entries), Err)
    }
}
