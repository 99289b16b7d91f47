//! Cells as they are written ahead: quickly, many in a piece, and not hashed.
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
//! schema    u32 BE  0: none; else the length plus one, and the bytes
//! payload   the rest
//! ```

use bytes::Bytes;

use super::{
    reader::Reader,
    row::{read_type, write_type, INLINE, TOMBSTONE},
    Cell, CellKey, Content, DecodeError, Value,
};
use crate::mst::TreeKey;

/// Appends a cell.
pub fn write_ahead(key: &CellKey, cell: &Cell, out: &mut Vec<u8>) {
    measured(out, |out| key.write_canonical(out));
    measured(out, |out| {
        out.push(cell.value().map_or(TOMBSTONE, |_| INLINE));
        out.extend_from_slice(&cell.stamp.time.to_be_bytes());
        out.extend_from_slice(&cell.stamp.id);
        if let Some(value) = cell.value() {
            write_type(value.encoding_id, value.schema.as_deref(), out);
            out.extend_from_slice(&value.payload);
        }
    });
}

/// Appends what `write` does, after its length. Neither a key nor a value is as long as
/// 4 GiB.
fn measured(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Reads what [`write_ahead`] writes: the cells in order, and nothing after what is none.
pub fn read_ahead(bytes: &[u8]) -> impl Iterator<Item = Result<(CellKey, Cell), DecodeError>> + '_ {
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
    let stamp = reader.stamp()?;
    let content = match has_value {
        false => {
            reader.finish()?;
            Content::Tombstone
        }
        true => {
            let (encoding_id, schema) = read_type(&mut reader)?;
            Content::Value(Value {
                encoding_id,
                schema,
                payload: Bytes::copy_from_slice(reader.0),
            })
        }
    };
    Ok((key, Cell { stamp, content }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        cell::{key::tests::any_cell_key, key::tests::key, row::tests::any_cell, Stamp},
        hex::encode as hex,
    };

    fn written(cells: &[(CellKey, Cell)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, cell) in cells {
            write_ahead(key, cell, &mut bytes);
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
            let read: Result<Vec<_>, _> = read_ahead(&bytes).collect();
            prop_assert_eq!(read.as_ref(), Ok(&cells));
            let end = cut.index(bytes.len() + 1);
            let whole = (0..=cells.len()).rev().find(|n| written(&cells[..*n]).len() <= end);
            let whole = whole.expect("none is");
            let is_between = written(&cells[..whole]).len() == end;
            let read: Vec<_> = read_ahead(&bytes[..end]).collect();
            prop_assert_eq!(read.len(), whole + usize::from(!is_between));
            for (read, cell) in read.iter().zip(&cells[..whole]) {
                prop_assert_eq!(read.as_ref(), Ok(cell));
            }
            prop_assert_eq!(read.last().is_some_and(Result::is_err), !is_between);
        }

        #[test]
        fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let cells: Result<Vec<_>, _> = read_ahead(&bytes).collect();
            if let Ok(cells) = cells {
                prop_assert_eq!(written(&cells), bytes);
            }
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let stamp = Stamp {
            time: 0x0102_0304_0506_0708,
            id: *b"0123456789abcdef",
        };
        let value = Content::Value(Value {
            encoding_id: 5,
            schema: Some(b"utf-8"[..].into()),
            payload: Bytes::from_static(b"on"),
        });
        let lamp = CellKey::own(key("room/lamp"));
        let cells =
            [value, Content::Tombstone].map(|content| (lamp.clone(), Cell { stamp, content }));
        let head = "0102030405060708".to_owned() + &hex(b"0123456789abcdef");
        let lamp = "0000000c01726f6f6d2f6c616d700001";
        assert_eq!(
            hex(&written(&cells)),
            format!("{lamp}0000002601{head}0005000000067574662d386f6e{lamp}0000001900{head}")
        );
    }
}
