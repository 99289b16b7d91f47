//! The strategies that come with the library.

pub(in crate::merge) mod additive;
#[cfg(feature = "automerge")]
pub(in crate::merge) mod automerge;
pub(in crate::merge) mod object;
pub(in crate::merge) mod set_union;
