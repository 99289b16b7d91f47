//! Writes backups.

use std::io::Write;

use super::{
    BackupError, END_PLACE, FRAME_BYTES, HEADER_PLACE, Header, MAGIC, MAX_HEADER, cell_check, check,
};
use crate::{
    cell::{Cell, CellKey, Version},
    mst::RootHash,
    sync::{CELL_OVERHEAD, CellsWriter, cells_block},
};

/// Writes a backup, cell by cell.
pub struct BackupWriter<W> {
    sink: W,
    frame: CellsWriter,
    frames: u64,
    cells: u64,
    expected: u64,
    root: RootHash,
}

impl<W: Write> BackupWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// If `sink` cannot be written, or the header is too long.
    pub fn new(mut sink: W, header: &Header) -> Result<Self, BackupError> {
        let bytes = header.encode();
        let length = u32::try_from(bytes.len()).ok();
        let Some(length) = length.filter(|length| *length <= MAX_HEADER) else {
            return Err(BackupError::Header(bytes.len()));
        };
        sink.write_all(MAGIC)?;
        sink.write_all(&length.to_be_bytes())?;
        sink.write_all(&bytes)?;
        sink.write_all(&check(HEADER_PLACE, &bytes))?;
        Ok(Self {
            sink,
            frame: CellsWriter::default(),
            frames: 0,
            cells: 0,
            expected: header.cells,
            root: header.root,
        })
    }

    /// Adds a cell with its digest. Cells have to ascend; the reader checks that, as it
    /// computes the root anew.
    ///
    /// # Errors
    /// If the sink cannot be written.
    pub fn push(
        &mut self,
        key: &CellKey,
        version: &Version,
        cell: &Cell,
    ) -> Result<(), BackupError> {
        let bytes = cell.value_bytes() + CELL_OVERHEAD;
        if !self.frame.has_room(key, bytes, FRAME_BYTES) {
            self.end_frame()?;
        }
        self.frame.push(key, cell, &cell_check(version));
        self.cells += 1;
        Ok(())
    }

    fn end_frame(&mut self) -> Result<(), BackupError> {
        let frame = std::mem::take(&mut self.frame);
        let bytes = cells_block(frame);
        self.frames += 1;
        self.sink.write_all(&(bytes.len() as u32).to_be_bytes())?;
        self.sink.write_all(&bytes)?;
        self.sink.write_all(&check(self.frames, &bytes))?;
        Ok(())
    }

    /// Ends the backup, and returns the sink.
    ///
    /// # Errors
    /// If the sink cannot be written, or the number of cells is not that of the header.
    pub fn finish(mut self) -> Result<W, BackupError> {
        if self.frame.cells() > 0 {
            self.end_frame()?;
        }
        if self.cells != self.expected {
            return Err(BackupError::Cells {
                expected: self.expected,
                found: self.cells,
            });
        }
        let mut end = Vec::with_capacity(48);
        end.extend_from_slice(&self.frames.to_be_bytes());
        end.extend_from_slice(&self.cells.to_be_bytes());
        end.extend_from_slice(&self.root.0);
        self.sink.write_all(&[0; 4])?;
        self.sink.write_all(&end)?;
        self.sink.write_all(&check(END_PLACE, &end))?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}
