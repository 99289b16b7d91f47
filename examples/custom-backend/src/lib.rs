//! A backend with a merge strategy of its own: `median`.
//!
//! It is the MST backend with something registered before it starts; all else, its
//! configuration included, is the same. zenohd loads it in the place of the other:
//!
//! ```json5
//! volumes: { mst: { __path__: "target/release/libzenoh_backend_custom.so" } },
//! storages: { cellar: {
//!   key_expr: "cellar/**",
//!   volume: { id: "mst", replication: { key_overrides: { "cellar/temperature": "median" } } },
//! } },
//! ```

#![warn(missing_docs)]

mod median;

pub use median::Median;

use serde_json::Value;
use zenoh::{
    Result as ZResult,
    internal::{plugins::RunningPlugin, runtime::DynamicRuntime},
};
use zenoh_backend_mst::{
    merge::{RegisterError, register},
    plugin::{MstVolume, serve},
};
use zenoh_backend_traits::{VolumeInstance, config::VolumeConfig};
use zenoh_plugin_trait::Plugin;

zenoh_plugin_trait::declare_plugin!(CustomVolume);

/// Of the rules by which [`Median`] writes and reads: replicas merge with each other
/// only if theirs is the same.
const MEDIAN_VERSION: u32 = 1;

/// The volume that zenohd loads.
pub struct CustomVolume;

impl Plugin for CustomVolume {
    type StartArgs = VolumeConfig;
    type Instance = VolumeInstance;

    const DEFAULT_NAME: &'static str = MstVolume::DEFAULT_NAME;
    const PLUGIN_VERSION: &'static str = MstVolume::PLUGIN_VERSION;
    const PLUGIN_LONG_VERSION: &'static str = MstVolume::PLUGIN_LONG_VERSION;

    fn start(name: &str, config: &VolumeConfig) -> ZResult<VolumeInstance> {
        register_median()?;
        MstVolume::start(name, config)
    }
}

fn register_median() -> Result<(), RegisterError> {
    match register("median", MEDIAN_VERSION, Median) {
        // A volume may be started more than once, and the plugin before it.
        Ok(()) | Err(RegisterError::Taken(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// By this name the plugin `mst` has storages served, and lends the router's session.
#[unsafe(no_mangle)]
fn zenoh_backend_mst_serve(
    version: &str,
    name: &str,
    runtime: &DynamicRuntime,
    config: &Value,
) -> Result<RunningPlugin, String> {
    register_median().map_err(|error| error.to_string())?;
    serve(version, name, runtime, config)
}
