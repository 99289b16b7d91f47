//! What zenohd sees: a volume and its storages for the storage manager, and the storages
//! that the plugin `mst` serves itself.
//!
//! This layer has no logic of its own: it translates calls, and keeps whatever may block
//! on disk off the storage manager's threads, of which all storages share two.

mod served;
mod storage;
mod unstamped;
mod volume;

pub use served::{MstPlugin, serve};
pub use volume::{MstVolume, VOLUME_NAME};
