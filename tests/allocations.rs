//! What a message of another replica makes this one allocate: no more than four times the longest
//! message, whatever it says, and whatever comes of it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell as StdCell,
};

use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Version},
    merge::Lifetimes,
    mst::{Resident, RootHash},
    replica::{Change, ReplicaError, Snapshot, Tree},
    store::{CellStore as _, MemoryStore},
    sync::{
        Announcement, DeltaQuery, DeltaReply, DigestReply, EntriesQuery, EntriesReply, Fragment,
        MAX_MESSAGE, MAX_QUERY, MESSAGE_BYTES, PROTOCOL, PieceQuery, PieceReply, Range, Salted,
        Source, Want, answer_digests, answer_entries, max_answer,
    },
};

/// What may be allocated at a time.
const MOST: usize = 4 * MAX_MESSAGE;

struct Counting;

thread_local! {
    static NOW: StdCell<usize> = const { StdCell::new(0) };
    static PEAK: StdCell<usize> = const { StdCell::new(0) };
}

fn count(more: usize, less: usize) {
    let now = NOW.get().saturating_add(more);
    PEAK.set(PEAK.get().max(now));
    NOW.set(now.saturating_sub(less));
}

// SAFETY: everything is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there for a moment.
        count(size, layout.size());
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `run` has allocated at a time.
fn peak_of<T>(run: impl FnOnce() -> T) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    drop(run());
    PEAK.get() - before
}

fn check<T>(what: &str, run: impl FnOnce() -> T) {
    let peak = peak_of(run);
    assert!(peak <= MOST, "{what}: {peak} bytes of {MOST}");
}

#[test]
fn the_counter_counts() {
    let peak = peak_of(|| {
        drop(vec![0u8; 1 << 20]);
        vec![0u8; 3 << 20]
    });
    assert!((3 << 20..4 << 20).contains(&peak), "{peak}");
}

fn key(text: &str) -> CellKey {
    CellKey::own(Key::from(Some(text.to_owned().try_into().expect("a key"))))
}

fn tombstone(time: u64) -> Cell {
    Cell {
        timestamp: Timestamp { time, id: [1; 16] },
        content: Content::Tombstone,
    }
}

/// A tree of tombstones, which need no store.
struct Holder(Tree);

impl Holder {
    fn new(cells: u64) -> Self {
        let entries = (0..cells).map(|number| {
            let key = key(&format!("a/{number:06}"));
            let version = Version::of(&key, &tombstone(number));
            (key, version.into())
        });
        Self(Tree::from_sorted(Resident::default(), entries))
    }
}

impl Source for Holder {
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        Ok(Snapshot::new(0, self.0.clone(), MemoryStore.view()))
    }
    fn changes_since(&self, _: &RootHash, _: u64) -> Option<Vec<Change>> {
        None
    }
    fn damaged(&self, _: &CellKey, _: &Version) {
        panic!("nothing is damaged");
    }
}

/// Beginnings of messages of each kind.
fn heads() -> Vec<Vec<u8>> {
    let number = [0x80, 0x80, 0x20];
    let salt = *b"saltsalt";
    (1..=9)
        .flat_map(|kind| {
            let head = [PROTOCOL, kind];
            let sized = [&head[..], &number].concat();
            let salted = [&head[..], &salt, &[4], &number].concat();
            let widths = [&head[..], &[4], &salt, &number].concat();
            // The watermark of whoever asks comes after that.
            let asked = [&sized[..], &[0; 8]].concat();
            let compared = [&salted[..], &[0; 8]].concat();
            [head.to_vec(), sized, salted, widths, asked, compared]
        })
        .collect()
}

/// Bodies that are short for what they stand for, again and again.
fn bodies() -> Vec<Vec<u8>> {
    let long = [&[0, 0xff, 0xff, 0x0f][..], &[b'a'; 1000]].concat();
    vec![
        vec![4],
        vec![0],
        vec![1],
        vec![0xff],
        vec![0, 0, 9, 1, b'a'],
        vec![2, 1, 4, b'b'],
        vec![0, 0, 1, 0],
        vec![1, 0, 0, 0, 0],
        long,
    ]
}

fn repeated(head: &[u8], body: &[u8], length: usize) -> Vec<u8> {
    let mut message = head.to_vec();
    message.extend(body.iter().cycle().take(length - head.len()));
    message
}

#[test]
fn whatever_a_message_says_it_takes_little_to_read() {
    let salted = Salted::new(*b"saltsalt", 4);
    let holder = Holder::new(1000);
    let asked = [(
        Range::default(),
        Fragment {
            gaps: vec![Some(salted.short(&[1; 32])); 2],
            entries: vec![(key("a/1"), salted.short(&[1; 32]))],
            ..Fragment::default()
        },
    )];
    let wants = [Want::All(Range::default())];
    let most = max_answer(MESSAGE_BYTES);
    for head in heads() {
        for body in bodies() {
            for length in [MAX_QUERY, MAX_MESSAGE] {
                let query = repeated(&head, &body, length);
                let what = format!("a query of {head:?} and {body:?}");
                check(&what, || answer_entries(&holder, &query, true).is_ok());
                check(&what, || {
                    answer_digests(&holder.0, &Lifetimes::default(), &query).is_ok()
                });
            }
            let reply = repeated(&head, &body, most);
            let what = format!("an answer of {head:?} and {body:?}");
            check(&what, || EntriesReply::decode(&reply, &wants, most).is_ok());
            check(&what, || DeltaReply::decode(&reply, 0, most).is_ok());
            check(&what, || {
                DigestReply::decode(&reply, &salted, &asked).is_ok()
            });
            check(&what, || PieceReply::decode(&reply, most).is_ok());
            check(&what, || Announcement::decode(&reply).is_ok());
            check(&what, || PieceQuery::decode(&reply).is_ok());
            check(&what, || DeltaQuery::decode(&reply).is_ok());
        }
    }
}

#[test]
fn as_many_wants_as_fit_take_little_and_ranges_that_overlap_are_refused() {
    let head = EntriesQuery {
        max_bytes: MESSAGE_BYTES as u32,
        watermark: 0,
        wants: Vec::new(),
    };
    let everything = repeated(&head.encode(), &[4], MAX_QUERY);
    let peak = peak_of(|| assert!(EntriesQuery::decode(&everything).is_err()));
    assert!(peak <= MOST, "{peak}");
    let twice = repeated(&head.encode(), &[4], head.encode().len() + 2);
    assert!(EntriesQuery::decode(&twice).is_err(), "all of it, twice");
    let wants = (0..32_000).map(|number| Want::Key(key(&format!("a/{number:05}")), None));
    let many = EntriesQuery {
        wants: wants.collect(),
        ..head
    };
    let bytes = many.encode();
    assert!(bytes.len() <= MAX_QUERY);
    check("many wants", || {
        assert_eq!(EntriesQuery::decode(&bytes).as_ref(), Ok(&many));
        answer_entries(&Holder::new(10), &bytes, true).expect("answered")
    });
}

#[test]
fn as_many_cells_as_fit_take_little() {
    let wants = [Want::All(Range::default())];
    let most = max_answer(MESSAGE_BYTES);
    let received = (0..60_000u64).map(|number| {
        let (key, cell) = (key(&format!("{number:05}")), tombstone(number));
        const BYTES: usize = zenoh_backend_mst::sync::CHECK_BYTES;
        let mut check = [0; BYTES];
        check.copy_from_slice(&Version::of(&key, &cell).digest.0[..BYTES]);
        zenoh_backend_mst::sync::Received { key, cell, check }
    });
    let cells: Vec<_> = received.collect();
    for count in [10_000, 30_000, 60_000] {
        let cells = cells[..count].to_vec();
        let reply = EntriesReply {
            done: 1,
            cells,
            notices: Vec::new(),
        };
        for compress in [false, true] {
            let bytes = reply.encode(compress);
            if bytes.len() <= most {
                let is_read = |bytes: &[u8]| EntriesReply::decode(bytes, &wants, most).is_ok();
                check(&format!("{count} cells"), || is_read(&bytes));
            }
        }
    }
}
