//! The storages that the plugin `mst` serves itself, on the router's session.
//!
//! The plugin is a library of its own, as two libraries cannot both export Zenoh's entry
//! points from one file. It finds this library, which the loader has in memory once,
//! whoever loads it, and calls [`serve`]: so folders, groups, limits and threads are
//! those of the volume.

use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
};

use serde_json::{Map, Value};
use zenoh::{
    Result as ZResult, Session,
    internal::{
        plugins::{Response, RunningPlugin, RunningPluginTrait, ZenohPlugin},
        runtime::DynamicRuntime,
        zenoh_home,
    },
    key_expr::{KeyExpr, keyexpr},
};
use zenoh_plugin_trait::{Plugin, PluginControl, plugin_long_version, plugin_version};
use zenoh_util::ffi::JsonKeyValueMap;

use crate::{
    config::{PluginConfig, ServedConfig},
    net::attach,
    serve::{Storage, destroy_closed, runtime, stop},
};

/// Serves the storages that the configuration of the plugin called `name` has, and those
/// that are added to it later.
///
/// # Errors
/// This library's version, if the plugin's differs; an option of the plugin itself that
/// is wrong. A storage that cannot be opened is logged, and is no error.
pub fn serve(
    version: &str,
    name: &str,
    runtime: &DynamicRuntime,
    config: &Value,
) -> Result<RunningPlugin, String> {
    attach(version, runtime).map_err(|own| {
        format!(
            "plugin '{name}': it is of version {version}, and the backend of version {own}; they \
             have to be built together"
        )
    })?;
    zenoh::init_log_from_env_or("error");
    let options = config.as_object().cloned().unwrap_or_default();
    let config = PluginConfig::parse(options, zenoh_home())
        .map_err(|error| format!("plugin '{name}': {error}"))?;
    // Now, and not with the first storage: that may be added by a change of the router's configuration,
    // which is locked then, and a session reads it.
    let router = runtime.clone();
    let session = block_on(async move { zenoh::session::init(router).await })
        .map_err(|error| format!("plugin '{name}': no session with the router: {error}"))?;
    let served = Served {
        is_stop_graceful: config.graceful_stop,
        session,
        storages: Mutex::default(),
    };
    let mut storages = served.storages();
    for (storage, parsed) in config.storages {
        let opened = match parsed {
            Ok(parsed) => served.open(&mut storages, parsed, config.root.clone()),
            Err(error) => Err(format!("storage '{storage}': {error}").into()),
        };
        if let Err(error) = opened {
            tracing::error!("plugin '{name}': {error}");
        }
    }
    drop(storages);
    Ok(Box::new(served))
}

/// The plugin `mst`, for a program that has this library in it. zenohd loads it from a file of its
/// own.
#[derive(Debug)]
pub struct MstPlugin;

impl ZenohPlugin for MstPlugin {}

impl Plugin for MstPlugin {
    type StartArgs = DynamicRuntime;
    type Instance = RunningPlugin;

    const DEFAULT_NAME: &'static str = "mst";
    const PLUGIN_VERSION: &'static str = plugin_version!();
    const PLUGIN_LONG_VERSION: &'static str = plugin_long_version!();

    fn start(name: &str, runtime: &DynamicRuntime) -> ZResult<RunningPlugin> {
        let config = runtime.get_config().get_plugin_config(name);
        let config = config.unwrap_or_default();
        Ok(serve(Self::PLUGIN_VERSION, name, runtime, &config)?)
    }
}

#[cfg(feature = "dynamic_plugin")]
#[unsafe(no_mangle)]
fn zenoh_backend_mst_serve(
    version: &str,
    name: &str,
    runtime: &DynamicRuntime,
    config: &Value,
) -> Result<RunningPlugin, String> {
    serve(version, name, runtime, config)
}

/// The storages by name, with the configuration and the folder that each has.
type Storages = BTreeMap<String, (ServedConfig, PathBuf, Storage)>;

struct Served {
    is_stop_graceful: bool,
    /// The router's own session.
    session: Session,
    storages: Mutex<Storages>,
}

/// Waits on this thread, which is zenohd's, for what runs on ours.
fn block_on<T: Send + 'static>(
    work: impl Future<Output = ZResult<T>> + Send + 'static,
) -> ZResult<T> {
    let (sender, receiver) = mpsc::channel();
    runtime()?.spawn(async move {
        // Whoever waits takes it.
        let _ = sender.send(work.await);
    });
    receiver.recv().map_err(|_| "a task panicked")?
}

impl Served {
    fn storages(&self) -> MutexGuard<'_, Storages> {
        self.storages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, storages: &mut Storages, config: ServedConfig, root: PathBuf) -> ZResult<()> {
        // A plugin without storages leaves the signals to others.
        if self.is_stop_graceful {
            stop::handle_signals()
                .map_err(|error| format!("cannot handle SIGTERM and SIGINT: {error}"))?;
        }
        let session = self.session.clone();
        let (parsed, folder) = (config.clone(), root.clone());
        let storage = block_on(async move { Storage::open(parsed, folder, &session).await })?;
        storages.insert(config.name.clone(), (config, root, storage));
        Ok(())
    }

    /// Makes the storages those of the new configuration. If that cannot be, it is an
    /// error, and they are what they were.
    fn update(&self, new: Map<String, Value>) -> ZResult<()> {
        let PluginConfig { root, storages, .. } = PluginConfig::parse(new, zenoh_home())?;
        let mut wanted = BTreeMap::new();
        for (name, parsed) in storages {
            let parsed = parsed.map_err(|error| format!("storage '{name}': {error}"))?;
            wanted.insert(name, (parsed, root.clone()));
        }
        let mut storages = self.storages();
        let before: BTreeMap<_, _> = storages
            .iter()
            .map(|(name, (config, root, _))| (name.clone(), (config.clone(), root.clone())))
            .collect();
        let changed = self.change_to(&mut storages, wanted);
        if changed.is_err()
            && let Err(error) = self.change_to(&mut storages, before)
        {
            tracing::error!("plugin 'mst': the storages are not what they were: {error}");
        }
        changed
    }

    /// Closes the storages that are not wanted so, and opens those that are wanted.
    fn change_to(
        &self,
        storages: &mut Storages,
        wanted: BTreeMap<String, (ServedConfig, PathBuf)>,
    ) -> ZResult<()> {
        let is_kept = |name: &String, (config, root, _): &(ServedConfig, PathBuf, Storage)| {
            let wanted = wanted.get(name);
            wanted.is_some_and(|wanted| (&wanted.0, &wanted.1) == (config, root))
        };
        let gone = storages.iter().filter(|(name, open)| !is_kept(name, open));
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        let mut destroyed = Vec::new();
        for name in gone {
            if let Some((.., mut storage)) = storages.remove(&name) {
                // A storage that changes keeps its data. One that goes loses them at last, when nothing
                // can fail any more: until then it may come back.
                let folder = storage.keep();
                if !wanted.contains_key(&name) {
                    destroyed.extend(folder.map(|folder| (name.clone(), folder)));
                }
                tracing::info!("storage '{name}' is closed");
                if let Err(error) = block_on(storage.close()) {
                    tracing::error!("storage '{name}' was not closed: {error}");
                }
            }
        }
        for (name, (config, root)) in wanted {
            if !storages.contains_key(&name) {
                self.open(storages, config, root)?;
            }
        }
        for (name, folder) in destroyed {
            let mut open = storages.values().map(|(.., storage)| storage.folder());
            if open.any(|open| open == Some(&*folder)) {
                // Under another name it goes on.
                continue;
            }
            let (of, path) = (name.clone(), folder.clone());
            let work = async move {
                let work = move || destroy_closed(&of, path);
                runtime()?.spawn_blocking(work).await?
            };
            if let Err(error) = block_on(work) {
                let folder = folder.display();
                tracing::error!("storage '{name}': {folder} was not deleted: {error}");
            }
        }
        Ok(())
    }
}

impl PluginControl for Served {}

impl RunningPluginTrait for Served {
    fn config_checker(
        &self,
        _path: &str,
        _current: &JsonKeyValueMap,
        new: &JsonKeyValueMap,
    ) -> ZResult<Option<JsonKeyValueMap>> {
        let updated = self.update(new.into());
        updated.inspect_err(|error| tracing::error!("plugin 'mst': {error}"))?;
        Ok(None)
    }

    fn adminspace_getter<'a>(
        &'a self,
        key_expr: &'a KeyExpr<'a>,
        plugin_status_key: &str,
    ) -> ZResult<Vec<Response>> {
        let is_asked = |key: &str| keyexpr::new(key).is_ok_and(|key| key_expr.intersects(key));
        let mut responses = Vec::new();
        let version = format!("{plugin_status_key}/version");
        if is_asked(&version) {
            responses.push(Response::new(version, env!("CARGO_PKG_VERSION").into()));
        }
        for (name, (.., storage)) in self.storages().iter() {
            let key = format!("{plugin_status_key}/storages/{name}");
            if is_asked(&key) {
                responses.push(Response::new(key, storage.status()));
            }
        }
        Ok(responses)
    }
}
