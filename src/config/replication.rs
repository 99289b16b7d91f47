//! The configuration of replication.

use std::time::Duration;

use serde::Deserialize;

use super::{limits, within, ConfigError, Span};

/// How values of one key are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The last writer wins.
    #[default]
    Lww,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplicationOptions {
    #[serde(default = "yes")]
    enabled: bool,
    sync_interval: Option<Span>,
    #[serde(default = "yes")]
    compression: bool,
    #[serde(default)]
    default_strategy: Strategy,
}

fn yes() -> bool {
    true
}

/// How a storage is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// The longest time between two announcements of a root, about.
    pub sync_interval: Duration,
    /// Whether cells are compressed on their way.
    pub compression: bool,
    /// How values are merged.
    pub default_strategy: Strategy,
}

impl ReplicationOptions {
    /// Nothing if replication is not enabled.
    pub(super) fn validate(self) -> Result<Option<ReplicationConfig>, ConfigError> {
        let sync_interval = within(
            "replication.sync_interval",
            self.sync_interval.map(|span| span.0),
            limits::SYNC_INTERVAL,
            limits::DEFAULT_SYNC_INTERVAL,
        )?;
        let config = ReplicationConfig {
            sync_interval,
            compression: self.compression,
            default_strategy: self.default_strategy,
        };
        Ok(self.enabled.then_some(config))
    }
}

impl ReplicationConfig {
    /// All by which replicas have to merge alike, in one form.
    #[must_use]
    pub fn merge_rules(&self) -> &'static str {
        match self.default_strategy {
            Strategy::Lww => "lww",
        }
    }
}
