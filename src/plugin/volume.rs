//! The volume: what zenohd loads.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use serde_json::{json, Value};
use zenoh::{internal::zenoh_home, Result as ZResult};
use zenoh_backend_traits::{
    config::{StorageConfig as ZStorageConfig, VolumeConfig as ZVolumeConfig},
    Capability, History, Persistence as ZPersistence, Storage, Volume, VolumeInstance,
};
use zenoh_plugin_trait::{plugin_long_version, plugin_version, Plugin};
use zenoh_util::ffi::JsonValue;

use super::{claims::Claim, runtime, storage::MstStorage};
use crate::{
    cell::ntp64_span,
    config::{Persistence, StorageConfig, VolumeConfig},
    merge::MergeRules,
    net::{Replication, Replicator, Sessions},
    replica::{Clock, Options, Replica},
    store::{DurableStore, MemoryStore, Store, StoreError, FORMAT_VERSION},
    sync::Group,
};

/// The name under which zenohd finds this backend.
pub const VOLUME_NAME: &str = "mst";

#[cfg(feature = "dynamic_plugin")]
zenoh_plugin_trait::declare_plugin!(MstVolume);

/// The volume.
pub struct MstVolume {
    config: VolumeConfig,
    sessions: Arc<Sessions>,
}

impl Plugin for MstVolume {
    type StartArgs = ZVolumeConfig;
    type Instance = VolumeInstance;

    const DEFAULT_NAME: &'static str = VOLUME_NAME;
    const PLUGIN_VERSION: &'static str = plugin_version!();
    const PLUGIN_LONG_VERSION: &'static str = plugin_long_version!();

    fn start(name: &str, config: &Self::StartArgs) -> ZResult<Self::Instance> {
        // A library that is loaded has a log of its own.
        zenoh::init_log_from_env_or("error");
        tracing::debug!("volume '{name}': MST backend {}", Self::PLUGIN_LONG_VERSION);
        let config = VolumeConfig::parse((&config.rest).into(), zenoh_home())
            .map_err(|error| format!("volume '{name}': {error}"))?;
        runtime()
            .map_err(|error| format!("volume '{name}': no threads can be started: {error}"))?;
        let sessions = Sessions::new(name, config.session.clone())
            .map_err(|error| format!("volume '{name}': {error}"))?;
        Ok(Box::new(Self {
            config,
            sessions: Arc::new(sessions),
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

    /// `History::All`, since the storage manager would drop what is older than
    /// the newest that it saw, which is for the merge to decide.
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
            Ok((storage, replicator)) => {
                if let Some(replicator) = replicator {
                    runtime()?.spawn(replicator.run(Arc::clone(&self.sessions)));
                }
                Ok(Box::new(storage))
            }
            Err(error) => Err(format!("storage '{name}': {error}").into()),
        }
    }
}

type Opened = (MstStorage, Option<Arc<Replicator>>);

fn open(root: PathBuf, config: &ZStorageConfig) -> ZResult<Opened> {
    let options = StorageConfig::parse(&config.name, config.volume_cfg.into_serde_value())?;
    let prefix = config.strip_prefix.as_deref();
    let rules = MergeRules::new(&options.merge, &config.key_expr, prefix)?;
    let rules_text = rules.text().to_owned();
    let (mut claim, mut folder) = (None, None);
    let store: Box<dyn Store> = match options.persistence {
        Persistence::Memory => Box::new(MemoryStore::default()),
        Persistence::Durable => {
            let path = root.join(&options.dir);
            claim = Some(Claim::wait_for(&path).ok_or(StoreError::Locked { path: path.clone() })?);
            let store = DurableStore::open(&path, options.cache_size)?;
            folder = Some(path);
            Box::new(store)
        }
    };
    let replica_options = Options {
        durability: options.durability,
        sync_every: options.sync_every,
        settle: options.settle,
        max_clock_drift: options.max_clock_drift,
    };
    let replica = Replica::open(
        &config.name,
        store,
        replica_options,
        Arc::new(rules),
        system_clock(),
        claim,
    )?;
    let published = replica.published();
    tracing::info!(
        "storage '{}' on {}: {} keys, {} cells, root {}",
        config.name,
        config.key_expr,
        published.keys,
        published.cells,
        published.root
    );
    let replica = Arc::new(replica);
    let mut replicator = None;
    if let Some(replication) = options.replication {
        let replication = Replication {
            name: config.name.clone(),
            group: Group {
                key_expr: config.key_expr.to_string(),
                strip_prefix: prefix.map(ToString::to_string),
            },
            config: replication,
            rules: rules_text,
            max_clock_drift: options.max_clock_drift,
            folder: folder.clone(),
            clock: system_clock(),
        };
        replicator = Some(Arc::new(Replicator::new(
            Arc::clone(&replica),
            replication,
        )?));
    }
    let configuration: Value = config.to_json_value();
    let storage = MstStorage::new(replica, folder, configuration, replicator.clone());
    Ok((storage, replicator))
}

fn system_clock() -> Clock {
    Arc::new(|| {
        // Before 1970 it is 1970: then all is ahead of the clock, and refused.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, ntp64_span)
    })
}
