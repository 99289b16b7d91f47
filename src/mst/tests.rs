//! The tree against a naive model, which is a set and the definition.

use std::{cell::Cell, collections::BTreeMap, convert::Infallible, sync::OnceLock};

use super::*;
use crate::hash::{HASH_BYTES, sha256};
use proptest::prelude::*;

/// A key that can carry its own position, so that tests can force any shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MockKey {
    id: u32,
    forced: Option<Position>,
}

impl MockKey {
    pub(super) fn honest(id: u32) -> Self {
        Self { id, forced: None }
    }

    /// A key of `digit`, whose further position ascends with its id: what a
    /// miner would make to defeat a rule that looks at keys one by one.
    pub(super) fn mined(id: u32, digit: u8) -> Self {
        let mut bytes = [0xff; HASH_BYTES];
        for place in 0..digit {
            bytes[usize::from(place / 2)] &= if place % 2 == 0 { 0x0f } else { 0xf0 };
        }
        bytes[28..].copy_from_slice(&id.to_be_bytes());
        Self {
            id,
            forced: Some(Position(bytes)),
        }
    }
}

impl TreeKey for MockKey {
    fn write_canonical(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_be_bytes());
    }

    fn head(&self) -> &[u8] {
        // Long common beginnings, ties, and every length from none on.
        const HEAD: [u8; 17] = [7; 17];
        &HEAD[..(self.id / 64).min(16) as usize]
    }

    fn position(&self) -> Position {
        self.forced
            .unwrap_or_else(|| Position(sha256(&[b"mst1posn", &self.id.to_be_bytes()])))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MockValue([u8; HASH_BYTES]);

impl MockValue {
    /// As a real digest does, it covers the key.
    pub(super) fn new(id: u32, number: u32) -> Self {
        Self(sha256(&[&id.to_be_bytes(), &number.to_be_bytes()]))
    }
}

impl Digested for MockValue {
    fn digest(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }
}

pub(super) type MockTree = Mst<Resident<MockKey, MockValue>>;
type Model = BTreeMap<MockKey, MockValue>;

/// The root by its definition in docs/formats.md, written without any of the
/// tree's code.
mod definition {
    use super::*;

    type Entries = [(MockKey, MockValue, Level)];

    pub(super) fn root(model: &Model) -> [u8; 32] {
        let keys: Vec<_> = model.keys().collect();
        let mut levels: Vec<Level> = keys
            .iter()
            .map(|key| {
                let hex: String = key
                    .position()
                    .0
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect();
                Level::of_digit((hex.len() - hex.trim_start_matches('0').len()) as u8)
            })
            .collect();
        let mut done = vec![false; keys.len()];
        for start in 0..keys.len() {
            if done[start] {
                continue;
            }
            let digit = levels[start].digit;
            let run: Vec<usize> = (start..keys.len())
                .take_while(|&i| levels[i].digit <= digit)
                .filter(|&i| levels[i].digit == digit)
                .collect();
            run.iter().for_each(|&i| done[i] = true);
            let mut alive = run;
            while alive.len() > 128 {
                alive = thin(&keys, &alive);
                alive.iter().for_each(|&i| levels[i].rank += 1);
            }
        }
        let entries: Vec<_> = model
            .iter()
            .zip(levels)
            .map(|((key, value), level)| (key.clone(), value.clone(), level))
            .collect();
        match node(&entries) {
            Some(hash) => hash,
            None => sha256(&[b"mst1none"]),
        }
    }

    fn thin(keys: &[&MockKey], alive: &[usize]) -> Vec<usize> {
        // Colours as lists of bits, lowest first: of the first byte, bit 0 is
        // the lowest.
        let mut colours: Vec<Vec<bool>> = alive
            .iter()
            .map(|&i| {
                let position = keys[i].position().0;
                (0..256)
                    .map(|bit| position[bit / 8] >> (bit % 8) & 1 == 1)
                    .collect()
            })
            .collect();
        for _ in 0..5 {
            colours = (0..colours.len())
                .map(|i| {
                    let index = match i {
                        0 => 0,
                        _ => (0..256)
                            .find(|&bit| colours[i].get(bit) != colours[i - 1].get(bit))
                            .expect("neighbours have different colours"),
                    };
                    let mut colour = vec![colours[i][index]];
                    colour.extend((0..15).map(|bit| index >> bit & 1 == 1));
                    colour
                })
                .collect();
        }
        let number = |colour: &Vec<bool>| -> u32 {
            colour
                .iter()
                .enumerate()
                .map(|(bit, set)| u32::from(*set) << bit)
                .sum()
        };
        let colours: Vec<u32> = colours.iter().map(number).collect();
        (0..alive.len())
            .filter(|&i| i == 0 || colours[i] > colours[i - 1])
            .filter(|&i| i + 1 == alive.len() || colours[i] > colours[i + 1])
            .map(|i| alive[i])
            .collect()
    }

    fn child(entries: &Entries) -> Vec<u8> {
        match node(entries) {
            None => vec![0],
            Some(hash) => [vec![1], hash.to_vec()].concat(),
        }
    }

    fn node(entries: &Entries) -> Option<[u8; 32]> {
        let level = entries.iter().map(|(_, _, level)| *level).max()?;
        let parts: Vec<&Entries> = entries.split(|(_, _, l)| *l == level).collect();
        let own: Vec<_> = entries.iter().filter(|(_, _, l)| *l == level).collect();
        let items: Vec<Vec<u8>> = own
            .iter()
            .enumerate()
            .map(|(i, (_, value, _))| [&value.0[..], &child(parts[i + 1])].concat())
            .collect();
        let mut hashes: Vec<[u8; 32]> = items
            .chunks(4)
            .map(|group| sha256(&[b"mst1grup", &group.concat()]))
            .collect();
        while hashes.len() > 1 {
            hashes = hashes
                .chunks(4)
                .map(|forks| sha256(&[b"mst1fork", &forks.concat()]))
                .collect();
        }
        Some(sha256(&[
            b"mst1node",
            &[level.digit, level.rank],
            &(own.len() as u32).to_be_bytes(),
            &child(parts[0]),
            &hashes[0],
        ]))
    }
}

fn assert_equals_model(tree: &MockTree, model: &Model) {
    let Ok(check) = tree.check();
    assert_eq!(check, Ok(()));
    let Ok(root) = tree.root();
    assert_eq!(root.0, definition::root(model));
    let Ok(entries) = tree.iter();
    let entries = entries.map(|entry| {
        let Ok(entry) = entry;
        entry
    });
    assert!(entries.eq(model.iter()));
    let mut shown = Vec::new();
    let Ok(()) = tree.for_each(|key, value| shown.push((key, value)));
    assert!(shown.into_iter().eq(model.iter()));
    assert_eq!(tree.len(), model.len());
    let Ok(check) = tree.check();
    assert_eq!(check, Ok(()), "with the hashes cached");
}

#[derive(Clone, Debug)]
enum Op {
    Upsert(MockKey, u32),
    /// Of which the greater wins.
    PutSorted(BTreeMap<MockKey, u32>),
    Remove(MockKey),
    Root,
    Snapshot,
}

fn ops(key: impl Strategy<Value = MockKey> + Clone, most: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        12 => (key.clone(), 0u32..4).prop_map(|(key, value)| Op::Upsert(key, value)),
        2 => prop::collection::btree_map(key.clone(), 0u32..4, 0..40).prop_map(Op::PutSorted),
        6 => key.prop_map(Op::Remove),
        1 => Just(Op::Root),
        1 => Just(Op::Snapshot),
    ];
    prop::collection::vec(op, 0..most)
}

fn run(tree: &mut MockTree, model: &mut Model, ops: Vec<Op>) {
    let mut snapshots = Vec::new();
    for op in ops {
        match op {
            Op::Upsert(key, value) => {
                let value = MockValue::new(key.id, value);
                let Ok(old) = tree.upsert(key.clone(), value.clone());
                assert_eq!(old, model.insert(key.clone(), value.clone()));
                let Ok(found) = tree.get(&key);
                assert_eq!(found, Some(&value));
            }
            Op::PutSorted(entries) => {
                let entries = entries.into_iter();
                let entries =
                    entries.map(|(key, value)| (key.clone(), MockValue::new(key.id, value)));
                let entries: Vec<_> = entries.collect();
                let mut asked = Vec::new();
                let Ok(()) = tree.put_sorted(&entries, |key, old, new| {
                    asked.push((key.clone(), new.clone()));
                    assert_eq!(old, model.get(key));
                    let wins = old.is_none_or(|old| old.0 < new.0);
                    if wins {
                        model.insert(key.clone(), new.clone());
                    }
                    wins
                });
                assert_eq!(asked, entries);
                assert_eq!(tree.len(), model.len());
            }
            Op::Remove(key) => {
                let Ok(old) = tree.remove(&key);
                assert_eq!(old, model.remove(&key));
            }
            Op::Root => {
                let Ok(_) = tree.root();
            }
            Op::Snapshot => snapshots.push((tree.clone(), model.clone())),
        }
    }
    assert_equals_model(tree, model);
    for (tree, model) in snapshots.iter().rev().take(2) {
        assert_equals_model(tree, model);
    }
}

fn collect_diff(
    left: &MockTree,
    right: &MockTree,
) -> Vec<(u32, Option<MockValue>, Option<MockValue>)> {
    left.diff(right)
        .map(|difference| {
            let Ok(difference) = difference;
            (
                difference.key.id,
                difference.left.cloned(),
                difference.right.cloned(),
            )
        })
        .collect()
}

fn model_diff(left: &Model, right: &Model) -> Vec<(u32, Option<MockValue>, Option<MockValue>)> {
    let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    keys.into_iter()
        .filter(|key| left.get(key) != right.get(key))
        .map(|key| (key.id, left.get(key).cloned(), right.get(key).cloned()))
        .collect()
}

fn mixed_key() -> impl Strategy<Value = MockKey> + Clone {
    (0u32..400).prop_map(|id| {
        // What kind of key it is depends on the id alone, as in life.
        match id.wrapping_mul(2_654_435_761) >> 24 {
            0..=199 => MockKey::honest(id),
            200..=230 => MockKey::mined(id, 2),
            _ => MockKey::mined(id, 5),
        }
    })
}

/// Nearly all keys on level 0, few above: runs that are far too wide, cut and
/// joined again.
fn level_of_mined(id: u32) -> u8 {
    match id.wrapping_mul(0x9E37_79B1) >> 20 {
        0..=8 => 1,
        9..=12 => 3,
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn tree_is_a_map_with_a_root_defined_by_its_content(ops in ops(mixed_key(), 600)) {
        run(&mut MockTree::default().prefetching_above(8), &mut Model::new(), ops);
    }

    #[test]
    fn insertion_order_and_detours_leave_no_trace(
        ids in prop::collection::btree_set(0u32..5_000, 1..300),
        detours in prop::collection::btree_set(5_000u32..6_000, 0..100),
        seed in any::<u64>(),
    ) {
        use rand::{rngs::StdRng, seq::SliceRandom, SeedableRng};
        let model: Model = ids.iter().map(|id| (MockKey::honest(*id), MockValue::new(*id, 0))).collect();
        let mut order: Vec<u32> = ids.iter().chain(&detours).copied().collect();
        let mut rng = StdRng::seed_from_u64(seed);
        order.shuffle(&mut rng);
        let mut tree = MockTree::default().prefetching_above(8);
        for id in &order {
            let Ok(_) = tree.upsert(MockKey::honest(*id), MockValue::new(*id, 0));
        }
        order.shuffle(&mut rng);
        for id in order.iter().filter(|id| detours.contains(id)) {
            let Ok(_) = tree.remove(&MockKey::honest(*id));
        }
        assert_equals_model(&tree, &model);
        let built = MockTree::from_sorted(Resident::default(), model);
        prop_assert_eq!(built.root(), tree.root());
    }

    #[test]
    fn ranges_are_those_of_a_map(
        ids in prop::collection::btree_set(0u32..300, 0..200),
        bounds in (0u32..310, 0u32..310),
        kinds in (0u8..3, 0u8..3),
    ) {
        use std::ops::Bound;
        let model: Model = ids.iter().map(|id| (MockKey::honest(*id), MockValue::new(*id, 0))).collect();
        let tree = MockTree::from_sorted(Resident::default(), model.clone());
        let bound = |kind, id| match kind {
            0 => Bound::Included(MockKey::honest(id)),
            1 => Bound::Excluded(MockKey::honest(id)),
            _ => Bound::Unbounded,
        };
        let (low, high) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1) + 1);
        let range = (bound(kinds.0, low), bound(kinds.1, high));
        let Ok(found) = tree.range(range.clone());
        let found: Vec<u32> = found.map(|entry| { let Ok((key, _)) = entry; key.id }).collect();
        let expected: Vec<u32> = model.range(range).map(|(key, _)| key.id).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn what_is_between_two_keys_is_a_tree_of_its_own(
        ids in prop::collection::btree_set(0u32..3_000, 0..=MAX_WIDTH),
        bounds in (0u32..3_010, 0u32..3_010),
        kinds in (any::<bool>(), any::<bool>()),
    ) {
        use std::ops::Bound;
        let model: Model = ids.iter().map(|id| (MockKey::honest(*id), MockValue::new(*id, 0))).collect();
        let tree = MockTree::from_sorted(Resident::default(), model.clone());
        let Ok(before) = tree.root();
        let (low, high) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1) + 1);
        let low = kinds.0.then(|| MockKey::honest(low));
        let high = kinds.1.then(|| MockKey::honest(high));
        let bound = |key: &Option<MockKey>| key.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let within = model.range((bound(&low), bound(&high)));
        let within: Model = within.map(|(key, value)| (key.clone(), value.clone())).collect();
        let Ok(part) = tree.between(low.as_ref(), high.as_ref());
        prop_assert_eq!(part.is_none(), within.is_empty());
        if let Some(part) = part {
            let Ok(hash) = tree.hash_of(&part);
            let alone = MockTree::from_sorted(Resident::default(), within);
            let Ok(expected) = alone.root();
            prop_assert_eq!(hash.0, expected.0);
            // And its topmost run is the topmost node of that tree.
            let Ok(Some(run)) = tree.run_between(low.as_ref(), high.as_ref()) else {
                panic!("there is something");
            };
            let Ok(top) = alone.store().load(alone.root_link().expect("a node"));
            prop_assert_eq!(run.values(), top.values());
            for place in 0..=top.values().len() {
                let hash = |link: Option<&_>| link.map(|link| {
                    let Ok(hash) = tree.hash_of(link);
                    hash
                });
                prop_assert_eq!(hash(run.child(place)), hash(top.child(place)));
            }
        } else {
            let Ok(run) = tree.run_between(low.as_ref(), high.as_ref());
            prop_assert!(run.is_none());
        }
        let Ok(after) = tree.root();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn differences_are_those_of_the_models(
        common in prop::collection::btree_set(0u32..2_000, 0..300),
        left in prop::collection::btree_map(0u32..2_000, 0u32..3, 0..40),
        right in prop::collection::btree_map(0u32..2_000, 0u32..3, 0..40),
    ) {
        let model = |own: &BTreeMap<u32, u32>| -> Model {
            let common = common.iter().map(|id| (MockKey::honest(*id), MockValue::new(*id, 0)));
            let own = own.iter().map(|(id, value)| (MockKey::honest(*id), MockValue::new(*id, *value)));
            common.chain(own).collect()
        };
        let (left, right) = (model(&left), model(&right));
        let trees = [&left, &right].map(|model| MockTree::from_sorted(Resident::default(), model.clone()));
        prop_assert_eq!(collect_diff(&trees[0], &trees[1]), model_diff(&left, &right));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn over_wide_runs_keep_their_ranks(
        start in prop::collection::btree_set(0u32..4_000, 0..2_500),
        ops in ops((0u32..4_000).prop_map(|id| MockKey::mined(id, level_of_mined(id))), 300),
    ) {
        let mut model: Model = start
            .iter()
            .map(|id| (MockKey::mined(*id, level_of_mined(*id)), MockValue::new(*id, 0)))
            .collect();
        let mut tree = MockTree::from_sorted(Resident::default(), model.clone());
        assert_equals_model(&tree, &model);
        let before = (tree.clone(), model.clone());
        run(&mut tree, &mut model, ops);
        prop_assert_eq!(collect_diff(&before.0, &tree), model_diff(&before.1, &model));
    }
}

#[test]
fn a_root_is_made_piece_by_piece() {
    let entries = (0..5_000).map(|id| (MockKey::honest(id), MockValue::new(id, 0)));
    let tree = MockTree::from_sorted(Resident::default(), entries.clone());
    let (expected, mut pieces) = (MockTree::from_sorted(Resident::default(), entries), 0);
    while !(tree.hash_some(10).unwrap()) {
        pieces += 1;
        assert!(pieces < 5_000, "it does not get on");
    }
    assert!(pieces > 10, "{pieces} pieces");
    assert_eq!(tree.root(), expected.root());
    assert_eq!(tree.check(), Ok(Ok(())));
    assert_eq!(MockTree::default().hash_some(0), Ok(true));
}

/// Counts the nodes that are looked at or changed.
#[derive(Clone, Default)]
struct Counting {
    inner: Resident<MockKey, MockValue>,
    touched: Cell<usize>,
}

impl NodeStore for Counting {
    type Key = MockKey;
    type Value = MockValue;
    type Link = SharedNode<MockKey, MockValue>;
    type Error = Infallible;

    fn load<'a>(&'a self, link: &'a Self::Link) -> Result<&'a NodeOf<Self>, Infallible> {
        self.touched.set(self.touched.get() + 1);
        self.inner.load(link)
    }

    fn edit<'a>(&'a self, link: &'a mut Self::Link) -> Result<&'a mut NodeOf<Self>, Infallible> {
        self.touched.set(self.touched.get() + 1);
        self.inner.edit(link)
    }

    fn take(&self, link: Self::Link) -> Result<NodeOf<Self>, Infallible> {
        self.touched.set(self.touched.get() + 1);
        self.inner.take(link)
    }

    fn keep(&self, node: NodeOf<Self>) -> Self::Link {
        self.inner.keep(node)
    }

    fn hash<'a>(&'a self, link: &'a Self::Link) -> &'a OnceLock<NodeHash> {
        self.inner.hash(link)
    }
}

#[test]
fn an_update_among_mined_keys_touches_a_bounded_number_of_nodes() {
    // The keys that are there are even, so that each odd one falls between.
    let worst_touched = |count: u32| {
        let entries = (0..count).map(|id| (MockKey::mined(id * 2, 0), MockValue::new(id, 0)));
        let mut tree = Mst::from_sorted(Counting::default(), entries);
        let mut worst = 0;
        let mut measure = |tree: &mut Mst<Counting>, change: &dyn Fn(&mut Mst<Counting>)| {
            let Ok(_) = tree.root();
            tree.store().touched.set(0);
            change(tree);
            let Ok(_) = tree.root();
            worst = worst.max(tree.store().touched.get());
        };
        for i in 0..60 {
            let id = (count / 60 * i) * 2 + 1;
            // A new neighbour, a new value, and a cut through the whole run.
            measure(&mut tree, &|tree| {
                let Ok(_) = tree.upsert(MockKey::mined(id, 0), MockValue::new(id, 0));
            });
            measure(&mut tree, &|tree| {
                let Ok(_) = tree.upsert(MockKey::mined(id, 0), MockValue::new(id, 1));
            });
            measure(&mut tree, &|tree| {
                let Ok(_) = tree.remove(&MockKey::mined(id, 0));
            });
            measure(&mut tree, &|tree| {
                let Ok(_) = tree.upsert(MockKey::mined(id, 7), MockValue::new(id, 1));
            });
            measure(&mut tree, &|tree| {
                let Ok(_) = tree.remove(&MockKey::mined(id, 7));
            });
        }
        let Ok(check) = tree.check();
        assert_eq!(check, Ok(()));
        worst
    };
    let (small, large) = (worst_touched(8_000), worst_touched(64_000));
    // Eight times the keys: two rounds more, not eight times the work.
    assert!(large < small * 2, "{small} nodes, then {large}");
}

#[test]
fn roots_are_pinned() {
    let honest = |count: u32| {
        let entries = (0..count).map(|id| (MockKey::honest(id), MockValue::new(id, 0)));
        let Ok(root) = MockTree::from_sorted(Resident::default(), entries).root();
        root.to_string()
    };
    let mined = (0..1_000).map(|id| (MockKey::mined(id, 0), MockValue::new(id, 0)));
    let Ok(mined) = MockTree::from_sorted(Resident::default(), mined).root();
    assert_eq!(
        honest(0),
        "bd20902b9a4c7238ce1903f31c4b501200d81bd89b2dc044fd9e37fd4b18c95e"
    );
    assert_eq!(
        honest(1),
        "a697c26efe0c0f93168d5d3099681f8928eea6eb667c90e739a9123688d1733d"
    );
    assert_eq!(
        honest(10_000),
        "2762dcef4bf71de28341f1cea5f7fbc64259e0f5952f9533bfdb3e3a065fb151"
    );
    assert_eq!(
        mined.to_string(),
        "d842e72d4b1d9f44ee00d2b87763d2025a7725314d66477152ec6fb13e93c315"
    );
}
