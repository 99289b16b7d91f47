//! The replicas that answer, and which of them is meant.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use zenoh::key_expr::keyexpr;
pub(crate) use zenoh_backend_mst::net::status::{
    Peer, Replication, Scrub, StorageStatus as Status,
};
use zenoh_backend_mst::{
    cell::{Key, intersect},
    sync::{Group, ReplicaId, Token},
};

use crate::{
    exit::{Error, of_zenoh},
    output::{safe, short},
};

/// A replica that answers; or a storage that is not replicated.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    /// What it is reached by.
    pub(crate) base: Token,
    /// What it says of itself.
    pub(crate) status: Status,
    /// The same, with all that this tool does not look at.
    pub(crate) document: Value,
}

impl Replica {
    /// A replica, from its status. Whatever in that is of another form than it
    /// should be is left out.
    pub(crate) fn new(base: Token, document: Value) -> Self {
        let status = Status::deserialize(&document).unwrap_or_default();
        Self {
            base,
            status,
            document,
        }
    }

    /// By storage, then by identity.
    pub(crate) fn order(&self) -> (&Group, ReplicaId) {
        (&self.base.group, self.base.replica)
    }

    /// The beginning of its identity.
    pub(crate) fn short(&self) -> String {
        short(&self.base.replica.to_string())
    }

    fn is_storage(&self, wanted: &str) -> bool {
        self.base.group.key_expr == wanted || self.status.name == wanted
    }

    fn is_replica(&self, wanted: &str) -> bool {
        let wanted = wanted.to_ascii_lowercase();
        self.base.replica.to_string().starts_with(&wanted)
    }

    /// What it is for people to choose by.
    fn listed(&self) -> String {
        let storage = storage(&self.base.group);
        match self.status.name.as_str() {
            "" => format!("{} of {storage}", self.base.replica),
            name => format!("{} of {storage}, `{}`", self.base.replica, safe(name)),
        }
    }
}

/// A storage in words.
pub(crate) fn storage(group: &Group) -> String {
    match &group.strip_prefix {
        None => safe(&group.key_expr),
        Some(prefix) => format!("{} (strip_prefix {})", safe(&group.key_expr), safe(prefix)),
    }
}

/// The key that a storage keeps for what is put on a key expression; nothing if
/// it keeps none. A key that is not one is refused.
pub(crate) fn stored_key(text: &str, strip_prefix: Option<&str>) -> Result<Key, Error> {
    let usage = |reason: &str| Error::Usage(format!("`{}` is no key: {reason}", safe(text)));
    let key = keyexpr::new(text).map_err(|error| usage(&of_zenoh(&error)))?;
    if key.is_wild() {
        return Err(usage("it has wildcards; `mstctl keys` lists what matches"));
    }
    let group = Group {
        key_expr: String::new(),
        strip_prefix: strip_prefix.map(ToOwned::to_owned),
    };
    group.stored_key(text).ok_or_else(|| {
        let prefix = strip_prefix.unwrap_or_default();
        usage(&format!("it is not below `{}`", safe(prefix)))
    })
}

/// What -s and -r say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choice<'a> {
    /// -s
    pub(crate) storage: Option<&'a str>,
    /// -r
    pub(crate) replica: Option<&'a str>,
}

impl Choice<'_> {
    /// All that fit; at least one.
    pub(crate) fn all(self, replicas: Vec<Replica>) -> Result<Vec<Replica>, Error> {
        let mut fitting = replicas;
        if let Some(wanted) = self.storage {
            fitting = narrow(fitting, "storage", wanted, Replica::is_storage, |all| {
                storages(all)
            })?;
        }
        if let Some(wanted) = self.replica {
            fitting = narrow(fitting, "replica", wanted, Replica::is_replica, |all| {
                all.iter().map(Replica::listed).collect()
            })?;
        }
        Ok(fitting)
    }

    /// All that fit, which are of one storage.
    pub(crate) fn of_one_storage(self, replicas: Vec<Replica>) -> Result<Vec<Replica>, Error> {
        let fitting = self.all(replicas)?;
        match storages(&fitting) {
            found if found.len() > 1 => Err(Error::Several {
                what: "storages",
                option: "-s",
                found,
            }),
            _ => Ok(fitting),
        }
    }

    /// The one that fits, for what is done at one replica.
    pub(crate) fn one(self, replicas: Vec<Replica>) -> Result<Replica, Error> {
        let mut fitting = self.of_one_storage(replicas)?;
        match (fitting.len(), fitting.pop()) {
            (1, Some(replica)) => Ok(replica),
            (_, last) => Err(Error::Several {
                what: "replicas",
                option: "-r",
                found: fitting.iter().chain(&last).map(Replica::listed).collect(),
            }),
        }
    }

    /// Of those of one storage that fit the one that holds most, for what any
    /// replica can do.
    pub(crate) fn fullest(self, replicas: Vec<Replica>) -> Result<Replica, Error> {
        let fitting = self.of_one_storage(replicas)?;
        // Of equal ones the first.
        let fullest = fitting
            .into_iter()
            .rev()
            .max_by_key(|replica| replica.status.cells);
        fullest.ok_or_else(|| Error::NoSuch {
            what: "replica",
            wanted: self.replica.unwrap_or("any").to_owned(),
            found: Vec::new(),
        })
    }

    /// As [`fullest`](Self::fullest), of the storages that may hold a key.
    pub(crate) fn of_key(self, key: &str, replicas: Vec<Replica>) -> Result<Replica, Error> {
        // What is no key is found out where it is read.
        let Ok(wanted) = keyexpr::new(key) else {
            stored_key(key, None)?;
            return self.fullest(replicas);
        };
        let holds = |replica: &Replica| {
            let key_expr = keyexpr::new(&replica.base.group.key_expr);
            key_expr.is_ok_and(|key_expr| intersect(key_expr, wanted))
        };
        let there = storages(&replicas);
        let holding: Vec<Replica> = replicas.into_iter().filter(holds).collect();
        match holding.is_empty() {
            false => self.fullest(holding),
            true => Err(Error::NoSuch {
                what: "storage that keeps",
                wanted: safe(key),
                found: there,
            }),
        }
    }
}

/// The replicas of each storage.
pub(crate) fn by_storage(replicas: Vec<Replica>) -> BTreeMap<Group, Vec<Replica>> {
    let mut storages: BTreeMap<Group, Vec<Replica>> = BTreeMap::new();
    for replica in replicas {
        let storage = storages.entry(replica.base.group.clone());
        storage.or_default().push(replica);
    }
    storages
}

/// The storages of these replicas in words, each once.
pub(crate) fn storages(replicas: &[Replica]) -> Vec<String> {
    let mut storages: Vec<String> = Vec::new();
    for replica in replicas {
        let storage = storage(&replica.base.group);
        if !storages.contains(&storage) {
            storages.push(storage);
        }
    }
    storages
}

fn narrow(
    replicas: Vec<Replica>,
    what: &'static str,
    wanted: &str,
    fits: impl Fn(&Replica, &str) -> bool,
    list: impl Fn(&[Replica]) -> Vec<String>,
) -> Result<Vec<Replica>, Error> {
    let found = list(&replicas);
    let fitting = replicas.into_iter().filter(|replica| fits(replica, wanted));
    let fitting: Vec<Replica> = fitting.collect();
    match fitting.is_empty() {
        false => Ok(fitting),
        true => Err(Error::NoSuch {
            what,
            wanted: safe(wanted),
            found,
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use zenoh_backend_mst::sync::PROTOCOL;

    use super::*;

    pub(crate) fn replica(key_expr: &str, id: u8, cells: u64) -> Replica {
        let base = Token {
            protocol: PROTOCOL,
            group: Group {
                key_expr: key_expr.to_owned(),
                strip_prefix: None,
            },
            replica: ReplicaId([id; 16]),
        };
        Replica::new(base, json!({ "name": format!("n{id:x}"), "cells": cells }))
    }

    fn three() -> Vec<Replica> {
        vec![
            replica("a/**", 0x1a, 5),
            replica("a/**", 0x1b, 7),
            replica("b/**", 0x2c, 7),
        ]
    }

    fn ids(replicas: &[Replica]) -> Vec<u8> {
        let ids = replicas.iter();
        ids.map(|replica| replica.base.replica.0[0]).collect()
    }

    fn choice<'a>(
        storage: impl Into<Option<&'a str>>,
        replica: impl Into<Option<&'a str>>,
    ) -> Choice<'a> {
        Choice {
            storage: storage.into(),
            replica: replica.into(),
        }
    }

    #[test]
    fn choices_narrow() {
        let all = |choice: Choice<'_>| choice.all(three()).map(|found| ids(&found)).ok();
        assert_eq!(all(choice(None, None)), Some(vec![0x1a, 0x1b, 0x2c]));
        assert_eq!(all(choice("a/**", None)), Some(vec![0x1a, 0x1b]));
        assert_eq!(all(choice("n2c", None)), Some(vec![0x2c]));
        assert_eq!(all(choice(None, "1")), Some(vec![0x1a, 0x1b]));
        assert_eq!(all(choice(None, "1B1B")), Some(vec![0x1b]));
        assert_eq!(all(choice("b/**", "1")), None);
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let error = choice("c/**", None).all(three()).expect_err("none");
        assert_eq!(error.code(), 3);
        let text = error.to_string();
        assert!(
            text.contains("`c/**`") && text.contains("\n  a/**\n  b/**"),
            "{text}"
        );
        let error = choice("a/**", "2c").all(three()).expect_err("none");
        assert!(error.to_string().contains("1b1b"), "{error}");
        assert!(!error.to_string().contains("2c2c"), "{error}");
    }

    #[test]
    fn one_is_needed_and_several_are_listed() {
        let one = |choice: Choice<'_>| choice.one(three());
        assert_eq!(
            one(choice("b/**", None)).expect("one").base.replica.0[0],
            0x2c
        );
        assert_eq!(
            one(choice(None, "1a")).expect("one").base.replica.0[0],
            0x1a
        );
        let storages = one(choice(None, None)).expect_err("several");
        assert_eq!(storages.code(), 2);
        assert!(
            storages.to_string().contains("-s:\n  a/**\n  b/**"),
            "{storages}"
        );
        let replicas = one(choice("a/**", None)).expect_err("several").to_string();
        assert!(
            replicas.contains("-r:") && replicas.contains("1a1a") && replicas.contains("1b1b"),
            "{replicas}"
        );
    }

    #[test]
    fn any_is_the_one_that_holds_most() {
        let fullest = choice("a/**", None).fullest(three()).expect("one");
        assert_eq!(fullest.base.replica.0[0], 0x1b);
        let equal = vec![replica("a/**", 1, 3), replica("a/**", 2, 3)];
        let fullest = choice(None, None).fullest(equal).expect("one");
        assert_eq!(fullest.base.replica.0[0], 1);
        let of_key = |key| choice(None, None).of_key(key, three());
        assert_eq!(of_key("b/x").expect("one").base.replica.0[0], 0x2c);
        assert_eq!(of_key("c/x").expect_err("none").code(), 3);
        assert_eq!(of_key("c//x").expect_err("no key").code(), 2);
    }

    #[test]
    fn keys_lose_the_prefix() {
        let stored = |text, prefix| stored_key(text, prefix).ok().map(|key| key.to_string());
        assert_eq!(stored("a/b", None).as_deref(), Some("a/b"));
        assert_eq!(stored("a/b/c", Some("a/b")).as_deref(), Some("c"));
        assert_eq!(stored_key("a/b", Some("a/b")).ok(), Some(Key::NONE));
        assert_eq!(stored("a/bc", Some("a/b")), None);
        assert_eq!(stored("a/*", None), None);
        assert_eq!(stored("a//b", None), None);
    }

    #[test]
    fn a_status_of_another_form_does_not_hide_the_replica() {
        let base = replica("a/**", 1, 0).base;
        let strange = Replica::new(base.clone(), json!({ "keys": "many" }));
        assert_eq!(strange.status.keys, 0);
        let known =
            json!({ "root": "ab", "replication": null, "more": 1, "queues": { "unsettled": 2 } });
        let known = Replica::new(base, known);
        assert_eq!(known.status.root, "ab");
        assert!(!known.status.queues.is_empty());
    }
}
