//! From cells to a value.

pub(in crate::merge) mod merged;
pub(in crate::merge) mod slot;
