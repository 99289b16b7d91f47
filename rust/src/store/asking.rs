//! How storages and replicas are asked.

use std::time::Duration;

use serde_json::Value as Json;
use zenoh::{
    Wait,
    qos::CongestionControl,
    query::{ConsolidationMode, Reply},
    sample::Sample,
};

use super::Store;
use crate::{
    Error,
    cells::{Cell, cells},
    error::refused,
};

/// What Zenoh says in place of the answers that are missing when the time is up.
const OUT_OF_TIME: &str = "Timeout";

impl Store {
    pub(super) fn statuses_within(&self, timeout: Duration) -> Result<Vec<Json>, Error> {
        let samples = self.samples(&format!("{}/*/status", self.group), timeout, None, true)?;
        samples.iter().map(json_of).collect()
    }

    pub(super) fn cells_of_replicas(
        &self,
        key: &str,
        replica: &str,
        timeout: Duration,
    ) -> Result<Vec<(String, Vec<Cell>)>, Error> {
        let selector = format!("{}/{replica}/cells", self.group);
        let samples = self.samples(&selector, timeout, Some(key), true)?;
        let shown = samples.iter().map(|sample| {
            let cells = cells(&sample.payload().to_bytes())?;
            Ok((replica_of(sample)?, cells))
        });
        shown.collect()
    }

    /// Of each key the newest answer, or with `each` those of all that answered in time.
    ///
    /// `Refused` for an error, and `NoAnswer` if the newest answer may be missing.
    pub(super) fn samples(
        &self,
        selector: &str,
        timeout: Duration,
        payload: Option<&str>,
        each: bool,
    ) -> Result<Vec<Sample>, Error> {
        let consolidation = match each {
            true => ConsolidationMode::None,
            false => ConsolidationMode::Latest,
        };
        let mut found = Vec::new();
        for reply in self.replies(selector, timeout, payload, consolidation)? {
            match reply.into_result() {
                Ok(sample) => found.push(sample),
                Err(error) => match &*text_of(&error.payload().to_bytes()) {
                    OUT_OF_TIME if each => {}
                    OUT_OF_TIME => {
                        return Err(Error::NoAnswer(format!(
                            "{selector}: not all storages answered within {timeout:?}"
                        )));
                    }
                    text => return Err(refused(format!("{selector}: {text}"))),
                },
            }
        }
        Ok(found)
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

/// Whose answer it is: the chunk after the group's.
pub(super) fn replica_of(sample: &Sample) -> Result<String, Error> {
    let replica = sample.key_expr().as_str().split('/').nth(3);
    let replica = replica.map(str::to_owned);
    replica.ok_or_else(|| refused(format!("{} is of no replica", sample.key_expr())))
}

pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
