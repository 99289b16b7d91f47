//! Zenoh's storage manager as a library that zenohd can load.
zenoh_plugin_trait::declare_plugin!(zenoh_plugin_storage_manager::StoragesPlugin);
