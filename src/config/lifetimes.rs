//! The configuration of lifetimes: how long values are kept, by key.

use std::{collections::BTreeMap, fmt, time::Duration, time::UNIX_EPOCH};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use zenoh_keyexpr::OwnedKeyExpr;

use super::{ConfigError, Span, limits, option_error};

/// Key expressions that may have a lifetime: each update and each read is compared with all whose
/// beginning the key has.
pub const MAX_LIFETIMES: usize = 256;

/// Steps that one lifetime may have.
pub const MAX_LIFETIME_STEPS: usize = 16;

/// How long is kept what is stamped from some time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifetimeStep {
    /// Milliseconds since 1970; 0 for the first step.
    pub from: u64,
    /// Milliseconds.
    pub kept: u64,
}

/// The lifetimes of a storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifetimesConfig {
    /// By key expressions, in the order of their texts; the steps of each ascend.
    pub keys: Vec<(OwnedKeyExpr, Vec<LifetimeStep>)>,
}

impl LifetimesConfig {
    /// The canonical text, however it was written: nothing if there are no lifetimes.
    #[must_use]
    pub fn text(&self) -> String {
        match self.keys.is_empty() {
            true => String::new(),
            // It cannot fail: all keys are text.
            false => serde_json::to_string(&self.keys).unwrap_or_default(),
        }
    }
}

/// A step as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepOptions {
    from: Option<String>,
    #[serde(rename = "for")]
    kept: Span,
}

/// A lifetime as it is written: a time, or steps.
pub(super) enum LifetimeOption {
    Always(Span),
    Steps(Vec<StepOption>),
}

pub(super) struct StepOption(StepOptions);

struct LifetimeVisitor;

impl<'de> Visitor<'de> for LifetimeVisitor {
    type Value = LifetimeOption;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a time with its unit, one of ms, s, m, h, d, such as \"10s\", or a list of steps, such \
             as [{ for: \"7d\" }, { from: \"2027-01-01T00:00:00Z\", for: \"30d\" }]",
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<LifetimeOption, E> {
        let text = serde::de::value::StrDeserializer::<E>::new(text);
        Span::deserialize(text).map(LifetimeOption::Always)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut steps: A) -> Result<LifetimeOption, A::Error> {
        let mut read = Vec::new();
        while let Some(step) = steps.next_element()? {
            read.push(StepOption(step));
        }
        Ok(LifetimeOption::Steps(read))
    }
}

impl<'de> Deserialize<'de> for LifetimeOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LifetimeVisitor)
    }
}

/// The lifetimes that are written under the option `lifetimes`.
///
/// # Errors
/// If a key expression is none, or a time is out of its range, or steps do not ascend.
pub(super) fn validate(
    options: BTreeMap<String, LifetimeOption>,
) -> Result<LifetimesConfig, ConfigError> {
    if options.len() > MAX_LIFETIMES {
        return Err(option_error(
            "lifetimes",
            format!(
                "found {} key expressions, allowed are {MAX_LIFETIMES}",
                options.len()
            ),
        ));
    }
    let mut keys = Vec::with_capacity(options.len());
    for (text, option) in options {
        let name = format!("lifetimes.{text}");
        let pattern =
            OwnedKeyExpr::try_from(text).map_err(|error| option_error(&name, error.to_string()))?;
        let steps = match option {
            LifetimeOption::Always(kept) => vec![LifetimeStep {
                from: 0,
                kept: kept_for(&name, kept)?,
            }],
            LifetimeOption::Steps(steps) => steps_of(&name, steps)?,
        };
        keys.push((pattern, steps));
    }
    Ok(LifetimesConfig { keys })
}

/// Reads one lifetime as it is written in a configuration.
///
/// # Errors
/// If it is out of its range.
pub fn parse_lifetime(text: &str) -> Result<Duration, ConfigError> {
    let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    let span =
        Span::deserialize(text).map_err(|error| option_error("lifetimes", error.to_string()))?;
    kept_for("lifetimes", span).map(Duration::from_millis)
}

/// Reads for how long a put says that it is shown.
///
/// # Errors
/// What is allowed, if it is not that.
pub fn parse_ttl(text: &str) -> Result<Duration, String> {
    let range = limits::TTL;
    let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    match Span::deserialize(text) {
        Ok(span) if range.contains(&span) => Ok(span.0),
        _ => Err(format!(
            "a time with its unit, one of ms, s, m, h, d, from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

fn steps_of(name: &str, options: Vec<StepOption>) -> Result<Vec<LifetimeStep>, ConfigError> {
    if options.is_empty() || options.len() > MAX_LIFETIME_STEPS {
        return Err(option_error(
            name,
            format!(
                "found {} steps, allowed are 1 to {MAX_LIFETIME_STEPS}",
                options.len()
            ),
        ));
    }
    let mut steps: Vec<LifetimeStep> = Vec::with_capacity(options.len());
    for (index, StepOption(StepOptions { from, kept })) in options.into_iter().enumerate() {
        let option = format!("{name}[{index}]");
        let kept = kept_for(&option, kept)?;
        let from = match from {
            None if index == 0 => 0,
            None => {
                return Err(option_error(
                    &option,
                    "it has no `from`: each step but the first says from when on it holds",
                ));
            }
            Some(_) if index == 0 => {
                return Err(option_error(
                    &option,
                    "found a `from`: the first step holds from the beginning",
                ));
            }
            Some(from) => millis_of(&option, &from)?,
        };
        if steps.last().is_some_and(|last| last.from >= from) {
            return Err(option_error(
                &option,
                "its `from` is not later than that of the step before",
            ));
        }
        steps.push(LifetimeStep { from, kept });
    }
    Ok(steps)
}

fn millis_of(option: &str, from: &str) -> Result<u64, ConfigError> {
    let time = humantime::parse_rfc3339(from).ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let millis = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    millis.filter(|millis| *millis > 0).ok_or_else(|| {
        option_error(
            option,
            format!("found {from:?} as `from`, allowed is a time such as \"2027-01-01T00:00:00Z\""),
        )
    })
}

fn kept_for(option: &str, kept: Span) -> Result<u64, ConfigError> {
    let range = limits::LIFETIME;
    if !range.contains(&kept) {
        let (low, high) = (range.start(), range.end());
        return Err(option_error(
            option,
            format!("found {kept}, allowed is {low} to {high}"),
        ));
    }
    // It is a whole number of milliseconds within the range.
    Ok(kept.0.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::StorageConfig;

    fn text(lifetimes: serde_json::Value) -> Result<String, String> {
        let config = StorageConfig::parse("demo", json!({ "lifetimes": lifetimes }));
        let config = config.map_err(|error| error.to_string())?;
        Ok(config.lifetimes.text())
    }

    #[test]
    fn lifetimes_are_times_or_steps() {
        assert_eq!(text(json!({})), Ok(String::new()));
        let both = json!({ "b/**": "2d", "a/*": [
            { "for": "10s" }, { "from": "2027-01-01T00:00:00Z", "for": "1m" },
        ] });
        let expected = r#"[["a/*",[{"from":0,"kept":10000},{"from":1798761600000,"kept":60000}]],["b/**",[{"from":0,"kept":172800000}]]]"#;
        assert_eq!(text(both), Ok(expected.to_owned()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (lifetimes, said) in [
            (
                json!({ "a": "999ms" }),
                r#"option `lifetimes.a`: found "999ms", allowed is "1s" to "3660d""#,
            ),
            (
                json!({ "a": "3661d" }),
                r#"found "3661d", allowed is "1s" to "3660d""#,
            ),
            (json!({ "a": 10 }), "a time with its unit"),
            (json!({ "a": "10" }), "a time with its unit"),
            (json!({ "a//b": "10s" }), "option `lifetimes.a//b`"),
            (json!({ "a": [] }), "found 0 steps, allowed are 1 to 16"),
            (
                json!({ "a": [{ "from": "2027-01-01T00:00:00Z", "for": "10s" }] }),
                "the first step holds from the beginning",
            ),
            (
                json!({ "a": [{ "for": "10s" }, { "for": "1m" }] }),
                "option `lifetimes.a[1]`: it has no `from`",
            ),
            (
                json!({ "a": [{ "for": "10s" }, { "from": "soon", "for": "1m" }] }),
                "found \"soon\" as `from`",
            ),
            (
                json!({ "a": [{ "for": "10s" }, { "from": "2027-01-01T00:00:00Z", "for": "1m" },
                    { "from": "2027-01-01T00:00:00Z", "for": "2m" }] }),
                "option `lifetimes.a[2]`: its `from` is not later",
            ),
            (
                json!({ "a": [{ "for": "10s", "by": 1 }] }),
                "unknown field `by`",
            ),
            (json!("10s"), "option `lifetimes`"),
        ] {
            let error = text(lifetimes.clone()).expect_err("wrong");
            assert!(error.contains(said), "{lifetimes}: {error}");
        }
        let many: serde_json::Map<_, _> =
            (0..257).map(|n| (format!("k{n}"), json!("10s"))).collect();
        let error = text(json!(many)).expect_err("too many");
        assert!(
            error.contains("found 257 key expressions, allowed are 256"),
            "{error}"
        );
    }
}
