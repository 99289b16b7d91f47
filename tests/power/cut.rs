//! What a loss of power leaves of a recording.
//!
//! The medium that is modelled promises this and no more (docs/disks.md): what was synced stays; a
//! sector is written whole or not at all; names change in the order of the calls, and those in a folder
//! that was synced have changed. All else that was not synced may be there or not: any sector of a write, in any
//! order, zeros in its place, the size of a file before its bytes.

use std::collections::HashMap;

use rand::{Rng, rngs::StdRng};

use super::{
    image::{Content, FileId, Image},
    recording::{Op, Recording},
};

pub const SECTOR: usize = 512;

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// All is lost.
    Unsynced,
    /// What was written up to some call is there, nothing after it.
    Suffix,
    /// Any sectors are there.
    Sectors,
    /// Of the last write of a file some sectors are missing; all else is there.
    TornWrite,
    /// Of the last write of a file the rest of a sector is missing, and what is behind it: more than the
    /// medium may do.
    TornSector,
}

impl Loss {
    pub const ALL: [Self; 5] = [
        Self::Unsynced,
        Self::Suffix,
        Self::Sectors,
        Self::TornWrite,
        Self::TornSector,
    ];
}

/// A disk while a recording is played.
pub struct Playing<'a> {
    recording: &'a Recording,
    /// What a file has if all is lost that is not synced.
    synced: HashMap<FileId, Content>,
    /// The calls since then.
    unsynced: HashMap<FileId, Vec<usize>>,
    /// Calls that changed names: so many; and so many of them are synced.
    named: Vec<usize>,
    named_and_synced: usize,
    at: usize,
}

impl<'a> Playing<'a> {
    pub fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            synced: recording.before.contents.clone(),
            unsynced: HashMap::new(),
            named: Vec::new(),
            named_and_synced: 0,
            at: 0,
        }
    }

    /// Plays up to a call, which is not made.
    pub fn play_to(&mut self, end: usize) {
        for index in self.at..end {
            let op = &self.recording.ops[index];
            if op.named().is_some() {
                self.named.push(index);
            }
            match op {
                Op::Write { file, .. } | Op::Truncate { file, .. } => {
                    self.unsynced.entry(*file).or_default().push(index);
                }
                Op::Sync { file } => {
                    let content = self.synced.entry(*file).or_default();
                    for index in self.unsynced.remove(file).unwrap_or_default() {
                        content.apply(&self.recording.ops[index]);
                    }
                }
                Op::SyncFolder { path } => {
                    let is_of_it = |index: &usize| {
                        let folders = self.recording.ops[*index].named();
                        folders.is_some_and(|folders| folders.contains(&path.as_str()))
                    };
                    let last = self.named.iter().rposition(is_of_it);
                    let synced = last.map_or(0, |last| last + 1);
                    self.named_and_synced = self.named_and_synced.max(synced);
                }
                _ => {}
            }
        }
        self.at = end;
    }

    /// What a loss of power leaves now.
    pub fn cut(&self, loss: Loss, random: &mut StdRng) -> Image {
        let all = self.named.len();
        let until = random.gen_range(0..=self.at);
        let names = match loss {
            Loss::Unsynced => self.named_and_synced,
            Loss::Suffix => {
                let before = self.named.partition_point(|index| *index < until);
                before.max(self.named_and_synced)
            }
            _ => random.gen_range(self.named_and_synced..=all),
        };
        // The file that was written last, or another.
        let mut written: Vec<(usize, FileId)> = self.last_writes().collect();
        written.sort_unstable();
        let torn = match random.gen_bool(0.7) {
            true => written.last(),
            false => written.get(random.gen_range(0..written.len().max(1))),
        };
        let torn = torn.map(|(_, file)| *file);
        let mut image = self.recording.names(names);
        image.contents = self.synced.clone();
        for (file, calls) in &self.unsynced {
            let content = image.contents.entry(*file).or_default();
            let ops = calls
                .iter()
                .map(|index| (*index, &self.recording.ops[*index]));
            let ops: Vec<(usize, &Op)> = ops.collect();
            match loss {
                Loss::Unsynced => {}
                Loss::Suffix => {
                    let kept = ops.iter().filter(|(index, _)| *index < until);
                    kept.for_each(|(_, op)| content.apply(op));
                }
                Loss::Sectors => *content = some_sectors(content, &ops, random),
                Loss::TornWrite | Loss::TornSector => {
                    let before = content.clone();
                    ops.iter().for_each(|(_, op)| content.apply(op));
                    if torn == Some(*file) {
                        tear(content, &before, &ops, loss == Loss::TornSector, random);
                    }
                }
            }
        }
        image
    }

    fn last_writes(&self) -> impl Iterator<Item = (usize, FileId)> + '_ {
        self.unsynced.iter().filter_map(|(file, calls)| {
            let is_write = |index: &&usize| matches!(self.recording.ops[**index], Op::Write { .. });
            Some((*calls.iter().rfind(is_write)?, *file))
        })
    }
}

/// Each sector as it was after any one of the calls, or before; and so the size.
fn some_sectors(synced: &Content, ops: &[(usize, &Op)], random: &mut StdRng) -> Content {
    // Calls that shorten a file are like those that change names: what was written after one is not
    // there if it has not been made.
    let sized = random.gen_range(0..=ops.len());
    let shortened = ops
        .iter()
        .rposition(|(_, op)| matches!(op, Op::Truncate { .. }));
    let made = match shortened {
        Some(shortened) if sized <= shortened => sized,
        _ => ops.len(),
    };
    let mut size = synced.size;
    let mut content = synced.clone();
    let often = [0.1, 0.5, 0.9][random.gen_range(0..3)];
    // Up to which call a sector is as it was written.
    let mut until: HashMap<usize, usize> = HashMap::new();
    for (number, (_, op)) in ops[..made].iter().enumerate() {
        match op {
            Op::Truncate { size: to, .. } => {
                content.truncate(*to);
                size = *to;
            }
            Op::Write { at, bytes, .. } => {
                let (mut at, mut rest) = (*at as usize, &bytes[..]);
                while !rest.is_empty() {
                    let sector = at / SECTOR;
                    let length = rest.len().min((sector + 1) * SECTOR - at);
                    let until =
                        *until
                            .entry(sector)
                            .or_insert_with(|| match random.gen_bool(often) {
                                true => ops.len(),
                                false => random.gen_range(0..=ops.len()),
                            });
                    if number < until {
                        content.write(at as u64, &rest[..length]);
                    }
                    rest = &rest[length..];
                    at += length;
                }
                if number < sized {
                    size = size.max(at as u64);
                }
            }
            _ => {}
        }
    }
    content.bytes.truncate(size as usize);
    content.size = size;
    content
}

/// Takes sectors of the last write away; or what is in a sector behind some byte, and all behind it.
fn tear(
    content: &mut Content,
    before: &Content,
    ops: &[(usize, &Op)],
    is_within: bool,
    random: &mut StdRng,
) {
    let mut earlier = before.clone();
    let last = ops
        .iter()
        .rposition(|(_, op)| matches!(op, Op::Write { .. }));
    let Some(last) = last else {
        return;
    };
    ops[..last].iter().for_each(|(_, op)| earlier.apply(op));
    let Op::Write { at, bytes, .. } = ops[last].1 else {
        return;
    };
    let range = *at as usize..(*at as usize + bytes.len()).min(content.bytes.len());
    if range.is_empty() {
        return;
    }
    let undo = |content: &mut Content, range: std::ops::Range<usize>| {
        for at in range {
            content.bytes[at] = earlier.bytes.get(at).copied().unwrap_or(0);
        }
    };
    if is_within {
        let from = random.gen_range(range.clone());
        undo(content, from..range.end);
        return;
    }
    let sectors = range.start / SECTOR..=(range.end - 1) / SECTOR;
    let missing = random.gen_range(sectors.clone());
    for sector in sectors {
        if sector == missing || random.gen_bool(0.3) {
            let from = (sector * SECTOR).max(range.start);
            undo(content, from..((sector + 1) * SECTOR).min(range.end));
        }
    }
}
