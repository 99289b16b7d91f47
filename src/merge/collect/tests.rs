
//! The laws of collecting.
