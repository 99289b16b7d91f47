//! The router's configuration: the file, with the options of the command line over it.

use std::path::Path;

use serde_json::{Value, json};
use zenoh::Config;

use crate::args::Args;

/// The configuration that the command line asks for.
///
/// # Errors
/// What cannot be read, and what does not belong where it stands.
pub(crate) fn of(args: &Args) -> Result<Config, String> {
    let mut config = base(args)?;
    if config.mode().is_none() {
        set(&mut config, "mode", &json!("router"))?;
    }
    if let Some(id) = &args.id {
        set(&mut config, "id", &json!(id))?;
    }
    match args.rest_http_port.as_deref() {
        None => {}
        Some(port) if port.eq_ignore_ascii_case("none") => {}
        Some(port) => {
            set(&mut config, "plugins/rest/http_port", &json!(port))?;
            set(&mut config, "plugins/rest/__required__", &json!(true))?;
        }
    }
    // As zenohd does: there is no way to look into a router otherwise.
    set(&mut config, "adminspace/enabled", &json!(true))?;
    set(&mut config, "plugins_loading/enabled", &json!(true))?;
    if !args.plugin_search_dir.is_empty() {
        let dirs = json!(args.plugin_search_dir);
        set(&mut config, "plugins_loading/search_dirs", &dirs)?;
    }
    for plugin in &args.plugin {
        let (name, path) = match plugin.split_once(':') {
            Some((name, path)) => (name, Some(path)),
            None => (plugin.as_str(), None),
        };
        let at = |option: &str| format!("plugins/{name}/{option}");
        set(&mut config, &at("__required__"), &json!(true))?;
        if let Some(path) = path {
            set(&mut config, &at("__path__"), &json!(path))?;
        }
    }
    if !args.connect.is_empty() {
        set(&mut config, "connect/endpoints", &json!(args.connect))?;
    }
    if !args.listen.is_empty() {
        set(&mut config, "listen/endpoints", &json!(args.listen))?;
    }
    if args.no_timestamp {
        set(&mut config, "timestamping/enabled", &json!(false))?;
    }
    if args.no_multicast_scouting || config.scouting.multicast.enabled().is_none() {
        let is_scouting = json!(!args.no_multicast_scouting);
        set(&mut config, "scouting/multicast/enabled", &is_scouting)?;
    }
    if let Some(permissions) = args.adminspace_permissions {
        insert(&mut config, "adminspace/permissions", &permissions.json())?;
    }
    for change in &args.cfg {
        let (key, value) = key_and_value(change)?;
        if !key.is_empty() {
            insert(&mut config, key.strip_prefix('/').unwrap_or(key), value)?;
        }
    }
    Ok(config)
}

/// What the other options go over: all of it from `--cfg`, or the file, or nothing.
fn base(args: &Args) -> Result<Config, String> {
    for change in &args.cfg {
        let (key, value) = key_and_value(change)?;
        if key.is_empty() {
            let parsed = Config::from_json5(value);
            return parsed.map_err(|error| format!("the configuration of `--cfg`: {error}"));
        }
    }
    let Some(path) = &args.config else {
        return Ok(Config::default());
    };
    if !Path::new(path).is_file() {
        return Err(format!("there is no configuration file {}", path.display()));
    }
    Config::from_file(path).map_err(|error| {
        format!(
            "the configuration in {} cannot be read: {error}",
            path.display()
        )
    })
}

fn key_and_value(change: &str) -> Result<(&str, &str), String> {
    let parts = change.split_once(':');
    parts.ok_or_else(|| format!("`--cfg` takes KEY:VALUE; found {change:?}"))
}

fn set(config: &mut Config, key: &str, value: &Value) -> Result<(), String> {
    insert(config, key, &value.to_string())
}

fn insert(config: &mut Config, key: &str, value: &str) -> Result<(), String> {
    let inserted = config.insert_json5(key, value);
    inserted.map_err(|error| format!("the configuration cannot have {value} at {key}: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn config(args: &[&str]) -> Result<Config, String> {
        of(&Args::parse_from([&["mst-router"], args].concat()))
    }

    fn value(config: &Config, key: &str) -> Value {
        let json = config.get_json(key).expect("there");
        serde_json::from_str(&json).expect("JSON")
    }

    #[test]
    fn options_go_over_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("router.json5");
        let text = r#"{ listen: { endpoints: ["tcp/127.0.0.1:1"] }, plugins: { mst: {} },
            scouting: { multicast: { enabled: false } } }"#;
        std::fs::write(&path, text).expect("written");
        let path = path.to_str().expect("text");
        let plain = config(&["-c", path]).expect("valid");
        assert_eq!(value(&plain, "mode"), "router");
        assert_eq!(
            value(&plain, "listen/endpoints"),
            json!(["tcp/127.0.0.1:1"])
        );
        assert_eq!(value(&plain, "scouting/multicast/enabled"), false);
        let changed = config(&[
            "-c",
            path,
            "-l",
            "tcp/127.0.0.1:2",
            "-e",
            "tcp/127.0.0.1:3",
            "-i",
            "a1",
            "--rest-http-port",
            "127.0.0.1:4",
            "--adminspace-permissions",
            "rw",
            "-P",
            "other:x.so",
            "--cfg",
            r#"plugins/mst/storages/demo:{key_expr:"demo/**"}"#,
            "--no-timestamp",
        ]);
        let changed = changed.expect("valid");
        for (key, expected) in [
            ("listen/endpoints", json!(["tcp/127.0.0.1:2"])),
            ("connect/endpoints", json!(["tcp/127.0.0.1:3"])),
            ("id", json!("a1")),
            (
                "plugins/rest",
                json!({ "http_port": "127.0.0.1:4", "__required__": true }),
            ),
            (
                "plugins/other",
                json!({ "__path__": "x.so", "__required__": true }),
            ),
            (
                "adminspace/permissions",
                json!({ "read": true, "write": true }),
            ),
            ("plugins/mst/storages/demo/key_expr", json!("demo/**")),
            ("timestamping/enabled", json!(false)),
        ] {
            assert_eq!(value(&changed, key), expected, "{key}");
        }
        let inline = config(&["-c", "/nowhere", "--cfg", r#":{mode:"peer"}"#]).expect("valid");
        assert_eq!(value(&inline, "mode"), "peer");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, said) in [
            (
                &["-c", "/nowhere/router.json5"][..],
                "/nowhere/router.json5",
            ),
            (&["--cfg", "mode"], "KEY:VALUE"),
            (&["--cfg", "mode:7"], "mode"),
            (&["--cfg", ":{"], "`--cfg`"),
            (&["-l", "nonsense"], "listen/endpoints"),
            (&["-i", "xyz"], "at id"),
        ] {
            let error = config(args)
                .err()
                .unwrap_or_else(|| panic!("{args:?} is accepted"));
            assert!(error.contains(said), "{args:?}: {error}");
        }
    }
}
