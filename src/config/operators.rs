//! What operators may have a storage do.

use serde::Deserialize;

/// What the storage does for those who ask it through Zenoh, from nothing to all:
/// each allows what those before it allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operators {
    /// Nothing: no query of an operator is answered.
    None,
    /// Reading: the status, keys, proofs, verifications, backups.
    #[default]
    Read,
    /// Also what changes or fills something: restores, rollbacks, snapshots, holding
    /// the scrub, comparing with all peers at once.
    All,
}

impl Operators {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::All => "all",
        }
    }
}
