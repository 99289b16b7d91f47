//! Answers of replicas.

use std::time::Duration;

use serde_json::Value;
use zenoh::{
    handlers::FifoChannelHandler, liveliness::LivelinessToken, query::Reply, sample::Sample,
};

use crate::{exit::Error, output::short};

/// What Zenoh says in place of an answer that did not come.
const TIMEOUT: &str = "Timeout";

/// An answer, or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Who answers.
    pub(crate) key_expr: String,
    /// What.
    pub(crate) payload: Vec<u8>,
    /// What is said beside it.
    attachment: Option<Vec<u8>>,
}

impl From<Sample> for Piece {
    fn from(sample: Sample) -> Self {
        let attachment = sample.attachment();
        Self {
            key_expr: sample.key_expr().to_string(),
            payload: sample.payload().to_bytes().into_owned(),
            attachment: attachment.map(|bytes| bytes.to_bytes().into_owned()),
        }
    }
}

impl Piece {
    /// The payload as JSON.
    pub(crate) fn json(&self) -> Result<Value, Error> {
        self.parse(&self.payload)
    }

    /// What is said beside the payload, as JSON.
    pub(crate) fn beside(&self) -> Result<Value, Error> {
        self.parse(self.attachment.as_deref().unwrap_or_default())
    }

    fn parse(&self, bytes: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(bytes).map_err(|error| self.problem(format!("not JSON, {error}")))
    }

    /// An error that says what is wrong with it.
    pub(crate) fn problem(&self, problem: impl Into<String>) -> Error {
        Error::Answer {
            whom: whom(&self.key_expr),
            problem: problem.into(),
        }
    }
}

/// What is asked, in words.
pub(super) fn whom(key_expr: &str) -> String {
    let mut chunks = key_expr.splitn(5, '/').skip(3);
    match (chunks.next(), chunks.next()) {
        (Some("*"), Some(what)) => format!("`{what}` of any replica"),
        (Some(replica), Some(what)) => format!("`{what}` of replica {}", short(replica)),
        _ => key_expr.to_owned(),
    }
}

/// The parts of an answer, as they come.
pub(crate) struct Pieces {
    pub(super) replies: FifoChannelHandler<Reply>,
    pub(super) whom: String,
    pub(super) timeout: Duration,
    /// Says that they are waited for.
    pub(super) _attendance: Option<LivelinessToken>,
}

impl Pieces {
    /// The next part; nothing after the last.
    pub(crate) fn next(&self) -> Result<Option<Piece>, Error> {
        let silent = || Error::Silent {
            whom: self.whom.clone(),
            waited: self.timeout,
        };
        // An error of the channel says that it was closed: that was all.
        match self.replies.recv_timeout(self.timeout) {
            Err(_) => Ok(None),
            Ok(None) => Err(silent()),
            Ok(Some(reply)) => match reply.into_result() {
                Ok(sample) => Ok(Some(sample.into())),
                Err(error) => {
                    let text = error.payload().to_bytes();
                    match String::from_utf8_lossy(&text) {
                        text if text == TIMEOUT => Err(silent()),
                        text => Err(Error::Refused {
                            whom: self.whom.clone(),
                            reason: text.into_owned(),
                        }),
                    }
                }
            },
        }
    }

    /// The one answer that there is.
    pub(crate) fn only(&self) -> Result<Piece, Error> {
        self.next()?.ok_or_else(|| Error::Nobody(self.whom.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_is_said_in_words() {
        let keys = "@mst/2/demo%2f%2a%2a/abababababababababababababababab/keys";
        assert_eq!(whom(keys), "`keys` of replica abababab");
        assert_eq!(whom("@mst/2/*/*/root"), "`root` of any replica");
    }
}
