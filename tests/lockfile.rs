//! zenohd and what it loads share memory: every crate that both are built from
//! has to be of the same version in both. The loader compares the versions of
//! zenoh and of the compiler, and not of anything else; a storage manager with
//! another tokio than zenohd's crashes.
//!
//! And the compiler has to be as new as each of these crates asks for: what is said of
//! that is checked here, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const ZENOHD: &str = "zenohd-1.10.2";

/// Of each crate in a lock file its versions.
fn versions(lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut name = None;
    let quoted = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        Some(value.strip_suffix('"')?.to_owned())
    };
    for line in lock.lines() {
        if let Some(found) = quoted(line, "name") {
            name = Some(found);
        } else if let (Some(version), Some(name)) = (quoted(line, "version"), name.take()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    versions
}

/// The part of a version that semantic versioning keeps compatible: two versions
/// that share it cannot both be in one program.
fn compatible_part(version: &str) -> String {
    let mut parts = version.split('.');
    let major = parts.next().unwrap_or_default();
    match (major, parts.next(), parts.next()) {
        ("0", Some("0"), Some(patch)) => format!("0.0.{patch}"),
        ("0", Some(minor), _) => format!("0.{minor}"),
        _ => major.to_owned(),
    }
}

/// The lock file inside the published crate, which cargo has unpacked to install
/// zenohd from.
fn zenohd_lock() -> PathBuf {
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cargo"),
        PathBuf::from,
    );
    let sources = cargo_home.join("registry/src");
    let registries =
        fs::read_dir(&sources).unwrap_or_else(|error| panic!("{}: {error}", sources.display()));
    registries
        .filter_map(|registry| Some(registry.ok()?.path().join(ZENOHD).join("Cargo.lock")))
        .find(|lock| lock.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no {ZENOHD} below {}: `make tools` installs it",
                sources.display()
            )
        })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a command writes.
fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The packages of this workspace, and all that they are built and tested with on this
/// machine.
fn packages() -> Vec<Value> {
    let compiler = output(Command::new("rustc").arg("-vV"));
    let host = compiler
        .lines()
        .find_map(|line| line.strip_prefix("host: "));
    // Nothing is fetched: it was, to build this test.
    let metadata = output(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", host.expect("a host")])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    );
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// A version of the compiler: `1.90` and `1.90.0` are the same.
fn rust_version(text: &str) -> [u64; 3] {
    let mut version = [0; 3];
    let parts = text.split('.');
    assert!(parts.clone().count() <= 3, "{text:?}");
    for (part, place) in parts.zip(&mut version) {
        *place = part.parse().unwrap_or_else(|_| panic!("{text:?}"));
    }
    version
}

#[test]
fn the_compiler_that_is_asked_for_is_new_enough_for_all_crates() {
    let (ours, theirs): (Vec<Value>, Vec<Value>) = packages()
        .into_iter()
        .partition(|package| package["source"].is_null());
    let needed = theirs.iter().filter_map(|package| {
        let version = rust_version(package["rust_version"].as_str()?);
        Some((version, package["name"].as_str()?))
    });
    let (needed, by) = needed.max().expect("some say what they need");
    let mut said_of_crates = BTreeSet::new();
    for package in &ours {
        let said = rust_version(package["rust_version"].as_str().expect("it is said"));
        assert!(said >= needed, "{said:?} is said, {by} needs {needed:?}");
        said_of_crates.insert(said);
    }
    let readme = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let (_, rest) = readme
        .split_once("a Rust toolchain (")
        .expect("the README says it");
    let (said, _) = rest.split_once(" or later)").expect("a version");
    assert_eq!(said_of_crates, BTreeSet::from([rust_version(said)]));
}

#[test]
fn crates_shared_with_zenohd_are_of_its_versions() {
    let ours = versions(&read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"),
    ));
    let theirs = versions(&read(&zenohd_lock()));
    assert!(
        theirs.len() > 200,
        "only {} crates in zenohd's lock file",
        theirs.len()
    );
    let mut shared = 0;
    for (name, versions) in &ours {
        for version in versions {
            let same_part = |other: &&String| compatible_part(other) == compatible_part(version);
            let Some(other) = theirs.get(name).and_then(|all| all.iter().find(same_part)) else {
                continue;
            };
            assert_eq!(version, other, "{name}: this version, and zenohd's");
            shared += 1;
        }
    }
    assert!(shared > 200, "only {shared} crates are shared");
    for name in ["tokio", "zenoh", "zenoh-plugin-trait", "stabby", "tracing"] {
        assert_eq!(ours.get(name), theirs.get(name), "{name}");
    }
}
