//! The configuration of the plugin `mst`, and of the storages that it serves itself.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value};
use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use super::{
    ConfigError, Span, StorageConfig, levels::shallow, limits, option_error, parse,
    volume::root_of, within,
};

/// The options of a served storage that the storage manager has for a volume's.
#[derive(Deserialize)]
struct DoorOptions {
    key_expr: String,
    strip_prefix: Option<String>,
    #[serde(default)]
    complete: bool,
    reply_timeout: Option<Span>,
}

const DOOR_OPTIONS: [&str; 4] = ["key_expr", "strip_prefix", "complete", "reply_timeout"];

/// The configuration of a storage that is served without the storage manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedConfig {
    /// The storage's name.
    pub name: String,
    /// What it subscribes to, and answers.
    pub key_expr: OwnedKeyExpr,
    /// What it does not store of each key.
    pub strip_prefix: Option<OwnedKeyExpr>,
    /// Whether it holds all that there is on its key expression.
    pub complete: bool,
    /// How long the answer to one get may take.
    pub reply_timeout: Duration,
    /// The options that a volume's storage has as well.
    pub storage: StorageConfig,
    /// All of it as it was given.
    pub given: Value,
}

impl ServedConfig {
    /// Parses the options of the storage called `name`, which stand side by side.
    ///
    /// # Errors
    /// If `key_expr` is missing, or an option is unknown, of the wrong type, nests too
    /// deep, or is out of its range.
    pub fn parse(name: &str, options: Value) -> Result<Self, ConfigError> {
        let Value::Object(given) = shallow(options)? else {
            return Err(option_error(
                name,
                "a storage is an object with a `key_expr`",
            ));
        };
        let (of_door, of_storage): (Map<_, _>, Map<_, _>) = given
            .clone()
            .into_iter()
            .partition(|(option, _)| DOOR_OPTIONS.contains(&option.as_str()));
        let of_door: DoorOptions =
            parse(Value::Object(of_door)).map_err(|error| error.at(name, &[]))?;
        let storage = StorageConfig::parse(name, Value::Object(of_storage))
            .map_err(|error| error.at(name, &DOOR_OPTIONS))?;
        let key_expr = key_expression("key_expr", of_door.key_expr)?;
        let strip_prefix = of_door.strip_prefix.map(|prefix| {
            let prefix = key_expression("strip_prefix", prefix)?;
            match is_prefix(&prefix, &key_expr) {
                true => Ok(prefix),
                false => Err(option_error(
                    "strip_prefix",
                    format!("found {prefix:?}, allowed are the first chunks of `key_expr`, {key_expr:?}, without wildcards"),
                )),
            }
        });
        let reply_timeout = within(
            "reply_timeout",
            of_door.reply_timeout,
            limits::REPLY,
            limits::DEFAULT_REPLY,
        )?;
        Ok(Self {
            name: name.to_owned(),
            key_expr,
            strip_prefix: strip_prefix.transpose()?,
            complete: of_door.complete,
            reply_timeout: reply_timeout.0,
            storage,
            given: Value::Object(given),
        })
    }
}

fn key_expression(option: &str, text: String) -> Result<OwnedKeyExpr, ConfigError> {
    // Zenoh's own error repeats the text.
    OwnedKeyExpr::autocanonize(text)
        .map_err(|error| option_error(option, format!("no key expression: {error}")))
}

fn is_prefix(prefix: &keyexpr, key_expr: &keyexpr) -> bool {
    let rest = key_expr.as_str().strip_prefix(prefix.as_str());
    !prefix.is_wild() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginOptions {
    root: Option<PathBuf>,
    graceful_stop: Option<bool>,
    #[serde(default)]
    storages: Map<String, Value>,
    // Where the companion plugin finds this library.
    #[serde(rename = "backend")]
    _backend: Option<Value>,
}

/// The configuration of the plugin `mst`.
#[derive(Debug)]
pub struct PluginConfig {
    /// The folder under which the storages keep theirs.
    pub root: PathBuf,
    /// Whether SIGTERM and SIGINT close the storages before they end the process.
    pub graceful_stop: bool,
    /// The storages, by name; what is wrong with one is not the fault of the others.
    pub storages: BTreeMap<String, Result<ServedConfig, ConfigError>>,
}

impl PluginConfig {
    /// Parses the options of the plugin. The folder is the first of these that is set:
    /// `root`, or [`default_root`](super::default_root).
    ///
    /// # Errors
    /// If an option is unknown or of the wrong type, or `root` is empty.
    pub fn parse(options: Map<String, Value>, zenoh_home: &Path) -> Result<Self, ConfigError> {
        // zenohd's own, such as `__path__`.
        let options = options.into_iter();
        let options = options.filter(|(option, _)| !option.starts_with("__"));
        let options: PluginOptions =
            parse(Value::Object(options.collect())).map_err(|error| error.at("mst", &[]))?;
        let storages = options.storages.into_iter().map(|(name, options)| {
            let parsed = ServedConfig::parse(&name, options);
            (name, parsed)
        });
        Ok(Self {
            root: root_of(options.root, zenoh_home)?,
            graceful_stop: options.graceful_stop.unwrap_or(true),
            storages: storages.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(options: Value) -> String {
        match ServedConfig::parse("demo", options) {
            Ok(config) => panic!("accepted as {config:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn options_stand_side_by_side() {
        let options = json!({
            "key_expr": "a/b/**", "strip_prefix": "a/b", "complete": true, "reply_timeout": "1m",
            "settle": "50ms", "replication": {},
        });
        let config = ServedConfig::parse("demo", options.clone()).expect("valid");
        let storage = json!({ "settle": "50ms", "replication": {} });
        let expected = ServedConfig {
            name: "demo".to_owned(),
            key_expr: "a/b/**".try_into().expect("a key expression"),
            strip_prefix: Some("a/b".try_into().expect("a key expression")),
            complete: true,
            reply_timeout: Duration::from_secs(60),
            storage: StorageConfig::parse("demo", storage).expect("valid"),
            given: options,
        };
        assert_eq!(config, expected);
        let least = ServedConfig::parse("demo", json!({ "key_expr": "a/**" })).expect("valid");
        assert_eq!(least.reply_timeout, Duration::from_secs(10));
        assert!(!least.complete && least.strip_prefix.is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |option: &str, value: Value| error(json!({ "key_expr": "a/**", option: value }));
        let unknown = with("settel", json!("1s"));
        for name in ["`settel`", "`settle`", "`reply_timeout`"] {
            assert!(unknown.contains(name), "{unknown}");
        }
        let missing = error(json!({ "settle": "1s" }));
        assert!(
            missing.contains("`key_expr`") && missing.contains("`demo`"),
            "{missing}"
        );
        assert!(error(json!(["a/**"])).contains("`key_expr`"));
        assert!(error(json!({ "key_expr": "a//b" })).contains("`key_expr`"));
        assert!(error(json!({ "key_expr": 7 })).contains("`key_expr`"));
        for prefix in ["b", "a/*", "a/**", ""] {
            let wrong = with("strip_prefix", json!(prefix));
            assert!(wrong.contains("`strip_prefix`"), "{wrong}");
        }
        let range = with("reply_timeout", json!("1ms"));
        assert!(
            range.contains("`reply_timeout`") && range.ends_with(r#""100ms" to "1d""#),
            "{range}"
        );
        assert!(with("complete", json!("yes")).contains("`complete`"));
        assert!(with("settle", json!("2h")).contains("`settle`"));
    }

    #[test]
    fn one_wrong_storage_does_not_spoil_the_others() {
        let parse = |options: Value| {
            let options = options.as_object().cloned().unwrap_or_default();
            PluginConfig::parse(options, Path::new("/home/zenoh"))
        };
        let config = parse(json!({
            "root": "/data", "__required__": true, "__path__": "x.so", "backend": "y.so",
            "storages": { "good": { "key_expr": "a/**" }, "bad": { "key_expr": 7 } },
        }));
        let config = config.expect("valid");
        assert_eq!(config.root, Path::new("/data"));
        assert!(config.storages["good"].is_ok() && config.storages["bad"].is_err());
        let wrong = parse(json!({ "storage": {} }))
            .expect_err("unknown")
            .to_string();
        assert!(
            wrong.contains("`storage`") && wrong.contains("`storages`"),
            "{wrong}"
        );
        assert!(parse(json!({})).expect("valid").storages.is_empty());
        let empty = parse(json!({ "root": "" })).expect_err("no folder");
        assert_eq!(
            empty.to_string(),
            r#"option `root`: found "", allowed is the path of a folder"#
        );
    }
}
