//! The header of a backup.

use serde::{Deserialize, Serialize};

use super::{BackupError, FORMAT};
use crate::{hex, mst::RootHash};

/// The header of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The storage's key expression.
    pub key_expr: String,
    /// The prefix that the storage strips from keys.
    pub strip_prefix: Option<String>,
    /// The cut: all updates with an earlier time are in it, and none with a later; NTP64.
    pub cut: u64,
    /// The root of its cells.
    pub root: RootHash,
    /// The number of cells.
    pub cells: u64,
    /// The rules by which puts were merged, as text.
    pub rules: String,
    /// The replica that it was taken from; none if it was taken from a closed folder.
    pub replica: Option<String>,
    /// The name of the storage.
    pub storage: String,
    /// Keys whose cells are not in it, as they were damaged and in quarantine: up to [`MAX_MISSING`].
    pub missing: Vec<String>,
}

/// Keys that a header names because their cells are not in the backup.
pub const MAX_MISSING: usize = 1000;

/// The header as it is written. Numbers that JSON may not keep are texts.
#[derive(Serialize, Deserialize)]
struct Text {
    format: u64,
    key_expr: String,
    strip_prefix: Option<String>,
    cut: String,
    root: String,
    cells: u64,
    rules: String,
    replica: Option<String>,
    storage: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    #[serde(default)]
    program: String,
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let text = Text {
            format: FORMAT.into(),
            key_expr: self.key_expr.clone(),
            strip_prefix: self.strip_prefix.clone(),
            cut: self.cut.to_string(),
            root: self.root.to_string(),
            cells: self.cells,
            rules: self.rules.clone(),
            replica: self.replica.clone(),
            storage: self.storage.clone(),
            missing: self.missing.clone(),
            program: concat!("zenoh-backend-mst ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        // Texts and numbers can always be written.
        serde_json::to_vec(&text).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BackupError> {
        let damaged =
            |error: &dyn ToString| BackupError::damaged("in its header", error.to_string());
        let format: Format = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
        if format.format != u64::from(FORMAT) {
            return Err(BackupError::Format(format.format));
        }
        let text: Text = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
        let root = hex::decode(&text.root).and_then(|root| root.try_into().ok());
        Ok(Self {
            key_expr: text.key_expr,
            strip_prefix: text.strip_prefix,
            cut: text.cut.parse().map_err(|error| damaged(&error))?,
            root: RootHash(root.ok_or_else(|| damaged(&"its root is not a hash"))?),
            cells: text.cells,
            rules: text.rules,
            replica: text.replica,
            storage: text.storage,
            missing: text.missing,
        })
    }
}
