//! Reads backups, and trusts none of their bytes before they are checked.

use std::{
    io::{self, Read},
    panic::resume_unwind,
    sync::{Arc, mpsc},
};

use super::{
    BackupError, CHECK_BYTES, END_PLACE, HEADER_PLACE, Header, MAGIC, MAX_FRAME, MAX_HEADER, check,
    rollback::RollbackFrames,
};
use crate::{
    cell::{Cell, CellKey, Version},
    mst::{Builder, Digesting, NotKept, RootHash},
    sync::{MAX_MESSAGE, MessageError, Received, read_cells_block},
    wildcard::WildcardRules,
};

const END_BYTES: usize = 48;

/// The most frames that wait to be checked.
const FRAMES_AHEAD: usize = 8;

/// Reads the cells of a received frame, without further checks.
///
/// # Errors
/// If it is not a frame.
pub fn read_restore_frame(frame: &[u8]) -> Result<Vec<Received>, MessageError> {
    read_cells_block(frame, MAX_MESSAGE)
}

/// Reads a backup to its end.
///
/// # Errors
/// If it is not a backup, is damaged or incomplete, or cannot be read. `progress` gets
/// the number of cells read, and the number that the header states.
pub fn verify(
    source: impl Read,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Header, BackupError> {
    let mut reader = BackupReader::open(source)?;
    let (sender, frames) = mpsc::sync_channel::<Vec<Received>>(FRAMES_AHEAD);
    // Reading the cells and hashing them takes about the same time.
    let found = std::thread::scope(|scope| {
        let checking = std::thread::Builder::new().spawn_scoped(scope, move || {
            let mut checker = Checker::new();
            for received in frames {
                checker.check(&received)?;
            }
            Ok::<_, BackupError>(checker.finish())
        })?;
        let mut read_all = || {
            while let Some((_, received)) = reader.read_frame()? {
                progress(reader.cells, reader.header.cells);
                if sender.send(received).is_err() {
                    // The other thread has found something wrong.
                    break;
                }
            }
            Ok::<_, BackupError>(())
        };
        let read = read_all();
        drop(sender);
        let checked = checking.join();
        let found = checked.unwrap_or_else(|panic| resume_unwind(panic))?;
        read.map(|()| found)
    })?;
    reader.check_root(found)?;
    Ok(reader.header)
}

/// Reads a backup, frame by frame. Only at the end is it verified.
pub struct BackupReader<R> {
    source: R,
    header: Header,
    /// The numbers of frames and cells that were read.
    frames: u64,
    cells: u64,
    last: Option<CellKey>,
    checker: Checker,
    is_over: bool,
}

/// Checks cells against their digests and their order, and builds the tree.
struct Checker {
    /// The number of frames that were checked, and the last key in them.
    frames: u64,
    last: Option<CellKey>,
    tree: Builder<Digesting<CellKey, Version>>,
}

impl Checker {
    fn new() -> Self {
        Self {
            frames: 0,
            last: None,
            tree: Builder::new(Digesting::default()),
        }
    }

    /// Checks the cells of the next frame.
    fn check(&mut self, received: &[Received]) -> Result<(), BackupError> {
        for received in received {
            let (place, key) = (|| place(self.frames, self.last.as_ref()), &received.key);
            let Some(version) = received.intact() else {
                let what = format!("the cell of '{}' is not what its digest says", key.key);
                return Err(BackupError::damaged(&place(), what));
            };
            if self.last.as_ref().is_some_and(|last| last >= key) {
                let what = format!("the key '{}' is not above the one before", key.key);
                return Err(BackupError::damaged(&place(), what));
            }
            self.last = Some(key.clone());
            self.tree.push(key.clone(), version);
        }
        self.frames += 1;
        Ok(())
    }

    /// The root of all cells.
    fn finish(self) -> Result<RootHash, NotKept> {
        self.tree.finish().root()
    }
}

/// Describes the place of the frame after `frames` others, for error messages.
fn place(frames: u64, last: Option<&CellKey>) -> String {
    let after = last.map(|key| key.key.to_string());
    let after = after.map_or(String::new(), |key| format!(", after key '{key}'"));
    format!("in frame {}{after}", frames + 1)
}

impl<R: Read> BackupReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is not a backup, its format is unknown, or it is damaged.
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
            checker: Checker::new(),
            is_over: false,
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame, as a message that carries cells; none at the end.
    ///
    /// # Errors
    /// If the backup is damaged, or at its end does not match its header.
    pub fn next_raw_frame(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        Ok(self.next()?.map(|(bytes, _)| bytes))
    }

    /// The cells of the next frame, ascending; none at the end.
    ///
    /// # Errors
    /// As [`next_raw_frame`](Self::next_raw_frame).
    pub fn next_frame(&mut self) -> Result<Option<Vec<(CellKey, Cell)>>, BackupError> {
        let frame = self.next()?;
        Ok(frame.map(|(_, received)| {
            let cells = received.into_iter();
            cells
                .map(|received| (received.key, received.cell))
                .collect()
        }))
    }

    /// The next frame; compares the root at the end.
    fn next(&mut self) -> Result<Option<Frame>, BackupError> {
        if self.is_over {
            return Ok(None);
        }
        if let Some(frame) = self.read_frame()? {
            self.checker.check(&frame.1)?;
            return Ok(Some(frame));
        }
        let checker = std::mem::replace(&mut self.checker, Checker::new());
        self.check_root(checker.finish())?;
        self.is_over = true;
        Ok(None)
    }

    /// The raw frames of a backup that has been [verified](verify): it checks their
    /// checks, and not their cells.
    #[must_use]
    pub fn verified_frames(self) -> VerifiedFrames<R> {
        VerifiedFrames(self)
    }

    /// The wildcard rules of the backup. A rule may come after keys that it matches, so a
    /// rollback reads them first.
    ///
    /// # Errors
    /// As of [`next_raw_frame`](Self::next_raw_frame).
    pub fn wildcard_rules(mut self) -> Result<WildcardRules, BackupError> {
        let mut rules = WildcardRules::default();
        while let Some(cells) = self.next_frame()? {
            for (key, cell) in cells {
                if key.key.is_pattern() {
                    rules.join(&key, &Arc::new(cell));
                }
            }
        }
        Ok(rules)
    }

    /// The whole backup, in pieces of whole keys for a rollback: what its cells and these rules,
    /// which are [its own](Self::wildcard_rules), showed.
    #[must_use]
    pub fn rollback_frames(self, rules: WildcardRules) -> RollbackFrames<R> {
        RollbackFrames::new(self, rules)
    }

    /// The bytes of the next frame, or of the end.
    fn read_bytes(&mut self) -> Result<FrameBytes, BackupError> {
        let place = place(self.frames, self.last.as_ref());
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
            return Err(BackupError::damaged(&place, "its length is impossible"));
        }
        Ok(FrameBytes::Frame(bytes.checked(self.frames + 1, length)?))
    }

    /// The next frame with its cells, which are still unchecked.
    fn read_frame(&mut self) -> Result<Option<Frame>, BackupError> {
        let bytes = match self.read_bytes()? {
            FrameBytes::Frame(bytes) => bytes,
            // An error is final: only a sound backup has an end.
            FrameBytes::End(end) => return self.check_end(&end).map(|()| None),
        };
        let place = place(self.frames, self.last.as_ref());
        let received = read_restore_frame(&bytes).map_err(BackupError::message(&place))?;
        let Some(last) = received.last() else {
            return Err(BackupError::damaged(&place, "there is nothing in it"));
        };
        self.last = Some(last.key.clone());
        self.frames += 1;
        self.cells += received.len() as u64;
        Ok(Some((bytes, received)))
    }

    fn check_end(&self, end: &[u8]) -> Result<(), BackupError> {
        let mut expected = Vec::with_capacity(END_BYTES);
        expected.extend_from_slice(&self.frames.to_be_bytes());
        expected.extend_from_slice(&self.cells.to_be_bytes());
        expected.extend_from_slice(&self.header.root.0);
        if end != expected || self.cells != self.header.cells {
            let what = "it does not have as many frames and cells as it says";
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
type Frame = (Vec<u8>, Vec<Received>);

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

/// Bytes of a backup, at their place.
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

    /// Reads `length` bytes and their check. Takes no more memory than there are bytes.
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
            false => Err(BackupError::damaged(self.place, "its checksum is wrong")),
        }
    }
}
