//! Reading a backup, and believing none of it before it is checked.

use std::{
    io::{self, Read},
    panic::resume_unwind,
    sync::mpsc,
};

use super::{
    check, rollback::RollbackFrames, BackupError, Header, CHECK_BYTES, END_PLACE, HEADER_PLACE,
    MAGIC, MAX_FRAME, MAX_HEADER,
};
use crate::{
    cell::{Cell, CellKey, CellMeta},
    mst::{Builder, Digesting, NotKept, RootHash},
    sync::{EntriesReply, MessageError, Range, Received, Want, MAX_MESSAGE},
};

const END_BYTES: usize = 48;

/// Frames that wait to be put into the tree.
const FRAMES_AHEAD: usize = 8;

/// Reads the cells of a frame that somebody sent. They are not checked further.
///
/// # Errors
/// If it is none.
pub fn read_restore_frame(frame: &[u8]) -> Result<Vec<Received>, MessageError> {
    let all = [Want::All(Range::default())];
    let reply = EntriesReply::decode(frame, &all, MAX_MESSAGE)?;
    match reply.done {
        0 => Ok(reply.cells),
        _ => Err(MessageError::Range("number of answers")),
    }
}

/// Reads a backup to its end.
///
/// # Errors
/// If it is none, is damaged or not complete, or cannot be read. `progress` is told
/// how many cells there were.
pub fn verify(source: impl Read, progress: &mut dyn FnMut(u64)) -> Result<Header, BackupError> {
    let mut reader = BackupReader::open(source)?;
    let (sender, frames) = mpsc::sync_channel::<Vec<(CellKey, CellMeta)>>(FRAMES_AHEAD);
    // To hash the cells and to hash the tree takes about the same.
    let found = std::thread::scope(|scope| {
        let building = std::thread::Builder::new().spawn_scoped(scope, move || {
            let mut tree = Builder::new(Digesting::default());
            for (key, meta) in frames.into_iter().flatten() {
                tree.push(key, meta);
            }
            tree.finish().root()
        })?;
        while let Some(Frame { cells, .. }) = reader.read_frame()? {
            progress(reader.cells);
            let metas = cells.into_iter().map(|(key, _, meta)| (key, meta));
            // A builder that is gone has panicked.
            let _ = sender.send(metas.collect());
        }
        drop(sender);
        let root = building.join();
        Ok::<_, BackupError>(root.unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    reader.check_root(found)?;
    Ok(reader.header)
}

/// Reads a backup, frame by frame. At the end it has been verified: not before.
pub struct BackupReader<R> {
    source: R,
    header: Header,
    /// Frames that were read, and their cells.
    frames: u64,
    cells: u64,
    last: Option<CellKey>,
    tree: Builder<Digesting<CellKey, CellMeta>>,
    is_over: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads what the backup says of itself.
    ///
    /// # Errors
    /// If it is none, its format is not known, or it is damaged.
    pub fn open(mut source: R) -> Result<Self, BackupError> {
        let mut magic = Vec::new();
        source
            .by_ref()
            .take(MAGIC.len() as u64)
            .read_to_end(&mut magic)?;
        if magic != MAGIC {
            return Err(BackupError::NotABackup);
        }
        let mut bytes = Bytes {
            source: &mut source,
            place: "in its header",
        };
        let length = u32::from_be_bytes(bytes.array()?);
        if length > MAX_HEADER {
            return Err(BackupError::damaged(bytes.place, "it is too long"));
        }
        let header = Header::decode(&bytes.checked(HEADER_PLACE, length)?)?;
        Ok(Self {
            source,
            header,
            frames: 0,
            cells: 0,
            last: None,
            tree: Builder::new(Digesting::default()),
            is_over: false,
        })
    }

    /// What the backup says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame, as a message that carries cells; nothing at the end.
    ///
    /// # Errors
    /// If the backup is damaged, or at its end is not what its header says.
    pub fn next_raw_frame(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        Ok(self.next()?.map(|frame| frame.bytes))
    }

    /// The cells of the next frame, ascending; nothing at the end.
    ///
    /// # Errors
    /// As of [`next_raw_frame`](Self::next_raw_frame).
    pub fn next_frame(&mut self) -> Result<Option<Vec<(CellKey, Cell)>>, BackupError> {
        let frame = self.next()?;
        Ok(frame.map(|frame| {
            let cells = frame.cells.into_iter();
            cells.map(|(key, cell, _)| (key, cell)).collect()
        }))
    }

    /// The next frame; at the end the root is compared.
    fn next(&mut self) -> Result<Option<Frame>, BackupError> {
        if self.is_over {
            return Ok(None);
        }
        let frame = self.read_frame()?;
        match &frame {
            Some(frame) => {
                for (key, _, meta) in &frame.cells {
                    self.tree.push(key.clone(), *meta);
                }
            }
            None => {
                let tree = std::mem::replace(&mut self.tree, Builder::new(Digesting::default()));
                self.check_root(tree.finish().root())?;
                self.is_over = true;
            }
        }
        Ok(frame)
    }

    /// The frames as they are, of a backup that has been [verified](verify): their
    /// checks are looked at, their cells are not.
    #[must_use]
    pub fn verified_frames(self) -> VerifiedFrames<R> {
        VerifiedFrames(self)
    }

    /// All of it, in pieces of whole keys for a rollback.
    #[must_use]
    pub fn rollback_frames(self) -> RollbackFrames<R> {
        RollbackFrames::new(self)
    }

    /// Where the next frame is, for whoever looks for what is damaged.
    fn place(&self) -> String {
        let after = self.last.as_ref().map(|key| key.key.to_string());
        let after = after.map_or(String::new(), |key| format!(", after key '{key}'"));
        format!("in frame {}{after}", self.frames + 1)
    }

    /// The bytes of the next frame, or those of the end.
    fn read_bytes(&mut self) -> Result<FrameBytes, BackupError> {
        let place = self.place();
        let mut bytes = Bytes {
            source: &mut self.source,
            place: &place,
        };
        let length = u32::from_be_bytes(bytes.array()?);
        if length == 0 {
            let end = bytes.checked(END_PLACE, END_BYTES as u32)?;
            let mut rest = Vec::new();
            if self.source.by_ref().take(1).read_to_end(&mut rest)? > 0 {
                return Err(BackupError::damaged("at its end", "there is more after it"));
            }
            return Ok(FrameBytes::End(end));
        }
        if length > MAX_FRAME {
            return Err(BackupError::damaged(&place, "its length cannot be"));
        }
        Ok(FrameBytes::Frame(bytes.checked(self.frames + 1, length)?))
    }

    /// The next frame, of which all is checked but what it adds to the tree.
    fn read_frame(&mut self) -> Result<Option<Frame>, BackupError> {
        let bytes = match self.read_bytes()? {
            FrameBytes::Frame(bytes) => bytes,
            // An error stays one: there is no end but that of a sound backup.
            FrameBytes::End(end) => return self.check_end(&end).map(|()| None),
        };
        let place = self.place();
        let received = read_restore_frame(&bytes).map_err(BackupError::message(&place))?;
        if received.is_empty() {
            return Err(BackupError::damaged(&place, "there is nothing in it"));
        }
        let mut cells = Vec::with_capacity(received.len());
        for Received { key, cell, check } in received {
            let meta = CellMeta::of(&key, &cell);
            if !meta.version.digest.0.starts_with(&check) {
                let what = format!("the cell of '{}' is not what its digest says", key.key);
                return Err(BackupError::damaged(&place, what));
            }
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                let what = format!("the key '{}' is not above the one before", key.key);
                return Err(BackupError::damaged(&place, what));
            }
            self.last = Some(key.clone());
            cells.push((key, cell, meta));
        }
        self.frames += 1;
        self.cells += cells.len() as u64;
        Ok(Some(Frame { bytes, cells }))
    }

    fn check_end(&self, end: &[u8]) -> Result<(), BackupError> {
        let mut expected = Vec::with_capacity(END_BYTES);
        expected.extend_from_slice(&self.frames.to_be_bytes());
        expected.extend_from_slice(&self.cells.to_be_bytes());
        expected.extend_from_slice(&self.header.root.0);
        if end != expected || self.cells != self.header.cells {
            let what = "it has other frames or cells than it says";
            return Err(BackupError::damaged("at its end", what));
        }
        Ok(())
    }

    fn check_root(&self, found: Result<RootHash, NotKept>) -> Result<(), BackupError> {
        let found = found.map_err(|error| BackupError::damaged("", error))?;
        match found == self.header.root {
            true => Ok(()),
            false => Err(BackupError::Root {
                expected: self.header.root,
                found,
            }),
        }
    }
}

/// A frame, and what is in it.
struct Frame {
    bytes: Vec<u8>,
    cells: Vec<(CellKey, Cell, CellMeta)>,
}

enum FrameBytes {
    Frame(Vec<u8>),
    End(Vec<u8>),
}

/// See [`BackupReader::verified_frames`].
pub struct VerifiedFrames<R>(BackupReader<R>);

impl<R: Read> Iterator for VerifiedFrames<R> {
    type Item = Result<Vec<u8>, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self(reader) = self;
        if reader.is_over {
            return None;
        }
        match reader.read_bytes() {
            Ok(FrameBytes::Frame(frame)) => {
                reader.frames += 1;
                Some(Ok(frame))
            }
            Ok(FrameBytes::End(_)) => {
                reader.is_over = true;
                None
            }
            Err(error) => {
                reader.is_over = true;
                Some(Err(error))
            }
        }
    }
}

/// Bytes of a backup, at a place.
struct Bytes<'a, R> {
    source: &'a mut R,
    place: &'a str,
}

impl<R: Read> Bytes<'_, R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut array = [0; N];
        self.source
            .read_exact(&mut array)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => BackupError::Truncated(self.place.to_owned()),
                _ => error.into(),
            })?;
        Ok(array)
    }

    /// As many bytes, and their check. No more memory is taken than there are bytes.
    fn checked(&mut self, place: u64, length: u32) -> Result<Vec<u8>, BackupError> {
        let mut bytes = Vec::new();
        let read = self
            .source
            .by_ref()
            .take(length.into())
            .read_to_end(&mut bytes)?;
        if read < length as usize {
            return Err(BackupError::Truncated(self.place.to_owned()));
        }
        let told: [u8; CHECK_BYTES] = self.array()?;
        match told == check(place, &bytes) {
            true => Ok(bytes),
            false => Err(BackupError::damaged(self.place, "the check does not fit")),
        }
    }
}
