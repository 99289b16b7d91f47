//! Conversions between Zenoh's types and ours.

use bytes::Bytes;
use zenoh::{
    Result as ZResult,
    bytes::{Encoding, ZBytes},
    time::{NTP64, Timestamp as ZenohTimestamp, TimestampId},
};

use crate::cell::{Cell, Content, Timestamp, Value};

pub(crate) fn timestamp_of(timestamp: &ZenohTimestamp) -> Timestamp {
    Timestamp {
        time: timestamp.get_time().as_u64(),
        id: timestamp.get_id().to_le_bytes(),
    }
}

/// The timestamp as Zenoh has it. Fails for one whose ID is zero, which no timestamp from Zenoh has.
pub(crate) fn zenoh_timestamp(timestamp: Timestamp) -> ZResult<ZenohTimestamp> {
    let id = TimestampId::try_from(&timestamp.id)
        .map_err(|error| format!("the timestamp {timestamp} has no valid ID: {error}"))?;
    Ok(ZenohTimestamp::new(NTP64(timestamp.time), id))
}

/// Converts many timestamps. Most have the same clock as the one before, whose ID is not
/// checked again.
#[derive(Default)]
pub(crate) struct Timestamps {
    last: Option<([u8; 16], TimestampId)>,
}

impl Timestamps {
    /// See [`zenoh_timestamp`].
    #[inline]
    pub(crate) fn zenoh_timestamp(&mut self, timestamp: Timestamp) -> ZResult<ZenohTimestamp> {
        match self.last {
            Some((bytes, id)) if bytes == timestamp.id => {
                Ok(ZenohTimestamp::new(NTP64(timestamp.time), id))
            }
            _ => {
                let converted = zenoh_timestamp(timestamp)?;
                self.last = Some((timestamp.id, *converted.get_id()));
                Ok(converted)
            }
        }
    }
}

/// Copies payload and attachment, which come as slices of a network buffer and would keep all of
/// it alive.
pub(crate) fn value_cell(
    payload: &ZBytes,
    encoding: &Encoding,
    attachment: Option<&ZBytes>,
    timestamp: &ZenohTimestamp,
) -> Cell {
    Cell {
        timestamp: timestamp_of(timestamp),
        content: Content::Value(Value {
            encoding_id: encoding.id(),
            schema: encoding.schema().map(|schema| schema.as_slice().into()),
            attachment: attachment.map(|attachment| attachment.to_bytes().into()),
            payload: Bytes::from(payload.to_bytes().into_owned()),
        }),
    }
}

pub(crate) fn tombstone(timestamp: &ZenohTimestamp) -> Cell {
    Cell {
        timestamp: timestamp_of(timestamp),
        content: Content::Tombstone,
    }
}

/// The encoding of a value.
pub(crate) fn encoding(value: &Value) -> Encoding {
    let schema = value.schema.as_ref().map(|schema| schema.to_vec().into());
    Encoding::new(value.encoding_id, schema)
}

/// What came beside the payload of a value.
pub(crate) fn attachment(value: &Value) -> Option<ZBytes> {
    value
        .attachment
        .as_ref()
        .map(|attachment| ZBytes::from(attachment.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_there_and_back() {
        let id = TimestampId::try_from(&[1u8, 2, 3][..]).expect("an ID");
        let written_at = ZenohTimestamp::new(NTP64(77), id);
        for encoding in [
            Encoding::default(),
            Encoding::TEXT_PLAIN.with_schema("utf-8"),
            Encoding::from("my_app/1.0;x"),
        ] {
            let payload = ZBytes::from(b"payload".to_vec());
            let attached = ZBytes::from(b"beside".to_vec());
            let cell = value_cell(&payload, &encoding, Some(&attached), &written_at);
            let value = cell.value().expect("a value");
            assert_eq!(ZBytes::from(value.payload.clone()), payload);
            assert_eq!(super::encoding(value), encoding);
            assert_eq!(attachment(value), Some(attached));
            let back = zenoh_timestamp(cell.timestamp).expect("converted");
            assert_eq!(back, written_at);
        }
    }

    #[test]
    fn timestamps_are_ordered_as_zenoh_orders_them() {
        let ids = [&[1u8][..], &[2], &[0, 1], &[255, 255], &[1; 16], &[9; 16]];
        let times = [0, 1, u64::MAX];
        let all: Vec<ZenohTimestamp> = ids
            .iter()
            .flat_map(|id| {
                let id = TimestampId::try_from(*id).expect("an ID");
                times.map(|time| ZenohTimestamp::new(NTP64(time), id))
            })
            .collect();
        for a in &all {
            assert_eq!(zenoh_timestamp(timestamp_of(a)).expect("converted"), *a);
            for b in &all {
                assert_eq!(
                    a.cmp(b),
                    timestamp_of(a).cmp(&timestamp_of(b)),
                    "{a} and {b}"
                );
            }
        }
    }

    #[test]
    fn a_timestamp_without_id_is_an_error() {
        let timestamp = Timestamp {
            time: 1,
            id: [0; 16],
        };
        assert!(zenoh_timestamp(timestamp).is_err());
    }
}
