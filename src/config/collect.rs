//! The configuration of collection: when what was deleted goes for good.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Span, limits, option_error, within};

/// The options of collection.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object: `{}` for a collection after the default time, `{ after: \"24h\" }`, or \
                 `{ enabled: false }` for none"
)]
pub(super) struct CollectOptions {
    #[serde(default = "yes")]
    enabled: bool,
    after: Option<Span>,
}

fn yes() -> bool {
    true
}

/// How a storage collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectConfig {
    /// What is deleted goes when it is so old. A write that is older is not taken any more.
    pub after: Duration,
}

/// How a storage collects, if it does.
///
/// # Errors
/// If the time is out of its range, or the storage is one that does not collect.
pub(super) fn validate(
    options: Option<CollectOptions>,
    is_replicated: bool,
    is_read_only: bool,
    settle: Span,
) -> Result<Option<CollectConfig>, ConfigError> {
    let Some(CollectOptions { enabled, after }) = options else {
        return Ok(None);
    };
    let default = limits::DEFAULT_COLLECT;
    let after = within("collect.after", after, limits::COLLECT, default)?;
    if !enabled {
        return Ok(None);
    }
    if is_replicated {
        return Err(option_error(
            "collect",
            "a replicated storage does not collect in this version: leave `collect` out, or say \
             `collect: { enabled: false }`",
        ));
    }
    if is_read_only {
        return Err(option_error(
            "collect",
            "the storage has `read_only: true`, and changes nothing: leave `collect` out, or say \
             `collect: { enabled: false }`",
        ));
    }
    if after.0 <= 2 * settle.0 {
        return Err(option_error(
            "collect.after",
            format!("found {after}, and `settle` is {settle}: allowed is more than twice that"),
        ));
    }
    Ok(Some(CollectConfig { after: after.0 }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::StorageConfig;

    fn after(options: Value) -> Result<Option<u64>, String> {
        let config = StorageConfig::parse("demo", options).map_err(|error| error.to_string())?;
        Ok(config.collect.map(|collect| collect.after.as_secs()))
    }

    #[test]
    fn nothing_is_collected_unless_it_is_said() {
        assert_eq!(after(Value::Null), Ok(None));
        assert_eq!(after(json!({ "collect": { "enabled": false } })), Ok(None));
        assert_eq!(after(json!({ "collect": {} })), Ok(Some(7 * 24 * 3600)));
        let of_memory = json!({ "collect": { "after": "1m" }, "persistence": "memory" });
        assert_eq!(after(of_memory), Ok(Some(60)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (options, said) in [
            (
                json!({ "collect": { "after": "59s" } }),
                r#"option `collect.after`: found "59s", allowed is "1m" to "366d""#,
            ),
            (
                json!({ "collect": { "after": "59s", "enabled": false } }),
                "option `collect.after`",
            ),
            (
                json!({ "collect": { "after": "2m" }, "settle": "1m" }),
                r#"found "2m", and `settle` is "1m": allowed is more than twice that"#,
            ),
            (
                json!({ "collect": {}, "replication": {} }),
                "option `collect`: a replicated storage does not collect in this version",
            ),
            (
                json!({ "collect": {}, "read_only": true }),
                "option `collect`: the storage has `read_only: true`",
            ),
            (json!({ "collect": true }), "`{ enabled: false }` for none"),
            (
                json!({ "collect": { "afer": "1d" } }),
                "unknown field `afer`",
            ),
        ] {
            let error = after(options.clone()).expect_err("wrong");
            assert!(error.contains(said), "{options}: {error}");
        }
        let off = json!({ "collect": { "enabled": false }, "replication": {} });
        assert_eq!(after(off), Ok(None));
    }
}
