//! The options of the volume and of the plugin as a whole: where storages are kept, and how a
//! session is opened.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ConfigError, option_error, private};

/// The environment variable with the folder that contains the storages' folders, where
/// the volume does not set `root`.
pub const ROOT_ENV: &str = "ZENOH_BACKEND_MST_ROOT";

/// The folder under Zenoh's home, where neither is set.
pub const DEFAULT_ROOT: &str = "zenoh_backend_mst";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeOptions {
    root: Option<PathBuf>,
    session: Option<Map<String, Value>>,
    graceful_stop: Option<bool>,
    #[serde(rename = "private")]
    _private: Option<Map<String, Value>>,
    // The storage manager's own option, which it leaves among the others.
    #[serde(rename = "backend")]
    _backend: Option<String>,
}

/// The configuration of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeConfig {
    /// The folder under which the storages keep theirs.
    pub root: PathBuf,
    /// The Zenoh configuration of the session that replication opens where the router
    /// does not lend its own; it overlays one that connects to a router on this machine.
    pub session: Map<String, Value>,
    /// Whether something in `session` was given below `private`: it is in no message.
    pub session_is_private: bool,
    /// Whether SIGTERM and SIGINT close the storages before they end the process.
    pub graceful_stop: bool,
}

/// The folder that contains the storages' folders, if no option says which.
#[must_use]
pub fn default_root(zenoh_home: &Path) -> PathBuf {
    of_environment(env::var_os(ROOT_ENV)).unwrap_or_else(|| zenoh_home.join(DEFAULT_ROOT))
}

/// A variable that is empty is none: otherwise it would be the folder that the process was started in.
fn of_environment(value: Option<OsString>) -> Option<PathBuf> {
    value.filter(|value| !value.is_empty()).map(Into::into)
}

pub(super) fn root_of(option: Option<PathBuf>, zenoh_home: &Path) -> Result<PathBuf, ConfigError> {
    match option {
        None => Ok(default_root(zenoh_home)),
        Some(root) if root.as_os_str().is_empty() => Err(option_error(
            "root",
            "found \"\", allowed is the path of a folder",
        )),
        Some(root) => Ok(root),
    }
}

impl VolumeConfig {
    /// Parses the options of the volume. The folder is the first of these that is set:
    /// `root`, the environment's [`ROOT_ENV`], [`DEFAULT_ROOT`] under `zenoh_home`.
    ///
    /// # Errors
    /// If an option is unknown, of the wrong type, or nests too deep, or `root` is empty.
    pub fn parse(options: Map<String, Value>, zenoh_home: &Path) -> Result<Self, ConfigError> {
        let options = private::revealed(options)?;
        let session_is_private = options.has("session");
        let options: VolumeOptions = options.parse()?;
        Ok(Self {
            root: root_of(options.root, zenoh_home)?,
            session: options.session.unwrap_or_default(),
            session_is_private,
            graceful_stop: options.graceful_stop.unwrap_or(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_volume_takes_root_and_refuses_the_rest() {
        let parse = |options: Value| {
            let options = options.as_object().cloned().unwrap_or_default();
            VolumeConfig::parse(options, Path::new("/home/zenoh"))
        };
        let root = |config: Result<VolumeConfig, _>| config.map(|config| config.root).ok();
        assert_eq!(
            root(parse(json!({ "root": "/data" }))),
            Some("/data".into())
        );
        assert_eq!(
            root(parse(json!({ "backend": "mst", "root": "/d" }))),
            Some("/d".into())
        );
        if env::var_os(ROOT_ENV).is_none() {
            assert_eq!(
                root(parse(json!({}))),
                Some("/home/zenoh/zenoh_backend_mst".into())
            );
        }
        assert!(parse(json!({ "rooot": "/data" })).is_err());
        assert!(parse(json!({ "root": 7 })).is_err());
        assert!(parse(json!({ "root": "" })).is_err());
        assert_eq!(of_environment(Some("/env".into())), Some("/env".into()));
        assert_eq!(
            (of_environment(Some("".into())), of_environment(None)),
            (None, None)
        );
    }
}
