//! Queries of other replicas: any bytes are refused, or canonical and answered
//! within bounds.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::{
    cell::{Cell, CellKey, CellMeta, Content, Key, Stamp},
    mst::Resident,
    replica::{Kept, Tree},
    sync::{answer_digests, answer_entries, DigestQuery, EntriesQuery, MAX_MESSAGE},
};

fn tombstone(time: u64) -> Cell {
    Cell {
        stamp: Stamp { time, id: [1; 16] },
        content: Content::Tombstone,
    }
}

fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        let entries = (0..300u64).map(|number| {
            let text = format!("a/{number:03}");
            let key = CellKey::own(Key::from(Some(text.try_into().expect("a key"))));
            let meta = CellMeta::of(&key, &tombstone(number));
            (key, meta)
        });
        Tree::from_sorted(Resident::default(), entries)
    })
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(query) = DigestQuery::decode(bytes) {
        assert_eq!(query.encode(), bytes);
        let answer = answer_digests(tree(), bytes).expect("it was read");
        assert!(answer.len() <= MAX_MESSAGE + bytes.len());
    }
    if let Ok(query) = EntriesQuery::decode(bytes) {
        assert_eq!(query.encode(), bytes);
        let read = |_: &CellKey, version: zenoh_backend_mst::cell::Version| {
            Ok(Kept::Cell(Arc::new(tombstone(version.stamp.time))))
        };
        let answer = answer_entries(tree(), bytes, true, read, |_| panic!("nothing is damaged"));
        assert!(answer.expect("it was read").len() <= MAX_MESSAGE);
    }
});
