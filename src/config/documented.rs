//! Compares the options in the documents with the code: names, defaults and bounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Map, Value, json};

use super::*;

const OPERATORS: &str = include_str!("../../docs/operators.md");
const README: &str = include_str!("../../README.md");

/// The row of an option in a table.
#[derive(Debug)]
struct Row<'a> {
    default: &'a str,
    allowed: &'a str,
}

/// The rows of the first table in this section, by option.
fn table<'a>(document: &'a str, section: &str) -> BTreeMap<&'a str, Row<'a>> {
    let heading = format!("\n{section}\n");
    let (_, text) = document.split_once(&heading).expect("the section is there");
    let rows = text.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|'));
    let mut rows = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let headings = rows.next().expect("the table is there");
    let column = |name| headings.iter().position(|heading| *heading == name);
    let cell = |row: &[&'a str], name| column(name).map_or("", |column| row[column]);
    let rows = rows.skip(1).map(|row| {
        let option = cell(&row, "option").trim_matches('`');
        let (default, allowed) = (cell(&row, "default"), cell(&row, "allowed"));
        (option, Row { default, allowed })
    });
    rows.collect()
}

/// The code spans of a cell.
fn spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The options of an object, from the error about one that it does not have.
fn names(error: &ConfigError) -> BTreeSet<String> {
    let text = error.to_string();
    let (_, expected) = text
        .split_once("expected ")
        .expect("it lists what there is");
    spans(expected).map(str::to_owned).collect()
}

fn storage_error(options: Value) -> ConfigError {
    StorageConfig::parse("demo", options).expect_err("there is no such option")
}

/// All options of a storage; those of an object in it by their path.
fn storage_options() -> BTreeSet<String> {
    let mut options = names(&storage_error(json!({ "none": 0 })));
    for object in ["scrub", "collect", "replication"] {
        let inner = names(&storage_error(json!({ object: { "none": 0 } })));
        options.extend(inner.iter().map(|name| format!("{object}.{name}")));
    }
    options
}

/// Options with this one set to what is written.
fn with(option: &str, value: &str) -> Value {
    let value: Value = serde_json::from_str(value).expect("a value as it is written");
    match option.split_once('.') {
        Some((object, option)) => json!({ object: { option: value } }),
        None => json!({ option: value }),
    }
}

fn parsed(options: Value) -> StorageConfig {
    StorageConfig::parse("demo", options).expect("valid")
}

#[test]
fn all_options_of_a_storage_are_in_the_operators_document() {
    let mut documented = table(OPERATORS, "## Options of a storage");
    documented.extend(table(OPERATORS, "### Options"));
    let documented: BTreeSet<_> = documented
        .keys()
        .map(|option| (*option).to_owned())
        .collect();
    let mut options = storage_options();
    // Its own are listed in its place.
    options.remove("scrub");
    options.remove("collect");
    assert_eq!(documented, options);
}

#[test]
fn documented_defaults_and_bounds_are_those_of_the_code() {
    let mut checked = 0;
    let mut documented = table(OPERATORS, "## Options of a storage");
    documented.extend(table(OPERATORS, "### Options"));
    for (option, row) in &documented {
        if let Some(default) = spans(row.default).next() {
            let nothing = match option.split_once('.') {
                Some((object, _)) => json!({ object: {} }),
                None => Value::Null,
            };
            assert_eq!(parsed(with(option, default)), parsed(nothing), "{option}");
            checked += 1;
        }
        // Others are not values, such as the `.` that a path must not have.
        let values = spans(row.allowed).filter(|span| span.starts_with('"'));
        for value in values {
            let mut options = with(option, value);
            // The longest of one needs that of the other.
            if *option == "sync_every" {
                options["settle"] = json!("1m");
            }
            parsed(options);
        }
        // Of a range: what is beyond it is refused, with the same bounds.
        if row.allowed.contains("` to `") {
            let bounds = row.allowed.replace('`', "");
            let refusals = [r#""366000d""#, r#""366000GiB""#];
            let refusals = refusals.map(|beyond| storage_error(with(option, beyond)).to_string());
            let said = format!("allowed is {bounds}");
            assert!(
                refusals.iter().any(|refusal| refusal.ends_with(&said)),
                "{option}: {refusals:?}"
            );
            checked += 1;
        }
    }
    assert!(checked > 15, "{documented:#?}");
}

#[test]
fn all_options_of_a_volume_are_in_the_operators_document() {
    let documented = table(OPERATORS, "## Options of the volume");
    let documented: BTreeSet<_> = documented
        .keys()
        .map(|option| (*option).to_owned())
        .collect();
    let unknown = Map::from_iter([("none".to_owned(), json!(0))]);
    let error = VolumeConfig::parse(unknown, Path::new("")).expect_err("no such option");
    let mut options = names(&error);
    // It is the storage manager's.
    assert!(options.remove("backend"));
    assert_eq!(documented, options);
}

#[test]
fn all_options_of_a_served_storage_are_in_the_operators_document() {
    let mut documented = BTreeSet::new();
    let rows = OPERATORS
        .split_once("\n| option of a storage |")
        .expect("there")
        .1;
    for row in rows
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
    {
        documented.extend(spans(row).take(1).map(str::to_owned));
    }
    let unknown = json!({ "key_expr": "a", "none": 0 });
    let error = ServedConfig::parse("demo", unknown).expect_err("no such option");
    let of_storage = storage_options();
    let mut options = names(&error);
    options.retain(|option| !of_storage.contains(option));
    assert_eq!(documented, options);
    let unknown = Map::from_iter([("none".to_owned(), json!(0))]);
    let error = PluginConfig::parse(unknown, Path::new("")).expect_err("no such option");
    let section = OPERATORS.split_once("## Two doors").expect("there").1;
    for option in names(&error) {
        assert!(section.contains(&format!("`{option}`")), "{option}");
    }
    let timeout = |text: &str| {
        ServedConfig::parse("demo", json!({ "key_expr": "a", "reply_timeout": text })).is_ok()
    };
    assert!(rows.contains(r#"`"100ms"` to `"1d"`"#) && timeout("100ms") && timeout("1d"));
    assert!(!timeout("99ms") && !timeout("2d"));
}

#[test]
fn all_options_of_a_storage_are_in_the_readme() {
    let documented = table(README, "## Options of a storage");
    let documented: BTreeSet<_> = documented
        .keys()
        .map(|option| (*option).to_owned())
        .collect();
    let options = storage_options();
    let options: BTreeSet<_> = options
        .into_iter()
        .filter(|name| !name.contains('.'))
        .collect();
    assert_eq!(documented, options);
    for option in storage_options() {
        let name = option.rsplit('.').next().expect("a name");
        assert!(
            README.contains(&format!("`{name}`")),
            "{option} is not in it"
        );
    }
}
