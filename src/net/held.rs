//! What a storage holds, in JSON: pages of keys, nodes of the tree. docs/operators.md documents its fields.

use serde_json::{Value, json};
use zenoh::key_expr::OwnedKeyExpr;

use super::{
    operator::Operator,
    status::ntp64_text,
    words::{BOUND, Words, cell_key},
};
use crate::{
    admin::{AdminError, BranchNode, Listing},
    cell::{CellKey, ntp64_millis},
    hex,
    sync::Group,
};

impl Operator {
    /// A page of keys.
    pub(super) fn keys(&self, words: &Words<'_>) -> Result<Value, AdminError> {
        let listing = Listing {
            after: words.text("after", &self.admin.group.key_expr)?,
            low: words.parsed("low", BOUND, cell_key)?,
            high: words.parsed("high", BOUND, cell_key)?,
            prefix: words.parsed("prefix", "a text in hexadecimal", |text| {
                String::from_utf8(hex::decode(text)?).ok()
            })?,
            matching: words.parsed("match", "a key expression", |text| {
                OwnedKeyExpr::try_from(text).ok()
            })?,
            deleted: words.is("deleted")?,
            bytes: words.is("bytes")?,
            limit: words.parsed("limit", "a number", |text| text.parse().ok())?,
        };
        let (page, now) = (self.admin.list(&listing)?, self.admin.now());
        let keys = page.keys.iter().map(|listed| {
            json!({
                "key": listed.key,
                "timestamp": listed.timestamp.to_string(),
                "time": ntp64_text(listed.timestamp.time),
                "cells": listed.cells,
                "bytes": listed.bytes,
                "deleted": listed.deleted,
                "rule": listed.rule,
                "expires": listed.expires.map(ntp64_text),
                "left_ms": listed.expires.map(|expires| ntp64_millis(expires.saturating_sub(now))),
            })
        });
        Ok(json!({ "keys": keys.collect::<Vec<_>>(), "next": page.next }))
    }

    /// The topmost node between two bounds.
    pub(super) fn tree(&self, words: &Words<'_>) -> Result<Value, AdminError> {
        let low = words.parsed("low", BOUND, cell_key)?;
        let high = words.parsed("high", BOUND, cell_key)?;
        let branch = self.admin.branch(low.as_ref(), high.as_ref())?;
        let node = branch.node.as_ref();
        Ok(json!({
            "root": branch.root.to_string(),
            "cut": ntp64_text(branch.cut),
            "node": node.map(|node| {
                node_json(&self.admin.group, node, low.as_ref(), high.as_ref())
            }),
        }))
    }
}

fn node_json(
    group: &Group,
    node: &BranchNode,
    low: Option<&CellKey>,
    high: Option<&CellKey>,
) -> Value {
    let bound = |key: Option<&CellKey>| key.map(|key| hex::encode(&key.to_canonical()));
    let entries = node.entries.iter().map(|entry| {
        json!({
            "key": group.full_key(&entry.key.key),
            "part": hex::encode(entry.key.part.as_bytes()),
            "bound": bound(Some(&entry.key)),
            "digest": hex::encode(&entry.digest),
            "timestamp": entry.timestamp.to_string(),
            "deleted": entry.deleted,
        })
    });
    let entry = |place: usize| node.entries.get(place).map(|entry| &entry.key);
    let children = node.children.iter().map(|child| {
        let before = child.place.checked_sub(1).and_then(entry);
        json!({
            "place": child.place,
            "hash": child.hash.to_string(),
            "low": bound(before.or(low)),
            "high": bound(entry(child.place).or(high)),
            "cells": child.cells,
            "all": child.is_all,
        })
    });
    json!({
        "hash": node.hash.to_string(),
        "level": [node.level.digit, node.level.rank],
        "count": node.count,
        "entries": entries.collect::<Vec<_>>(),
        "children": children.collect::<Vec<_>>(),
    })
}
