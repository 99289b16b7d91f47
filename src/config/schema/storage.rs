//! The options that a storage has behind both doors.

use serde_json::{Map, Value, json};

use super::{
    super::{MAX_LIFETIME_STEPS, MAX_LIFETIMES, limits},
    forms::{reference, size, span, switch, word},
    patterns,
};

/// Them, and which of them do not go together.
pub(super) fn storage() -> Value {
    json!({
        "properties": storage_options(),
        "allOf": [
            {
                "if": {
                    "properties": { "read_only": { "const": true } },
                    "required": ["read_only"],
                },
                "then": { "properties": {
                    "persistence": { "const": "durable" },
                    "on_closure": { "const": "do_nothing" },
                    "operators": { "enum": ["none", "read"] },
                    "replication": {
                        "properties": { "enabled": { "const": false } },
                        "required": ["enabled"],
                    },
                } },
            },
            {
                "if": {
                    "properties": { "collect": { "not": {
                        "properties": { "enabled": { "const": false } },
                        "required": ["enabled"],
                    } } },
                    "required": ["collect"],
                },
                "then": { "properties": {
                    "read_only": { "const": false },
                    "replication": {
                        "properties": { "enabled": { "const": false } },
                        "required": ["enabled"],
                    },
                } },
            },
            {
                "if": {
                    "properties": { "create": { "const": false } },
                    "required": ["create"],
                },
                "then": { "properties": { "persistence": { "const": "durable" } } },
            },
        ],
    })
}

/// Each of them by itself.
pub(super) fn storage_options() -> Map<String, Value> {
    let words = [
        (
            "persistence",
            word(&["durable", "memory"], "durable", "On disk, or in memory"),
        ),
        (
            "on_closure",
            word(
                &["do_nothing", "destroy"],
                "do_nothing",
                "What becomes of the folder when the storage is removed at run time",
            ),
        ),
        (
            "durability",
            word(
                &["always", "interval", "none"],
                "interval",
                "Which puts survive a crash: each, all but those of the last `sync_every`, or no promise",
            ),
        ),
        (
            "operators",
            word(
                &["none", "read", "all"],
                "read",
                "What the storage does for those who ask it through Zenoh",
            ),
        ),
        (
            "unstamped",
            word(
                &["accept", "refuse"],
                "accept",
                "What becomes of a put to a merged key that a router stamped",
            ),
        ),
    ];
    let switches = [
        (
            "create",
            switch(true, "false: a folder that is missing or empty is an error"),
        ),
        (
            "read_only",
            switch(false, "true: the storage takes no writes"),
        ),
    ];
    let times = [
        (
            "sync_every",
            span(
                limits::SYNC_EVERY,
                Some(limits::DEFAULT_SYNC_EVERY),
                "The interval of `durability`, no longer than `settle`",
            ),
        ),
        (
            "settle",
            span(
                limits::SETTLE,
                Some(limits::DEFAULT_SETTLE),
                "How long an update waits before the root includes it",
            ),
        ),
        (
            "max_clock_drift",
            span(
                limits::DRIFT,
                Some(limits::DEFAULT_DRIFT),
                "How far ahead of the router's clock a timestamp may be",
            ),
        ),
    ];
    let others = [
        (
            "dir",
            json!({
                "type": "string",
                "pattern": patterns::DIR,
                "description": "The storage's folder below `root`; its name, if it is left out",
            }),
        ),
        (
            "cache_size",
            size(
                limits::CACHE,
                limits::DEFAULT_CACHE,
                "Memory of the storage engine",
            ),
        ),
        ("scrub", scrub()),
        ("collect", collect()),
        ("lifetimes", lifetimes()),
        ("replication", replication()),
    ];
    let named = words.into_iter().chain(switches).chain(times).chain(others);
    named
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect()
}

fn scrub() -> Value {
    json!({
        "type": "object",
        "description": "The check of all cells against the disk, in the background",
        "default": {},
        "additionalProperties": false,
        "properties": {
            "enabled": switch(true, "Whether there is one"),
            "interval": span(limits::SCRUB, Some(limits::DEFAULT_SCRUB), "About the time of one pass"),
        },
    })
}

fn collect() -> Value {
    json!({
        "type": "object",
        "description": "When what was deleted goes for good",
        "additionalProperties": false,
        "properties": {
            "enabled": switch(true, "Whether it does"),
            "after": span(
                limits::COLLECT,
                Some(limits::DEFAULT_COLLECT),
                "What is deleted goes when it is so old; older writes are refused",
            ),
        },
    })
}

fn lifetimes() -> Value {
    let kept = || {
        span(
            limits::LIFETIME,
            None,
            "How long values of these keys are kept",
        )
    };
    let step = |required: &[&str], properties: Value| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": required,
            "properties": properties,
        })
    };
    let from = json!({ "type": "string", "pattern": patterns::TIME, "description": "Since when this step holds" });
    json!({
        "type": "object",
        "description": "How long values are kept, by key expression",
        "default": {},
        "maxProperties": MAX_LIFETIMES,
        "propertyNames": { "pattern": patterns::canonical_key_expression() },
        "additionalProperties": { "anyOf": [
            kept(),
            {
                "type": "array",
                "description": "Steps, of which each but the first says since when it holds",
                "minItems": 1,
                "maxItems": MAX_LIFETIME_STEPS,
                "items": [step(&["for"], json!({ "for": kept() }))],
                "additionalItems": step(&["from", "for"], json!({ "from": from, "for": kept() })),
            },
        ] },
    })
}

fn replication() -> Value {
    json!({
        "type": "object",
        "description": "Hold the same data as the same storage on other routers: {} is enough. The merge rules are in it, too",
        "additionalProperties": false,
        "properties": {
            "enabled": switch(true, "false: the merge rules alone"),
            "sync_interval": span(
                limits::SYNC_INTERVAL,
                Some(limits::DEFAULT_SYNC_INTERVAL),
                "How often a root is announced that has not changed",
            ),
            "compression": switch(true, "Whether fetched cells are compressed"),
            "default_strategy": {
                "allOf": [reference("strategy_0")],
                "default": "lww",
                "description": "How puts are merged where no other rule applies",
            },
            "type_overrides": {
                "type": "object",
                "default": {},
                "description": "Strategies by the encoding of what is put, or its schema",
                "additionalProperties": reference("strategy_0"),
            },
            "key_overrides": {
                "type": "object",
                "default": {},
                "description": "Strategies by key expression",
                "propertyNames": { "pattern": patterns::canonical_key_expression() },
                "additionalProperties": reference("strategy_0"),
            },
        },
    })
}

/// A strategy within so many objects, which may be as many as there can be.
pub(super) fn strategy(strategies: &[&str], objects: usize, is_last: bool) -> Value {
    let is_possible = |name: &&&str| match **name {
        "object" => !is_last,
        // Its documents are bytes, and no part of JSON.
        "automerge_crdt" => objects == 0,
        _ => true,
    };
    let names: Vec<_> = strategies.iter().filter(is_possible).collect();
    let name = json!({ "enum": names });
    let fields = match is_last {
        true => json!({ "type": "object", "maxProperties": 0 }),
        false => json!({
            "type": "object",
            "default": {},
            "description": "Strategies of fields; of all others the last writer wins",
            "additionalProperties": reference(&format!("strategy_{}", objects + 1)),
        }),
    };
    json!({ "anyOf": [name, {
        "type": "object",
        "additionalProperties": false,
        "required": ["strategy"],
        "properties": { "strategy": name, "fields": fields },
        "if": { "properties": { "strategy": { "const": "object" } } },
        "else": { "properties": { "fields": { "maxProperties": 0 } } },
    }] })
}
