//! Queries of other replicas: any bytes are refused, or canonical and answered
//! within bounds.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Version},
    merge::Lifetimes,
    mst::{Resident, RootHash},
    replica::{Change, ReplicaError, Snapshot, Tree},
    store::{CellStore as _, MemoryStore},
    sync::{
        DeltaQuery, DigestQuery, EntriesQuery, MAX_MESSAGE, PieceQuery, PieceReply, Source,
        answer_digests, answer_entries,
    },
};

fn tombstone(time: u64) -> Cell {
    Cell {
        timestamp: Timestamp { time, id: [1; 16] },
        content: Content::Tombstone,
    }
}

fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        let entries = (0..300u64).map(|number| {
            let text = format!("a/{number:03}");
            let key = CellKey::own(Key::from(Some(text.try_into().expect("a key"))));
            let version = Version::of(&key, &tombstone(number));
            (key, version.into())
        });
        Tree::from_sorted(Resident::default(), entries)
    })
}

struct Holder;

impl Source for Holder {
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        // All cells are tombstones, which the tree has.
        Ok(Snapshot::new(0, tree().clone(), MemoryStore.view()))
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        let changes = tree().iter().expect("resident").zip(1..);
        let changes = changes.map(|(entry, number)| (number, entry.expect("resident").0.clone()));
        // About half of all roots are known.
        (root.0[0] < 128).then(|| changes.filter(|(number, _)| *number > after).collect())
    }
    fn damaged(&self, _: &CellKey, _: &Version) {
        panic!("nothing is damaged");
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(query) = DeltaQuery::decode(bytes) {
        assert_eq!(query.encode(), bytes);
        let answer = answer_entries(&Holder, bytes, true).expect("it was read");
        assert!(answer.len() <= MAX_MESSAGE);
    }
    if let Ok(query) = DigestQuery::decode(bytes) {
        assert_eq!(query.encode(), bytes);
        let answer = answer_digests(tree(), &Lifetimes::default(), bytes).expect("it was read");
        assert!(answer.len() <= MAX_MESSAGE + bytes.len());
    }
    if let Ok(query) = EntriesQuery::decode(bytes) {
        assert_eq!(query.encode(), bytes);
        let answer = answer_entries(&Holder, bytes, true);
        assert!(answer.expect("it was read").len() <= MAX_MESSAGE);
    }
    if let Ok(query) = PieceQuery::decode(bytes) {
        assert_eq!(query.encode(), bytes);
        let answer = answer_entries(&Holder, bytes, true).expect("it was read");
        // What is there has no value.
        assert_eq!(PieceReply::decode(&answer, 1), Ok(PieceReply(None)));
    }
});
