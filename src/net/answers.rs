//! Answers to operators: parses the parameters of a query, and encodes the answer.

use std::{cell::Cell as StdCell, sync::Arc};

use serde_json::{Value, json};
use zenoh::{bytes::Encoding, query::Query as ZQuery};

use super::{
    asker::Asker,
    authority::{Demand, Reach, confirm},
    changes::Way,
    operator::Operator,
    page,
    replicator::Differences,
    replier::{Pieces, Replier},
    request::{BRIEF, DRY, MAX_ROLLBACK, Request},
    status::{collection_status, damage_status, ntp64_text, scrub_status, written},
    text::one_line,
    words::{Words, root, unknown_verb},
};
use crate::{
    admin::{AdminError, Progress, RolledBack, SnapshotEntry},
    backup::RollbackFrame,
    cell::{CellKey, Timestamp},
    hex,
    metrics::CONTENT_TYPE,
    replica::Damage,
    sync::{Forgotten, ReplicaId, Want},
};

/// What a peer has that this replica has not.
pub(super) type Found = (ReplicaId, Differences);

impl Operator {
    /// Answers a query. What another replica was asked for it is in `found`. Blocks on
    /// disk.
    pub(super) fn answer(
        &self,
        demand: Demand,
        query: &ZQuery,
        found: Option<&Found>,
        replier: &Replier<'_>,
    ) {
        let words = Words::new(demand.request, query);
        let answered = words.and_then(|words| {
            self.note_change(demand, &words, query, replier)?;
            self.try_answer(demand.request, &words, found, replier)
        });
        if let Err(error) = answered {
            let error = match self.admin.replica.is_closing() {
                true => AdminError::Closing,
                false => error,
            };
            replier.error(&error.to_string());
        }
    }

    /// Refuses a change that nobody means, and writes down who has one made.
    fn note_change(
        &self,
        demand: Demand,
        words: &Words<'_>,
        query: &ZQuery,
        replier: &Replier<'_>,
    ) -> Result<(), AdminError> {
        if demand.reach < Reach::Change {
            return Ok(());
        }
        let payload = words.payload.as_deref().unwrap_or_default();
        let asker = confirm(demand, self.identity(), payload, replier.asker())?;
        let (name, what) = (&self.admin.name, demand.request.name());
        let change = format!("{what}?{} by {asker}", query.parameters());
        match self.is_new_change(&change) {
            true => tracing::warn!(
                "storage '{name}': {what} ({}), asked for by the Zenoh session {asker}",
                one_line(query.parameters().as_str())
            ),
            false => tracing::debug!("storage '{name}': {what} goes on, for {asker}"),
        }
        Ok(())
    }

    /// What `with` has that this replica has not.
    pub(super) async fn find_differences(&self, query: &ZQuery) -> Result<Found, AdminError> {
        let words = Words::new(Request::Diff, query)?;
        let with = words.replica("with")?;
        let Some(replicator) = &self.replicator else {
            return Err(AdminError::Unreplicated);
        };
        match replicator.differences(with).await {
            Ok(found) => Ok((with, found)),
            Err(reason) => Err(AdminError::Peer {
                peer: with.to_string(),
                reason,
            }),
        }
    }

    fn try_answer(
        &self,
        request: Request,
        words: &Words<'_>,
        found: Option<&Found>,
        replier: &Replier<'_>,
    ) -> Result<(), AdminError> {
        let admin = &self.admin;
        match request {
            Request::Status => {
                let status = match words.is(BRIEF)? {
                    true => self.brief_status(),
                    false => self.status(),
                };
                replier.json(&status);
            }
            Request::Ui => {
                let page = page::text().as_bytes().to_vec();
                replier.send(page, page::encoding(), None);
            }
            Request::Tree => drop(replier.json(&self.tree(words)?)),
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
                None => drop(replier.json(&written(&scrub_status(self)))),
                Some("pause") => self.pause_scrub(true, replier)?,
                Some("resume") => self.pause_scrub(false, replier)?,
                Some("now") => self.verify(replier)?,
                Some("acknowledge") => {
                    let recovered = admin.acknowledge()?;
                    replier.json(&json!({ "acknowledged": recovered }));
                }
                Some(other) => {
                    let allowed = "`pause`, `resume`, `now` and `acknowledge`";
                    return Err(unknown_verb(other, allowed));
                }
            },
            Request::Collect => match words.get("do") {
                None => drop(replier.json(&written(&collection_status(&admin.replica)))),
                Some("now") => {
                    if admin.replica.collection().after.is_none() {
                        return Err(AdminError::CollectsNothing);
                    }
                    admin.replica.collect_now();
                    replier.json(&written(&collection_status(&admin.replica)));
                }
                Some(other) => return Err(unknown_verb(other, "`now`")),
            },
            Request::Sync => {
                let asked = self
                    .replicator
                    .as_ref()
                    .map(|replicator| replicator.sync_now());
                let asked: Vec<_> = asked.iter().flatten().map(ReplicaId::to_string).collect();
                replier.json(&json!({ "asked": asked }));
            }
            Request::Forget => self.forget(words, replier)?,
            Request::Diff => {
                if let Some((_, found)) = found {
                    replier.json(&self.diff(found));
                }
            }
            Request::Snapshot => self.snapshot(words, replier)?,
            Request::Backup => {
                let progress = StdCell::new(Progress::default());
                let mut pieces = Pieces::new(replier, &progress);
                let identity = self.identity().to_string();
                let made = admin.back_up(&identity, &mut pieces, &mut |now| {
                    progress.set(now);
                    replier.goes_on()
                });
                made.map_err(|error| match replier.goes_on() {
                    true => error,
                    // A piece that was not sent is an error of the writer.
                    false => AdminError::Gone,
                })?;
                // Whoever asked may be gone, which is theirs to know.
                let _ = pieces.send(true);
            }
            Request::Restore => {
                let frame = words.payload.as_deref().unwrap_or_default();
                let restored = match words.is(DRY)? {
                    true => admin.preview_restore(frame)?,
                    false => admin.restore(frame, &mut self.teller(Way::Restore, replier))?,
                };
                replier.json(&json!({
                    "cells": restored.cells,
                    "newest": restored.newest,
                    "rejected": restored.rejected,
                    "dead": restored.dead,
                }));
            }
            Request::Rollback => self.rollback(words, replier)?,
        }
        Ok(())
    }

    /// Tells the feed of what is changed for whoever asks.
    fn teller<'a>(
        &'a self,
        way: Way,
        replier: &Replier<'_>,
    ) -> impl FnMut(&CellKey, Timestamp) + use<'a> {
        let from: Arc<str> = replier.asker().map_or("", Asker::id).into();
        move |key, timestamp| self.changes.tell(key, timestamp, way, &from)
    }

    fn verify(&self, replier: &Replier<'_>) -> Result<(), AdminError> {
        let verified = self.admin.verify(&mut |progress, found| {
            let is_due = !found.is_empty() || progress.cells % 65_536 < 256;
            match is_due {
                true => replier.json(&progress_json(self, progress, found)),
                false => replier.goes_on(),
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
        replier.json(&written(&scrub_status(self)));
        Ok(())
    }

    fn forget(&self, words: &Words<'_>, replier: &Replier<'_>) -> Result<(), AdminError> {
        let member = words.replica("member")?;
        let Some(replicator) = &self.replicator else {
            return Err(AdminError::Unreplicated);
        };
        match replicator.forget(&member) {
            Forgotten::Present => return Err(AdminError::Present(member.to_string())),
            forgotten => replier.json(&json!({ "forgotten": forgotten == Forgotten::Done })),
        };
        Ok(())
    }

    fn diff(&self, found: &Differences) -> Value {
        let (mut differ, mut ranges) = (Vec::new(), Vec::new());
        for want in &found.wants {
            match want {
                Want::Key(key, _) => {
                    let here = self.admin.replica.latest(&key.key);
                    let cell = self.admin.replica.newest(key);
                    differ.push(json!({
                        "key": self.admin.group.full_key(&key.key),
                        "here": here.map(|timestamp| timestamp.to_string()),
                        "part": hex::encode(key.part.as_bytes()),
                        "cell": cell.map(|timestamp| timestamp.to_string()),
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
        json!({
            "differ": differ,
            "ranges": ranges,
            "complete": found.is_all,
            "round_trips": found.round_trips,
            "bytes": found.bytes,
        })
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
                let entry = admin.keep_snapshot(name, &identity, &mut |progress| {
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
            let frame = RollbackFrame::decode(frame, MAX_ROLLBACK)?;
            let done = match words.is(DRY)? {
                true => self.admin.preview_rollback(frame)?,
                false => {
                    let changed = &mut self.teller(Way::Rollback, replier);
                    self.admin.roll_back(frame, id, changed)?
                }
            };
            replier.json(&rolled_back_json(&done));
            return Ok(());
        };
        let progress = &mut |progress: Progress, done: &RolledBack| {
            let mut part = rolled_back_json(done);
            part["cells"] = progress.cells.into();
            part["of"] = progress.of.into();
            replier.json(&part)
        };
        let done = match words.is(DRY)? {
            true => self.admin.preview_rollback_to(name, progress)?,
            false => {
                let changed = &mut self.teller(Way::Rollback, replier);
                self.admin.roll_back_to(name, id, changed, progress)?
            }
        };
        let mut last = rolled_back_json(&done);
        last["done"] = true.into();
        replier.json(&last);
        Ok(())
    }
}

fn progress_json(operator: &Operator, progress: Progress, found: &[Damage]) -> Value {
    json!({
        "checked": progress.cells,
        "of": progress.of,
        "damaged": found.iter().map(|damage| damage_status(operator, damage)).collect::<Vec<_>>(),
    })
}

fn rolled_back_json(done: &RolledBack) -> Value {
    json!({
        "keys": done.restored + done.deleted + done.kept,
        "restored": done.restored,
        "deleted": done.deleted,
        "kept": done.kept,
        "dead": done.dead,
    })
}

fn entry_json(entry: &SnapshotEntry) -> Value {
    let header = match &entry.header {
        Ok(header) => header,
        Err(problem) => {
            return json!({ "name": entry.name, "bytes": entry.bytes, "problem": problem });
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
