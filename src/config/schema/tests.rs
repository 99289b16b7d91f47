use std::collections::BTreeSet;

use super::{super::StorageConfig, *};
use crate::config::{PluginConfig, ServedConfig, VolumeConfig};

const NAMES: [&str; 3] = ["lww", "object", "automerge_crdt"];

fn made() -> Value {
    schema(&NAMES, 2)
}

fn names(properties: &Value) -> BTreeSet<String> {
    let properties = properties.as_object().expect("an object");
    properties.keys().cloned().collect()
}

/// The options that an error lists.
fn allowed(error: impl ToString) -> BTreeSet<String> {
    let text = error.to_string();
    let (_, allowed) = text
        .split_once("expected ")
        .expect("it lists what there is");
    allowed
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn unknown() -> Map<String, Value> {
    Map::from_iter([("none".to_owned(), json!(0))])
}

#[test]
fn the_options_are_those_of_the_parsers() {
    let schema = made();
    let definitions = &schema["definitions"];
    let error = |options: Value| StorageConfig::parse("demo", options).expect_err("unknown");
    let storage = &definitions["storage"]["properties"];
    assert_eq!(names(storage), allowed(error(json!({ "none": 0 }))));
    for object in ["scrub", "collect", "replication"] {
        let inner = &storage[object]["properties"];
        assert_eq!(
            names(inner),
            allowed(error(json!({ object: { "none": 0 } })))
        );
    }
    let served = ServedConfig::parse("demo", json!({ "key_expr": "a", "none": 0 }));
    let served = allowed(served.expect_err("unknown"));
    assert_eq!(names(&definitions["served_storage"]["properties"]), served);
    let volume = VolumeConfig::parse(unknown(), "".as_ref()).expect_err("unknown");
    let mut expected = allowed(volume);
    // The storage manager's, and what is taken out before.
    expected.extend(["__path__", "__required__", "private"].map(str::to_owned));
    assert_eq!(names(&definitions["volume"]["properties"]), expected);
    let plugin = PluginConfig::parse(unknown(), "".as_ref()).expect_err("unknown");
    let properties = &schema["properties"]["plugins"]["properties"]["mst"]["properties"];
    assert_eq!(names(properties), allowed(plugin));
}

#[test]
fn the_defaults_are_those_of_the_parsers() {
    let schema = made();
    let parsed = |options: Value| StorageConfig::parse("demo", options).expect("valid");
    let mut compared = 0;
    let storage = schema["definitions"]["storage"]["properties"].as_object();
    for (option, schema) in storage.expect("an object") {
        let inner = schema["properties"].as_object().into_iter().flatten();
        for (name, schema) in inner.filter(|(_, schema)| !schema["default"].is_null()) {
            let with = json!({ option: { name: schema["default"] } });
            assert_eq!(
                parsed(with),
                parsed(json!({ option: {} })),
                "{option}.{name}"
            );
            compared += 1;
        }
        if !schema["default"].is_null() {
            let with = json!({ option: schema["default"] });
            assert_eq!(parsed(with), parsed(json!({})), "{option}");
            compared += 1;
        }
    }
    assert!(compared > 15, "{compared}");
}

#[test]
fn objects_nest_as_deep_as_they_may() {
    let schema = made();
    let definitions = &schema["definitions"];
    let names = |objects: usize| &definitions[format!("strategy_{objects}")]["anyOf"][0]["enum"];
    assert_eq!(*names(0), json!(["lww", "object", "automerge_crdt"]));
    assert_eq!(*names(1), json!(["lww", "object"]));
    assert_eq!(*names(2), json!(["lww"]));
    assert!(definitions.get("strategy_3").is_none());
    let fields = |objects: usize| {
        &definitions[format!("strategy_{objects}")]["anyOf"][1]["properties"]["fields"]
    };
    assert_eq!(
        fields(1)["additionalProperties"]["$ref"],
        "#/definitions/strategy_2"
    );
    assert_eq!(fields(2)["maxProperties"], 0);
}
