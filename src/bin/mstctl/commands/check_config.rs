//! `mstctl check-config`: reads a router's configuration as the router would.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use zenoh::{internal::zenoh_home, key_expr::OwnedKeyExpr};
use zenoh_backend_mst::{
    config::{Persistence, PluginConfig, ServedConfig, StorageConfig, VolumeConfig},
    merge::MergeRules,
    plugin::VOLUME_NAME,
};
use zenoh_backend_traits::config as manager;

use super::{Context, schema::known};
use crate::{
    args::Strategies,
    connection::read_configuration,
    exit::{Answer, Error, of_zenoh},
    output::{Output, Tone, counted},
};

/// The plugins that have storages.
const PLUGIN: &str = "mst";
const MANAGER: &str = "storage_manager";

pub(super) fn run(
    context: &Context,
    file: &Path,
    strategies: &Strategies,
) -> Result<Answer, Error> {
    known(strategies)?;
    let config = read_configuration(file)?;
    let plugins = config.get_json("plugins").ok();
    let plugins = plugins.and_then(|text| serde_json::from_str(&text).ok());
    let Some(Value::Object(plugins)) = plugins else {
        return Err(Error::Place {
            path: file.to_owned(),
            problem: "`plugins` is no object".to_owned(),
        });
    };
    let found = Checked::of(&plugins, zenoh_home());
    context
        .output
        .either(&found.document(file), |output| found.text(file, output))?;
    Ok(Answer::of(found.problems.is_empty()))
}

/// A storage of this backend, as it would be opened.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    name: String,
    /// By which door: the plugin, or a volume's name.
    door: String,
    key_expr: OwnedKeyExpr,
    strip_prefix: Option<OwnedKeyExpr>,
    /// None if it is in memory.
    folder: Option<PathBuf>,
    is_replicated: bool,
}

impl Found {
    fn new(
        name: &str,
        door: &str,
        key_expr: OwnedKeyExpr,
        strip_prefix: Option<OwnedKeyExpr>,
        root: &Path,
        options: &StorageConfig,
    ) -> Self {
        let is_durable = options.persistence == Persistence::Durable;
        Self {
            name: name.to_owned(),
            door: door.to_owned(),
            key_expr,
            strip_prefix,
            folder: is_durable.then(|| root.join(&options.dir)),
            is_replicated: options.replication.is_some(),
        }
    }
}

/// What a configuration has, and what is wrong with it.
#[derive(Debug, Default)]
struct Checked {
    storages: Vec<Found>,
    problems: Vec<String>,
}

impl Checked {
    fn of(plugins: &Map<String, Value>, home: &Path) -> Self {
        let mut checked = Self::default();
        if let Some(options) = plugins.get(PLUGIN) {
            checked.plugin(options, home);
        }
        if let Some(options) = plugins.get(MANAGER) {
            checked.manager(options, home);
        }
        checked.shared();
        if checked.storages.is_empty() && checked.problems.is_empty() {
            let problem = "no storage of this backend is in it";
            checked.problems.push(problem.to_owned());
        }
        checked
    }

    fn plugin(&mut self, options: &Value, home: &Path) {
        let Value::Object(options) = options else {
            let problem = format!("plugin '{PLUGIN}': its configuration is an object");
            return self.problems.push(problem);
        };
        let config = match PluginConfig::parse(options.clone(), home) {
            Ok(config) => config,
            Err(error) => return self.problems.push(format!("plugin '{PLUGIN}': {error}")),
        };
        for (name, storage) in config.storages {
            match storage {
                Ok(ServedConfig {
                    key_expr,
                    strip_prefix,
                    storage,
                    ..
                }) => self.storage(
                    &name,
                    "plugin",
                    key_expr,
                    strip_prefix,
                    &config.root,
                    &storage,
                ),
                Err(error) => self.problems.push(format!("storage '{name}': {error}")),
            }
        }
    }

    /// A storage whose options are each right.
    fn storage(
        &mut self,
        name: &str,
        door: &str,
        key_expr: OwnedKeyExpr,
        strip_prefix: Option<OwnedKeyExpr>,
        root: &Path,
        options: &StorageConfig,
    ) {
        match MergeRules::of(options, &key_expr, strip_prefix.as_deref()) {
            Ok(_) => {
                let found = Found::new(name, door, key_expr, strip_prefix, root, options);
                self.storages.push(found);
            }
            Err(error) => self.problems.push(format!("storage '{name}': {error}")),
        }
    }

    /// Volumes and storages as the storage manager reads them.
    fn manager(&mut self, options: &Value, home: &Path) {
        let Value::Object(options) = options else {
            let problem = format!("plugin '{MANAGER}': its configuration is an object");
            return self.problems.push(problem);
        };
        let config = match manager::PluginConfig::try_from((MANAGER, options)) {
            Ok(config) => config,
            Err(error) => {
                let problem = format!("plugin '{MANAGER}': {}", of_zenoh(&error));
                return self.problems.push(problem);
            }
        };
        let mut roots = BTreeMap::new();
        for volume in &config.volumes {
            if volume.backend.as_deref().unwrap_or(&volume.name) != VOLUME_NAME {
                roots.insert(volume.name.as_str(), None);
                continue;
            }
            match VolumeConfig::parse((&volume.rest).into(), home) {
                Ok(parsed) => _ = roots.insert(volume.name.as_str(), Some(parsed.root)),
                Err(error) => {
                    let problem = format!("volume '{}': {error}", volume.name);
                    self.problems.push(problem);
                    roots.insert(volume.name.as_str(), None);
                }
            }
        }
        for storage in config.storages {
            match roots.get(storage.volume_id.as_str()) {
                Some(Some(root)) => self.of_volume(storage, root),
                Some(None) => {}
                // It is always there.
                None if storage.volume_id == "memory" => {}
                None => self.problems.push(format!(
                    "storage '{}': there is no volume `{}`",
                    storage.name, storage.volume_id
                )),
            }
        }
    }

    fn of_volume(&mut self, storage: manager::StorageConfig, root: &Path) {
        let name = &storage.name;
        if storage.replication.is_some() {
            self.problems.push(format!(
                "storage '{name}': `replication` belongs into `volume`; beside it, it is the storage manager's"
            ));
        }
        match StorageConfig::parse(name, storage.volume_cfg.into_serde_value()) {
            Ok(options) => self.storage(
                name,
                &format!("volume {}", storage.volume_id),
                storage.key_expr,
                storage.strip_prefix,
                root,
                &options,
            ),
            Err(error) => self.problems.push(format!("storage '{name}': {error}")),
        }
    }

    /// What no two storages of a router can have.
    fn shared(&mut self) {
        let mut folders = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for storage in &self.storages {
            let name = &storage.name;
            let folder = storage.folder.as_ref();
            if let Some(other) = folder.and_then(|folder| folders.insert(folder, name)) {
                self.problems.push(format!(
                    "storages '{other}' and '{name}' have the same folder; give each storage a `dir` of its own"
                ));
            }
            let prefix = storage.strip_prefix.as_ref().map(|prefix| prefix.as_str());
            let group = (storage.key_expr.as_str(), prefix);
            if let Some(other) = keys.insert(group, name) {
                self.problems.push(format!(
                    "storages '{other}' and '{name}' have the same `key_expr` and `strip_prefix`"
                ));
            }
        }
    }

    fn document(&self, file: &Path) -> Value {
        let storages = self.storages.iter().map(|storage| {
            json!({
                "name": storage.name,
                "door": storage.door,
                "key_expr": storage.key_expr,
                "strip_prefix": storage.strip_prefix,
                "folder": storage.folder,
                "replicated": storage.is_replicated,
            })
        });
        json!({
            "file": file,
            "storages": storages.collect::<Vec<_>>(),
            "problems": self.problems,
        })
    }

    fn text(&self, file: &Path, output: Output) -> String {
        let storages = self.storages.iter().map(|storage| {
            let prefix = storage.strip_prefix.as_ref();
            let prefix = prefix.map_or(String::new(), |prefix| format!(" (strip_prefix {prefix})"));
            let place = storage.folder.as_ref().map_or_else(
                || "in memory".to_owned(),
                |folder| format!("in {}", folder.display()),
            );
            let replicated = match storage.is_replicated {
                true => "replicated",
                false => "not replicated",
            };
            format!(
                "storage '{}', {}: {}{prefix}, {place}, {replicated}\n",
                storage.name, storage.door, storage.key_expr
            )
        });
        let mut text: String = storages.collect();
        for problem in &self.problems {
            text += &output.paint(Tone::Bad, problem);
            text.push('\n');
        }
        match self.problems.len() {
            0 => text + &output.paint(Tone::Good, &format!("{}: ok", file.display())),
            count => {
                let problems = counted(count as u64, "problem", "problems");
                text + &format!("{}: {problems}", file.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(plugins: Value) -> Checked {
        let Value::Object(plugins) = plugins else {
            panic!("an object");
        };
        Checked::of(&plugins, Path::new("/home"))
    }

    fn one_problem(plugins: Value, said: &str) {
        let problems = checked(plugins).problems;
        assert!(
            problems.len() == 1 && problems[0].contains(said),
            "{said}: {problems:?}"
        );
    }

    #[test]
    fn storages_of_both_doors_are_found() {
        let found = checked(json!({
            "rest": {},
            "mst": { "root": "/data", "storages": {
                "a": { "key_expr": "a/b/**", "strip_prefix": "a", "replication": {} },
                "b": { "key_expr": "b/**", "persistence": "memory" },
            } },
            "storage_manager": {
                "volumes": { "other": { "backend": "mst", "root": "/other" }, "rocksdb": { "any": 1 } },
                "storages": {
                    "c": { "key_expr": "c/**", "volume": { "id": "other", "dir": "x" } },
                    "d": { "key_expr": "d/**", "volume": "memory" },
                    "e": { "key_expr": "e/**", "volume": { "id": "rocksdb", "dir": "e" } },
                },
            },
        }));
        assert_eq!(found.problems, [""; 0]);
        let told = found.storages.iter().map(|storage| {
            let folder = storage.folder.as_deref().and_then(Path::to_str);
            let (name, door) = (storage.name.as_str(), storage.door.as_str());
            (name, door, folder, storage.is_replicated)
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("a", "plugin", Some("/data/a"), true),
                ("b", "plugin", None, false),
                ("c", "volume other", Some("/other/x"), false),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_once() {
        let served = |options: Value| json!({ "mst": { "storages": { "a": options } } });
        one_problem(json!({}), "no storage of this backend");
        one_problem(json!({ "mst": 1 }), "is an object");
        one_problem(json!({ "storage_manager": 1 }), "is an object");
        one_problem(json!({ "mst": { "storage": {} } }), "`storage`");
        one_problem(served(json!({ "settle": "1s" })), "`key_expr`");
        one_problem(
            served(json!({ "key_expr": "a/**", "settel": "1s" })),
            "`settel`",
        );
        let volume = |volume: Value, storage: Value| json!({ "storage_manager": { "volumes": { "mst": volume }, "storages": { "a": storage } } });
        one_problem(
            volume(
                json!({ "rot": "/" }),
                json!({ "key_expr": "a/**", "volume": "mst" }),
            ),
            "volume 'mst': option `rot`",
        );
        one_problem(
            volume(
                json!({}),
                json!({ "key_expr": "a/**", "volume": { "id": "mst", "settle": 1 } }),
            ),
            "`settle`",
        );
        one_problem(
            volume(json!({}), json!({ "key_expr": "a/**", "volume": "mts" })),
            "there is no volume `mts`",
        );
        one_problem(
            volume(
                json!({}),
                json!({ "key_expr": "a/**", "volume": "mst", "replication": {} }),
            ),
            "belongs into `volume`",
        );
        one_problem(volume(json!({}), json!({ "volume": "mst" })), "key_expr");
    }

    #[test]
    fn merge_rules_and_lifetimes_are_those_of_the_storage() {
        for (options, said) in [
            (
                json!({ "replication": { "default_strategy": "aditive" } }),
                "found `aditive`, allowed is one of",
            ),
            (
                json!({ "replication": { "key_overrides": { "b/*": "lww" } } }),
                "`replication.key_overrides.b/*`: it matches no key",
            ),
            (json!({ "lifetimes": { "b/*": "10s" } }), "`lifetimes.b/*`"),
        ] {
            let mut options = options;
            options["key_expr"] = "a/**".into();
            let found = checked(json!({ "mst": { "storages": { "a": options } } }));
            assert!(found.storages.is_empty());
            let problems = found.problems;
            assert!(
                problems.len() == 1 && problems[0].contains(said),
                "{said}: {problems:?}"
            );
        }
    }

    #[test]
    fn what_two_storages_share_is_said() {
        let both =
            |a: Value, b: Value| json!({ "mst": { "root": "/d", "storages": { "a": a, "b": b } } });
        one_problem(
            both(
                json!({ "key_expr": "a/**" }),
                json!({ "key_expr": "b/**", "dir": "a" }),
            ),
            "storages 'a' and 'b' have the same folder",
        );
        one_problem(
            both(json!({ "key_expr": "a/**" }), json!({ "key_expr": "a/**" })),
            "have the same `key_expr`",
        );
        // In memory there is no folder.
        let memory = json!({ "key_expr": "b/**", "dir": "a", "persistence": "memory" });
        assert!(
            checked(both(json!({ "key_expr": "a/**" }), memory))
                .problems
                .is_empty()
        );
    }
}
