//! Answers of other replicas: any bytes are refused, or are an answer to what was
//! asked, and canonical.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::{
    cell::{CellKey, Key},
    sync::{
        DeltaReply, DigestReply, EntriesReply, Fragment, PieceReply, Progress, Range, Salted, Want,
    },
};

fn key(text: &str) -> CellKey {
    CellKey::own(Key::from(Some(text.try_into().expect("a key"))))
}

fuzz_target!(|bytes: &[u8]| {
    let salted = Salted::new(*b"saltsalt", 4);
    let short = salted.short(&[1; 32]);
    let asked = [
        (
            Range::default(),
            Fragment {
                gaps: vec![Some(short), None, Some(short)],
                entries: vec![(key("a/1"), short), (key("a/5"), short)],
                is_cut: false,
                is_sparse: false,
            },
        ),
        (
            Range {
                low: Some(key("b")),
                high: Some(key("c")),
            },
            Fragment {
                gaps: vec![None, None],
                entries: vec![(key("b/1"), short)],
                is_cut: true,
                is_sparse: false,
            },
        ),
    ];
    if let Ok(reply) = DigestReply::decode(bytes, &salted, &asked) {
        assert_eq!(reply.encode(salted), bytes);
    }
    if let Ok(reply) = DeltaReply::decode(bytes, 7, 4096) {
        assert!(reply.cells.is_sorted_by(|a, b| a.key < b.key));
        assert!(reply.notices.is_sorted_by(|a, b| a.key < b.key));
        let makes_progress = matches!(reply.progress, Progress::After(change) if change > 7);
        assert!(makes_progress || !matches!(reply.progress, Progress::After(_)));
        let plain = reply.encode(false);
        assert_eq!(DeltaReply::decode(&plain, 7, 1 << 30), Ok(reply));
    }
    let wants = [
        Want::Key(key("a/1"), None),
        Want::All(asked[1].0.clone()),
        Want::Key(key("d"), Some(7)),
    ];
    if let Ok(reply) = EntriesReply::decode(bytes, &wants, 4096) {
        for received in &reply.cells {
            let is_wanted = wants.iter().any(|want| match want {
                Want::Key(key, _) => *key == received.key,
                Want::All(range) => range.contains(&received.key),
            });
            assert!(is_wanted);
        }
        let plain = reply.encode(false);
        assert_eq!(EntriesReply::decode(&plain, &wants, 1 << 30), Ok(reply));
    }
    if let Ok(reply) = PieceReply::decode(bytes, 4096) {
        assert!(
            reply
                .0
                .as_ref()
                .is_none_or(|piece| (1..=4096).contains(&piece.len()))
        );
        assert_eq!(PieceReply::decode(&reply.encode(false), 4096), Ok(reply));
    }
});
