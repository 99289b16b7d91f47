//! The configuration of the scrub.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Span, limits, within};

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object: `{}` for a scrub, `{ enabled: false }` for none"
)]
pub(super) struct ScrubOptions {
    #[serde(default = "yes")]
    enabled: bool,
    interval: Option<Span>,
}

fn yes() -> bool {
    true
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: None,
        }
    }
}

/// The options of the scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Whether the storage is scrubbed.
    pub enabled: bool,
    /// About the time of one pass.
    pub interval: Duration,
}

impl ScrubOptions {
    pub(super) fn validate(self) -> Result<ScrubConfig, ConfigError> {
        Ok(ScrubConfig {
            enabled: self.enabled,
            interval: within(
                "scrub.interval",
                self.interval,
                limits::SCRUB,
                limits::DEFAULT_SCRUB,
            )?
            .0,
        })
    }
}
