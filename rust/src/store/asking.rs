//! How storages and replicas are asked.

use std::time::Duration;

use serde_json::Value as Json;
use zenoh::{
    Wait,
    qos::CongestionControl,
    query::{ConsolidationMode, Reply},
    sample::Sample,
    time::NTP64,
};

use super::Store;
use crate::{
    Error, Write,
    cells::{Cell, cells},
    error::refused,
};

/// What Zenoh says in place of the answers that are missing when the time is up.
const OUT_OF_TIME: &str = "Timeout";

/// What the answers say of a write.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Whether one shows that a storage has taken it.
    pub(super) is_found: bool,
    /// Whether answers are missing.
    is_out_of_time: bool,
    /// The errors among the answers.
    pub(super) errors: Vec<String>,
}

impl Search {
    fn found() -> Self {
        Self {
            is_found: true,
            ..Self::default()
        }
    }

    /// Whether all storages answered.
    pub(super) fn is_complete(&self) -> bool {
        !self.is_out_of_time && self.errors.is_empty()
    }
}

impl Store {
    /// Looks for a write, and ends with the first answer that shows it.
    ///
    /// First it asks for the value, which is short; if the nearest storage has another one, for the cells.
    /// Each of both has the whole timeout.
    pub(super) fn search(&self, write: &Write, timeout: Duration) -> Result<Search, Error> {
        let each = ConsolidationMode::None;
        for reply in self.replies(&write.key, timeout, None, each)? {
            let Ok(sample) = reply.into_result() else {
                continue;
            };
            if let Some(stamp) = sample.timestamp().copied() {
                self.has_read(stamp);
                if stamp == write.stamp {
                    return Ok(Search::found());
                }
                break;
            }
        }
        let mut search = Search::default();
        for reply in self.replies(&format!("{}?raw", write.key), timeout, None, each)? {
            match reply.into_result() {
                // Others than storages of this backend may have the key, too.
                Ok(sample) => {
                    let shown = cells(&sample.payload().to_bytes()).unwrap_or_default();
                    if write.was_taken(&shown) {
                        return Ok(Search::found());
                    }
                }
                Err(error) => match text_of(&error.payload().to_bytes()) {
                    text if text == OUT_OF_TIME => search.is_out_of_time = true,
                    text => search.errors.push(text),
                },
            }
        }
        Ok(search)
    }

    pub(super) fn statuses_within(&self, timeout: Duration) -> Result<Vec<Json>, Error> {
        let samples = self.each(&format!("{}/*/status", self.group), timeout, None)?;
        samples.map(|sample| json_of(&sample?)).collect()
    }

    /// The cells of a key at each replica that answers, as they come.
    pub(super) fn cells_of_replicas(
        &self,
        key: &str,
        replica: &str,
        timeout: Duration,
    ) -> Result<impl Iterator<Item = Result<(String, Vec<Cell>), Error>> + use<>, Error> {
        let selector = format!("{}/{replica}/cells", self.group);
        let samples = self.each(&selector, timeout, Some(key))?;
        Ok(samples.map(|sample| {
            let sample = sample?;
            Ok((replica_of(&sample)?, cells(&sample.payload().to_bytes())?))
        }))
    }

    /// Of each key the newest answer.
    ///
    /// `Refused` for an error, and `NoAnswer` if the newest answer may be missing.
    pub(super) fn samples(&self, selector: &str, timeout: Duration) -> Result<Vec<Sample>, Error> {
        let replies = self.replies(selector, timeout, None, ConsolidationMode::Latest)?;
        let samples = replies.map(|reply| {
            let error = match reply.into_result() {
                Ok(sample) => return Ok(sample),
                Err(error) => text_of(&error.payload().to_bytes()),
            };
            Err(match error == OUT_OF_TIME {
                true => Error::NoAnswer(format!(
                    "{selector}: not all storages answered within {timeout:?}"
                )),
                false => refused(format!("{selector}: {error}")),
            })
        });
        samples.collect()
    }

    /// The answers of all that answer in time, as they come; `Refused` for an error.
    pub(super) fn each(
        &self,
        selector: &str,
        timeout: Duration,
        payload: Option<&str>,
    ) -> Result<impl Iterator<Item = Result<Sample, Error>> + use<>, Error> {
        let replies = self.replies(selector, timeout, payload, ConsolidationMode::None)?;
        let selector = selector.to_owned();
        Ok(replies.filter_map(move |reply| match reply.into_result() {
            Ok(sample) => Some(Ok(sample)),
            Err(error) => match text_of(&error.payload().to_bytes()) {
                text if text == OUT_OF_TIME => None,
                text => Some(Err(refused(format!("{selector}: {text}")))),
            },
        }))
    }

    pub(super) fn replies(
        &self,
        selector: &str,
        timeout: Duration,
        payload: Option<&str>,
        consolidation: ConsolidationMode,
    ) -> Result<impl Iterator<Item = Reply> + use<>, Error> {
        let mut get = self
            .session
            .get(selector)
            .consolidation(consolidation)
            .timeout(timeout)
            .congestion_control(CongestionControl::Block);
        if let Some(payload) = payload {
            get = get.payload(payload);
        }
        Ok(get.wait()?.into_iter())
    }
}

pub(super) fn json_of(sample: &Sample) -> Result<Json, Error> {
    let json = serde_json::from_slice(&sample.payload().to_bytes());
    json.map_err(|error| refused(format!("{} is not to be read: {error}", sample.key_expr())))
}

pub(super) fn field<'a>(status: &'a Json, name: &str) -> Result<&'a str, Error> {
    let field = status[name].as_str();
    field.ok_or_else(|| refused(format!("a status has no {name}")))
}

/// Up to when the root of a status has all.
pub(super) fn cut_of(status: &Json) -> Result<NTP64, Error> {
    let cut = NTP64::parse_rfc3339(field(status, "cut")?);
    cut.map_err(|_| refused("a status has a cut that is no time"))
}

/// Whose answer it is: the chunk after the group's.
pub(super) fn replica_of(sample: &Sample) -> Result<String, Error> {
    let replica = sample.key_expr().as_str().split('/').nth(3);
    let replica = replica.map(str::to_owned);
    replica.ok_or_else(|| refused(format!("{} is of no replica", sample.key_expr())))
}

pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
