//! Applying updates: by time bucket, as the watermark passes, to the tree.

pub(in crate::replica) mod bucket;
pub(in crate::replica) mod buckets;
mod collecting;
#[cfg(test)]
mod collecting_tests;
mod covering;
pub(in crate::replica) mod death_pace;
mod deaths;
#[cfg(test)]
mod deaths_tests;
mod dying;
pub(in crate::replica) mod entry;
mod fading;
pub(in crate::replica) mod joined;
pub(in crate::replica) mod loader;
pub(in crate::replica) mod loading;
mod rules;
#[cfg(test)]
mod rules_tests;
pub(in crate::replica) mod tree;
pub(in crate::replica) mod watermark;
