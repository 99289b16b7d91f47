//! The configuration of replication.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use zenoh_keyexpr::OwnedKeyExpr;

use super::{ConfigError, MergeConfig, Span, StrategyConfig, limits, option_error, within};

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object: `{}` to replicate the storage, `{ enabled: false }` not to"
)]
pub(super) struct ReplicationOptions {
    #[serde(default = "yes")]
    enabled: bool,
    sync_interval: Option<Span>,
    #[serde(default = "yes")]
    compression: bool,
    #[serde(default)]
    default_strategy: StrategyConfig,
    #[serde(default)]
    type_overrides: BTreeMap<String, StrategyConfig>,
    #[serde(default)]
    key_overrides: BTreeMap<String, StrategyConfig>,
}

fn yes() -> bool {
    true
}

/// The options of replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// About the longest time between two announcements of a root.
    pub sync_interval: Duration,
    /// Whether sent cells are compressed.
    pub compression: bool,
}

impl ReplicationOptions {
    /// The merge rules, and the options of replication if that is enabled.
    pub(super) fn validate(self) -> Result<(MergeConfig, Option<ReplicationConfig>), ConfigError> {
        let sync_interval = within(
            "replication.sync_interval",
            self.sync_interval,
            limits::SYNC_INTERVAL,
            limits::DEFAULT_SYNC_INTERVAL,
        )?
        .0;
        let config = ReplicationConfig {
            sync_interval,
            compression: self.compression,
        };
        let keys = self.key_overrides.into_iter().map(|(rule, strategy)| {
            let option = format!("replication.key_overrides.{rule}");
            match OwnedKeyExpr::try_from(rule) {
                Ok(rule) => Ok((rule, strategy)),
                Err(error) => Err(option_error(&option, error.to_string())),
            }
        });
        let merge = MergeConfig {
            default: self.default_strategy,
            types: self.type_overrides,
            keys: keys.collect::<Result<_, _>>()?,
        };
        Ok((merge, self.enabled.then_some(config)))
    }
}
