//! Serves storages on the router's own session, and lends that to the MST backend's
//! volumes for replication.
//!
//! Both need the router's runtime, which a plugin is given and a volume is not. All code
//! is in the backend's library, which this plugin finds where the storage manager finds
//! it: the loader has a file in memory once, so plugin and volume share folders, limits
//! and threads. Two files there must be, as both would export Zenoh's entry points.

use serde_json::Value;
use zenoh::{
    Result as ZResult,
    internal::{
        plugins::{RunningPlugin, ZenohPlugin},
        runtime::DynamicRuntime,
    },
};
use zenoh_plugin_trait::{Plugin, plugin_long_version, plugin_version};
use zenoh_util::{LibLoader, LibSearchDirs};

zenoh_plugin_trait::declare_plugin!(MstPlugin);

/// The backend's library, without what the system adds to its name.
const BACKEND: &str = "zenoh_backend_mst";

/// The function by which the backend serves; given are the caller's version, its name,
/// the runtime and its configuration.
type Serve = fn(&str, &str, &DynamicRuntime, &Value) -> Result<RunningPlugin, String>;

struct MstPlugin;

impl ZenohPlugin for MstPlugin {}

impl Plugin for MstPlugin {
    type StartArgs = DynamicRuntime;
    type Instance = RunningPlugin;
    const DEFAULT_NAME: &'static str = "mst";
    const PLUGIN_VERSION: &'static str = plugin_version!();
    const PLUGIN_LONG_VERSION: &'static str = plugin_long_version!();

    fn start(name: &str, runtime: &DynamicRuntime) -> ZResult<RunningPlugin> {
        zenoh::init_log_from_env_or("error");
        let config = runtime.get_config();
        let manager = config
            .get_plugin_config("storage_manager")
            .unwrap_or_default();
        let own = config.get_plugin_config(name).unwrap_or_default();
        let paths = backend_paths(&own, &manager);
        // SAFETY: as of any plugin, its code is trusted.
        let given = paths
            .iter()
            .find_map(|path| unsafe { LibLoader::load_file(path) }.ok());
        let found = match given {
            Some(found) => Some(found),
            None => {
                // Without a storage manager it may be beside this plugin.
                let beside = config.get("plugins_loading/search_dirs").ok();
                let beside = beside.and_then(|dirs| serde_json::from_str(&dirs).ok());
                let dirs = [
                    manager["backend_search_dirs"].clone(),
                    beside.unwrap_or_default(),
                ];
                dirs.into_iter().find_map(|dirs| {
                    let dirs = serde_json::from_value::<LibSearchDirs>(dirs).unwrap_or_default();
                    // SAFETY: as above.
                    unsafe { LibLoader::new(dirs).search_and_load(BACKEND) }
                        .ok()
                        .flatten()
                })
            }
        };
        let (library, path) = found.ok_or_else(|| {
            format!(
                "plugin '{name}': the backend's library was found neither at {paths:?} nor where \
                 the storage manager and `zenohd` search; its path can be given as `backend`"
            )
        })?;
        // SAFETY: both libraries are of one compiler and of one version of Zenoh,
        // or the router would not have loaded them, and the symbol is the
        // backend's function of this type.
        let serve =
            unsafe { library.get::<Serve>(b"zenoh_backend_mst_serve\0") }.map_err(|error| {
                format!(
                    "plugin '{name}': {path:?} is not the MST backend of this version, {}: {error}",
                    env!("CARGO_PKG_VERSION")
                )
            })?;
        let served = serve(env!("CARGO_PKG_VERSION"), name, runtime, &own)?;
        tracing::info!("plugin '{name}': the backend {path:?} has the router's session");
        // Its code is in use from now on.
        std::mem::forget(library);
        Ok(served)
    }
}

/// Where the backend may be, by the configurations of this plugin and of the
/// storage manager.
fn backend_paths(own: &Value, manager: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    let mut add = |path: &Value| match path {
        Value::String(path) => paths.push(path.clone()),
        Value::Array(several) => {
            paths.extend(several.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        _ => {}
    };
    add(&own["backend"]);
    for (volume, options) in manager["volumes"].as_object().into_iter().flatten() {
        if options["backend"].as_str().unwrap_or(volume) == "mst" {
            add(&options["__path__"]);
        }
    }
    paths
}
