//! The volume, which zenohd loads.

use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use serde_json::json;
use zenoh::{internal::zenoh_home, Error as ZError, Result as ZResult};
use zenoh_backend_traits::{
    config::{StorageConfig as ZStorageConfig, VolumeConfig as ZVolumeConfig},
    Capability, History, Persistence as ZPersistence, Storage, Volume, VolumeInstance,
};
use zenoh_plugin_trait::{plugin_long_version, plugin_version, Plugin};
use zenoh_util::ffi::JsonValue;

use super::{claims::Claim, runtime, scrub::scrub, stop, storage::MstStorage};
use crate::{
    admin::{Administration, Scrubbing, Subject},
    cell::ntp64_span,
    config::{Persistence, StorageConfig, VolumeConfig},
    merge::MergeRules,
    net::{Operator, Replication, Replicator, Routers, Sessions},
    replica::{Clock, OpenError, Options, Replica},
    store::{
        complete_recovery, recover, DurableStore, MemoryStore, Recovered, StoreError,
        FORMAT_VERSION,
    },
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
        let sessions = Sessions::new(name, config.session.clone())
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
            Ok(operator) => {
                let (operator, stop) = (Arc::new(operator), Arc::default());
                let runtime = runtime()?;
                runtime.spawn(Arc::clone(&operator).run(Arc::clone(&self.sessions)));
                let scrub = scrub(Arc::clone(&operator), system_clock(), Arc::clone(&stop));
                runtime.spawn(scrub);
                let routers = Arc::clone(&self.routers);
                Ok(Box::new(MstStorage::new(operator, stop, routers)))
            }
            Err(error) => Err(format!("storage '{name}': {error}").into()),
        }
    }
}

fn open(root: PathBuf, config: &ZStorageConfig) -> ZResult<Operator> {
    let options = StorageConfig::parse(&config.name, config.volume_cfg.into_serde_value())?;
    let prefix = config.strip_prefix.as_deref();
    let rules = MergeRules::new(&options.merge, &config.key_expr, prefix)?;
    let rules_text = rules.text().to_owned();
    let group = Group {
        key_expr: config.key_expr.to_string(),
        strip_prefix: prefix.map(ToString::to_string),
    };
    let folder = match options.persistence {
        Persistence::Memory => None,
        Persistence::Durable => Some(root.join(&options.dir)),
    };
    let opened = open_replica(&config.name, &options, folder.as_deref(), Arc::new(rules))?;
    let (replica, recovered) = (Arc::new(opened.0), opened.1);
    stop::closes(&replica);
    let published = replica.published();
    tracing::info!(
        "storage '{}' on {}: {} keys, {} cells, root {}",
        config.name,
        config.key_expr,
        published.keys,
        published.cells,
        published.root
    );
    let mut replicator = None;
    if let Some(replication) = options.replication {
        let replication = Replication {
            name: config.name.clone(),
            group: group.clone(),
            config: replication,
            rules: rules_text.clone(),
            max_clock_drift: options.max_clock_drift,
            folder: folder.clone(),
            clock: system_clock(),
        };
        let made = Replicator::new(Arc::clone(&replica), replication)?;
        replicator = Some(Arc::new(made));
    }
    let scrubbing = Scrubbing::open(options.scrub, folder.clone())?;
    let subject = Subject {
        name: config.name.clone(),
        group,
        replica,
        folder,
        rules: rules_text,
        max_clock_drift: options.max_clock_drift,
        clock: system_clock(),
        recovered,
    };
    let admin = Administration::new(subject, scrubbing);
    let operator = Operator::new(admin, replicator, config.to_json_value(), options.operators)?;
    Ok(operator)
}

/// Opens the replica whose data is in `folder`, if it is on disk. If damage prevents
/// that, a replicated store is moved aside, as its peers can send the data again; a store
/// without replicas is left as it is, since there is nothing better.
fn open_replica(
    name: &str,
    options: &StorageConfig,
    folder: Option<&Path>,
    rules: Arc<MergeRules>,
) -> ZResult<(Replica, Option<Recovered>)> {
    let replica_options = Options {
        durability: options.durability,
        sync_every: options.sync_every,
        settle: options.settle,
        max_clock_drift: options.max_clock_drift,
        keep_changes: options.replication.is_some(),
    };
    let clock = system_clock();
    let Some(folder) = folder else {
        let store = Box::new(MemoryStore);
        return Ok((
            Replica::open(name, store, replica_options, rules, clock, ())?,
            None,
        ));
    };
    let claim = Claim::wait_for(folder).ok_or(StoreError::Locked {
        path: folder.to_owned(),
    })?;
    let claim = Arc::new(claim);
    complete_recovery(folder)?;
    let open = |store: DurableStore| {
        let (rules, clock) = (Arc::clone(&rules), Arc::clone(&clock));
        let claim = Arc::clone(&claim);
        Replica::open(name, Box::new(store), replica_options, rules, clock, claim)
    };
    let attempt =
        || -> Result<Replica, OpenError> { open(DurableStore::open(folder, options.cache_size)?) };
    // The engine may panic over contents that it takes for impossible.
    let error: ZError = match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(Ok(replica)) => return Ok((replica, None)),
        Ok(Err(OpenError::Store(error))) if error.is_damage() => error.into(),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => "the storage engine panicked, as it does when its files are damaged".into(),
    };
    if options.replication.is_none() {
        return Err(format!(
            "{error}; the storage is not replicated, so its folder is left as it is: check it with \
             `mstctl --dir {} verify`, restore a backup with `mstctl restore`",
            folder.display()
        )
        .into());
    }
    tracing::error!("storage '{name}' cannot be opened: {error}");
    let (store, recovered) = recover(folder, options.cache_size)?;
    tracing::error!(
        "storage '{name}': the damaged store was moved to {}; {} of its cells were saved, the \
         other replicas send the rest",
        recovered.aside.display(),
        recovered.saved
    );
    Ok((open(store)?, Some(recovered)))
}

fn system_clock() -> Clock {
    Arc::new(|| {
        // A clock before 1970 counts as 1970: then everything is ahead of it, and
        // refused.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, ntp64_span)
    })
}
