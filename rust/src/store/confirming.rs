//! Waits until a storage shows a write, and finds out why none does.

use std::time::Duration;

use serde_json::Value as Json;

use super::{
    Store,
    asking::{Search, cut_of},
};
use crate::{
    Error, Stamp, Write,
    error::Unshown,
    waiting::{first, share},
};

/// After so long without the write the replicas are asked for the reason.
const BEFORE_ASKING_WHY: Duration = Duration::from_secs(1);

const RESTAMPED: &str =
    "stamped anew by a router whose clock is more than 500 ms behind this machine's";

/// What the answers say.
enum Found {
    Shown,
    /// Not, and it will not be.
    Never(String),
}

/// What was heard until now.
#[derive(Default)]
struct Heard {
    last: Search,
    statuses: Vec<Json>,
    /// When all began to answer without it.
    lacked_since: Option<Duration>,
}

/// Returns when a storage shows that it has taken the write.
pub(super) fn confirm(store: &Store, write: Write, timeout: Duration) -> Result<Write, Error> {
    let patience = BEFORE_ASKING_WHY.min(timeout / 2);
    let mut heard = Heard::default();
    let mut ask_why_at = patience;
    let found = first(timeout, |left| {
        let waited = timeout.saturating_sub(left);
        heard.last = store.search(&write, share(left, timeout))?;
        if heard.last.is_found {
            return Ok(Some(Found::Shown));
        }
        heard.lacked_since = match heard.last.is_complete() {
            true => heard.lacked_since.or(Some(waited)),
            false => None,
        };
        if waited < ask_why_at {
            return Ok(None);
        }
        ask_why_at = waited + BEFORE_ASKING_WHY;
        // None to those who may not ask.
        let statuses = store.statuses_within(share(left, timeout));
        heard.statuses = statuses.unwrap_or_default();
        let lacked = heard.lacked_since;
        let is_lacked = lacked.is_some_and(|since| waited - since >= patience);
        Ok(why_not(write.stamp, &heard.statuses, is_lacked)?.map(Found::Never))
    });
    let unshown = |reason| {
        Box::new(Unshown {
            write: write.clone(),
            reason,
        })
    };
    match found {
        Ok(Some(Found::Shown)) => Ok(write),
        Ok(Some(Found::Never(reason))) => Err(Error::NotShown(unshown(reason))),
        Ok(None) => {
            let gone = gone(&heard.statuses);
            let reason = format!(
                "it may be on its way, or refused (the router's log says why), or {RESTAMPED}, {gone}"
            );
            if heard.last.is_complete() && !heard.statuses.is_empty() {
                return Err(Error::NotShown(unshown(reason)));
            }
            let errors = heard.last.errors.iter();
            let errors = errors.map(|error| format!("; an answer was the error: {error}"));
            let errors: String = errors.collect();
            let reason = format!("nothing within {timeout:?}: {reason}{errors}");
            Err(Error::Unconfirmed(unshown(reason)))
        }
        // It was sent: whatever went wrong since, that is what the caller has to know.
        Err(error) => Err(Error::Unconfirmed(unshown(error.to_string()))),
    }
}

/// Why it is not shown, if the replicas know that it will not be.
fn why_not(stamp: Stamp, statuses: &[Json], is_lacked: bool) -> Result<Option<String>, Error> {
    let mut is_settled = true;
    for status in statuses {
        for refused in status["refused"].as_array().into_iter().flatten() {
            let refused_stamp = refused["timestamp"].as_str().map(str::parse);
            if refused_stamp == Some(Ok(stamp)) {
                let identity = status["identity"].as_str().unwrap_or_default();
                let reason = refused["reason"].as_str().unwrap_or_default();
                return Ok(Some(format!("replica {identity} refused it: {reason}")));
            }
        }
        // What is newer than a root may be about to be taken. What is older was sent long ago, or
        // again by this call, before its questions: it is not on its way.
        is_settled &= cut_of(status)? > *stamp.get_time();
    }
    let is_known = is_lacked && is_settled && !statuses.is_empty();
    let reason = || {
        format!(
            "it was refused (the router's log says why), or {RESTAMPED}, {}",
            gone(statuses)
        )
    };
    Ok(is_known.then(reason))
}

/// How it may have gone after it was taken: what the statuses, if there are any, leave open.
fn gone(statuses: &[Json]) -> String {
    let leaves_open = |way: fn(&Json) -> bool| statuses.is_empty() || statuses.iter().any(way);
    let mut ways = Vec::new();
    if leaves_open(|status| status["wildcard_rules"] != 0) {
        ways.push("by a later delete with wildcards");
    }
    if leaves_open(|status| status["lifetimes"]["patterns"] != 0) {
        ways.push("since its lifetime was over");
    }
    if leaves_open(|status| !status["collection"]["horizon"].is_null()) {
        ways.push("by a delete that was collected");
    }
    match ways.is_empty() {
        true => {
            "but it has not gone after it was taken: the storages have no wildcard rules and no \
                 lifetimes, and collected nothing"
                .to_owned()
        }
        false => format!("or it was taken and has gone since, {}", ways.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stamp(seconds: u64) -> Stamp {
        format!("{}/1", seconds << 32).parse().expect("a stamp")
    }

    fn status(cut: &str) -> Json {
        json!({
            "identity": "ab", "cut": cut, "refused": [], "wildcard_rules": 0,
            "lifetimes": { "patterns": 0 },
        })
    }

    #[test]
    fn a_replica_that_refused_it_says_why() {
        let mut refusing = status("1970-01-01T00:00:01Z");
        refusing["refused"] = json!([{ "timestamp": stamp(5).to_string(), "reason": "too long" }]);
        let why = |time| why_not(stamp(time), std::slice::from_ref(&refusing), false);
        let reason = why(5).expect("statuses").expect("a reason");
        assert_eq!(reason, "replica ab refused it: too long");
        assert_eq!(why(6).expect("statuses"), None);
    }

    #[test]
    fn it_is_known_to_be_gone_when_all_roots_are_newer() {
        let statuses = [
            status("1970-01-01T00:00:09Z"),
            status("1970-01-01T00:00:07Z"),
        ];
        let why = |time, is_lacked| why_not(stamp(time), &statuses, is_lacked).expect("statuses");
        assert!(why(6, true).is_some_and(|reason| reason.contains("it was refused")));
        assert_eq!(
            (why(7, true), why(8, true), why(6, false)),
            (None, None, None)
        );
        assert_eq!(why_not(stamp(6), &[], true).expect("no status"), None);
        assert!(why_not(stamp(6), &[json!({ "cut": "x" })], true).is_err());
    }

    #[test]
    fn what_may_have_taken_it_away_is_named() {
        let none = status("1970-01-01T00:00:09Z");
        assert!(gone(std::slice::from_ref(&none)).contains("it has not gone"));
        for (field, value, way) in [
            ("wildcard_rules", json!(2), "wildcards"),
            ("lifetimes", json!({ "patterns": 1 }), "lifetime"),
            (
                "collection",
                json!({ "horizon": "1970-01-01T00:00:05Z" }),
                "collected",
            ),
        ] {
            let mut one = none.clone();
            one[field] = value;
            let found = gone(&[none.clone(), one]);
            let named = ["wildcards", "lifetime", "collected"].map(|way| found.contains(way));
            assert_eq!(named.iter().filter(|named| **named).count(), 1, "{found}");
            assert!(found.contains(way), "{found}");
        }
        assert_eq!(gone(&[]).matches(" or ").count(), 2);
    }
}
