//! For how long one put is shown: the piece `ttl=10s` of its encoding's schema.
//!
//! It hides the value from readers, and nothing else: tree, roots and rows know nothing of it, and the
//! cell leaves with the lifetime of its key. So it takes no part in what replicas have to agree on but
//! by the schema, which is under the digest. To readers a value that is hidden is a tombstone with its
//! timestamp: what it replaced does not come back.
//!
//! It is for puts of which the last writer wins. Of what is merged one put cannot be hidden without
//! showing what it has replaced, so such puts are refused.

use thiserror::Error;

use crate::{
    cell::{Cell, Value, ntp64_millis, ntp64_span, ttls, with_ttl, without_ttl},
    config::parse_ttl,
};

/// Why the time in an encoding is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidTtl {
    /// It is no time, or out of its range.
    #[error("its encoding says `ttl={found}`, allowed is {allowed}")]
    Time {
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// There are several.
    #[error("its encoding has more than one `ttl=`")]
    Several,
}

/// Bytes of a time that is wrong that are shown.
const MAX_SHOWN: usize = 64;

/// For how long a value is shown, in NTP64, if it says so.
///
/// # Errors
/// If it says so in a way that is not understood.
pub fn ttl_of(value: &Value) -> Result<Option<u64>, InvalidTtl> {
    let Some(schema) = value.schema.as_deref() else {
        return Ok(None);
    };
    let mut found = ttls(schema);
    let Some(ttl) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(InvalidTtl::Several);
    }
    let parsed = parse_ttl(ttl).map_err(|allowed| InvalidTtl::Time {
        found: ttl.chars().take(MAX_SHOWN).collect(),
        allowed,
    })?;
    Ok(Some(ntp64_span(parsed)))
}

/// Until when a value is shown that was put at `time` with this text as its `ttl`. What cannot be
/// understood comes from no put here, and hides nothing.
pub(crate) fn until(time: u64, ttl: &str) -> u64 {
    match parse_ttl(ttl) {
        Ok(ttl) => time.saturating_add(ntp64_span(ttl)),
        Err(_) => u64::MAX,
    }
}

/// From when on a cell is not shown, by what it says itself: at once, if it is a tombstone, and never,
/// if it says nothing.
#[must_use]
pub fn shown_until(cell: &Cell) -> u64 {
    let Some(value) = cell.value() else {
        return 0;
    };
    let schema = value.schema.as_deref();
    let ttl = schema.and_then(|schema| ttls(schema).next());
    ttl.map_or(u64::MAX, |ttl| until(cell.timestamp.time, ttl))
}

/// The value, to be shown for so long, in NTP64, from when it is put.
#[must_use]
pub fn shown_for(value: Value, left: u64) -> Value {
    let ttl = format!("{}ms", ntp64_millis(left).max(1));
    let schema = Some(with_ttl(value.schema.as_deref(), &ttl));
    Value { schema, ..value }
}

/// The value, without saying for how long it is shown.
#[must_use]
pub fn shown_always(value: Value) -> Value {
    let schema = value.schema.as_deref().and_then(without_ttl);
    Value { schema, ..value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Content, Timestamp};

    fn value(schema: &str) -> Value {
        Value {
            encoding_id: 4,
            schema: Some(schema.as_bytes().into()),
            attachment: None,
            payload: "1".into(),
        }
    }

    #[test]
    fn a_ttl_is_a_time_or_an_error() {
        assert_eq!(ttl_of(&value("utf-8")), Ok(None));
        assert_eq!(ttl_of(&value("ttl=10s")), Ok(Some(10 << 32)));
        assert_eq!(ttl_of(&value("utf-8; ttl=500ms")), Ok(Some(1 << 31)));
        assert_eq!(ttl_of(&value("ttl=1s;ttl=1s")), Err(InvalidTtl::Several));
        for wrong in [
            "",
            "10",
            "soon",
            "0s",
            "-1s",
            "3661d",
            "99999999999999999999d",
        ] {
            let error = ttl_of(&value(&format!("ttl={wrong}"))).expect_err(wrong);
            let said = format!(
                "its encoding says `ttl={wrong}`, allowed is a time with its unit, one of ms, s, m, \
                 h, d, from \"1ms\" to \"3660d\""
            );
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn a_value_is_hidden_when_its_time_is_over() {
        let cell = |content| Cell {
            timestamp: Timestamp {
                time: 100 << 32,
                id: [1; 16],
            },
            content,
        };
        let until = |schema: &str| shown_until(&cell(Content::Value(value(schema))));
        assert_eq!(until("ttl=10s"), 110 << 32);
        assert_eq!(until("utf-8"), u64::MAX);
        assert_eq!(until("ttl=soon"), u64::MAX);
        assert_eq!(shown_until(&cell(Content::Tombstone)), 0);
        let short = shown_for(value("utf-8;ttl=10s"), 3 << 31);
        assert_eq!(short.schema.as_deref(), Some(&b"utf-8;ttl=1500ms"[..]));
        assert_eq!(shown_always(short), value("utf-8"));
    }
}
