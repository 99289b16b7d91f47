//! How the replicas of each storage stand to one another, as far as anybody says.

use zenoh_backend_mst::sync::Group;

use crate::{
    output::Tone,
    replicas::{Peer, Replica, Replication, Status},
};

/// The replicas of a storage.
pub(crate) struct Storage {
    pub(crate) group: Group,
    /// Those that answer, then those that others miss.
    pub(crate) rows: Vec<Row>,
}

/// A replica.
pub(crate) struct Row {
    /// Its identity.
    pub(crate) replica: String,
    /// How it stands to the others.
    pub(crate) relation: String,
    pub(crate) tone: Tone,
    pub(crate) root: String,
    pub(crate) cells: Option<u64>,
    /// What it says of itself, if it answers.
    pub(crate) status: Option<Status>,
}

impl Row {
    /// Whether it answers.
    pub(crate) fn is_present(&self) -> bool {
        self.status.is_some()
    }
}

/// Relations from the worst to the best.
const RELATIONS: [&str; 5] = ["isolated", "divergent", "unknown", "behind", "equal"];

/// How a replica sees its peers that are there: the worst of their relations, with
/// their number, unless it is that of all.
fn relation(replication: &Replication) -> (String, Tone) {
    let present = replication.peers.iter().filter(|peer| peer.present);
    let present: Vec<&Peer> = present.collect();
    let equal = replication.equal_peers.unwrap_or(0) as usize;
    let all = present.len() + equal;
    if all == 0 {
        return ("alone".to_owned(), Tone::Plain);
    }
    let with = |relation: &str| {
        let with = present.iter().filter(|peer| peer.relation == relation);
        with.count() + if relation == "equal" { equal } else { 0 }
    };
    let worst = RELATIONS.iter().find(|relation| with(relation) > 0);
    // A relation that is not known here comes from a later version.
    let unknown = || {
        present
            .first()
            .map_or("equal", |peer| peer.relation.as_str())
    };
    let worst = worst.copied().unwrap_or_else(unknown);
    let text = match with(worst) {
        count if count == all => worst.to_owned(),
        count => format!("{count} {worst}"),
    };
    (text, Tone::of_relation(worst))
}

fn row(replica: &Replica) -> Row {
    let status = &replica.status;
    let (relation, tone) = match (&status.failure, &status.replication) {
        (Some(_), _) => ("failed".to_owned(), Tone::Bad),
        (None, None) => ("single".to_owned(), Tone::Plain),
        (None, Some(replication)) => relation(replication),
    };
    Row {
        replica: replica.base.replica.to_string(),
        relation,
        tone,
        root: status.root.clone(),
        cells: Some(status.cells),
        status: Some(status.clone()),
    }
}

/// The storages of these replicas, which are ordered by storage. Among `all` are
/// those that are not wanted, and so are not missed.
pub(crate) fn overview(replicas: &[Replica], all: &[Replica]) -> Vec<Storage> {
    let mut storages: Vec<Storage> = Vec::new();
    for replica in replicas {
        match storages.last_mut() {
            Some(last) if last.group == replica.base.group => last.rows.push(row(replica)),
            _ => storages.push(Storage {
                group: replica.base.group.clone(),
                rows: vec![row(replica)],
            }),
        }
    }
    let is_there = |identity: &str| {
        let mut all = all.iter();
        all.any(|replica| replica.base.replica.to_string() == identity)
    };
    for storage in &mut storages {
        let known = storage.rows.iter().filter_map(|row| row.status.as_ref());
        let known = known.filter_map(|status| status.replication.as_ref());
        // Of another storage may be who is isolated.
        let missed = known
            .flat_map(|replication| &replication.peers)
            .filter(|peer| !peer.present && peer.relation != "isolated")
            .filter(|peer| !is_there(&peer.replica));
        let mut missing: Vec<Row> = Vec::new();
        for peer in missed {
            if missing.iter().all(|row| row.replica != peer.replica) {
                missing.push(Row {
                    replica: peer.replica.clone(),
                    relation: "absent".to_owned(),
                    tone: Tone::Warn,
                    root: peer.root.clone().unwrap_or_default(),
                    cells: peer.cells,
                    status: None,
                });
            }
        }
        missing.sort_by(|a, b| a.replica.cmp(&b.replica));
        storage.rows.append(&mut missing);
    }
    storages
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::replicas::tests::replica;

    fn peers(peers: &[(&str, bool, &str)]) -> Vec<Peer> {
        let peers = peers.iter();
        peers
            .map(|(replica, present, relation)| Peer {
                replica: (*replica).to_owned(),
                present: *present,
                relation: (*relation).to_owned(),
                ..Peer::default()
            })
            .collect()
    }

    #[test]
    fn the_worst_relation_is_told() {
        let of = |list: &[(&str, bool, &str)], equal_peers| Replication {
            peers: peers(list),
            equal_peers: Some(equal_peers),
            ..Replication::default()
        };
        let told = |list: &[(&str, bool, &str)]| relation(&of(list, 0)).0;
        assert_eq!(told(&[]), "alone");
        assert_eq!(told(&[("a", false, "equal")]), "alone");
        assert_eq!(told(&[("a", true, "equal"), ("b", true, "equal")]), "equal");
        let mixed = [
            ("a", true, "equal"),
            ("b", true, "divergent"),
            ("c", false, "isolated"),
        ];
        assert_eq!(told(&mixed), "1 divergent");
        assert_eq!(told(&[("a", true, "new")]), "new");
        assert_eq!(relation(&of(&mixed, 0)).1, Tone::Warn);
        // Those that are equal may be counted alone.
        assert_eq!(relation(&of(&[], 98)).0, "equal");
        assert_eq!(relation(&of(&mixed[1..], 98)).0, "1 divergent");
    }

    #[test]
    fn who_is_missed_is_shown_once() {
        let with_peers = |id: u8, others: &[&str]| {
            let peers: Vec<_> = others
                .iter()
                .map(|other| {
                    json!({ "replica": other, "present": false, "relation": "equal", "cells": 3 })
                })
                .collect();
            let base = replica("a/**", id, 0).base;
            Replica::new(base, json!({ "replication": { "peers": peers } }))
        };
        let gone = "0f".repeat(16);
        let here = "02".repeat(16);
        let all = vec![
            with_peers(1, &[&gone, &here]),
            with_peers(2, &[&gone]),
            replica("b/**", 3, 0),
        ];
        let storages = overview(&all, &all);
        assert_eq!(storages.len(), 2);
        let shown: Vec<_> = storages[0]
            .rows
            .iter()
            .map(|row| (row.replica[..2].to_owned(), row.relation.clone()))
            .collect();
        let expected = [("01", "alone"), ("02", "alone"), ("0f", "absent")];
        let expected = expected.map(|(id, relation)| (id.to_owned(), relation.to_owned()));
        assert_eq!(shown, expected);
        assert_eq!(storages[0].rows[2].cells, Some(3));
        assert_eq!(storages[1].rows[0].relation, "single");
        // Who was not asked for is not missed.
        let storages = overview(&all[..1], &all);
        assert_eq!(storages[0].rows.len(), 2);
    }
}
