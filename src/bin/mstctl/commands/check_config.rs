//! `mstctl check-config`: reads a router's configuration as the router would.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use zenoh::{Config, internal::zenoh_home, key_expr::OwnedKeyExpr};
use zenoh_backend_mst::{
    config::{Persistence, PluginConfig, ServedConfig, StorageConfig, VolumeConfig},
    merge::MergeRules,
    net::Sessions,
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
    let plugins = plugins_of(&config).ok_or_else(|| Error::Place {
        path: file.to_owned(),
        problem: "`plugins` is no object".to_owned(),
    })?;
    let mut found = Checked::of(&plugins, zenoh_home());
    found.problems.extend(without_timestamps(&config));
    context
        .output
        .either(&found.document(file), |output| found.text(file, output))?;
    Ok(Answer::of(found.problems.is_empty()))
}

/// The plugins by their names, with what is `private` in their options: Zenoh leaves that out of what it shows.
fn plugins_of(config: &Config) -> Option<Map<String, Value>> {
    let shown = config.get_json("plugins").ok()?;
    let shown: Map<String, Value> = serde_json::from_str(&shown).ok()?;
    let plugins = shown.into_iter().map(|(name, shown)| {
        let options = config.plugin(&name).cloned();
        (name, options.unwrap_or(shown))
    });
    Some(plugins.collect())
}

/// Storages need the timestamps of the router's session, by which they know what is newer.
fn without_timestamps(config: &Config) -> Option<String> {
    let value = |key: &str| {
        let text = config.get_json(key).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    };
    let mode = value("mode").and_then(|mode| mode.as_str().map(str::to_owned));
    let mode = mode.unwrap_or_else(|| "router".to_owned());
    let enabled = value("timestamping/enabled").unwrap_or_default();
    let of_mode = enabled.get(&mode).unwrap_or(&enabled).as_bool();
    let is_enabled = of_mode.unwrap_or(mode == "router");
    (!is_enabled).then(|| {
        format!(
            "no storage is opened, as a {mode} makes no timestamps here: set `timestamping: {{ enabled: true }}`"
        )
    })
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

/// Where a volume keeps its storages, if the router takes it.
fn root_of(volume: &manager::VolumeConfig, home: &Path) -> Result<PathBuf, String> {
    let config = VolumeConfig::parse((&volume.rest).into(), home);
    let config = config.map_err(|error| error.to_string())?;
    match Sessions::of_volume(&volume.name, &config) {
        Ok(_) => Ok(config.root),
        Err(error) => Err(of_zenoh(&error)),
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
        checked.loading(plugins);
        if checked.storages.is_empty() && checked.problems.is_empty() {
            let names: Vec<_> = plugins.keys().map(|name| format!("`{name}`")).collect();
            let found = match names.is_empty() {
                true => "no plugin".to_owned(),
                false => names.join(", "),
            };
            checked.problems.push(format!(
                "no storage of this backend is in it: those are of the plugins `{PLUGIN}` and `{MANAGER}`; found: {found}"
            ));
        }
        checked
    }

    /// What Zenoh reads of each plugin: a router ends with a panic if it is of another type.
    fn loading(&mut self, plugins: &Map<String, Value>) {
        let is_path = |path: &Value| match path {
            Value::Array(paths) => paths.iter().all(Value::is_string),
            path => path.is_string(),
        };
        for (name, options) in plugins {
            let wrong = |option: &str, is_right: &dyn Fn(&Value) -> bool, allowed: &str| {
                let found = options.get(option).filter(|found| !is_right(found))?;
                Some(format!(
                    "plugin '{name}': option `{option}`: found {found}, allowed is {allowed}"
                ))
            };
            self.problems
                .extend(wrong("__required__", &Value::is_boolean, "true or false"));
            self.problems
                .extend(wrong("__path__", &is_path, "a path, or a list of paths"));
        }
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
            let root = root_of(volume, home).map_err(|error| {
                let problem = format!("volume '{}': {error}", volume.name);
                self.problems.push(problem);
            });
            roots.insert(volume.name.as_str(), root.ok());
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
            let folder = storage.folder.as_deref();
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
        for (inner, name) in &folders {
            let above = inner.ancestors().skip(1);
            for (outer, other) in above.filter_map(|outer| folders.get_key_value(outer)) {
                self.problems.push(format!(
                    "storages '{other}' and '{name}' have folders that are one inside the other, {} and {}; \
                     give each storage a `dir` of its own",
                    outer.display(),
                    inner.display()
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
        // What the volume hands to Zenoh, which the router does when it starts.
        one_problem(
            volume(
                json!({ "session": { "mode": "clint" } }),
                json!({ "key_expr": "a/**", "volume": "mst" }),
            ),
            "volume 'mst': option `session`: ",
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
    fn what_is_private_is_looked_at_and_not_shown() {
        let problems = |config: Value| {
            let config = Config::from_json5(&config.to_string()).expect("a configuration of Zenoh");
            let plugins = plugins_of(&config).expect("plugins");
            Checked::of(&plugins, Path::new("/home")).problems
        };
        let volume = |volume: Value| {
            let storages = json!({ "a": { "key_expr": "a/**", "volume": "mst" } });
            let manager = json!({ "volumes": { "mst": volume }, "storages": storages });
            problems(json!({ "plugins": { "storage_manager": manager } }))
        };
        assert_eq!(volume(json!({ "private": { "session": {} } })), [""; 0]);
        for wrong in [
            json!({ "private": "secret" }),
            json!({ "private": { "session": "secret" } }),
            json!({ "private": { "session": { "mode": "secret" } } }),
        ] {
            let problems = volume(wrong);
            assert!(
                problems.len() == 1
                    && problems[0].contains("private")
                    && !problems[0].contains("secret"),
                "{problems:?}"
            );
        }
        for (plugin, said) in [
            (
                json!({ "private": { "root": "/" } }),
                "option `private`: unknown field",
            ),
            (
                json!({ "storages": { "a": { "key_expr": "a/**", "private": { "dir": "x" } } } }),
                "option `private`: it is not of this backend",
            ),
        ] {
            let problems = problems(json!({ "plugins": { "mst": plugin } }));
            assert!(
                problems.len() == 1 && problems[0].contains(said),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn a_router_without_timestamps_opens_nothing() {
        for (config, mode) in [
            (json!({}), None),
            (json!({ "mode": "peer" }), Some("peer")),
            (
                json!({ "mode": "peer", "timestamping": { "enabled": true } }),
                None,
            ),
            (
                json!({ "timestamping": { "enabled": false } }),
                Some("router"),
            ),
            (
                json!({ "timestamping": { "enabled": { "router": false, "peer": true } } }),
                Some("router"),
            ),
            (
                json!({ "mode": "peer", "timestamping": { "enabled": { "router": false, "peer": true } } }),
                None,
            ),
            (
                json!({ "mode": "peer", "timestamping": { "enabled": { "router": true } } }),
                Some("peer"),
            ),
        ] {
            let parsed = Config::from_json5(&config.to_string()).expect("a configuration of Zenoh");
            let problem = without_timestamps(&parsed);
            let said = mode.map(|mode| format!("as a {mode} makes no timestamps"));
            match (&problem, &said) {
                (None, None) => {}
                (Some(problem), Some(said)) if problem.contains(said) => {}
                _ => panic!("{config}: {problem:?}"),
            }
        }
    }

    #[test]
    fn what_would_end_the_router_is_said_of_any_plugin() {
        let plugin = json!({ "storages": { "a": { "key_expr": "a/**" } } });
        for (name, options, said) in [
            (
                "rest",
                json!({ "__required__": "yes" }),
                "plugin 'rest': option `__required__`: found \"yes\"",
            ),
            (
                "rest",
                json!({ "__path__": 7 }),
                "plugin 'rest': option `__path__`: found 7",
            ),
            ("rest", json!({ "__path__": ["a", 7] }), "`__path__`"),
        ] {
            one_problem(json!({ "mst": plugin, name: options }), said);
        }
        let rest = json!({ "__path__": ["a", "b"], "__required__": true });
        let found = checked(json!({ "mst": plugin, "rest": rest }));
        assert_eq!(found.problems, [""; 0]);
        one_problem(json!({ "mts": plugin }), "found: `mts`");
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
        one_problem(
            both(
                json!({ "key_expr": "a/**", "dir": "x/y/z" }),
                json!({ "key_expr": "b/**", "dir": "x" }),
            ),
            "storages 'b' and 'a' have folders that are one inside the other, /d/x and \
             /d/x/y/z;",
        );
        // In memory there is no folder, and names alone are no paths.
        for other in [
            json!({ "key_expr": "b/**", "dir": "a", "persistence": "memory" }),
            json!({ "key_expr": "b/**", "dir": "ab" }),
        ] {
            let found = checked(both(json!({ "key_expr": "a/**" }), other));
            assert_eq!(found.problems, [""; 0]);
        }
    }
}
