//! What a process did to its disk, call by call.

use std::{collections::HashMap, fs, path::Path};

use super::image::{Content, FileId, Image, Node};

/// A call that changed something.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        path: String,
        file: FileId,
    },
    MakeFolder {
        path: String,
    },
    Write {
        file: FileId,
        at: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: FileId,
        size: u64,
    },
    Sync {
        file: FileId,
    },
    SyncFolder {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    Mark(String),
}

impl Op {
    /// Whether it changes names, and in which folders.
    pub fn named(&self) -> Option<[&str; 2]> {
        match self {
            Self::Create { path, .. } | Self::MakeFolder { path } | Self::Remove { path } => {
                Some([parent(path), parent(path)])
            }
            Self::Rename { from, to } => Some([parent(from), parent(to)]),
            _ => None,
        }
    }
}

pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The calls of a process, in order, and what there was before.
#[derive(Clone, Debug)]
pub struct Recording {
    pub before: Image,
    pub ops: Vec<Op>,
}

const HEAD: usize = 32;

impl Recording {
    /// Reads the recording of what happened below `folder`. `inodes` are those of the files in `before`.
    pub fn read(file: &Path, folder: &Path, before: Image, inodes: &HashMap<u64, FileId>) -> Self {
        let bytes = fs::read(file).expect("the recording");
        let folder = folder.to_str().expect("text");
        let mut inodes = inodes.clone();
        let mut files = before.files();
        let (mut ops, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four"));
            let long = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("eight"));
            let (kind, first, second) = (number(0), number(4) as usize, number(8) as usize);
            let (inode, value) = (long(16), long(24));
            let (first, after) = rest[HEAD..].split_at(first);
            let (second, after) = after.split_at(second);
            rest = after;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            let path = |bytes: &[u8]| {
                let path = text(bytes);
                let below = path.strip_prefix(folder).expect("it is below the folder");
                below.trim_matches('/').to_owned()
            };
            // A file without a name that was removed before, and that a thread of the engine still had
            // open: it is in no image.
            let is_nameless = !inodes.contains_key(&inode);
            if is_nameless && (matches!(kind, 3 | 4) || kind == 5 && value != 1) {
                continue;
            }
            let file = || inodes[&inode];
            let op = match kind {
                1 => {
                    inodes.insert(inode, files);
                    files += 1;
                    Op::Create {
                        path: path(first),
                        file: files - 1,
                    }
                }
                2 => Op::MakeFolder { path: path(first) },
                3 => Op::Write {
                    file: file(),
                    at: value,
                    bytes: second.to_vec(),
                },
                4 => Op::Truncate {
                    file: file(),
                    size: value,
                },
                5 if value == 1 => Op::SyncFolder { path: path(first) },
                5 => Op::Sync { file: file() },
                6 => Op::Rename {
                    from: path(first),
                    to: path(second),
                },
                7 => Op::Remove { path: path(first) },
                9 => Op::Mark(text(first)),
                kind => panic!(
                    "a call of kind {kind}, number {value}, on {}: no image is made of it",
                    text(first)
                ),
            };
            ops.push(op);
        }
        Self { before, ops }
    }

    /// The names when the first `count` of the calls that change names have been made.
    pub fn names(&self, count: usize) -> Image {
        let mut image = self.before.clone();
        let changes = self.ops.iter().filter(|op| op.named().is_some());
        changes.take(count).for_each(|op| image.rename(op));
        image
    }
}

impl Image {
    fn rename(&mut self, op: &Op) {
        match op {
            Op::Create { path, file } => {
                self.nodes.insert(path.clone(), Node::File(*file));
            }
            Op::MakeFolder { path } => {
                self.nodes.insert(path.clone(), Node::Folder);
            }
            Op::Remove { path } => {
                self.nodes.remove(path).expect("it was there");
            }
            Op::Rename { from, to } => {
                let node = self.nodes.remove(from).expect("it was there");
                let below = format!("{from}/");
                let inner: Vec<String> = self
                    .nodes
                    .keys()
                    .filter(|path| path.starts_with(&below))
                    .cloned()
                    .collect();
                for path in inner {
                    let node = self.nodes.remove(&path).expect("it was there");
                    self.nodes
                        .insert(format!("{to}/{}", &path[below.len()..]), node);
                }
                self.nodes.insert(to.clone(), node);
            }
            _ => {}
        }
    }
}

impl Content {
    /// Does what a call does to a file.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { at, bytes, .. } => self.write(*at, bytes),
            Op::Truncate { size, .. } => self.truncate(*size),
            _ => {}
        }
    }
}
