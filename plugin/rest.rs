//! Zenoh's REST plugin as a library that zenohd can load.
zenoh_plugin_trait::declare_plugin!(zenoh_plugin_rest::RestPlugin);
