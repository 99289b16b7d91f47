//! The row that a durable store keeps for a cell.
//!
//! ```text
//! kind      u8      0 tombstone, 1 value with its payload here,
//!                   2 value whose payload has a row of its own
//! time      u64 BE
//! id        16 bytes
//! digest    32 bytes
//! -- values only
//! encoding  u16 BE
//! schema    u32 BE  0: none; else the length plus one, and the bytes. The highest bit: there is an
//!                   attachment
//! attachment        only if there is one: u32 BE its length, and the bytes
//! -- kind 1
//! payload   the rest
//! -- kind 2
//! length    u64 BE  of the payload
//! ```

use bytes::Bytes;

use super::{Cell, CellDigest, Content, DecodeError, Value, Version, reader::Reader, ttls};

pub(super) const TOMBSTONE: u8 = 0;
pub(super) const INLINE: u8 = 1;
const APART: u8 = 2;

/// Where the payload of a [`Row`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the row.
    Inline(Bytes),
    /// In a row of its own, of this length.
    Apart(u64),
}

/// A value as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowValue {
    /// The identifier of Zenoh's encoding.
    pub encoding_id: u16,
    /// The encoding's schema, if it has one.
    pub schema: Option<Box<[u8]>>,
    /// What came beside the payload.
    pub attachment: Option<Box<[u8]>>,
    /// The bytes, or how many there are elsewhere.
    pub payload: Payload,
}

/// A cell as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// All but the value.
    pub version: Version,
    /// The value, unless the cell is a tombstone.
    pub value: Option<RowValue>,
}

impl Row {
    /// Appends the row of `cell`, whose payload goes apart if it has more than
    /// `inline_limit` bytes; true if it does.
    #[must_use]
    pub fn encode_cell(
        version: &Version,
        cell: &Cell,
        inline_limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(value) = cell.value() else {
            encode(TOMBSTONE, version, None, out);
            return false;
        };
        let of = ValueType::of(value.encoding_id, &value.schema, &value.attachment);
        let is_apart = value.payload.len() > inline_limit;
        if is_apart {
            let length = (value.payload.len() as u64).to_be_bytes();
            encode(APART, version, Some((of, &length)), out);
        } else {
            encode(INLINE, version, Some((of, &value.payload)), out);
        }
        is_apart
    }

    /// The cell. A payload that is not here is asked for, by its length.
    ///
    /// # Errors
    /// What `payload_apart` fails with.
    pub fn into_cell<E>(
        self,
        payload_apart: impl FnOnce(u64) -> Result<Bytes, E>,
    ) -> Result<Cell, E> {
        let content = match self.value {
            None => Content::Tombstone,
            Some(value) => Content::Value(Value {
                encoding_id: value.encoding_id,
                schema: value.schema,
                attachment: value.attachment,
                payload: match value.payload {
                    Payload::Inline(payload) => payload,
                    Payload::Apart(length) => payload_apart(length)?,
                },
            }),
        };
        Ok(Cell {
            timestamp: self.version.timestamp,
            content,
        })
    }

    /// The row's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(value) = &self.value else {
            encode(TOMBSTONE, &self.version, None, &mut out);
            return out;
        };
        let of = ValueType::of(value.encoding_id, &value.schema, &value.attachment);
        match &value.payload {
            Payload::Inline(payload) => {
                encode(INLINE, &self.version, Some((of, payload)), &mut out);
            }
            Payload::Apart(length) => {
                let length = length.to_be_bytes();
                encode(APART, &self.version, Some((of, &length)), &mut out);
            }
        }
        out
    }

    /// Reads only what is kept in memory, which comes first.
    ///
    /// # Errors
    /// If the bytes are not a row's.
    pub fn decode_version(bytes: &[u8]) -> Result<Version, DecodeError> {
        Self::read_version(&mut Reader(bytes)).map(|(version, _)| version)
    }

    /// As [`decode_version`](Self::decode_version), and whether the payload is in a row of its own.
    ///
    /// # Errors
    /// If the bytes are not a row's.
    pub fn decode_head(bytes: &[u8]) -> Result<(Version, bool), DecodeError> {
        let (version, kind) = Self::read_version(&mut Reader(bytes))?;
        Ok((version, kind == APART))
    }

    /// Bytes of the value's payload, wherever it is, schema and attachment.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        let bytes = |part: &Option<Box<[u8]>>| part.as_ref().map_or(0, |part| part.len());
        self.value.as_ref().map_or(0, |value| {
            let payload = match &value.payload {
                Payload::Inline(payload) => payload.len() as u64,
                Payload::Apart(length) => *length,
            };
            payload + (bytes(&value.schema) + bytes(&value.attachment)) as u64
        })
    }

    /// For how long the value is shown, as its encoding says it; nothing of a row that says nothing of
    /// it, be it that it cannot be read, which whoever reads the value is told.
    #[must_use]
    pub fn ttl(bytes: &[u8]) -> Option<&str> {
        let mut reader = Reader(bytes);
        let (_, kind) = Self::read_version(&mut reader).ok()?;
        if kind == TOMBSTONE {
            return None;
        }
        reader.u16("encoding").ok()?;
        let length = u32::from_be_bytes(reader.array("schema").ok()?);
        let length = (length & !ATTACHMENT).checked_sub(1)?;
        ttls(reader.take(length as usize, "schema").ok()?).next()
    }

    fn read_version(reader: &mut Reader<'_>) -> Result<(Version, u8), DecodeError> {
        let kind = reader.u8("row")?;
        if kind > APART {
            return Err(DecodeError::Tag {
                what: "row",
                tag: kind,
            });
        }
        let timestamp = reader.timestamp()?;
        let version = Version {
            timestamp,
            tombstone: kind == TOMBSTONE,
            digest: CellDigest(reader.array("digest")?),
        };
        Ok((version, kind))
    }

    /// Reads a row.
    ///
    /// # Errors
    /// If the bytes are not a row's.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let (version, kind) = Self::read_version(&mut reader)?;
        let mut value = None;
        if kind != TOMBSTONE {
            let (encoding_id, schema, attachment) = read_type(&mut reader)?;
            let payload = if kind == INLINE {
                Payload::Inline(Bytes::copy_from_slice(std::mem::take(&mut reader.0)))
            } else {
                Payload::Apart(u64::from_be_bytes(reader.array("length")?))
            };
            value = Some(RowValue {
                encoding_id,
                schema,
                attachment,
                payload,
            });
        }
        reader.finish()?;
        Ok(Self { version, value })
    }
}

/// What a payload is, and what came beside it.
#[derive(Clone, Copy)]
pub(super) struct ValueType<'a> {
    encoding_id: u16,
    schema: Option<&'a [u8]>,
    attachment: Option<&'a [u8]>,
}

impl<'a> ValueType<'a> {
    pub(super) fn of(
        encoding_id: u16,
        schema: &'a Option<Box<[u8]>>,
        attachment: &'a Option<Box<[u8]>>,
    ) -> Self {
        Self {
            encoding_id,
            schema: schema.as_deref(),
            attachment: attachment.as_deref(),
        }
    }

    fn len(&self) -> usize {
        self.schema.map_or(0, <[u8]>::len) + self.attachment.map_or(0, <[u8]>::len)
    }
}

/// A value's type, and what ends its row.
type ValueParts<'a> = (ValueType<'a>, &'a [u8]);

/// In the length of a schema: there is an attachment.
const ATTACHMENT: u32 = 1 << 31;

fn encode(kind: u8, version: &Version, value: Option<ValueParts<'_>>, out: &mut Vec<u8>) {
    let variable = value.map_or(0, |(of, tail)| of.len() + tail.len());
    out.reserve(68 + variable);
    out.push(kind);
    out.extend_from_slice(&version.timestamp.time.to_be_bytes());
    out.extend_from_slice(&version.timestamp.id);
    out.extend_from_slice(&version.digest.0);
    if let Some((of, tail)) = value {
        write_type(of, out);
        out.extend_from_slice(tail);
    }
}

/// Appends what a payload is.
pub(super) fn write_type(of: ValueType<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&of.encoding_id.to_be_bytes());
    // No value is as long as 2 GiB.
    let schema_length = of.schema.map_or(0, |schema| schema.len() as u32 + 1);
    let flag = of.attachment.map_or(0, |_| ATTACHMENT);
    out.extend_from_slice(&(schema_length | flag).to_be_bytes());
    out.extend_from_slice(of.schema.unwrap_or_default());
    if let Some(attachment) = of.attachment {
        out.extend_from_slice(&(attachment.len() as u32).to_be_bytes());
        out.extend_from_slice(attachment);
    }
}

/// An encoding's identifier, its schema, and an attachment, as far as there are such.
type TypeParts = (u16, Option<Box<[u8]>>, Option<Box<[u8]>>);

/// Reads what [`write_type`] writes.
pub(super) fn read_type(reader: &mut Reader<'_>) -> Result<TypeParts, DecodeError> {
    let encoding_id = reader.u16("encoding")?;
    let length = u32::from_be_bytes(reader.array("schema")?);
    let schema = match (length & !ATTACHMENT).checked_sub(1) {
        None => None,
        Some(length) => Some(reader.take(length as usize, "schema")?.into()),
    };
    let attachment = match length & ATTACHMENT {
        0 => None,
        _ => {
            let length = u32::from_be_bytes(reader.array("attachment")?);
            Some(reader.take(length as usize, "attachment")?.into())
        }
    };
    Ok((encoding_id, schema, attachment))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        cell::{CellKey, Timestamp, key::tests::any_cell_key, key::tests::key},
        hex::encode as hex,
    };

    pub(crate) fn any_cell() -> impl Strategy<Value = Cell> {
        let value = (
            any::<u16>(),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..5)),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..5)),
            prop::collection::vec(any::<u8>(), 0..40),
        )
            .prop_map(|(encoding_id, schema, attachment, payload)| Value {
                encoding_id,
                schema: schema.map(Into::into),
                attachment: attachment.map(Into::into),
                payload: payload.into(),
            });
        (any::<u64>(), 1u8.., prop::option::of(value)).prop_map(|(time, id, value)| Cell {
            timestamp: Timestamp { time, id: [id; 16] },
            content: value.map_or(Content::Tombstone, Content::Value),
        })
    }

    proptest! {
        #[test]
        fn rows_read_back(key in any_cell_key(), cell in any_cell(), limit in 0usize..40) {
            let version = Version::of(&key, &cell);
            let mut bytes = Vec::new();
            let elsewhere = Row::encode_cell(&version, &cell, limit, &mut bytes);
            prop_assert_eq!(Row::decode_version(&bytes), Ok(version));
            prop_assert_eq!(Row::decode_head(&bytes), Ok((version, elsewhere)));
            let row = Row::decode(&bytes).expect("a row");
            prop_assert_eq!(row.encode(), bytes.clone());
            let read = row.into_cell(|length| {
                let payload = cell.value().map(|value| value.payload.clone());
                payload.filter(|payload| elsewhere && payload.len() as u64 == length).ok_or(())
            });
            prop_assert_eq!(read, Ok(cell));
            for end in 0..bytes.len() {
                // A shorter inline payload is a row too, of another digest.
                let is_inline = |row: Row| matches!(row.value, Some(RowValue { payload: Payload::Inline(_), .. }));
                prop_assert!(Row::decode(&bytes[..end]).map_or(true, is_inline));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0u8..4) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok(row) = Row::decode(&bytes) {
                prop_assert_eq!(row.encode(), bytes);
            }
        }

        #[test]
        fn different_cells_have_different_digests(
            a in (any_cell_key(), any_cell()),
            b in (any_cell_key(), any_cell()),
        ) {
            let digests = [&a, &b].map(|(key, cell)| Version::of(key, cell).digest);
            prop_assert_eq!(a == b, digests[0] == digests[1]);
        }
    }

    #[test]
    fn rows_and_digests_are_pinned() {
        let timestamp = Timestamp {
            time: 0x0102_0304_0506_0708,
            id: *b"0123456789abcdef",
        };
        let value = Cell {
            timestamp,
            content: Content::Value(Value {
                encoding_id: 5,
                schema: Some(b"utf-8"[..].into()),
                attachment: None,
                payload: Bytes::from_static(b"on"),
            }),
        };
        let tombstone = Cell {
            timestamp,
            content: Content::Tombstone,
        };
        let lamp = CellKey::own(key("room/lamp"));
        let row = |cell: &Cell, limit| {
            let mut bytes = Vec::new();
            let is_apart = Row::encode_cell(&Version::of(&lamp, cell), cell, limit, &mut bytes);
            assert_eq!(is_apart, bytes[0] == APART);
            hex(&bytes)
        };
        let head = "0102030405060708".to_owned() + &hex(b"0123456789abcdef");
        let digest = "2306ee779a1c7e932b9688f460313f8525fe91268c8a0b3f7e6d3c26fa1a9358";
        assert_eq!(
            row(&value, 2),
            format!("01{head}{digest}0005000000067574662d386f6e")
        );
        assert_eq!(
            row(&value, 1),
            format!("02{head}{digest}0005000000067574662d380000000000000002")
        );
        let digest = "85dd8e4dc56f485e09ef79a26ed18a7623c2af2f76653e7aca47fdaaaba3938f";
        assert_eq!(row(&tombstone, 0), format!("00{head}{digest}"));

        // What the function in docs/formats.md makes of the same with attachments.
        let attached = |schema: Option<&[u8]>, attachment: &[u8]| Cell {
            timestamp,
            content: Content::Value(Value {
                encoding_id: 5,
                schema: schema.map(Into::into),
                attachment: Some(attachment.into()),
                payload: Bytes::from_static(b"on"),
            }),
        };
        let digest = "f66aab2aafdae68eb37ac91a98fdc81f3fdec4222b94445bfeaff32b3a3168b1";
        assert_eq!(
            row(&attached(Some(b"utf-8"), b"seq=7"), 1),
            format!("02{head}{digest}0005800000067574662d38000000057365713d370000000000000002")
        );
        let digest = "3b765e28a0a9f5a5d33257ed30eba308131bb0690212cd63f812dc1669a6e315";
        assert_eq!(
            row(&attached(None, b""), 2),
            format!("01{head}{digest}000580000000000000006f6e")
        );
    }
}
