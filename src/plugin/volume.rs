//! The volume, which zenohd loads.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use serde_json::json;
use zenoh::{Result as ZResult, internal::zenoh_home};
use zenoh_backend_traits::{
    Capability, History, Persistence as ZPersistence, Storage, Volume, VolumeInstance,
    config::{StorageConfig as ZStorageConfig, VolumeConfig as ZVolumeConfig},
};
use zenoh_plugin_trait::{Plugin, plugin_long_version, plugin_version};
use zenoh_util::ffi::JsonValue;

use super::storage::MstStorage;
use crate::{
    config::{StorageConfig, VolumeConfig},
    net::{Routers, Sessions},
    serve::{Door, Opened, Opening, runtime, stop},
    store::FORMAT_VERSION,
};

/// The name under which zenohd finds this backend.
pub const VOLUME_NAME: &str = "mst";

#[cfg(feature = "dynamic_plugin")]
zenoh_plugin_trait::declare_plugin!(MstVolume);

/// The volume.
pub struct MstVolume {
    config: VolumeConfig,
    sessions: Arc<Sessions>,
    routers: Arc<Routers>,
}

impl Plugin for MstVolume {
    type StartArgs = ZVolumeConfig;
    type Instance = VolumeInstance;

    const DEFAULT_NAME: &'static str = VOLUME_NAME;
    const PLUGIN_VERSION: &'static str = plugin_version!();
    const PLUGIN_LONG_VERSION: &'static str = plugin_long_version!();

    fn start(name: &str, config: &Self::StartArgs) -> ZResult<Self::Instance> {
        // A loaded library has a log of its own.
        zenoh::init_log_from_env_or("error");
        tracing::debug!("volume '{name}': MST backend {}", Self::PLUGIN_LONG_VERSION);
        let config = VolumeConfig::parse((&config.rest).into(), zenoh_home())
            .map_err(|error| format!("volume '{name}': {error}"))?;
        runtime().map_err(|error| format!("volume '{name}': cannot start threads: {error}"))?;
        if config.graceful_stop {
            stop::handle_signals().map_err(|error| {
                format!("volume '{name}': cannot handle SIGTERM and SIGINT: {error}")
            })?;
        }
        let sessions = Sessions::of_volume(name, &config)
            .map_err(|error| format!("volume '{name}': {error}"))?;
        let sessions = Arc::new(sessions);
        let routers = Arc::new(Routers::new(Arc::clone(&sessions)));
        Ok(Box::new(Self {
            config,
            sessions,
            routers,
        }))
    }
}

#[async_trait]
impl Volume for MstVolume {
    fn get_admin_status(&self) -> JsonValue {
        json!({
            "root": self.config.root,
            "version": Self::PLUGIN_VERSION,
            "format": FORMAT_VERSION,
        })
        .into()
    }

    /// `History::All`, since with `Latest` the storage manager would drop what is older
    /// than the newest that it saw. The join decides that.
    fn get_capability(&self) -> Capability {
        Capability {
            persistence: ZPersistence::Durable,
            history: History::All,
        }
    }

    async fn create_storage(&self, config: ZStorageConfig) -> ZResult<Box<dyn Storage>> {
        let root = self.config.root.clone();
        let name = config.name.clone();
        let opening = runtime()?.spawn_blocking(move || open(root, &config));
        match opening.await? {
            Ok(opened) => {
                opened.start(&self.sessions)?;
                let stamps = opened.stamps(Arc::clone(&self.routers));
                Ok(Box::new(MstStorage::new(opened, stamps)))
            }
            Err(error) => Err(format!("storage '{name}': {error}").into()),
        }
    }
}

fn open(root: PathBuf, config: &ZStorageConfig) -> ZResult<Opened> {
    let options = StorageConfig::parse(&config.name, config.volume_cfg.into_serde_value())?;
    let opening = Opening {
        name: config.name.clone(),
        door: Door::Volume,
        key_expr: config.key_expr.clone(),
        strip_prefix: config.strip_prefix.clone(),
        root,
        options,
        configuration: config.to_json_value(),
    };
    opening.open()
}
