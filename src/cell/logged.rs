//! The cells of a group in the write-ahead log: one after the other, and not hashed.
//!
//! ```text
//! -- for each cell
//! length    u32 BE  of the key
//! key       its canonical bytes
//! length    u32 BE  of the rest
//! kind      u8      0 tombstone, 1 value
//! time      u64 BE
//! id        16 bytes
//! -- values only
//! encoding  u16 BE
//! schema    u32 BE  and an attachment, as in a row
//! payload   the rest
//! ```

use bytes::Bytes;

use super::{
    Cell, CellKey, Content, DecodeError, Value,
    reader::Reader,
    row::{INLINE, TOMBSTONE, ValueType, read_type, write_type},
};
use crate::mst::TreeKey;

/// Writes a cell to `head`, but for its payload, which may be large; that follows, and is returned.
pub fn write_logged<'a>(key: &CellKey, cell: &'a Cell, head: &mut Vec<u8>) -> &'a [u8] {
    head.clear();
    head.extend_from_slice(&[0; 4]);
    key.write_canonical(head);
    let key_length = head.len() - 4;
    let length_at = head.len();
    head.extend_from_slice(&[0; 4]);
    head.push(cell.value().map_or(TOMBSTONE, |_| INLINE));
    head.extend_from_slice(&cell.timestamp.time.to_be_bytes());
    head.extend_from_slice(&cell.timestamp.id);
    let mut payload: &[u8] = &[];
    if let Some(value) = cell.value() {
        let of = ValueType::of(value.encoding_id, &value.schema, &value.attachment);
        write_type(of, head);
        payload = &value.payload;
    }
    // Neither a key nor a value is as long as 4 GiB.
    let cell_length = head.len() - length_at - 4 + payload.len();
    head[..4].copy_from_slice(&(key_length as u32).to_be_bytes());
    head[length_at..length_at + 4].copy_from_slice(&(cell_length as u32).to_be_bytes());
    payload
}

/// Reads what [`write_logged`] writes: the cells in order, and nothing after what is none.
pub fn read_logged(
    bytes: &[u8],
) -> impl Iterator<Item = Result<(CellKey, Cell), DecodeError>> + '_ {
    let mut reader = Reader(bytes);
    std::iter::from_fn(move || {
        if reader.0.is_empty() {
            return None;
        }
        let read = read_one(&mut reader);
        if read.is_err() {
            reader = Reader(&[]);
        }
        Some(read)
    })
}

fn read_one(reader: &mut Reader<'_>) -> Result<(CellKey, Cell), DecodeError> {
    let mut piece = |what| {
        let length = u32::from_be_bytes(reader.array(what)?);
        reader.take(length as usize, what)
    };
    let key = CellKey::from_canonical(piece("key")?)?;
    let mut reader = Reader(piece("cell")?);
    let has_value = reader.flag("cell")?;
    let timestamp = reader.timestamp()?;
    let content = match has_value {
        false => {
            reader.finish()?;
            Content::Tombstone
        }
        true => {
            let (encoding_id, schema, attachment) = read_type(&mut reader)?;
            Content::Value(Value {
                encoding_id,
                schema,
                attachment,
                payload: Bytes::copy_from_slice(reader.0),
            })
        }
    };
    Ok((key, Cell { timestamp, content }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        cell::{Timestamp, key::tests::any_cell_key, key::tests::key, row::tests::any_cell},
        hex::encode as hex,
    };

    fn written(cells: &[(CellKey, Cell)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut head = Vec::new();
        for (key, cell) in cells {
            let payload = write_logged(key, cell, &mut head);
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    proptest! {
        #[test]
        fn cells_read_back_as_far_as_they_are_whole(
            cells in prop::collection::vec((any_cell_key(), any_cell()), 0..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = written(&cells);
            let read: Result<Vec<_>, _> = read_logged(&bytes).collect();
            prop_assert_eq!(read.as_ref(), Ok(&cells));
            let end = cut.index(bytes.len() + 1);
            let whole = (0..=cells.len()).rev().find(|n| written(&cells[..*n]).len() <= end);
            let whole = whole.expect("none is");
            let is_between = written(&cells[..whole]).len() == end;
            let read: Vec<_> = read_logged(&bytes[..end]).collect();
            prop_assert_eq!(read.len(), whole + usize::from(!is_between));
            for (read, cell) in read.iter().zip(&cells[..whole]) {
                prop_assert_eq!(read.as_ref(), Ok(cell));
            }
            prop_assert_eq!(read.last().is_some_and(Result::is_err), !is_between);
        }

        #[test]
        fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let cells: Result<Vec<_>, _> = read_logged(&bytes).collect();
            if let Ok(cells) = cells {
                prop_assert_eq!(written(&cells), bytes);
            }
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let timestamp = Timestamp {
            time: 0x0102_0304_0506_0708,
            id: *b"0123456789abcdef",
        };
        let value = Content::Value(Value {
            encoding_id: 5,
            schema: Some(b"utf-8"[..].into()),
            attachment: None,
            payload: Bytes::from_static(b"on"),
        });
        let lamp = CellKey::own(key("room/lamp"));
        let cells =
            [value, Content::Tombstone].map(|content| (lamp.clone(), Cell { timestamp, content }));
        let head = "0102030405060708".to_owned() + &hex(b"0123456789abcdef");
        let lamp = "0000000c01726f6f6d2f6c616d700001";
        assert_eq!(
            hex(&written(&cells)),
            format!("{lamp}0000002601{head}0005000000067574662d386f6e{lamp}0000001900{head}")
        );
    }
}
