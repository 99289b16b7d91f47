//! What puts are made of: exact numbers, and elements of sets.

pub(in crate::merge) mod decimal;
pub(in crate::merge) mod element;
