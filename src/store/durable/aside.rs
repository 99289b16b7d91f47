//! What was set aside: a file beside the data, to which lines are appended.
//!
//! ```text
//! <dir>/ASIDE   for each cell a line: its canonical key, a space, its row with the payload inline,
//!               both in hexadecimal digits
//! ```
//!
//! The row has the cell's digest, by which a line is known to be whole. A last line that a crash cut
//! short is of cells that have not left the rows, so it is no loss.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use super::{
    StoreError,
    folder::{io_error, sync_parent},
};
use crate::{
    cell::{Cell, CellKey, Row, Version},
    hex,
};

/// The file's name.
pub(super) const NAME: &str = "ASIDE";

pub(super) fn append(dir: &Path, cells: &[(CellKey, Arc<Cell>)]) -> Result<(), StoreError> {
    let path = dir.join(NAME);
    let append = || {
        let is_new = !path.exists();
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)?;
        // A line that was cut short is as good as none.
        let whole = whole_bytes(&mut file)?;
        file.set_len(whole)?;
        let mut lines = String::new();
        for (key, cell) in cells {
            let mut row = Vec::new();
            let is_apart = Row::encode_cell(&Version::of(key, cell), cell, usize::MAX, &mut row);
            debug_assert!(!is_apart, "no payload is longer");
            lines += &hex::encode(&key.to_canonical());
            lines.push(' ');
            lines += &hex::encode(&row);
            lines.push('\n');
        }
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        match is_new {
            true => sync_parent(&path),
            false => Ok(()),
        }
    };
    append().map_err(io_error("write", &path))
}

/// Bytes up to the end of the last line that has one.
fn whole_bytes(file: &mut File) -> io::Result<u64> {
    const AT_ONCE: u64 = 64 << 10;
    let mut end = file.metadata()?.len();
    let mut bytes = Vec::new();
    while end > 0 {
        let from = end.saturating_sub(AT_ONCE);
        file.seek(SeekFrom::Start(from))?;
        bytes.clear();
        file.take(end - from).read_to_end(&mut bytes)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + last as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

pub(super) fn read(dir: &Path, visit: &mut dyn FnMut(CellKey, Cell)) -> Result<(), StoreError> {
    let path = dir.join(NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(io_error("open", &path))?,
    };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let bytes = lines.read_until(b'\n', &mut line);
        bytes.map_err(io_error("read", &path))?;
        if line.pop() != Some(b'\n') {
            // Nothing is left but what was cut short.
            break;
        }
        let Some((key, cell)) = cell_of(&line) else {
            return Err(StoreError::Aside { path, line: number });
        };
        visit(key, cell);
    }
    Ok(())
}

/// The cell of a line, if it is whole.
fn cell_of(line: &[u8]) -> Option<(CellKey, Cell)> {
    let line = std::str::from_utf8(line).ok()?;
    let (key, row) = line.split_once(' ')?;
    let key = CellKey::from_canonical(&hex::decode(key)?).ok()?;
    let row = Row::decode(&hex::decode(row)?).ok()?;
    let version = row.version;
    let cell = row.into_cell(Err).ok()?;
    (Version::of(&key, &cell) == version).then_some((key, cell))
}

pub(super) fn remove(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(NAME);
    match fs::remove_file(&path).and_then(|()| sync_parent(&path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Content, Key, Timestamp, Value};

    fn cell(number: u64) -> (CellKey, Arc<Cell>) {
        let timestamp = Timestamp {
            time: number,
            id: [7; 16],
        };
        let content = match number % 3 {
            0 => Content::Tombstone,
            _ => Content::Value(Value {
                encoding_id: 1,
                schema: None,
                attachment: None,
                payload: vec![b'x'; number as usize * 700].into(),
            }),
        };
        let key = Key::from(format!("k/{number}").try_into().ok());
        (CellKey::own(key), Arc::new(Cell { timestamp, content }))
    }

    fn read_all(dir: &Path) -> Result<Vec<(CellKey, Arc<Cell>)>, StoreError> {
        let mut cells = Vec::new();
        read(dir, &mut |key, cell| cells.push((key, Arc::new(cell))))?;
        Ok(cells)
    }

    #[test]
    fn what_is_set_aside_is_read_back_and_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        assert_eq!(read_all(dir).expect("read"), []);
        let cells: Vec<_> = (0..200).map(cell).collect();
        for some in cells.chunks(3) {
            append(dir, some).expect("written");
        }
        assert_eq!(read_all(dir).expect("read"), cells);
        remove(dir).expect("removed");
        remove(dir).expect("removed");
        assert_eq!(read_all(dir).expect("read"), []);
    }

    #[test]
    fn the_bytes_of_a_line_do_not_change() {
        let folder = tempfile::tempdir().expect("a folder");
        append(folder.path(), &[cell(0)]).expect("written");
        let text = fs::read_to_string(folder.path().join("ASIDE")).expect("read");
        let (key, cell) = cell(0);
        let digest = hex::encode(&Version::of(&key, &cell).digest.0);
        let time = "00".repeat(9);
        let expected = format!("016b2f300001 {time}{}{digest}\n", "07".repeat(16));
        assert_eq!(text, expected);
    }

    #[test]
    fn a_line_that_was_cut_short_is_none_and_any_other_damage_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        append(dir, &[cell(1), cell(2)]).expect("written");
        let path = dir.join(NAME);
        let whole = fs::read(&path).expect("read");
        for cut in [1, 100, 2000] {
            fs::write(&path, &whole[..whole.len() - cut]).expect("written");
            assert_eq!(read_all(dir).expect("read"), [cell(1)]);
            append(dir, &[cell(3)]).expect("written");
            assert_eq!(read_all(dir).expect("read"), [cell(1), cell(3)]);
        }
        let mut damaged = whole;
        damaged[40] ^= 1;
        fs::write(&path, damaged).expect("written");
        let error = read_all(dir).expect_err("damaged").to_string();
        assert!(
            error.contains("ASIDE") && error.contains("line 1"),
            "{error}"
        );
    }
}
