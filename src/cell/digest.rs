//! The digest of a cell, and what stands for a cell where its payload is not.

use super::{Cell, CellKey, Content, DecodeError, Timestamp, reader::Reader};
use crate::{
    hash::{HASH_BYTES, hex_display, sha256, tag},
    mst::TreeKey,
};

/// SHA-256 over all that a cell is: key, part, timestamp, kind and value, the
/// payload by its own hash.
///
/// So whoever is shown a digest in a proof can be shown what it stands for
/// without the payload, which may be large.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellDigest(pub [u8; HASH_BYTES]);
hex_display!(CellDigest);

/// What a digest covers of a cell's content: all of it, the payload by its length
/// and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellSummary {
    /// There is nothing: it was deleted.
    Tombstone,
    /// There is a value.
    Value {
        /// The identifier of Zenoh's encoding.
        encoding_id: u16,
        /// The encoding's schema, if it has one.
        schema: Option<Box<[u8]>>,
        /// What came beside the payload.
        attachment: Option<Box<[u8]>>,
        /// Bytes of the payload.
        payload_len: u64,
        /// SHA-256 of the payload, after a tag.
        payload_hash: [u8; HASH_BYTES],
    },
}

impl CellSummary {
    /// The summary of `content`. Hashes the payload.
    #[must_use]
    pub fn of(content: &Content) -> Self {
        match content {
            Content::Tombstone => Self::Tombstone,
            Content::Value(value) => Self::Value {
                encoding_id: value.encoding_id,
                schema: value.schema.clone(),
                attachment: value.attachment.clone(),
                payload_len: value.payload.len() as u64,
                payload_hash: sha256(&[tag::PAYLOAD, &value.payload]),
            },
        }
    }
}

/// The digest of `cell` at `key`.
///
/// Every field of variable length is preceded by its length, so no two
/// different cells have the same bytes.
#[must_use]
pub fn cell_digest(key: &CellKey, cell: &Cell) -> CellDigest {
    let mut bytes = Vec::with_capacity(key.canonical_len() + 128);
    key.write_canonical(&mut bytes);
    let key_len = bytes.len();
    write_summary(cell.timestamp, &CellSummary::of(&cell.content), &mut bytes);
    let (canonical, summary) = bytes.split_at(key_len);
    digest_of_summary(canonical, summary)
}

/// The digest of a cell from its canonical key and from the bytes of its
/// [summary](write_summary).
pub(crate) fn digest_of_summary(canonical: &[u8], summary: &[u8]) -> CellDigest {
    let key_len = (canonical.len() as u32).to_be_bytes();
    CellDigest(sha256(&[tag::CELL, &key_len, canonical, summary]))
}

/// Appends what a digest covers after the key.
pub(crate) fn write_summary(timestamp: Timestamp, content: &CellSummary, out: &mut Vec<u8>) {
    out.extend_from_slice(&timestamp.time.to_be_bytes());
    out.extend_from_slice(&timestamp.id);
    match content {
        CellSummary::Tombstone => out.push(0),
        CellSummary::Value {
            encoding_id,
            schema,
            attachment,
            payload_len,
            payload_hash,
        } => {
            out.push(1);
            out.extend_from_slice(&encoding_id.to_be_bytes());
            out.push(u8::from(schema.is_some()) | u8::from(attachment.is_some()) << 1);
            for part in [schema, attachment].into_iter().flatten() {
                out.extend_from_slice(&(part.len() as u32).to_be_bytes());
                out.extend_from_slice(part);
            }
            out.extend_from_slice(&payload_len.to_be_bytes());
            out.extend_from_slice(payload_hash);
        }
    }
}

/// Reads what [`write_summary`] writes. It has its end in it.
pub(crate) fn read_summary(
    reader: &mut Reader<'_>,
) -> Result<(Timestamp, CellSummary), DecodeError> {
    let timestamp = reader.timestamp()?;
    if !reader.flag("cell")? {
        return Ok((timestamp, CellSummary::Tombstone));
    }
    let encoding_id = reader.u16("encoding")?;
    let parts = reader.u8("schema")?;
    if parts > 3 {
        return Err(DecodeError::Tag {
            what: "schema",
            tag: parts,
        });
    }
    let mut part = |flag: u8, what| -> Result<Option<Box<[u8]>>, DecodeError> {
        if parts & flag == 0 {
            return Ok(None);
        }
        let length = u32::from_be_bytes(reader.array(what)?);
        Ok(Some(reader.take(length as usize, what)?.into()))
    };
    let (schema, attachment) = (part(1, "schema")?, part(2, "attachment")?);
    let content = CellSummary::Value {
        encoding_id,
        schema,
        attachment,
        payload_len: u64::from_be_bytes(reader.array("length")?),
        payload_hash: reader.array("hash of the payload")?,
    };
    Ok((timestamp, content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cell::row::tests::any_cell;

    proptest! {
        #[test]
        fn summaries_read_back(cell in any_cell()) {
            let summary = CellSummary::of(&cell.content);
            let mut bytes = Vec::new();
            write_summary(cell.timestamp, &summary, &mut bytes);
            let mut reader = Reader(&bytes);
            prop_assert_eq!(read_summary(&mut reader), Ok((cell.timestamp, summary)));
            prop_assert!(reader.0.is_empty());
            for end in 0..bytes.len() {
                prop_assert!(read_summary(&mut Reader(&bytes[..end])).is_err());
            }
        }
    }
}
