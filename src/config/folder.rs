//! The options of a storage's folder, and what the official backends call theirs.

use std::{
    ffi::OsStr,
    path::{Component, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ConfigError, Operators, Persistence, StorageConfig, option_error};

/// What becomes of a storage's folder when the storage is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnClosure {
    /// It stays.
    #[default]
    DoNothing,
    /// It is deleted.
    Destroy,
}

/// Options of the official backends that this one has not, and what to do instead.
const FOREIGN: &[(&str, &str)] = &[
    (
        "create_db",
        "use `create`: a storage is made where there is none, unless it is `false`",
    ),
    (
        "follow_links",
        "leave it out: a storage keeps keys in files of its own, and follows no links",
    ),
    (
        "keep_mime_types",
        "leave it out: the encoding of each value is kept",
    ),
    (
        "keep_mtime",
        "leave it out: the timestamp of each value is kept",
    ),
    (
        "db",
        "use `dir`, the storage's folder below the volume's `root`",
    ),
    ("url", "use `root` of the volume, and `dir`"),
    (
        "private",
        "leave it out: a storage has no secrets in its options",
    ),
];

/// Words of the official backends for `on_closure: "destroy"`.
const FOREIGN_DESTROY: [&str; 4] = ["destroy_db", "delete_all", "drop_db", "drop_series"];

/// Refuses what the official backends call their options, and says what ours is called.
pub(super) fn refuse_foreign(options: &Map<String, Value>) -> Result<(), ConfigError> {
    let found = FOREIGN.iter().find(|(name, _)| options.contains_key(*name));
    if let Some((name, instead)) = found {
        return Err(option_error(
            name,
            format!("it is not of this backend; {instead}"),
        ));
    }
    let word = options.get("on_closure").and_then(Value::as_str);
    match word.filter(|word| FOREIGN_DESTROY.contains(word)) {
        Some(word) => Err(option_error(
            "on_closure",
            format!("found {word:?}, allowed are \"do_nothing\" and \"destroy\""),
        )),
        None => Ok(()),
    }
}

/// Whether a storage is only read, which does not go with what writes.
pub(super) fn is_read_only(config: &StorageConfig) -> Result<(), ConfigError> {
    let refused = |reason: &str| {
        Err(option_error(
            "read_only",
            format!("found true, and {reason}"),
        ))
    };
    match config {
        StorageConfig {
            read_only: false, ..
        } => Ok(()),
        StorageConfig {
            persistence: Persistence::Memory,
            ..
        } => refused("a storage in memory has nothing that could be read"),
        StorageConfig {
            replication: Some(_),
            ..
        } => refused("a replica writes what others have: leave `replication` out"),
        StorageConfig {
            on_closure: OnClosure::Destroy,
            ..
        } => refused("`on_closure` is \"destroy\""),
        StorageConfig {
            operators: Operators::All,
            ..
        } => refused("`operators` is \"all\": allowed are \"none\" and \"read\""),
        _ => Ok(()),
    }
}

/// Whether a storage may be made where there is none.
pub(super) fn may_create(
    create: Option<bool>,
    persistence: Persistence,
) -> Result<bool, ConfigError> {
    match (create, persistence) {
        (Some(false), Persistence::Memory) => Err(option_error(
            "create",
            "found false, and nothing is there before a storage in memory is made",
        )),
        (create, _) => Ok(create.unwrap_or(true)),
    }
}

/// Whether a folder of this name may be taken for one that a recovery or a restore made.
fn is_reserved(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let aside = name.rsplit_once(".damaged-");
    let is_aside =
        aside.is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    is_aside || name.ends_with(".saving") || name.ends_with(".restoring")
}

/// A relative path that stays below its parent.
pub(super) fn parse_dir(dir: &str) -> Result<PathBuf, ConfigError> {
    let path = PathBuf::from(dir);
    let is_below = path
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if dir.is_empty() || !is_below {
        return Err(option_error(
            "dir",
            format!("found {dir:?}, allowed is a relative path without `.` and `..`"),
        ));
    }
    if path.iter().any(is_reserved) {
        return Err(option_error(
            "dir",
            format!(
                "found {dir:?}, and no folder in it may be called as those that are made beside a \
                 storage's, which end in `.saving`, `.restoring` or `.damaged-` and a number"
            ),
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::StorageConfig;

    fn refused(options: serde_json::Value) -> String {
        let parsed = StorageConfig::parse("demo", options);
        parsed.expect_err("refused").to_string()
    }

    #[test]
    fn options_of_other_backends_are_refused_with_ours() {
        for (options, ours) in [
            (json!({ "create_db": true }), "use `create`"),
            (json!({ "dir": "a", "follow_links": true }), "leave it out"),
            (json!({ "keep_mime_types": true }), "encoding"),
            (json!({ "db": "a" }), "use `dir`"),
            (json!({ "private": { "x": 1 } }), "leave it out"),
            (json!({ "on_closure": "destroy_db" }), "\"destroy\""),
            (json!({ "on_closure": "delete_all" }), "\"destroy\""),
            (json!({ "on_closure": "often" }), "`destroy`"),
        ] {
            let error = refused(options.clone());
            assert!(error.contains(ours), "{options}: {error}");
        }
    }

    #[test]
    fn folders_that_are_made_beside_a_storages_are_not_its_own() {
        for dir in ["a.saving", "a.restoring/b", "x/a.damaged-1"] {
            assert!(refused(json!({ "dir": dir })).contains("beside"), "{dir}");
        }
        for dir in ["a.save", "saving", "a.damaged-x", "a.damaged"] {
            StorageConfig::parse("demo", json!({ "dir": dir })).expect("a name like any other");
        }
    }

    #[test]
    fn what_is_only_read_writes_nothing() {
        let read = StorageConfig::parse("demo", json!({ "read_only": true })).expect("valid");
        assert!(
            read.read_only
                && !StorageConfig::parse("demo", json!({}))
                    .expect("valid")
                    .read_only
        );
        for (other, named) in [
            (json!({ "persistence": "memory" }), "memory"),
            (json!({ "replication": {} }), "`replication`"),
            (json!({ "on_closure": "destroy" }), "`on_closure`"),
            (json!({ "operators": "all" }), "`operators`"),
        ] {
            let mut options = other.clone();
            options["read_only"] = true.into();
            let error = refused(options);
            assert!(
                error.starts_with("option `read_only`") && error.contains(named),
                "{error}"
            );
            StorageConfig::parse("demo", other).expect("valid without");
        }
    }

    #[test]
    fn nothing_is_there_in_memory_before_it_is_made() {
        let memory = json!({ "persistence": "memory", "create": false });
        assert!(refused(memory).starts_with("option `create`"));
        let durable = StorageConfig::parse("demo", json!({ "create": false }));
        assert!(!durable.expect("valid").create);
    }
}
