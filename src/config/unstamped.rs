//! What becomes of puts that no client stamped.

use serde::Deserialize;

/// What becomes of a put that a strategy merges and a router stamped. A put that reaches storages
/// by two routers has two timestamps then, and a counter counts it twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unstamped {
    /// It is taken, and counted.
    #[default]
    Accept,
    /// It is refused.
    Refuse,
}
