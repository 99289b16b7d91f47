//! What is on a disk.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// A file, whatever it is called.
pub type FileId = usize;

/// The bytes of a file. What is behind `bytes` is zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub size: u64,
}

impl Content {
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let end = at as usize + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at as usize..end].copy_from_slice(bytes);
        self.size = self.size.max(end as u64);
    }

    pub fn truncate(&mut self, size: u64) {
        self.bytes.truncate(size as usize);
        self.size = size;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    Folder,
    File(FileId),
}

/// The names and the bytes of all that is below a folder.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub nodes: BTreeMap<String, Node>,
    pub contents: HashMap<FileId, Content>,
}

impl Image {
    /// One more than the greatest number of a file.
    pub fn files(&self) -> usize {
        let named = self.nodes.values().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Folder => None,
        });
        let last = self.contents.keys().chain(named).max();
        last.map_or(0, |last| last + 1)
    }

    /// Makes it in an empty folder, and tells which inode each file has.
    pub fn write(&self, folder: &Path) -> HashMap<u64, FileId> {
        let mut inodes = HashMap::new();
        for (path, node) in &self.nodes {
            let path = folder.join(path);
            // A name whose folder was lost is lost.
            if !path.parent().expect("it is below the folder").exists() {
                continue;
            }
            match node {
                Node::Folder => fs::create_dir(&path).expect("a folder"),
                Node::File(file) => {
                    let mut made = File::create(&path).expect("a file");
                    if let Some(content) = self.contents.get(file) {
                        made.write_all(&content.bytes).expect("written");
                        made.set_len(content.size).expect("written");
                    }
                    inodes.insert(made.metadata().expect("it is there").ino(), *file);
                }
            }
        }
        inodes
    }

    /// Reads what is in a folder, and tells which inode each file has.
    pub fn read(folder: &Path) -> (Self, HashMap<u64, FileId>) {
        let (mut image, mut inodes) = (Self::default(), HashMap::new());
        image.read_below(folder, "", &mut inodes);
        (image, inodes)
    }

    fn read_below(&mut self, folder: &Path, prefix: &str, inodes: &mut HashMap<u64, FileId>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = format!("{prefix}{}", entry.file_name().to_str().expect("text"));
            if entry.file_type().expect("it is there").is_dir() {
                self.nodes.insert(path.clone(), Node::Folder);
                self.read_below(&entry.path(), &format!("{path}/"), inodes);
                continue;
            }
            let mut bytes = fs::read(entry.path()).expect("a file");
            let size = bytes.len() as u64;
            let used = bytes.iter().rposition(|byte| *byte != 0);
            bytes.truncate(used.map_or(0, |last| last + 1));
            let file = self.files();
            inodes.insert(entry.metadata().expect("it is there").ino(), file);
            self.contents.insert(file, Content { bytes, size });
            self.nodes.insert(path, Node::File(file));
        }
    }
}
