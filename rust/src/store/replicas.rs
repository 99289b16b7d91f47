//! What the replicas of a storage are asked: who holds a write, roots, proofs, changes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use zenoh::{Wait, key_expr::KeyExpr, query::ConsolidationMode};
use zenoh_backend_mst::mst::RootHash;

use super::{
    Root, Store,
    asking::{cut_of, field, json_of, replica_of, text_of},
};
use crate::{
    Error, Verified, Watch, Write,
    error::refused,
    verified::verify,
    waiting::{first, share},
};

impl Store {
    /// Waits until so many replicas hold a write, or what replaced it; returns their identities.
    /// Whether it is on their disks is a matter of their `durability`.
    ///
    /// # Errors
    /// If fewer do in time.
    pub fn replicated(&self, write: &Write, replicas: usize) -> Result<BTreeSet<String>, Error> {
        let mut holders = BTreeSet::new();
        let enough = first(self.timeout, |left| {
            let left = share(left, self.timeout);
            for shown in self.cells_of_replicas(&write.key, "*", left)? {
                let (replica, cells) = shown?;
                if write.is_in(&cells) {
                    holders.insert(replica);
                }
                // Who does not answer is not waited for.
                if holders.len() >= replicas {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })?;
        match enough {
            Some(()) => Ok(holders),
            None => Err(Error::NoAnswer(format!(
                "of {replicas} replicas {} have {} at {}: {holders:?}",
                holders.len(),
                write.key,
                write.stamp
            ))),
        }
    }

    /// Waits until the roots of all replicas that answer include a write, or what replaced it.
    ///
    /// # Errors
    /// If they do not in time.
    pub fn settled(&self, write: &Write) -> Result<(), Error> {
        let over = first(self.timeout, |left| {
            let mut behind = BTreeSet::new();
            for status in self.statuses_within(left)? {
                if cut_of(&status)? <= *write.stamp.get_time() {
                    return Ok(None);
                }
                behind.insert(field(&status, "identity")?.to_owned());
            }
            let is_any = !behind.is_empty();
            for shown in self.cells_of_replicas(&write.key, "*", left)? {
                let (replica, cells) = shown?;
                if write.is_in(&cells) {
                    behind.remove(&replica);
                }
            }
            Ok((is_any && behind.is_empty()).then_some(()))
        })?;
        over.ok_or_else(|| {
            let (key, stamp) = (&write.key, write.stamp);
            Error::NoAnswer(format!("not all roots include {key} at {stamp}"))
        })
    }

    /// The root that so many replicas, and all that answer, have at the same time.
    ///
    /// # Errors
    /// If they have none in time.
    pub fn root(&self, replicas: usize) -> Result<Root, Error> {
        let mut seen = BTreeMap::new();
        let common = first(self.timeout, |left| {
            seen.clear();
            for status in self.statuses_within(left)? {
                let (identity, root) = (field(&status, "identity")?, field(&status, "root")?);
                seen.insert(identity.to_owned(), root.to_owned());
            }
            let roots: BTreeSet<_> = seen.values().cloned().collect();
            let mut roots = roots.into_iter();
            Ok(match (roots.next(), roots.next()) {
                (Some(root), None) if seen.len() >= replicas => Some(root),
                _ => None,
            })
        })?;
        let root = common.ok_or_else(|| {
            Error::NoAnswer(format!(
                "{replicas} replicas have no root in common: {seen:?}"
            ))
        })?;
        let bytes = zenoh_backend_mst::hex::decode(&root);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(RootHash)
            .ok_or_else(|| refused("a status has a root that is none"))
    }

    /// All cells of a key, proven against a root that the caller trusts. Nothing is believed of what a
    /// storage says but what the root proves.
    ///
    /// # Errors
    /// [`Error::Refused`] if no replica has this root now, and [`Error::Invalid`] if what one shows does
    /// not hold.
    pub fn verified(&self, key: &str, root: &Root) -> Result<Verified, Error> {
        let relative = self.relative(key)?;
        let selector = format!("{}/*/proof?root={root}", self.group);
        let mut refusals = Vec::new();
        for reply in self.replies(&selector, self.timeout, Some(key), ConsolidationMode::None)? {
            let sample = match reply.into_result() {
                Ok(sample) => sample,
                Err(error) => {
                    refusals.push(text_of(&error.payload().to_bytes()));
                    continue;
                }
            };
            let replica = replica_of(&sample)?;
            let mut shown = Vec::new();
            for cells in self.cells_of_replicas(key, &replica, self.timeout)? {
                shown.extend(cells?.1);
            }
            return verify(key, relative, root, &sample.payload().to_bytes(), shown);
        }
        let refusals = match refusals.is_empty() {
            true => "no answer".to_owned(),
            false => refusals.join("; "),
        };
        Err(refused(format!(
            "no proof of {key} under {root}: {refusals}"
        )))
    }

    /// The status of each replica that answers.
    ///
    /// # Errors
    /// If one is not to be read.
    pub fn statuses(&self) -> Result<Vec<Json>, Error> {
        self.statuses_within(self.timeout)
    }

    /// The identity of the replica at the router that this session is connected with.
    ///
    /// # Errors
    /// If there is none.
    pub fn nearest(&self) -> Result<String, Error> {
        for router in self.session.info().routers_zid().wait() {
            let selector = format!("@/{router}/router/status/plugins/*/storages/*");
            for sample in self.each(&selector, self.timeout, None)? {
                let status = json_of(&sample?)?;
                let given = &status["configuration"];
                let prefix = given["strip_prefix"].as_str();
                if given["key_expr"] == *self.key_expr && prefix == self.strip_prefix.as_deref() {
                    return Ok(field(&status, "identity")?.to_owned());
                }
            }
        }
        Err(Error::NoAnswer(format!(
            "no router that this session is connected with shows a storage {}",
            self.key_expr
        )))
    }

    /// What is put and deleted from now on, and what the replica nearby gets in another way: by a
    /// repair, a restored backup, a rollback.
    ///
    /// # Errors
    /// If there is no replica at the router, or it is no key expression.
    pub fn watch(&self, key_expr: &str) -> Result<Watch, Error> {
        let key_expr = KeyExpr::autocanonize(key_expr.to_owned())?;
        let feed = format!("{}/{}/changes/{key_expr}", self.group, self.nearest()?);
        Watch::open(&self.session, &key_expr, &feed)
    }
}
