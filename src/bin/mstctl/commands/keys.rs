//! `mstctl keys`

use serde_json::{Value, json};
use zenoh::key_expr::keyexpr;
use zenoh_backend_mst::{cell::Timestamp, sync::Token};

use super::Context;
use crate::{
    args::Keys,
    cells::timestamp,
    connection::{Connection, Request},
    exit::{Answer, Error, of_zenoh},
    output::{Output, Tone, safe, time},
};

/// Keys that are asked for at a time.
const PAGE: u64 = 1000;

/// Which keys are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    /// A key expression that they match.
    pub(super) pattern: Option<&'a str>,
    /// Deleted ones, too.
    pub(super) deleted: bool,
    /// How large each is, too.
    pub(super) bytes: bool,
    /// So many at the most.
    pub(super) limit: Option<u64>,
    /// Between these keys of cells, in hexadecimal, neither of which is meant.
    pub(super) low: Option<&'a str>,
    pub(super) high: Option<&'a str>,
}

pub(super) fn run(context: &Context, args: &Keys) -> Result<Answer, Error> {
    check_pattern(args)?;
    let connection = context.connect()?;
    let replica = context.choice().fullest(connection.replicas()?)?;
    let wanted = Wanted {
        pattern: args.pattern.as_deref(),
        deleted: args.deleted,
        limit: args.limit,
        ..Wanted::default()
    };
    let mut listing = Listing::new(context.output);
    each(&connection, &replica.base, wanted, |key| listing.show(key))?;
    Ok(Answer::Yes)
}

/// Visits the keys of a replica, as it lists them, page by page.
pub(super) fn each(
    connection: &Connection,
    base: &Token,
    wanted: Wanted<'_>,
    mut visit: impl FnMut(&Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut left = wanted.limit.unwrap_or(u64::MAX);
    let mut after: Option<String> = None;
    while left > 0 {
        let piece = connection.ask(page(base, wanted, left, after.as_deref()))?;
        let answer = piece.json()?;
        let keys = answer["keys"].as_array();
        let keys = keys.ok_or_else(|| piece.problem("there are no `keys` in it"))?;
        for key in keys
            .iter()
            .take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            visit(key)?;
            left -= 1;
        }
        let Some(next) = answer["next"].as_str() else {
            break;
        };
        // It would come back for ever.
        if after.as_deref() == Some(next) {
            let problem = format!("it cannot be asked what comes after `{}`", safe(next));
            return Err(piece.problem(problem));
        }
        after = Some(next.to_owned());
    }
    Ok(())
}

/// Whether the pattern is a key expression that can be asked for.
pub(super) fn check_pattern(args: &Keys) -> Result<(), Error> {
    let Some(pattern) = &args.pattern else {
        return Ok(());
    };
    let wrong = |reason: String| Error::Usage(format!("`{}`: {reason}", safe(pattern)));
    keyexpr::new(pattern.as_str()).map_err(|error| wrong(of_zenoh(&error)))?;
    match pattern.contains(';') {
        true => Err(wrong("a pattern with `;` cannot be asked for".to_owned())),
        false => Ok(()),
    }
}

fn page(base: &Token, wanted: Wanted<'_>, left: u64, after: Option<&str>) -> Request {
    let mut request = Request::to(base, "keys").with("limit", left.min(PAGE));
    if wanted.deleted {
        request = request.with("deleted", true);
    }
    if wanted.bytes {
        request = request.with("bytes", true);
    }
    let named = [
        ("match", wanted.pattern),
        ("low", wanted.low),
        ("high", wanted.high),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            request = request.with(name, value);
        }
    }
    // Not as a parameter, which a `;` in the key would end.
    match after {
        Some(after) => request.payload(after.as_bytes()),
        None => request,
    }
}

/// Keys, as they come: so columns have widths that do not depend on them.
pub(super) struct Listing {
    output: Output,
    is_begun: bool,
}

impl Listing {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            is_begun: false,
        }
    }

    /// A key as the backend lists it.
    pub(super) fn show(&mut self, key: &Value) -> Result<(), Error> {
        if self.output.json {
            return self.output.line(key);
        }
        if !std::mem::replace(&mut self.is_begun, true) {
            let head = format!("{:30}  {:>6}  {:9}  KEY", "TIME", "CELLS", "STATE");
            self.output.text(self.output.paint(Tone::Dim, &head))?;
        }
        self.output.text(row(key, self.output))
    }
}

fn row(key: &Value, output: Output) -> String {
    let at = match key["time"].as_str() {
        Some(time) => time.to_owned(),
        None => timestamp(key["timestamp"].as_str().unwrap_or_default()).0,
    };
    let cells = key["cells"].as_u64().unwrap_or(1);
    let (state, tone) = match (key["deleted"] == true, key["rule"] == true) {
        (true, _) if is_over(key) => ("expired".to_owned(), Tone::Dim),
        (true, _) => ("deleted".to_owned(), Tone::Dim),
        (false, true) => ("rule".to_owned(), Tone::Plain),
        (false, false) => (
            key["left_ms"].as_u64().map_or_else(String::new, left),
            Tone::Plain,
        ),
    };
    let name = key["key"].as_str().unwrap_or_default();
    let row = format!("{at:30}  {cells:>6}  {state:9}  {}", safe(name));
    output.paint(tone, &row)
}

/// Whether a listed key has no value since its lifetime, or its `ttl`, is over.
pub(super) fn is_over(key: &Value) -> bool {
    key["deleted"] == true && key["left_ms"] == 0
}

/// What is left of the life of a key, in the largest unit of which it has two or more.
fn left(millis: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let seconds = millis / 1000;
    let unit = UNITS.iter().find(|(factor, _)| seconds >= 2 * factor);
    let (factor, name) = unit.unwrap_or(&(1, "s"));
    format!("{}{name} left", seconds / factor)
}

/// A key as the backend lists it, from the cells that it is made of.
pub(super) fn listed(key: &str, timestamp: Timestamp, cells: u64, deleted: bool) -> Value {
    let is_rule = key.contains('*');
    json!({
        "key": key,
        "timestamp": timestamp.to_string(),
        "time": time(timestamp.time),
        "cells": cells,
        "bytes": null,
        "deleted": deleted && !is_rule,
        "rule": is_rule,
        "expires": null,
        "left_ms": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(pattern: &str) -> Keys {
        Keys {
            pattern: Some(pattern.to_owned()),
            deleted: true,
            limit: None,
        }
    }

    #[test]
    fn patterns_are_key_expressions() {
        assert!(check_pattern(&args("demo/**")).is_ok());
        for wrong in ["demo//a", "", "demo/;x"] {
            let error = check_pattern(&args(wrong)).expect_err(wrong);
            assert_eq!(error.code(), 2);
        }
    }

    #[test]
    fn what_is_left_of_a_life_has_one_unit() {
        let said = [
            0,
            9_999,
            119_000,
            120_000,
            7_199_000,
            7_200_000,
            172_800_000,
        ];
        let said = said.map(left);
        let expected = [
            "0s left",
            "9s left",
            "119s left",
            "2m left",
            "119m left",
            "2h left",
            "2d left",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn rows_are_even_whatever_the_key() {
        let output = Output::new(true);
        let timestamp = Timestamp {
            time: 0,
            id: [1; 16],
        };
        let key = listed("a/\u{1b}b", timestamp, 12, false);
        let deleted = listed("c", timestamp, 1, true);
        let text = row(&key, output);
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000000000Z      12             a/\\u{1b}b"
        );
        assert_eq!(row(&deleted, output).find("deleted"), Some(40));
        let mut expired = deleted.clone();
        expired["left_ms"] = json!(0);
        assert_eq!(row(&expired, output).find("expired"), Some(40));
        let rule = listed("a/**", timestamp, 1, true);
        assert_eq!(row(&rule, output).find("rule       a/**"), Some(40));
    }
}
