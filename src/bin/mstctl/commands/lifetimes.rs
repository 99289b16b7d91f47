//! `mstctl lifetimes`: what a lifetime would take away.

use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::HumanBytes;
use serde_json::{Value, json};
use zenoh::{key_expr::keyexpr, time::NTP64};
use zenoh_backend_mst::{cell::ntp64_span, config::parse_lifetime};

use super::{
    Context,
    keys::{Wanted, each},
};
use crate::{
    args::Lifetimes,
    exit::{Answer, Error, of_zenoh},
    output::safe,
};

/// What a lifetime would do to the keys that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Effect {
    keys: u64,
    gone: u64,
    gone_cells: u64,
    gone_bytes: u64,
}

impl Effect {
    /// A key as the backend lists it, if what was stamped up to `until` would be dead.
    fn see(&mut self, key: &Value, until: u64) -> Option<()> {
        if key["rule"] == true {
            return Some(());
        }
        let written = NTP64::parse_rfc3339(key["time"].as_str()?).ok()?;
        self.keys += 1;
        if written.0 <= until {
            self.gone += 1;
            self.gone_cells += key["cells"].as_u64()?;
            self.gone_bytes += key["bytes"].as_u64()?;
        }
        Some(())
    }
}

/// The pattern and the time, as they are given.
fn parse(given: &str) -> Result<(&str, std::time::Duration), Error> {
    let wrong = |reason: String| Error::Usage(format!("`{}`: {reason}", safe(given)));
    let parts = given.rsplit_once('=');
    let (pattern, time) = parts.ok_or_else(|| wrong("write it as PATTERN=TIME".to_owned()))?;
    keyexpr::new(pattern).map_err(|error| wrong(of_zenoh(&error)))?;
    if pattern.contains(';') {
        return Err(wrong("a pattern with `;` cannot be asked for".to_owned()));
    }
    let time = parse_lifetime(time).map_err(|error| wrong(error.to_string()))?;
    Ok((pattern, time))
}

pub(super) fn run(context: &Context, args: &Lifetimes) -> Result<Answer, Error> {
    let given = args.lifetimes.iter().map(|given| parse(given));
    let given = given.collect::<Result<Vec<_>, _>>()?;
    let connection = context.connect()?;
    let replica = context.choice().fullest(connection.replicas()?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, ntp64_span);
    for (pattern, time) in given {
        let until = now.saturating_sub(ntp64_span(time));
        let mut effect = Effect::default();
        let wanted = Wanted {
            pattern: Some(pattern),
            deleted: true,
            bytes: true,
            ..Wanted::default()
        };
        each(&connection, &replica.base, wanted, |key| {
            let seen = effect.see(key, until);
            seen.ok_or_else(|| Error::Usage("a key that was listed cannot be read".to_owned()))
        })?;
        let Effect {
            keys,
            gone,
            gone_cells,
            gone_bytes,
        } = effect;
        match context.output.json {
            true => context.output.line(&json!({
                "pattern": pattern, "keys": keys, "gone": gone, "gone_cells": gone_cells,
                "gone_bytes": gone_bytes,
            }))?,
            false => context.output.text(format!(
                "{}: {gone} of {keys} keys would go at once, with {gone_cells} cells of {}",
                safe(pattern),
                HumanBytes(gone_bytes)
            ))?,
        }
    }
    Ok(Answer::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_patterns_and_times() {
        let (pattern, time) = parse("demo/a=b/*=10s").expect("it is one");
        assert_eq!((pattern, time.as_secs()), ("demo/a=b/*", 10));
        for wrong in [
            "demo/**",
            "demo/**=",
            "demo//a=10s",
            "demo/;x=10s",
            "demo/**=1ms",
        ] {
            let error = parse(wrong).expect_err(wrong);
            assert_eq!(error.code(), 2, "{wrong}");
        }
    }

    #[test]
    fn what_is_old_would_go() {
        let mut effect = Effect::default();
        let key = |time: &str, cells: u64| json!({ "time": time, "cells": cells, "bytes": 100 * cells, "rule": false });
        let until = 100 << 32;
        let old = key("1970-01-01T00:01:40Z", 2);
        let new = key("1970-01-01T00:01:41Z", 3);
        let rule = json!({ "time": "1970-01-01T00:00:00Z", "cells": 1, "rule": true });
        for listed in [&old, &new, &rule] {
            assert_eq!(effect.see(listed, until), Some(()));
        }
        let expected = Effect {
            keys: 2,
            gone: 1,
            gone_cells: 2,
            gone_bytes: 200,
        };
        assert_eq!(effect, expected);
        assert_eq!(effect.see(&json!({}), until), None);
    }
}
