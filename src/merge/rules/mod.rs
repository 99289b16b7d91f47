//! Which strategy merges which put.

pub(in crate::merge) mod choice;
pub(in crate::merge) mod registry;
pub(in crate::merge) mod specificity;
