//! A storage on a Zenoh session: subscriber, queryable, replication and answers to
//! operators, without Zenoh's storage manager.
//!
//! Any program with a session, be it a router, a peer or a client, can hold one:
//!
//! ```no_run
//! # async fn example() -> zenoh::Result<()> {
//! use zenoh_backend_mst::serve::Storage;
//!
//! let mut config = zenoh::Config::default();
//! config.insert_json5("timestamping/enabled", "true")?;
//! let session = zenoh::open(config).await?;
//! let storage = Storage::builder("fleet/**")
//!     .root("/var/lib/robot")
//!     .option("replication", serde_json::json!({}))
//!     .open(&session)
//!     .await?;
//! storage.put("fleet/robot/7", "ready").await?;
//! assert!(storage.get("fleet/robot/7").await?.is_some());
//! storage.close().await
//! # }
//! ```
//!
//! | part | purpose |
//! |---|---|
//! | `opening` | opens a storage and runs its background work, for both doors |
//! | `claims` | who has which folder and group |
//! | `held` | the folder of an open storage, and its end |
//! | `puts` | takes puts and deletes |
//! | `gets`, `lanes` | answers gets, and the pools in which they wait |
//! | `keys` | strips the prefix; where the keys of a pattern are |

mod claims;

mod gets;
mod held;
mod keys;
mod lanes;
mod log_limit;
mod opening;
mod puts;
mod remembered;
mod runtime;
mod scrub;
mod stamps;
pub(crate) mod stop;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value};
use zenoh::{
    Result as ZResult, Session,
    bytes::{Encoding, ZBytes},
    internal::zenoh_home,
    pubsub::Subscriber,
    query::{Query, Queryable},
    sample::Sample,
    time::Timestamp as ZenohTimestamp,
};
use zenoh_keyexpr::keyexpr;

pub(crate) use claims::Door;
pub(crate) use held::destroy_closed;
pub(crate) use opening::{Opened, Opening};
pub(crate) use runtime::runtime;
pub(crate) use stamps::Stamps;

use self::{gets::Answers, keys::Prefix, puts::Intake};
use crate::{
    cell::Key,
    config::{ServedConfig, default_root},
    merge::Form,
    mst::RootHash,
    net::{Routers, Sessions, convert},
    replica::Lookup,
};

/// The value of a key, as a local read finds it.
#[derive(Clone, Debug)]
pub struct StoredValue {
    /// The payload.
    pub payload: ZBytes,
    /// Its encoding.
    pub encoding: Encoding,
    /// What its publisher attached to it.
    pub attachment: Option<ZBytes>,
    /// When it was written, and by whose clock.
    pub timestamp: ZenohTimestamp,
}

/// Configures a storage.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is opened"]
pub struct Builder {
    name: Option<String>,
    root: Option<PathBuf>,
    options: Map<String, Value>,
}

impl Builder {
    /// The name, for the log, for metrics, and of the folder. As it is not given, it is
    /// made of the key expression.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The folder that has the storages' folders; if it is not given, that of [`default_root`].
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Any option of a storage, as in the configuration of the plugin.
    pub fn option(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.options.insert(option.to_owned(), value.into());
        self
    }

    /// Opens the storage, and serves it on the session.
    ///
    /// # Errors
    /// If an option is wrong; if the session has no timestamps; if the storage cannot be
    /// opened, or the session declares nothing.
    pub async fn open(self, session: &Session) -> ZResult<Storage> {
        let key_expr = self.options.get("key_expr").and_then(Value::as_str);
        let name = self.name.unwrap_or_else(|| {
            let group = crate::sync::Group {
                key_expr: key_expr.unwrap_or_default().to_owned(),
                strip_prefix: None,
            };
            group.to_string()
        });
        let config = ServedConfig::parse(&name, Value::Object(self.options))
            .map_err(|error| format!("storage '{name}': {error}"))?;
        let root = self.root.unwrap_or_else(|| default_root(zenoh_home()));
        Storage::open(config, root, session).await
    }
}

/// What is undeclared when the storage is closed.
struct Declared {
    _subscriber: Subscriber<()>,
    _queryable: Queryable<()>,
}

/// A storage that is served on a session. Dropping it closes it, in the background:
/// [`close`](Self::close) says when that is done.
pub struct Storage {
    // Undeclared first.
    declared: Declared,
    opened: Opened,
    prefix: Prefix,
    session: Session,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Storage").field(&self.name()).finish()
    }
}

impl Storage {
    /// Begins to configure a storage on a key expression.
    pub fn builder(key_expr: &str) -> Builder {
        let key_expr = ("key_expr".to_owned(), key_expr.into());
        Builder {
            name: None,
            root: None,
            options: Map::from_iter([key_expr]),
        }
    }

    /// Opens a storage with this configuration, whose folder is in `root`.
    ///
    /// # Errors
    /// As of [`Builder::open`].
    pub async fn open(config: ServedConfig, root: PathBuf, session: &Session) -> ZResult<Self> {
        let name = config.name.clone();
        let opened = Self::try_open(config, root, session).await;
        opened.map_err(|error| format!("storage '{name}': {error}").into())
    }

    async fn try_open(config: ServedConfig, root: PathBuf, session: &Session) -> ZResult<Self> {
        if session.hlc().is_none() {
            return Err(
                "the session makes no timestamps, by which a storage knows what is \
                        newer: set `timestamping: { enabled: true }` in Zenoh's configuration"
                    .into(),
            );
        }
        let runtime = runtime()?;
        let (key_expr, complete) = (config.key_expr.clone(), config.complete);
        let prefix = Prefix::new(config.strip_prefix.clone());
        let reply_timeout = config.reply_timeout;
        let name = config.name.clone();
        let opening = Opening {
            name: config.name,
            door: Door::Served,
            key_expr: config.key_expr,
            strip_prefix: config.strip_prefix,
            root,
            options: config.storage,
            configuration: config.given,
        };
        let opened = runtime.spawn_blocking(move || opening.open()).await??;
        let sessions = Arc::new(Sessions::given(&name, session.clone()));
        let stamps = opened.stamps(Arc::new(Routers::new(Arc::clone(&sessions))));
        let operator = &opened.operator;
        let intake = Intake::new(operator, prefix.clone(), session, stamps, runtime);
        let answers = Answers::new(operator, prefix.clone(), reply_timeout, runtime);
        let (intake, answers) = (Arc::new(intake), Arc::new(answers));
        let declared = Declared {
            _subscriber: session
                .declare_subscriber(&key_expr)
                .callback(move |sample: Sample| intake.take(&sample))
                .await?,
            _queryable: session
                .declare_queryable(&key_expr)
                .complete(complete)
                .callback(move |query: Query| answers.answer(query))
                .await?,
        };
        opened.start(&sessions)?;
        Ok(Self {
            declared,
            opened,
            prefix,
            session: session.clone(),
        })
    }

    /// The storage's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.opened.operator.admin().name
    }

    /// The status, documented, field by field, in docs/operators.md.
    #[must_use]
    pub fn status(&self) -> Value {
        self.opened.operator.status()
    }

    /// The hash of all that has settled.
    #[must_use]
    pub fn root(&self) -> RootHash {
        self.opened.replica.published().root
    }

    fn stored_key(&self, key: &str) -> ZResult<Key> {
        let full = keyexpr::new(key)?;
        let group = &self.opened.operator.admin().group;
        let is_ours = keyexpr::new(group.key_expr.as_str())?.includes(full);
        let stripped = self.prefix.strip(full);
        match stripped.filter(|_| is_ours && !full.is_wild()) {
            Some(key) => Ok(key),
            None => Err(format!("{key} is not a key of {}", group.key_expr).into()),
        }
    }

    /// Reads the value of a key here, without the network.
    ///
    /// # Errors
    /// If it is not a key of the storage, or cannot be read.
    pub async fn get(&self, key: &str) -> ZResult<Option<StoredValue>> {
        let key = self.stored_key(key)?;
        let cell = match self.opened.replica.get(&key, Form::Native) {
            Lookup::Absent => None,
            Lookup::Found(cell) => Some(cell),
            Lookup::Stored(stored) => {
                let replica = Arc::clone(&self.opened.replica);
                runtime()?
                    .spawn_blocking(move || replica.read(&stored))
                    .await??
            }
        };
        let held = cell.as_ref().and_then(|cell| Some((cell, cell.value()?)));
        let held = held.map(|(cell, value)| {
            Ok(StoredValue {
                payload: ZBytes::from(value.payload.clone()),
                encoding: convert::encoding(value),
                attachment: convert::attachment(value),
                timestamp: convert::zenoh_timestamp(cell.timestamp)?,
            })
        });
        held.transpose()
    }

    /// Puts a value here, without the network; it is not published. Replicas get it by
    /// replication. Waits while more is queued than may be, or as `durability` asks.
    ///
    /// # Errors
    /// If it is not a key of the storage, if the put is refused, or if the storage failed.
    pub async fn put(&self, key: &str, payload: impl Into<ZBytes>) -> ZResult<()> {
        self.put_encoded(key, payload, Encoding::default()).await
    }

    /// As [`put`](Self::put), with an encoding.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub async fn put_encoded(
        &self,
        key: &str,
        payload: impl Into<ZBytes>,
        encoding: Encoding,
    ) -> ZResult<()> {
        let timestamp = self.session.new_timestamp();
        let cell = convert::value_cell(&payload.into(), &encoding, None, &timestamp);
        self.write(key, cell).await
    }

    /// Deletes a key here, without the network; see [`put`](Self::put).
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub async fn delete(&self, key: &str) -> ZResult<()> {
        let timestamp = self.session.new_timestamp();
        self.write(key, convert::tombstone(&timestamp)).await
    }

    async fn write(&self, key: &str, cell: crate::cell::Cell) -> ZResult<()> {
        let outcome = self.opened.replica.put(self.stored_key(key)?, cell)?;
        if let Some(committed) = outcome.committed {
            committed.await?;
        }
        Ok(())
    }

    /// The folder, if the storage is durable.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.opened.folder()
    }

    /// Has the folder kept when the storage is closed, whatever its options say; the folder, if it
    /// would be deleted.
    pub(crate) fn keep(&mut self) -> Option<PathBuf> {
        self.opened.keep()
    }

    /// Closes the storage, and returns when all is on disk and its folder is free.
    ///
    /// # Errors
    /// If the storage failed, now or before.
    pub async fn close(self) -> ZResult<()> {
        let Self {
            declared, opened, ..
        } = self;
        drop(declared);
        runtime()?.spawn_blocking(move || opened.close()).await?
    }
}
