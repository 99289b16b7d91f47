//! Typed configuration: parses and checks what a user wrote, and fills in defaults.
//!
//! A storage or volume with an invalid configuration is refused with a message that names
//! the option, what was found, and what is allowed.

mod collect;
mod folder;
mod levels;
mod lifetimes;
mod merge;
mod nearest;
mod operators;
mod private;
mod replication;
mod schema;
mod scrub;
mod served;
mod units;
mod unstamped;
mod volume;

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use thiserror::Error;

pub use collect::CollectConfig;
pub use folder::OnClosure;
pub use lifetimes::{
    LifetimeStep, LifetimesConfig, MAX_LIFETIME_STEPS, MAX_LIFETIMES, parse_lifetime, parse_ttl,
};
pub use merge::{MergeConfig, StrategyConfig};
pub use operators::Operators;
pub use replication::ReplicationConfig;
pub use schema::schema;
pub use scrub::ScrubConfig;
pub use served::{PluginConfig, ServedConfig};
pub use units::{ByteSize, Span};
pub use unstamped::Unstamped;
pub use volume::{DEFAULT_ROOT, ROOT_ENV, VolumeConfig, default_root};

use collect::CollectOptions;
use folder::{is_read_only, may_create, parse_dir, refuse_foreign};
use levels::shallow;
use lifetimes::LifetimeOption;
use nearest::with_hint;
use replication::ReplicationOptions;
use scrub::ScrubOptions;

/// An error in a configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An unknown option, or one with an impossible value.
    #[error("option `{option}`: {}", with_hint(reason))]
    Option {
        /// The path of the option.
        option: String,
        /// What was found, and what is allowed.
        reason: String,
    },
    /// The options of a storage are not an object.
    #[error("`volume` has to be the volume's name, or an object with its name as `id`; found {0}")]
    NotAnObject(Value),
}

impl ConfigError {
    /// An error of what is called `what`: if an option is not known, it may be one of
    /// `others` as well as of those that the error lists.
    fn at(self, what: &str, others: &[&str]) -> Self {
        let Self::Option { option, mut reason } = self else {
            return self;
        };
        if reason.starts_with("unknown field") && !option.contains('.') {
            others
                .iter()
                .for_each(|other| reason += &format!(", `{other}`"));
        }
        match option.as_str() {
            // As `parse` says it of what is at the top.
            "volume" => option_error(what, reason),
            _ => Self::Option { option, reason },
        }
    }
}

fn option_error(option: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Option {
        option: option.to_owned(),
        reason: reason.into(),
    }
}

/// Parses options, and keeps the path to an error.
fn parse<T: DeserializeOwned>(options: Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(options).map_err(|error| {
        let option = error.path().to_string();
        let reason = error.into_inner().to_string();
        match option.as_str() {
            // An unknown option at the top: the reason names it.
            "." => option_error("volume", reason),
            _ => option_error(&option, reason),
        }
    })
}

/// Where data is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// In memory: lost when the process ends.
    Memory,
    /// On disk.
    #[default]
    Durable,
}

/// What a put that has returned survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A put returns when it is on disk.
    Always,
    /// At any instant, the puts that have returned and are not on disk are at most those
    /// of the last sync interval: if the disk falls behind, puts wait for it.
    #[default]
    Interval,
    /// A put reaches the operating system within the sync interval, which decides when to
    /// write it: from then on it survives a crash of the process, but not a loss of
    /// power.
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StorageOptions {
    #[serde(default)]
    persistence: Persistence,
    dir: Option<String>,
    create: Option<bool>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    on_closure: OnClosure,
    #[serde(default)]
    durability: Durability,
    sync_every: Option<Span>,
    settle: Option<Span>,
    max_clock_drift: Option<Span>,
    cache_size: Option<ByteSize>,
    #[serde(default)]
    scrub: ScrubOptions,
    #[serde(default)]
    operators: Operators,
    #[serde(default)]
    unstamped: Unstamped,
    #[serde(default)]
    lifetimes: BTreeMap<String, LifetimeOption>,
    collect: Option<CollectOptions>,
    replication: Option<ReplicationOptions>,
}

/// The configuration of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Where data is kept.
    pub persistence: Persistence,
    /// The storage's folder, below the volume's.
    pub dir: PathBuf,
    /// Whether a storage is made where there is none.
    pub create: bool,
    /// Whether it takes no writes, and changes nothing in its folder.
    pub read_only: bool,
    /// What becomes of the folder when the storage is closed.
    pub on_closure: OnClosure,
    /// What a put that has returned survives.
    pub durability: Durability,
    /// The sync interval: with [`Durability::Interval`], the longest time that puts may
    /// span which have returned and are not on disk.
    pub sync_every: Duration,
    /// How long an update waits for others of its time before the root includes it.
    pub settle: Duration,
    /// How far ahead of the local clock a timestamp may be.
    pub max_clock_drift: Duration,
    /// Bytes of memory for the storage engine's buffers and caches.
    pub cache_size: u64,
    /// The scrub.
    pub scrub: ScrubConfig,
    /// What operators may have the storage do.
    pub operators: Operators,
    /// What becomes of puts to merged keys that no client stamped.
    pub unstamped: Unstamped,
    /// How long values are kept.
    pub lifetimes: LifetimesConfig,
    /// How what was deleted is collected, if it is.
    pub collect: Option<CollectConfig>,
    /// How puts are merged.
    pub merge: MergeConfig,
    /// The options of replication, if the storage is replicated.
    pub replication: Option<ReplicationConfig>,
}

/// The bounds and defaults of options.
mod limits {
    use std::{ops::RangeInclusive, time::Duration};

    use super::{ByteSize, Span};

    const fn millis(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }

    const fn seconds(seconds: u64) -> Span {
        millis(1000 * seconds)
    }

    const DAY: u64 = 24 * 3600;

    pub(super) const SYNC_EVERY: RangeInclusive<Span> = millis(10)..=seconds(60);
    pub(super) const DEFAULT_SYNC_EVERY: Span = millis(100);
    pub(super) const SETTLE: RangeInclusive<Span> = millis(10)..=seconds(60);
    pub(super) const DEFAULT_SETTLE: Span = millis(500);
    pub(super) const DRIFT: RangeInclusive<Span> = millis(1)..=seconds(DAY);
    pub(super) const DEFAULT_DRIFT: Span = seconds(10);
    pub(super) const CACHE: RangeInclusive<ByteSize> = ByteSize(4 << 20)..=ByteSize(1 << 40);
    pub(super) const DEFAULT_CACHE: ByteSize = ByteSize(128 << 20);
    pub(super) const LIFETIME: RangeInclusive<Span> = seconds(1)..=seconds(3660 * DAY);
    pub(super) const TTL: RangeInclusive<Span> = millis(1)..=seconds(3660 * DAY);
    pub(super) const COLLECT: RangeInclusive<Span> = seconds(60)..=seconds(366 * DAY);
    pub(super) const DEFAULT_COLLECT: Span = seconds(7 * DAY);
    pub(super) const SCRUB: RangeInclusive<Span> = seconds(60)..=seconds(366 * DAY);
    pub(super) const DEFAULT_SCRUB: Span = seconds(7 * DAY);
    pub(super) const REPLY: RangeInclusive<Span> = millis(100)..=seconds(DAY);
    pub(super) const DEFAULT_REPLY: Span = seconds(10);
    pub(super) const SYNC_INTERVAL: RangeInclusive<Span> = seconds(1)..=seconds(DAY);
    pub(super) const DEFAULT_SYNC_INTERVAL: Span = seconds(30);
}

/// The value, or the default, if it is in the range.
fn within<T: PartialOrd + Copy + fmt::Display>(
    option: &str,
    value: Option<T>,
    range: RangeInclusive<T>,
    default: T,
) -> Result<T, ConfigError> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (range.start(), range.end());
    Err(option_error(
        option,
        format!("found {value}, allowed is {low} to {high}"),
    ))
}

impl StorageConfig {
    /// Parses the `volume` options of the storage called `name`.
    ///
    /// # Errors
    /// If an option is unknown, of the wrong type, nests too deep, or is out of its
    /// range.
    pub fn parse(name: &str, options: Value) -> Result<Self, ConfigError> {
        let options = match shallow(options)? {
            Value::Null => Value::Object(Map::new()),
            options @ Value::Object(_) => options,
            other => return Err(ConfigError::NotAnObject(other)),
        };
        if let Value::Object(options) = &options {
            refuse_foreign(options)?;
        }
        let options: StorageOptions = parse(options)?;
        let settle = within(
            "settle",
            options.settle,
            limits::SETTLE,
            limits::DEFAULT_SETTLE,
        )?;
        let (merge, replication) = match options.replication {
            Some(replication) => replication.validate()?,
            None => (MergeConfig::default(), None),
        };
        let config = Self {
            persistence: options.persistence,
            dir: parse_dir(options.dir.as_deref().unwrap_or(name))?,
            create: may_create(options.create, options.persistence)?,
            read_only: options.read_only,
            on_closure: options.on_closure,
            durability: options.durability,
            sync_every: sync_every(options.sync_every, settle)?.0,
            settle: settle.0,
            max_clock_drift: within(
                "max_clock_drift",
                options.max_clock_drift,
                limits::DRIFT,
                limits::DEFAULT_DRIFT,
            )?
            .0,
            cache_size: within(
                "cache_size",
                options.cache_size,
                limits::CACHE,
                limits::DEFAULT_CACHE,
            )?
            .0,
            scrub: options.scrub.validate()?,
            operators: options.operators,
            unstamped: options.unstamped,
            lifetimes: lifetimes::validate(options.lifetimes)?,
            collect: collect::validate(
                options.collect,
                replication.is_some(),
                options.read_only,
                settle,
            )?,
            merge,
            replication,
        };
        is_read_only(&config)?;
        Ok(config)
    }
}

/// How often updates are committed. They are before they settle: so a longer time would mean nothing.
fn sync_every(given: Option<Span>, settle: Span) -> Result<Span, ConfigError> {
    let default = limits::DEFAULT_SYNC_EVERY.min(settle);
    let sync_every = within("sync_every", given, limits::SYNC_EVERY, default)?;
    if sync_every > settle {
        return Err(option_error(
            "sync_every",
            format!(
                "found {sync_every}, and `settle` is {settle}: an update is committed before it \
                 settles, so allowed are times up to `settle`"
            ),
        ));
    }
    Ok(sync_every)
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(options: Value) -> String {
        match StorageConfig::parse("demo", options) {
            Ok(config) => panic!("accepted as {config:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nothing_means_the_defaults() {
        let config = StorageConfig::parse("demo", Value::Null).expect("valid");
        let expected = StorageConfig {
            persistence: Persistence::Durable,
            dir: "demo".into(),
            create: true,
            read_only: false,
            on_closure: OnClosure::DoNothing,
            durability: Durability::Interval,
            sync_every: Duration::from_millis(100),
            settle: Duration::from_millis(500),
            max_clock_drift: Duration::from_secs(10),
            cache_size: 128 << 20,
            scrub: ScrubConfig {
                enabled: true,
                interval: Duration::from_secs(7 * 24 * 3600),
            },
            operators: Operators::Read,
            unstamped: Unstamped::Accept,
            lifetimes: LifetimesConfig::default(),
            collect: None,
            merge: MergeConfig::default(),
            replication: None,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn every_option_is_taken() {
        let options = json!({
            "persistence": "memory", "dir": "a/b", "create": true, "read_only": false, "on_closure": "destroy",
            "durability": "always", "sync_every": "1s",
            "settle": "2s", "max_clock_drift": "2m", "cache_size": "16MiB",
            "scrub": { "enabled": false, "interval": "30d" }, "operators": "all", "unstamped": "refuse",
            "lifetimes": { "demo/*/pose": "10s" },
            "replication": {
                "sync_interval": "1m", "compression": false, "default_strategy": "object",
                "type_overrides": { "counter": "additive" },
                "key_overrides": {
                    "demo/*/state": { "strategy": "object", "fields": { "hours": "additive" } },
                },
            },
        });
        let config = StorageConfig::parse("demo", options).expect("valid");
        let expected = StorageConfig {
            persistence: Persistence::Memory,
            dir: "a/b".into(),
            create: true,
            read_only: false,
            on_closure: OnClosure::Destroy,
            durability: Durability::Always,
            sync_every: Duration::from_secs(1),
            settle: Duration::from_secs(2),
            max_clock_drift: Duration::from_secs(120),
            cache_size: 16 << 20,
            scrub: ScrubConfig {
                enabled: false,
                interval: Duration::from_secs(30 * 24 * 3600),
            },
            operators: Operators::All,
            unstamped: Unstamped::Refuse,
            collect: None,
            lifetimes: LifetimesConfig {
                keys: vec![(
                    "demo/*/pose".try_into().expect("a key expression"),
                    vec![LifetimeStep {
                        from: 0,
                        kept: 10_000,
                    }],
                )],
            },
            merge: MergeConfig {
                default: "object".into(),
                types: BTreeMap::from([("counter".to_owned(), "additive".into())]),
                keys: vec![(
                    "demo/*/state".try_into().expect("a key expression"),
                    StrategyConfig {
                        name: "object".to_owned(),
                        fields: BTreeMap::from([("hours".to_owned(), "additive".into())]),
                    },
                )],
            },
            replication: Some(ReplicationConfig {
                sync_interval: Duration::from_secs(60),
                compression: false,
            }),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn what_would_be_committed_after_it_settles_is_refused() {
        let late = error(json!({ "sync_every": "5s" }));
        assert!(
            late.contains("`sync_every`") && late.contains("`settle` is \"500ms\""),
            "{late}"
        );
        let options = json!({ "sync_every": "5s", "settle": "5s" });
        assert!(StorageConfig::parse("demo", options).is_ok());
        // The default is never too long.
        let config = StorageConfig::parse("demo", json!({ "settle": "20ms" })).expect("valid");
        assert_eq!(config.sync_every, Duration::from_millis(20));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = error(json!({ "persistance": "memory" }));
        assert!(
            unknown.contains("`persistance`") && unknown.contains("`persistence`"),
            "{unknown}"
        );
        let value = error(json!({ "durability": "sometimes" }));
        assert!(
            value.contains("`durability`") && value.contains("`sometimes`"),
            "{value}"
        );
        assert!(value.contains("`always`"), "{value}");
        let operators = error(json!({ "operators": "write" }));
        assert!(
            operators.contains("`operators`") && operators.contains("`none`, `read`, `all`"),
            "{operators}"
        );
        let kind = error(json!({ "settle": 5 }));
        assert!(
            kind.contains("`settle`") && kind.contains('5') && kind.contains("ms"),
            "{kind}"
        );
        let unit = error(json!({ "sync_every": "3 parsecs" }));
        assert!(
            unit.contains("`sync_every`") && unit.contains("3 parsecs"),
            "{unit}"
        );
        let range = error(json!({ "settle": "2h" }));
        assert!(
            range.contains("`settle`")
                && range.ends_with(r#"found "2h", allowed is "10ms" to "1m""#),
            "{range}"
        );
        let deep = error(json!({ "replication": { "sync_interval": "1ms" } }));
        assert!(deep.contains("`replication.sync_interval`"), "{deep}");
        let deep = error(json!({ "scrub": { "interval": "1s" } }));
        assert!(
            deep.contains("`scrub.interval`") && deep.ends_with(r#""1m" to "366d""#),
            "{deep}"
        );
        let size = error(json!({ "cache_size": 4095 << 10 }));
        assert!(
            size.contains("`cache_size`")
                && size.ends_with(r#"found "4095KiB", allowed is "4MiB" to "1024GiB""#),
            "{size}"
        );
        let deep = error(json!({ "scrub": false }));
        assert!(
            deep.contains("`scrub`") && deep.contains("`{ enabled: false }`"),
            "{deep}"
        );
        for wrong in [json!(true), json!("yes"), json!([])] {
            let deep = error(json!({ "replication": wrong }));
            assert!(
                deep.contains("`replication`") && deep.contains("`{}`"),
                "{deep}"
            );
        }
        let deep = error(json!({ "replication": { "intervall": "1s" } }));
        assert!(deep.contains("`intervall`"), "{deep}");
        let deep = error(json!({ "replication": { "default_strategy": 7 } }));
        assert!(
            deep.contains("`replication.default_strategy`") && deep.contains("strategy"),
            "{deep}"
        );
        let deep = error(json!({ "replication": { "key_overrides": { "a//b": "lww" } } }));
        assert!(deep.contains("`replication.key_overrides"), "{deep}");
        let object = json!({ "strategy": "object", "felds": {} });
        let deep = error(json!({ "replication": { "type_overrides": { "x": object } } }));
        assert!(
            deep.contains("`felds`") && deep.contains("`fields`"),
            "{deep}"
        );
        for dir in ["", "/tmp/x", "../x", "a/../../x", "."] {
            let error = error(json!({ "dir": dir }));
            assert!(error.contains("`dir`"), "{error}");
        }
        assert!(error(json!(["mst"])).contains("object"));
    }

    #[test]
    fn a_storage_that_is_not_replicated_can_merge() {
        let options = json!({ "enabled": false, "default_strategy": "additive" });
        let config = StorageConfig::parse("demo", json!({ "replication": options }));
        let config = config.expect("valid");
        assert_eq!(config.replication, None);
        assert_eq!(config.merge.default, "additive".into());
    }

    #[test]
    fn replication_needs_no_options_and_can_be_disabled() {
        let replication = |options: Value| {
            let config = StorageConfig::parse("demo", json!({ "replication": options }));
            config.expect("valid").replication
        };
        let config = replication(json!({})).expect("enabled");
        assert_eq!(config.sync_interval, Duration::from_secs(30));
        assert!(config.compression);
        assert_eq!(replication(json!({ "enabled": false })), None);
    }

    #[test]
    fn a_storage_whose_name_is_no_folder_needs_a_dir() {
        assert!(StorageConfig::parse("../up", Value::Null).is_err());
        assert!(StorageConfig::parse("../up", json!({ "dir": "up" })).is_ok());
    }
}
