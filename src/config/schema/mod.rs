//! The JSON Schema of a router's configuration, as far as this backend reads it.
//!
//! It takes and refuses what the parsers of this layer take and refuse, except for what a schema
//! cannot say of two texts: that `sync_every` is no longer than `settle`, that a `strip_prefix` is
//! the beginning of `key_expr`, that steps of a lifetime ascend. It refuses `null`, which they take
//! where an option may be left out. Its dialect is draft 7, which every editor knows.

mod forms;
mod patterns;
mod storage;

use serde_json::{Map, Value, json};

use super::limits;
use forms::{reference, span, switch};
use storage::{storage, storage_options, strategy};

/// The JSON Schema of a configuration with storages of this backend, of both doors. Merge rules may
/// name these strategies, with so many objects within each other.
#[must_use]
pub fn schema(strategies: &[&str], max_nesting: usize) -> Value {
    let mut definitions = Map::new();
    let mut define = |name: &str, schema: Value| definitions.insert(name.to_owned(), schema);
    for objects in 0..=max_nesting {
        let is_last = objects == max_nesting;
        define(
            &format!("strategy_{objects}"),
            strategy(strategies, objects, is_last),
        );
    }
    define("storage", storage());
    define("served_storage", served_storage());
    define("storage_of_manager", storage_of_manager());
    define("volume", volume());
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of a Zenoh router with storages of zenoh-backend-mst",
        "description": "Options of this backend. Those of Zenoh itself, and of other plugins, are not looked at.",
        "type": "object",
        "properties": { "plugins": { "type": "object", "properties": {
            "mst": plugin(),
            "storage_manager": {
                "type": "object",
                "properties": {
                    "volumes": volumes(),
                    "storages": { "type": "object", "additionalProperties": reference("storage_of_manager") },
                },
            },
        } } },
        "definitions": definitions,
    })
}

/// An object that has these properties, and those of the definition `storage`, and no other.
fn closed(own: Value, required: &[&str]) -> Value {
    let mut properties = storage_options();
    properties
        .values_mut()
        .for_each(|schema| *schema = json!({}));
    if let Value::Object(own) = own {
        properties.extend(own);
    }
    json!({
        "type": "object",
        "allOf": [reference("storage")],
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn served_storage() -> Value {
    let own = json!({
        "key_expr": {
            "type": "string",
            "pattern": patterns::key_expression(),
            "description": "What the storage takes and answers",
        },
        "strip_prefix": {
            "type": "string",
            "pattern": patterns::PREFIX,
            "description": "The first chunks of `key_expr`, which are not stored",
        },
        "complete": switch(false, "Tells Zenoh that the storage holds all there is on `key_expr`"),
        "reply_timeout": span(
            limits::REPLY,
            Some(limits::DEFAULT_REPLY),
            "How long the answer to one get with wildcards may take",
        ),
    });
    closed(own, &["key_expr"])
}

/// Where the folders of the storages are, and what closes them.
fn of_process() -> (Value, Value) {
    let root = json!({ "type": "string", "minLength": 1, "description": "The folder that contains the storages' folders" });
    let stop = switch(
        true,
        "Whether SIGTERM and SIGINT close the storages before they end the process",
    );
    (root, stop)
}

fn plugin() -> Value {
    let (root, graceful_stop) = of_process();
    json!({
        "type": "object",
        "description": "The plugin `mst`, with storages of its own",
        "additionalProperties": false,
        "patternProperties": { "^__": {} },
        "properties": {
            "root": root,
            "graceful_stop": graceful_stop,
            "backend": { "description": "Where the library of this backend is" },
            "storages": { "type": "object", "additionalProperties": reference("served_storage") },
        },
    })
}

/// The volumes of the storage manager: those that are of this backend.
fn volumes() -> Value {
    let of_this = json!({ "properties": { "backend": { "const": "mst" } } });
    let named = json!({ "properties": { "backend": { "const": "mst" } }, "required": ["backend"] });
    json!({
        "type": "object",
        "properties": { "mst": { "type": "object", "if": of_this, "then": reference("volume") } },
        "additionalProperties": { "type": "object", "if": named, "then": reference("volume") },
    })
}

fn volume() -> Value {
    let (root, graceful_stop) = of_process();
    let session = json!({
        "type": "object",
        "description": "Zenoh configuration of the session that replication opens where the router does not lend its own",
    });
    json!({
        "type": "object",
        "description": "A volume of this backend",
        "additionalProperties": false,
        "properties": {
            "root": root,
            "session": session,
            "graceful_stop": graceful_stop,
            "private": { "type": "object", "description": "Options that Zenoh does not show" },
            "backend": { "const": "mst" },
            "__path__": {},
            "__required__": { "type": "boolean" },
        },
    })
}

/// A storage of the storage manager. Its volume is of this backend if it is called `mst`: of others a
/// schema cannot tell.
fn storage_of_manager() -> Value {
    let id = json!({ "const": "mst" });
    let is_ours = json!({
        "properties": { "volume": { "anyOf": [
            id,
            { "type": "object", "properties": { "id": id }, "required": ["id"] },
        ] } },
        "required": ["volume"],
    });
    let options = closed(json!({ "id": id }), &["id"]);
    json!({
        "type": "object",
        "if": is_ours,
        "then": {
            "required": ["key_expr"],
            "properties": {
                "key_expr": {
                    "type": "string",
                    "pattern": patterns::canonical_key_expression(),
                    "description": "What the storage takes and answers",
                },
                "strip_prefix": {
                    "type": "string",
                    "pattern": patterns::PREFIX,
                    "description": "The first chunks of `key_expr`, which are not stored",
                },
                "complete": { "enum": [true, false, "true", "false"] },
                "volume": { "if": { "type": "object" }, "then": options },
                // It is the storage manager's, and belongs into `volume`.
                "replication": false,
            },
        },
    })
}

#[cfg(test)]
mod tests;
