//! Reading the tree: in order, in part, and against another.

pub(in crate::mst) mod between;
pub(in crate::mst) mod diff;
pub(in crate::mst) mod scan;
