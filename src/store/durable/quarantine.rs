//! The quarantine of the store on disk.

use super::{rows::Rows, Commit, DurableStore, QuarantineStore, StoreError};
use crate::cell::{CellKey, Row, Version};

impl QuarantineStore for DurableStore {
    fn quarantine(&self, key: &CellKey, version: &Version) -> Result<(), StoreError> {
        let Rows {
            cells, payloads, ..
        } = &self.engine.rows;
        let key_bytes = key.to_canonical();
        let mut batch = self.batch(3, Commit::Synced);
        let head = Row {
            version: *version,
            value: None,
        };
        let mut kept = head.encode();
        // What cannot be read cannot be kept.
        if let Ok(Some(row)) = cells.get(&key_bytes) {
            kept.extend_from_slice(&row);
        }
        if let Ok(Some(payload)) = payloads.get(&key_bytes) {
            kept.extend_from_slice(&payload);
        }
        batch.remove(payloads, key_bytes.as_slice());
        batch.insert(&self.engine.quarantine, key_bytes.as_slice(), kept);
        batch.remove(cells, key_bytes);
        batch
            .commit()
            .map_err(self.engine.rows.failed("write to"))?;
        self.cached.remove(key);
        Ok(())
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, Version)>, StoreError> {
        let rows = &self.engine.rows;
        let mut found = Vec::new();
        for row in self.engine.quarantine.iter() {
            let (key_bytes, kept) = row.into_inner().map_err(rows.failed("scan"))?;
            let key = CellKey::from_canonical(&key_bytes).map_err(rows.damaged(&key_bytes))?;
            let version = Row::decode_version(&kept).map_err(rows.damaged(&key_bytes))?;
            found.push((key, version));
        }
        Ok(found)
    }
}
