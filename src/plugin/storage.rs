//! A storage, as the storage manager calls it.

use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
};

use async_trait::async_trait;
use serde_json::Value;
use zenoh::{
    bytes::{Encoding, ZBytes},
    key_expr::OwnedKeyExpr,
    query::Parameters,
    time::Timestamp,
    Result as ZResult,
};
use zenoh_backend_traits::{Storage, StorageInsertionResult, StoredData};
use zenoh_util::ffi::JsonValue;

use super::{claims::Claim, convert, runtime, status};
use crate::{
    cell::{Cell, Key},
    merge::Form,
    net::Replicator,
    replica::{Lookup, Replica},
};

/// Parameters of a get: the cells of a key instead of its value; the value as JSON.
const RAW: &str = "raw";
const JSON: &str = "json";

pub(super) struct MstStorage {
    /// There until the storage is dropped.
    replica: Arc<Replica>,
    /// If it is durable.
    path: Option<PathBuf>,
    /// As it was given, for the status.
    configuration: Value,
    /// If it is replicated.
    replicator: Option<Arc<Replicator>>,
    was_listed: AtomicBool,
}

impl MstStorage {
    pub(super) fn new(
        replica: Arc<Replica>,
        path: Option<PathBuf>,
        configuration: Value,
        replicator: Option<Arc<Replicator>>,
    ) -> Self {
        if let Some(replicator) = &replicator {
            let (replica, configuration) = (Arc::clone(&replica), configuration.clone());
            let weak = Arc::downgrade(replicator);
            replicator.set_status_source(Box::new(move || {
                let replicator = weak.upgrade();
                status::storage_status(&replica, configuration.clone(), replicator.as_deref())
            }));
        }
        Self {
            replica,
            path,
            configuration,
            replicator,
            was_listed: AtomicBool::new(false),
        }
    }

    /// True if the write is the newest of its key.
    async fn write(&self, key: Option<OwnedKeyExpr>, cell: Cell) -> ZResult<bool> {
        // The storage manager logs the error in its debug form: a text is
        // readable in that.
        let outcome = self.replica.put(key.into(), cell);
        let outcome = outcome.map_err(|error| error.to_string())?;
        if let Some(committed) = outcome.committed {
            committed.await.map_err(|error| error.to_string())?;
        }
        Ok(outcome.is_newest)
    }
}

impl Drop for MstStorage {
    /// The replica closes on its own thread, and the last that is left of it is
    /// dropped on ours: not on the storage manager's, which may not block.
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            Claim::announce_closing(path);
        }
        if let Some(replicator) = &self.replicator {
            replicator.stop();
        }
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
        let replicator = self.replicator.as_deref();
        status::storage_status(&self.replica, self.configuration.clone(), replicator).into()
    }

    /// `Inserted` says that the value is the key's now; whether there was one
    /// before is not looked up, as nobody asks.
    async fn put(
        &mut self,
        key: Option<OwnedKeyExpr>,
        payload: ZBytes,
        encoding: Encoding,
        timestamp: Timestamp,
    ) -> ZResult<StorageInsertionResult> {
        let cell = convert::value_cell(&payload, &encoding, &timestamp);
        match self.write(key, cell).await? {
            true => Ok(StorageInsertionResult::Inserted),
            false => Ok(StorageInsertionResult::Outdated),
        }
    }

    async fn delete(
        &mut self,
        key: Option<OwnedKeyExpr>,
        timestamp: Timestamp,
    ) -> ZResult<StorageInsertionResult> {
        match self.write(key, convert::tombstone(&timestamp)).await? {
            true => Ok(StorageInsertionResult::Deleted),
            false => Ok(StorageInsertionResult::Outdated),
        }
    }

    async fn get(
        &mut self,
        key: Option<OwnedKeyExpr>,
        parameters: &str,
    ) -> ZResult<Vec<StoredData>> {
        let parameters = Parameters::from(parameters);
        let key = Key::from(key);
        if parameters.contains_key(RAW) {
            let replica = Arc::clone(&self.replica);
            let reading = runtime()?.spawn_blocking(move || replica.raw(&key));
            let Some(cell) = reading.await?? else {
                return Ok(Vec::new());
            };
            return Ok(convert::stored_data(&cell)?.into_iter().collect());
        }
        let form = match parameters.contains_key(JSON) {
            true => Form::Json,
            false => Form::Usual,
        };
        let cell = match self.replica.get(&key, form) {
            Lookup::Absent => return Ok(Vec::new()),
            Lookup::Found(cell) => cell,
            Lookup::Stored(stored) => {
                let replica = Arc::clone(&self.replica);
                let reading = runtime()?.spawn_blocking(move || replica.read(&stored));
                match reading.await?? {
                    Some(cell) => cell,
                    None => return Ok(Vec::new()),
                }
            }
        };
        Ok(convert::stored_data(&cell)?.into_iter().collect())
    }

    async fn get_all_entries(&self) -> ZResult<Vec<(Option<OwnedKeyExpr>, Timestamp)>> {
        // The first to ask is the storage manager, when it has made the storage.
        // It keeps what it is told for ever, hundreds of bytes a key, in a cache
        // of what is newest; which it never looks into, as a storage of our
        // capability decides that itself. So it is told of nothing.
        if !self.was_listed.swap(true, Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let mut entries = Vec::with_capacity(self.replica.keys_hint());
        let mut error = None;
        self.replica.for_each_key(|key, stamp| {
            match convert::timestamp(stamp) {
                Ok(timestamp) => entries.push((key.as_key_expr().cloned(), timestamp)),
                Err(invalid) => error = Some(invalid),
            };
        });
        error.map_or(Ok(entries), Err)
    }
}
