//! Opens a storage, and runs what goes on in its background: the same for both doors.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tokio::sync::Notify;
use zenoh::{Error as ZError, Result as ZResult, key_expr::OwnedKeyExpr};

use super::{
    claims::{Claim, Door, GroupClaim, wait_until_released},
    held::HeldFolder,
    remembered, runtime,
    scrub::{scrub, tidy},
    stamps::Stamps,
    stop,
};
use crate::{
    admin::{Administration, Scrubbing, Subject},
    cell::ntp64_span,
    config::{OnClosure, Persistence, StorageConfig, Unstamped},
    merge::MergeRules,
    net::{Operator, Replication, Replicator, Routers, Sessions},
    replica::{Clock, OpenError, Options, Replica, ReplicaError},
    store::{
        DurableStore, MemoryStore, Mirror, Owner, Sidecar, StoreError, complete_recovery, recover,
    },
    sync::Group,
};

/// A storage to be opened.
pub(crate) struct Opening {
    pub(crate) name: String,
    pub(crate) door: Door,
    pub(crate) key_expr: OwnedKeyExpr,
    pub(crate) strip_prefix: Option<OwnedKeyExpr>,
    /// The folder that has the storages' folders.
    pub(crate) root: PathBuf,
    pub(crate) options: StorageConfig,
    /// As it was given, for the status.
    pub(crate) configuration: Value,
}

/// A storage that is open. Dropping it closes it, in the background.
pub(crate) struct Opened {
    pub(crate) replica: Arc<Replica>,
    pub(crate) operator: Arc<Operator>,
    unstamped: Unstamped,
    folder: Option<PathBuf>,
    stop_scrub: Arc<Notify>,
    stop_tidying: Arc<Notify>,
    /// Given up when the storage takes no more puts.
    group: Option<GroupClaim>,
    held: Option<Weak<HeldFolder>>,
    /// Whether it is deleted when the storage is closed.
    is_destroyed: bool,
}

impl Opening {
    /// Opens the storage. Blocks on disk.
    ///
    /// # Errors
    /// If the other door has it, if the merge rules are wrong, or if its data cannot be
    /// read.
    pub(crate) fn open(self) -> ZResult<Opened> {
        let Self {
            name,
            door,
            key_expr,
            strip_prefix,
            root,
            options,
            configuration,
        } = self;
        let prefix = strip_prefix.as_deref();
        let rules = MergeRules::of(&options, &key_expr, prefix)?;
        let rules_text = rules.text().to_owned();
        let group = Group {
            key_expr: key_expr.to_string(),
            strip_prefix: prefix.map(ToString::to_string),
        };
        let claim = GroupClaim::wait_for(&group.to_string(), door).map_err(|other| {
            format!(
                "{other} has a storage on {key_expr} in this process already: each put would be \
                 taken twice, and each get answered twice; configure it at one of them"
            )
        })?;
        let folder = match options.persistence {
            Persistence::Memory => None,
            Persistence::Durable => Some(root.join(&options.dir)),
        };
        let owner = Owner {
            key_expr,
            strip_prefix,
        };
        let rules = Arc::new(rules);
        let opened = open_replica(&name, &options, folder.as_deref(), &owner, rules)?;
        let (replica, held) = (Arc::new(opened.replica), opened.held);
        let claimed = folder;
        // A storage that is only read works on a mirror.
        let folder = opened.mirrored.or_else(|| claimed.clone());
        let recovered = match &folder {
            Some(folder) => Sidecar::Recovered.read(folder)?,
            None => None,
        };
        stop::closes(&replica);
        let published = replica.published();
        tracing::info!(
            "storage '{name}' on {}: {} keys, {} cells, root {}",
            owner.key_expr,
            published.keys,
            published.cells,
            published.root
        );
        let mut replicator = None;
        if let Some(replication) = options.replication {
            let replication = Replication {
                name: name.clone(),
                group: group.clone(),
                config: replication,
                rules: rules_text.clone(),
                max_clock_drift: options.max_clock_drift,
                folder: folder.clone(),
                clock: system_clock(),
                // No configuration has replicas collect yet.
                members: None,
            };
            let made = Replicator::new(Arc::clone(&replica), replication)?;
            replicator = Some(Arc::new(made));
        }
        let scrubbing = Scrubbing::open(options.scrub, folder.clone())?;
        let subject = Subject {
            name,
            group,
            replica: Arc::clone(&replica),
            folder,
            rules: rules_text,
            max_clock_drift: options.max_clock_drift,
            clock: system_clock(),
            recovered,
        };
        let admin = Administration::new(subject, scrubbing);
        let operator = Operator::new(admin, replicator, configuration, options.operators)?;
        Ok(Opened {
            replica,
            operator: Arc::new(operator),
            unstamped: options.unstamped,
            folder: claimed,
            stop_scrub: Arc::default(),
            stop_tidying: Arc::default(),
            group: Some(claim),
            held,
            is_destroyed: options.on_closure == OnClosure::Destroy,
        })
    }
}

impl Opened {
    /// Starts replication, answers to operators, and the scrub.
    ///
    /// # Errors
    /// If no threads can be started.
    pub(crate) fn start(&self, sessions: &Arc<Sessions>) -> std::io::Result<()> {
        let runtime = runtime()?;
        runtime.spawn(Arc::clone(&self.operator).run(Arc::clone(sessions)));
        let (operator, stop) = (Arc::clone(&self.operator), Arc::clone(&self.stop_scrub));
        runtime.spawn(scrub(operator, system_clock(), stop));
        let (operator, stop) = (Arc::clone(&self.operator), Arc::clone(&self.stop_tidying));
        runtime.spawn(tidy(operator, self.held.clone(), stop));
        Ok(())
    }

    /// What looks at the timestamps of its puts.
    pub(crate) fn stamps(&self, routers: Arc<Routers>) -> Stamps {
        Stamps::new(self.operator.admin().name.clone(), routers, self.unstamped)
    }

    /// The folder, if the storage is durable.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Has its folder kept when it is closed; the folder, if it would be deleted.
    pub(crate) fn keep(&mut self) -> Option<PathBuf> {
        let is_destroyed = std::mem::take(&mut self.is_destroyed);
        self.folder.clone().filter(|_| is_destroyed)
    }

    /// Begins to close the storage: it takes no more, and commits what it took.
    pub(crate) fn begin_close(&mut self) {
        self.group = None;
        if let Some(held) = self.held.take().and_then(|held| held.upgrade()) {
            held.note_died(self.replica.died_until());
            if self.is_destroyed {
                held.destroy_when_closed();
            }
        }
        if let Some(path) = self.folder() {
            Claim::announce_closing(path);
        }
        self.operator.stop();
        self.stop_scrub.notify_one();
        self.stop_tidying.notify_one();
        self.replica.begin_close();
    }

    /// Closes the storage, and returns when all is on disk and its folder is free. Blocks
    /// on disk.
    ///
    /// # Errors
    /// If the store failed, now or before; if something else still has the folder.
    pub(crate) fn close(mut self) -> ZResult<()> {
        self.begin_close();
        let (replica, folder) = (Arc::clone(&self.replica), self.folder().map(PathBuf::from));
        // Who else has the replica lets go of it soon.
        drop(self);
        replica.wait_until_closed();
        let failure = replica.failure();
        drop(replica);
        if let Some(failure) = failure {
            return Err(ReplicaError::Failed(failure).to_string().into());
        }
        match folder {
            Some(path) if !wait_until_released(&path) => Err(StoreError::Locked { path }.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Opened {
    /// The replica closes on its own thread, and the last reference to it is dropped on
    /// ours, not on the caller's, which may not block.
    fn drop(&mut self) {
        self.begin_close();
        if let Ok(runtime) = runtime() {
            let replica = Arc::clone(&self.replica);
            runtime.spawn_blocking(move || replica.wait_until_closed());
        }
    }
}

/// A replica that was opened.
struct OpenedReplica {
    replica: Replica,
    /// The mirror of its folder that it works on, if it is only read.
    mirrored: Option<PathBuf>,
    /// Its folder, which the replica holds.
    held: Option<Weak<HeldFolder>>,
}

/// Opens the replica whose data is in `folder`, if it is on disk. If damage prevents
/// that, a replicated store is moved aside, as its peers can send the data again; a store
/// without replicas is left as it is, since there is nothing better.
fn open_replica(
    name: &str,
    options: &StorageConfig,
    folder: Option<&Path>,
    owner: &Owner,
    rules: Arc<MergeRules>,
) -> ZResult<OpenedReplica> {
    let mut replica_options = Options {
        durability: options.durability,
        sync_every: options.sync_every,
        settle: options.settle,
        max_clock_drift: options.max_clock_drift,
        keep_changes: options.replication.is_some(),
        collect_after: options.collect.map(|collect| collect.after),
        died_until: None,
    };
    let clock = system_clock();
    let Some(folder) = folder else {
        let store = Box::new(MemoryStore);
        return Ok(OpenedReplica {
            replica: Replica::open(name, store, replica_options, rules, clock, ())?,
            mirrored: None,
            held: None,
        });
    };
    let claim = Claim::wait_for(folder)?;
    let mirror = match options.read_only {
        true => {
            // Before anything else is said of it.
            let mirror = Mirror::of(folder)?;
            owner.check(folder)?;
            Some(Arc::new(mirror))
        }
        false => {
            complete_recovery(folder)?;
            owner.take(folder, options.create)?;
            replica_options.died_until = remembered::check(folder, &options.lifetimes, clock())?;
            None
        }
    };
    let died_by = Some(&options.lifetimes).filter(|lifetimes| {
        let is_none = lifetimes.keys.is_empty();
        !(options.read_only || is_none)
    });
    let died_until = replica_options.died_until.unwrap_or(0);
    let died_by = died_by.map(|lifetimes| (lifetimes.clone(), died_until));
    let held = Arc::new(HeldFolder::new(name, folder.to_owned(), claim, died_by));
    let opened_folder = mirror.as_ref().map_or(folder, |mirror| mirror.path());
    let open = |store: DurableStore| -> Result<Replica, OpenError> {
        let (rules, clock) = (Arc::clone(&rules), Arc::clone(&clock));
        // The mirror is removed first.
        let held = (mirror.clone(), Arc::clone(&held));
        let replica = Replica::open(name, Box::new(store), replica_options, rules, clock, held)?;
        match options.read_only {
            true => replica.refuse_writes(),
            false => {
                // A folder of none has nothing to remember.
                let until = replica.died_until().max(died_until);
                remembered::remember(folder, &options.lifetimes, until)?;
            }
        }
        Ok(replica)
    };
    let opened = |replica| OpenedReplica {
        replica,
        mirrored: mirror.as_ref().map(|mirror| mirror.path().to_owned()),
        held: Some(Arc::downgrade(&held)),
    };
    let attempt = || -> Result<Replica, OpenError> {
        open(DurableStore::open(opened_folder, options.cache_size)?)
    };
    // The engine may panic over contents that it takes for impossible.
    let error: ZError = match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(Ok(replica)) => return Ok(opened(replica)),
        Ok(Err(OpenError::Store(error))) if error.is_damage() => error.into(),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => "the storage engine panicked, as it does when its files are damaged".into(),
    };
    if options.replication.is_none() {
        return Err(format!(
            "{error}; the storage is not replicated, so its folder is left as it is: check it with \
             `mstctl --dir {0} verify`, save what can be read with `mstctl --dir {0} salvage`, or \
             restore a backup with `mstctl restore`",
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
        recovered.saved.cells
    );
    Ok(opened(open(store)?))
}

pub(crate) fn system_clock() -> Clock {
    Arc::new(|| {
        // A clock before 1970 counts as 1970: then everything is ahead of it, and
        // refused.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, ntp64_span)
    })
}
