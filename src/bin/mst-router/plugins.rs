//! The plugins of the router: `mst` and `rest` are in this program, others come from files.

use serde_json::{Map, Value};
use zenoh::{
    Config,
    internal::plugins::{PLUGIN_PREFIX, PluginsManager},
};
use zenoh_backend_mst::plugin::MstPlugin;
use zenoh_plugin_rest::RestPlugin;

const MST: &str = "mst";
const REST: &str = "rest";

/// The plugins that the configuration asks for.
pub(crate) struct Plugins {
    /// All, loaded and not started.
    pub(crate) manager: PluginsManager,
    /// Without these the router does not run.
    pub(crate) required: Vec<String>,
}

impl Plugins {
    /// Loads the plugins.
    ///
    /// # Errors
    /// If a configuration is none, or a required plugin is not found.
    pub(crate) fn load(config: &Config) -> Result<Self, String> {
        let plugins = config
            .get_json("plugins")
            .map_err(|error| error.to_string())?;
        let plugins: Map<String, Value> = serde_json::from_str(&plugins)
            .map_err(|error| format!("the configuration of plugins: {error}"))?;
        let mut loaded = Self {
            manager: PluginsManager::dynamic(config.libloader(), PLUGIN_PREFIX.to_owned()),
            required: Vec::new(),
        };
        for (id, options) in &plugins {
            let is_required = loaded
                .add(id, options)
                .map_err(|error| format!("plugin '{id}': {error}"))?;
            if is_required {
                loaded.required.push(id.clone());
            }
        }
        Ok(loaded)
    }

    /// Adds a plugin; true if it is required, and there.
    fn add(&mut self, id: &str, options: &Value) -> Result<bool, String> {
        let Value::Object(options) = options else {
            return Err(format!("its configuration is an object; found {options}"));
        };
        let is_required = match options.get("__required__") {
            None => false,
            Some(Value::Bool(is_required)) => *is_required,
            Some(other) => return Err(format!("`__required__` is true or false; found {other}")),
        };
        let name = match options.get("__plugin__") {
            Some(Value::String(name)) => name,
            _ => id,
        };
        // A plugin of these names that is in a file is not looked for: it is here.
        match name {
            MST => {
                self.manager
                    .declare_static_plugin::<MstPlugin, _>(id, false);
                // It is what this program is for.
                return Ok(true);
            }
            REST => {
                self.manager
                    .declare_static_plugin::<RestPlugin, _>(id, false);
                return Ok(is_required);
            }
            _ => {}
        }
        refuse_volume(options)?;
        match self.load_file(id, name, options.get("__path__")) {
            Ok(()) => Ok(is_required),
            Err(error) if is_required => Err(error),
            Err(error) => {
                tracing::error!("plugin '{id}' is not loaded: {error}");
                Ok(false)
            }
        }
    }

    fn load_file(&mut self, id: &str, name: &str, path: Option<&Value>) -> Result<(), String> {
        let paths = match path {
            None => None,
            Some(Value::String(path)) => Some(vec![path.clone()]),
            Some(several) => Some(
                serde_json::from_value::<Vec<String>>(several.clone())
                    .map_err(|error| format!("`__path__` is a path or a list of paths: {error}"))?,
            ),
        };
        let declared = match paths {
            Some(paths) => self
                .manager
                .declare_dynamic_plugin_by_paths(name, id, &paths, false),
            None => self.manager.declare_dynamic_plugin_by_name(id, name, false),
        };
        let loaded = declared.and_then(|declared| declared.load().map(|_| ()));
        loaded.map_err(|error| error.to_string())
    }
}

/// Refuses a storage manager with a volume of this backend. Its library would be a second copy of
/// what is in this program, and neither would know which folders and groups the other has.
fn refuse_volume(options: &Map<String, Value>) -> Result<(), String> {
    let volumes = options.get("volumes").and_then(Value::as_object);
    for (volume, options) in volumes.into_iter().flatten() {
        if options["backend"].as_str().unwrap_or(volume) == MST {
            return Err(format!(
                "the volume '{volume}' is of the backend that is in this program; configure its \
                 storages at the plugin `mst`"
            ));
        }
    }
    Ok(())
}
