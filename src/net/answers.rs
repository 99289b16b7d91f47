//! Answers to operators: parses the parameters of a query, and encodes the answer.

use std::{
    cell::Cell as StdCell,
    io::{self, Write},
};

use serde_json::{json, Value};
use zenoh::{
    bytes::Encoding,
    key_expr::OwnedKeyExpr,
    query::{Parameters, Query as ZQuery},
    Wait,
};

use super::{
    asker::Asker,
    operator::{Operator, Request},
    status::{damage_json, ntp64_text, scrub_json},
};
use crate::{
    admin::{AdminError, Listing, Progress, RolledBack, SnapshotEntry},
    backup::RollbackFrame,
    cell::CellKey,
    hex,
    metrics::CONTENT_TYPE,
    mst::RootHash,
    replica::Damage,
    sync::{ReplicaId, Want},
};

/// Bytes of a piece of a backup, as it is sent.
const PIECE: usize = 256 << 10;

/// The largest rollback frame that is accepted: one key may have that many bytes.
const MAX_FRAME: usize = 64 << 20;

/// The destination of the answers to a query.
pub(super) struct Replier<'a> {
    name: &'a str,
    query: &'a ZQuery,
    key: &'a str,
    /// The asker, if it can be told whether it is still there.
    asker: Option<Asker>,
}

impl<'a> Replier<'a> {
    /// `name` is the storage's, for the log; `key` is the key of the answers.
    pub(super) fn new(name: &'a str, query: &'a ZQuery, key: &'a str) -> Self {
        Self {
            name,
            query,
            key,
            asker: None,
        }
    }

    /// Answers to `asker`: the work ends when it goes away.
    pub(super) fn to(self, asker: Option<Asker>) -> Self {
        Self { asker, ..self }
    }

    /// Whether the asker may still be listening.
    fn is_heard(&self) -> bool {
        !self.asker.as_ref().is_some_and(Asker::is_gone)
    }

    /// Sends one answer. False if that fails or the asker is gone: further answers are
    /// pointless.
    fn send(&self, payload: Vec<u8>, encoding: Encoding, attachment: Option<&Value>) -> bool {
        if !self.is_heard() {
            return false;
        }
        let reply = self.query.reply(self.key, payload).encoding(encoding);
        let sent = match attachment {
            Some(attachment) => reply.attachment(attachment.to_string()).wait(),
            None => reply.wait(),
        };
        if let Err(error) = &sent {
            let name = self.name;
            tracing::debug!("storage '{name}': an answer was not sent: {error}");
        }
        sent.is_ok()
    }

    fn json(&self, answer: &Value) -> bool {
        let text = answer.to_string().into_bytes();
        self.send(text, Encoding::APPLICATION_JSON, None)
    }

    pub(super) fn error(&self, error: &str) {
        let name = self.name;
        tracing::warn!("storage '{name}': {} was not answered: {error}", self.key);
        let reply = self.query.reply_err(error).encoding(Encoding::TEXT_PLAIN);
        if let Err(error) = reply.wait() {
            tracing::debug!("storage '{name}': an answer was not sent: {error}");
        }
    }
}

/// A writer that sends what is written in pieces.
struct Pieces<'a> {
    replier: &'a Replier<'a>,
    progress: &'a StdCell<Progress>,
    buffer: Vec<u8>,
    piece: u64,
}

impl Pieces<'_> {
    fn send(&mut self, is_last: bool) -> io::Result<()> {
        let payload = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let Progress { cells, of } = self.progress.get();
        let attachment = json!({
            "piece": self.piece,
            "cells": if is_last { of } else { cells },
            "of": of,
            "last": is_last,
        });
        self.piece += 1;
        let encoding = Encoding::ZENOH_BYTES;
        match self.replier.send(payload, encoding, Some(&attachment)) {
            true => Ok(()),
            false => Err(io::Error::other("the client has gone")),
        }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.send(false)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The parameters of a query.
struct Words<'a> {
    parameters: &'a Parameters<'a>,
    payload: Option<Vec<u8>>,
}

impl<'a> Words<'a> {
    /// Parameters that begin with `_` are Zenoh's.
    fn new(request: Request, query: &'a ZQuery) -> Result<Self, AdminError> {
        let (parameters, payload) = (query.parameters(), query.payload());
        let allowed = request.parameters();
        for (name, _) in parameters.iter() {
            if !name.is_empty() && !name.starts_with('_') && !allowed.contains(&name) {
                let allowed = allowed.iter().map(|name| format!("`{name}`"));
                let allowed = allowed.collect::<Vec<_>>().join(", ");
                return Err(AdminError::UnknownParameter {
                    name: name.to_owned(),
                    allowed: if allowed.is_empty() {
                        "none".to_owned()
                    } else {
                        allowed
                    },
                });
            }
        }
        Ok(Self {
            parameters,
            payload: payload.map(|payload| payload.to_bytes().into_owned()),
        })
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.parameters.get(name).filter(|value| !value.is_empty())
    }

    /// An optional parameter, parsed by `read`.
    fn parsed<T>(
        &self,
        name: &'static str,
        allowed: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, AdminError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(AdminError::Parameter {
                name,
                value: value.to_owned(),
                allowed,
            }),
        }
    }

    /// A key, with its prefix: from the payload, or from a parameter if there is no `;`
    /// in it.
    fn text(&self, name: &'static str, key_expr: &str) -> Result<Option<String>, AdminError> {
        let of_payload = self
            .payload
            .as_deref()
            .filter(|payload| !payload.is_empty());
        let bytes = match of_payload {
            Some(payload) => Some(payload.to_vec()),
            None => self.get(name).map(|text| text.as_bytes().to_vec()),
        };
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|error| AdminError::Key {
            key: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            key_expr: key_expr.to_owned(),
        })
    }

    /// The key that the query is about.
    fn key(&self, key_expr: &str) -> Result<String, AdminError> {
        self.text("key", key_expr)?.ok_or(AdminError::Parameter {
            name: "key",
            value: String::new(),
            allowed: "a key of the storage, with its prefix",
        })
    }
}

fn cell_key(text: &str) -> Option<CellKey> {
    CellKey::from_canonical(&hex::decode(text)?).ok()
}

fn root(text: &str) -> Option<RootHash> {
    Some(RootHash(hex::decode(text)?.try_into().ok()?))
}

impl Operator {
    /// Answers a query. Blocks on disk.
    pub(super) fn answer(&self, request: Request, query: &ZQuery, replier: &Replier<'_>) {
        let words = Words::new(request, query);
        if let Err(error) = words.and_then(|words| self.try_answer(request, &words, replier)) {
            replier.error(&error.to_string());
        }
    }

    fn try_answer(
        &self,
        request: Request,
        words: &Words<'_>,
        replier: &Replier<'_>,
    ) -> Result<(), AdminError> {
        let admin = &self.admin;
        match request {
            Request::Status => drop(replier.json(&self.status())),
            Request::Metrics => {
                let text = self.metrics().to_openmetrics();
                replier.send(text.into_bytes(), Encoding::from(CONTENT_TYPE), None);
            }
            Request::Proof => {
                let key = admin.stored_key(&words.key(&admin.group.key_expr)?)?;
                let expected = words.parsed("root", "64 hexadecimal digits", root)?;
                let made = admin.prove(&key, expected.as_ref())?;
                let attachment = json!({
                    "root": made.root.to_string(),
                    "cut": ntp64_text(made.cut),
                });
                replier.send(made.proof, Encoding::ZENOH_BYTES, Some(&attachment));
            }
            Request::Keys => drop(replier.json(&self.keys(words)?)),
            Request::Cells => {
                let key = admin.stored_key(&words.key(&admin.group.key_expr)?)?;
                let cells = admin.cells(&key)?;
                let text = cells.as_ref().and_then(|cell| cell.value());
                let text = text.map_or_else(|| b"[]".to_vec(), |value| value.payload.to_vec());
                replier.send(text, Encoding::APPLICATION_JSON, None);
            }
            Request::Verify => self.verify(replier)?,
            Request::Scrub => match words.get("do") {
                None => drop(replier.json(&scrub_json(self))),
                Some("pause") => self.pause_scrub(true, replier)?,
                Some("resume") => self.pause_scrub(false, replier)?,
                Some("now") => self.verify(replier)?,
                Some(other) => return Err(unknown_verb(other, "`pause`, `resume` and `now`")),
            },
            Request::Sync => {
                let asked = self
                    .replicator
                    .as_ref()
                    .map(|replicator| replicator.sync_now());
                let asked: Vec<_> = asked.iter().flatten().map(ReplicaId::to_string).collect();
                replier.json(&json!({ "asked": asked }));
            }
            Request::Diff => drop(replier.json(&self.diff(words)?)),
            Request::Snapshot => self.snapshot(words, replier)?,
            Request::Backup => {
                let progress = StdCell::new(Progress::default());
                let mut pieces = Pieces {
                    replier,
                    progress: &progress,
                    buffer: Vec::with_capacity(PIECE),
                    piece: 0,
                };
                let identity = self.identity().to_string();
                let made = admin.back_up(&identity, &mut pieces, &mut |now| {
                    progress.set(now);
                    replier.is_heard()
                });
                made.map_err(|error| match replier.is_heard() {
                    true => error,
                    // A piece that was not sent is an error of the writer.
                    false => AdminError::Gone,
                })?;
                // Whoever asked may be gone, which is theirs to know.
                let _ = pieces.send(true);
            }
            Request::Restore => {
                let frame = words.payload.as_deref().unwrap_or_default();
                let restored = admin.restore(frame)?;
                replier.json(&json!({
                    "cells": restored.cells,
                    "newest": restored.newest,
                    "rejected": restored.rejected,
                }));
            }
            Request::Rollback => self.rollback(words, replier)?,
        }
        Ok(())
    }

    fn keys(&self, words: &Words<'_>) -> Result<Value, AdminError> {
        let bound = "a cell's key in hexadecimal";
        let listing = Listing {
            after: words.text("after", &self.admin.group.key_expr)?,
            low: words.parsed("low", bound, cell_key)?,
            high: words.parsed("high", bound, cell_key)?,
            matching: words.parsed("match", "a key expression", |text| {
                OwnedKeyExpr::try_from(text).ok()
            })?,
            deleted: words
                .parsed("deleted", "`true` or `false`", |text| text.parse().ok())?
                .unwrap_or_default(),
            limit: words.parsed("limit", "a number", |text| text.parse().ok())?,
        };
        let page = self.admin.list(&listing)?;
        let keys = page.keys.iter().map(|listed| {
            json!({
                "key": listed.key,
                "timestamp": listed.stamp.to_string(),
                "time": ntp64_text(listed.stamp.time),
                "cells": listed.cells,
                "deleted": listed.deleted,
            })
        });
        Ok(json!({ "keys": keys.collect::<Vec<_>>(), "next": page.next }))
    }

    fn verify(&self, replier: &Replier<'_>) -> Result<(), AdminError> {
        let verified = self.admin.verify(&mut |progress, found| {
            let is_due = !found.is_empty() || progress.cells % 65_536 < 256;
            match is_due {
                true => replier.json(&progress_json(self, progress, found)),
                false => replier.is_heard(),
            }
        })?;
        let tree = verified.tree.as_ref().err().map(ToString::to_string);
        replier.json(&json!({
            "checked": verified.checked,
            "of": verified.checked,
            "damaged_cells": verified.damaged,
            "damaged": [],
            "tree": tree,
            "done": true,
        }));
        Ok(())
    }

    fn pause_scrub(&self, paused: bool, replier: &Replier<'_>) -> Result<(), AdminError> {
        self.admin.scrubbing.pause(paused)?;
        replier.json(&scrub_json(self));
        Ok(())
    }

    fn diff(&self, words: &Words<'_>) -> Result<Value, AdminError> {
        let with = words.parsed("with", "a replica's 32 hexadecimal digits", |text| {
            text.parse::<ReplicaId>().ok()
        })?;
        let missing = AdminError::Parameter {
            name: "with",
            value: String::new(),
            allowed: "a replica's 32 hexadecimal digits",
        };
        let with = with.ok_or(missing)?;
        let Some(replicator) = &self.replicator else {
            return Err(AdminError::Unreplicated);
        };
        let runtime = tokio::runtime::Handle::current();
        let found = runtime.block_on(replicator.differences(with));
        let found = found.map_err(|reason| AdminError::Peer {
            peer: with.to_string(),
            reason,
        })?;
        let (mut differ, mut ranges) = (Vec::new(), Vec::new());
        for want in &found.wants {
            match want {
                Want::Key(key, _) => {
                    let here = self.admin.replica.latest(&key.key);
                    let cell = self.admin.replica.newest(key);
                    differ.push(json!({
                        "key": self.admin.group.full_key(&key.key),
                        "here": here.map(|stamp| stamp.to_string()),
                        "part": hex::encode(key.part.as_bytes()),
                        "cell": cell.map(|stamp| stamp.to_string()),
                    }));
                }
                Want::All(range) => {
                    let bound = |key: &Option<CellKey>| {
                        key.as_ref().map(|key| hex::encode(&key.to_canonical()))
                    };
                    ranges.push(json!({ "low": bound(&range.low), "high": bound(&range.high) }));
                }
            }
        }
        Ok(json!({
            "differ": differ,
            "ranges": ranges,
            "complete": found.is_all,
            "round_trips": found.round_trips,
            "bytes": found.bytes,
        }))
    }

    fn snapshot(&self, words: &Words<'_>, replier: &Replier<'_>) -> Result<(), AdminError> {
        let admin = &self.admin;
        let name = words.get("name").unwrap_or_default();
        match words.get("do") {
            None | Some("list") => {
                let entries = admin.list_snapshots()?;
                let entries: Vec<_> = entries.iter().map(entry_json).collect();
                replier.json(&entries.into());
            }
            Some("create") => {
                let identity = self.identity().to_string();
                let entry = admin.create_snapshot(name, &identity, &mut |progress| {
                    replier.json(&json!({ "cells": progress.cells, "of": progress.of }))
                })?;
                let mut last = entry_json(&entry);
                last["done"] = true.into();
                replier.json(&last);
            }
            Some("delete") => {
                admin.delete_snapshot(name)?;
                replier.json(&json!({ "deleted": name }));
            }
            Some(other) => return Err(unknown_verb(other, "`list`, `create` and `delete`")),
        }
        Ok(())
    }

    fn rollback(&self, words: &Words<'_>, replier: &Replier<'_>) -> Result<(), AdminError> {
        let id = self.identity().0;
        let Some(name) = words.get("snapshot") else {
            let frame = words.payload.as_deref().unwrap_or_default();
            let frame = RollbackFrame::decode(frame, MAX_FRAME)?;
            replier.json(&rolled_back_json(&self.admin.roll_back(frame, id)?));
            return Ok(());
        };
        let done = self.admin.roll_back_to(name, id, &mut |progress, done| {
            let mut part = rolled_back_json(done);
            part["cells"] = progress.cells.into();
            part["of"] = progress.of.into();
            replier.json(&part)
        })?;
        let mut last = rolled_back_json(&done);
        last["done"] = true.into();
        replier.json(&last);
        Ok(())
    }
}

fn unknown_verb(found: &str, allowed: &'static str) -> AdminError {
    AdminError::Parameter {
        name: "do",
        value: found.to_owned(),
        allowed,
    }
}

fn progress_json(operator: &Operator, progress: Progress, found: &[Damage]) -> Value {
    json!({
        "checked": progress.cells,
        "of": progress.of,
        "damaged": found.iter().map(|damage| damage_json(operator, damage)).collect::<Vec<_>>(),
    })
}

fn rolled_back_json(done: &RolledBack) -> Value {
    json!({
        "keys": done.restored + done.deleted + done.kept,
        "restored": done.restored,
        "deleted": done.deleted,
        "kept": done.kept,
    })
}

fn entry_json(entry: &SnapshotEntry) -> Value {
    let header = match &entry.header {
        Ok(header) => header,
        Err(problem) => {
            return json!({ "name": entry.name, "bytes": entry.bytes, "problem": problem })
        }
    };
    json!({
        "name": entry.name,
        "cut": ntp64_text(header.cut),
        "root": header.root.to_string(),
        "cells": header.cells,
        "bytes": entry.bytes,
    })
}
