//! The limit on nested options.
//!
//! Zenoh passes options as a tree of values of any depth; serde reads it, and drop frees
//! it, by recursion. So the depth is checked first, without recursion.

use serde_json::Value;

use super::{ConfigError, option_error};

/// The most nested objects and arrays, including the options themselves. The merge rules
/// may nest 16 objects, which takes 35.
const MAX_LEVELS: usize = 64;

/// The objects and arrays directly in these.
fn containers_in<'a>(containers: &[&'a Value]) -> Vec<&'a Value> {
    let mut inner = Vec::new();
    for container in containers {
        match container {
            Value::Array(values) => inner.extend(values),
            Value::Object(values) => inner.extend(values.values()),
            _ => {}
        }
    }
    inner.retain(|value| value.is_array() || value.is_object());
    inner
}

fn is_deep(value: &Value, max_levels: usize) -> bool {
    let mut containers = vec![value];
    for _ in 0..max_levels {
        containers = containers_in(&containers);
    }
    !containers.is_empty()
}

/// Drops a value, however deep it is.
fn take_apart(value: Value) {
    let mut values = vec![value];
    while let Some(value) = values.pop() {
        match value {
            Value::Array(inner) => values.extend(inner),
            Value::Object(inner) => values.extend(inner.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

/// Returns the options if they do not nest too deep to be read.
///
/// # Errors
/// If they nest too deep.
pub(super) fn shallow(options: Value) -> Result<Value, ConfigError> {
    if !is_deep(&options, MAX_LEVELS) {
        return Ok(options);
    }
    let mut named = options.as_object().into_iter().flatten();
    let deep = named.find(|(_, value)| is_deep(value, MAX_LEVELS - 1));
    let error = option_error(
        deep.map_or("volume", |(name, _)| name),
        format!("found more than {MAX_LEVELS} nested objects and arrays, allowed are {MAX_LEVELS}"),
    );
    take_apart(options);
    Err(error)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, thread};

    use serde_json::{Map, json};

    use super::{
        super::{StorageConfig, VolumeConfig},
        *,
    };

    /// The stack of the threads on which zenohd creates storages.
    const STACK: usize = 2 << 20;

    fn on_worker(run: impl FnOnce() + Send + 'static) {
        let thread = thread::Builder::new().stack_size(STACK).spawn(run);
        thread.expect("a thread").join().expect("no panic");
    }

    fn nested(levels: usize, name: Option<&str>) -> Value {
        (0..levels).fold(Value::Null, |inner, _| match name {
            Some(name) => object([(name, inner)]),
            None => Value::Array(vec![inner]),
        })
    }

    /// `json!` would go down by recursion.
    fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
        let fields = fields.into_iter();
        Value::Object(
            fields
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    #[test]
    fn options_of_any_depth_are_refused_by_their_name() {
        on_worker(|| {
            let deep = 100_000;
            for (options, option) in [
                (nested(deep, None), "volume"),
                (nested(deep, Some("fields")), "fields"),
                (object([("scrub", nested(deep, None))]), "scrub"),
                (
                    object([
                        ("dir", json!("x")),
                        ("replication", nested(deep, Some("a"))),
                    ]),
                    "replication",
                ),
            ] {
                let error = StorageConfig::parse("demo", options).expect_err("too deep");
                let error = error.to_string();
                assert!(
                    error.starts_with(&format!("option `{option}`: ")),
                    "{error}"
                );
                assert!(error.contains("64 nested objects"), "{error}");
            }
            let session = ("session", nested(deep, Some("a")));
            let options = object([session, ("root", nested(deep, None))]);
            let Value::Object(options) = options else {
                panic!("an object");
            };
            let error = VolumeConfig::parse(options, Path::new("/"));
            let error = error.expect_err("too deep").to_string();
            assert!(error.starts_with("option `root`: "), "{error}");
        });
    }

    #[test]
    fn options_are_read_up_to_the_limit() {
        on_worker(|| {
            // Whatever may be read, and is nested the most.
            let mut strategy = json!("lww");
            for _ in 0..(MAX_LEVELS - 2) / 2 {
                strategy = json!({ "strategy": "object", "fields": { "f": strategy } });
            }
            let options = |strategy| json!({ "replication": { "default_strategy": strategy } });
            let config = StorageConfig::parse("demo", options(strategy.clone()));
            assert!(config.expect("read").merge.text().contains("lww"));
            let strategy = json!({ "strategy": "object", "fields": { "f": strategy } });
            let error = StorageConfig::parse("demo", options(strategy)).expect_err("too deep");
            assert!(
                error.to_string().starts_with("option `replication`: "),
                "{error}"
            );

            let session = |levels| {
                let mut options = Map::new();
                options.insert("session".to_owned(), nested(levels, Some("a")));
                VolumeConfig::parse(options, Path::new("/"))
            };
            assert!(session(MAX_LEVELS - 1).is_ok());
            assert!(session(MAX_LEVELS).is_err());
        });
    }
}
