//! What is dead at the asker's watermark is not sent, by whatever query.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::json;

use super::{
    pull::{Ask, Pull},
    tests::{Cells, cell, key},
    *,
};
use crate::{
    cell::{CellKey, Key, Timestamp, Version},
    merge::{Lifetimes, lifetimes::tests::lifetimes},
    mst::{Resident, RootHash},
    replica::{Change, ReplicaError, Snapshot, Tree},
    store::model::ModelView,
};

const SECOND: u64 = 1 << 32;

/// The asker's watermark: what is stamped up to 90 s is dead of keys with a lifetime.
const WATERMARK: u64 = 100 * SECOND;

fn short() -> Lifetimes {
    // Of half of the keys.
    lifetimes(
        json!({ "fleet/robot/$*1": "10s", "fleet/robot/$*3": "10s", "fleet/robot/$*5": "10s",
        "fleet/robot/$*7": "10s", "fleet/robot/$*9": "10s" }),
    )
}

/// A replica that holds these cells, all of which have changed since any root.
struct Holder<'a>(&'a Cells, &'a Lifetimes);

fn tree_of(cells: &Cells) -> Tree {
    let entries = cells.iter();
    let entries = entries.map(|(key, cell)| (key.clone(), Version::of(key, cell).into()));
    Tree::from_sorted(Resident::default(), entries)
}

impl Source for Holder<'_> {
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        let cells = self.0.iter();
        let rows = cells.map(|(key, cell)| (key.clone(), Arc::new(cell.clone())));
        let rows = ModelView(Arc::new(rows.collect()));
        Ok(Snapshot::new(0, tree_of(self.0), Box::new(rows)))
    }
    fn changes_since(&self, _: &RootHash, after: u64) -> Option<Vec<Change>> {
        let changes = (1..).zip(self.0.keys().cloned());
        Some(changes.filter(|(number, _)| *number > after).collect())
    }
    fn dead(&self, key: &Key, watermark: u64) -> Option<Timestamp> {
        self.1.dead(key, watermark)
    }
    fn damaged(&self, key: &CellKey, _: &Version) {
        panic!("{key:?} is not damaged");
    }
}

/// The cells that a pull brings, be it by a delta or by comparing trees.
fn pulled(own: &Cells, theirs: &Cells, watermark: u64, by_delta: bool) -> Cells {
    let lifetimes = short();
    let (holder, own_tree, their_tree) =
        (Holder(theirs, &lifetimes), tree_of(own), tree_of(theirs));
    let salted = Salted::new(*b"saltsalt", 4);
    let delta = by_delta.then(|| DeltaQuery {
        salted,
        max_bytes: MESSAGE_BYTES as u32,
        watermark: 0,
        after: 0,
        roots: vec![RootHash([1; 32])],
        held: Vec::new(),
    });
    let mut pull = Pull::new(ReplicaId([1; 16]), salted, MESSAGE_BYTES).with_delta(delta);
    pull.set_watermark(watermark);
    let (mut came, mut assembly, now) = (BTreeMap::new(), None, Duration::ZERO);
    loop {
        let answer = match pull.ask(&own_tree, &|_| None, &mut assembly, now) {
            Ask::Nothing => return came,
            Ask::Digests(query) => {
                answer_digests(&their_tree, &lifetimes, &query).expect("answered")
            }
            Ask::Entries(query) => answer_entries(&holder, &query, true).expect("answered"),
        };
        let brought = pull
            .answer(&answer, &own_tree, &mut assembly, now)
            .expect("read");
        came.extend(
            brought
                .cells
                .into_iter()
                .map(|received| (received.key, received.cell)),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    // L4: of what a peer has whose watermark is behind, only what lives is sent.
    #[test]
    fn what_is_dead_at_the_askers_watermark_is_not_sent(
        both in prop::collection::btree_map(0u32..400, 1u64..100, 0..200),
        theirs in prop::collection::btree_map(0u32..400, 1u64..100, 0..200),
        by_delta: bool,
    ) {
        let lifetimes = short();
        let made = |cells: &BTreeMap<u32, u64>| -> Cells {
            let cells = cells.iter();
            cells.map(|(number, second)| (key(*number), cell(second * SECOND, "x"))).collect()
        };
        let is_dead = |key: &CellKey, at: Timestamp| lifetimes.dead(&key.key, WATERMARK) >= Some(at);
        let mut own = made(&both);
        own.retain(|key, cell| !is_dead(key, cell.timestamp));
        let mut peer = made(&both);
        for (key, cell) in made(&theirs) {
            let held = peer.entry(key).or_insert_with(|| cell.clone());
            if held.timestamp < cell.timestamp {
                *held = cell;
            }
        }
        let came = pulled(&own, &peer, WATERMARK, by_delta);
        for (key, cell) in &came {
            prop_assert!(!is_dead(key, cell.timestamp), "{key:?}");
        }
        // And all that does.
        let newer = peer.iter().filter(|(key, cell)| {
            let held = own.get(key).map(|held| held.timestamp);
            held < Some(cell.timestamp) && !is_dead(key, cell.timestamp)
        });
        for (key, cell) in newer {
            prop_assert_eq!(came.get(key), Some(cell));
        }
        // Who says nothing of its watermark gets all.
        let all = pulled(&own, &peer, 0, by_delta);
        let dead = peer.iter().filter(|(key, cell)| is_dead(key, cell.timestamp)).count();
        let dead_came = all.iter().filter(|(key, cell)| is_dead(key, cell.timestamp)).count();
        prop_assert_eq!(dead, dead_came);
    }
}
