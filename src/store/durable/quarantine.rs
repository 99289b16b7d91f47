//! The quarantine of the store on disk.

use super::{Commit, DurableStore, QuarantineStore, StoreError, engine::Engine};
use crate::cell::{CellKey, Row, Version};

impl QuarantineStore for DurableStore {
    fn quarantine(&self, key: &CellKey, version: &Version) -> Result<(), StoreError> {
        let target = self.engine.target();
        let rows = self.engine.rows();
        let key_bytes = key.to_canonical();
        let mut batch = self.batch(3, Commit::Synced);
        let head = Row {
            version: *version,
            value: None,
        };
        let mut kept = head.encode();
        // What cannot be read cannot be kept.
        if let Ok(Some(row)) = rows.cells.get(&key_bytes) {
            kept.extend_from_slice(&row);
        }
        if let Ok(Some(payload)) = rows.payloads.get(&key_bytes) {
            kept.extend_from_slice(&payload);
        }
        batch.insert(&self.engine.quarantine, key_bytes.as_slice(), kept);
        for place in [Some(&*rows), target.as_deref()].into_iter().flatten() {
            batch.remove(&place.payloads, key_bytes.as_slice());
            batch.remove(&place.cells, key_bytes.as_slice());
        }
        batch.commit().map_err(rows.failed("write to"))?;
        self.cached.remove(key);
        Ok(())
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, Version)>, StoreError> {
        quarantined(&self.engine)
    }
}

/// What is in quarantine.
pub(super) fn quarantined(engine: &Engine) -> Result<Vec<(CellKey, Version)>, StoreError> {
    let rows = engine.rows();
    let mut found = Vec::new();
    for row in engine.quarantine.iter() {
        let (key_bytes, kept) = row.into_inner().map_err(rows.failed("scan"))?;
        let key = CellKey::from_canonical(&key_bytes).map_err(rows.damaged(&key_bytes))?;
        let version = Row::decode_version(&kept).map_err(rows.damaged(&key_bytes))?;
        found.push((key, version));
    }
    Ok(found)
}
