//! `mstctl restore`

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use zenoh_backend_mst::{
    backup::{BackupError, BackupReader, Header},
    sync::Group,
};

use super::{
    Context,
    pump::{self, Sum},
    verify,
};
use crate::{
    args::Restore,
    connection::Connection,
    exit::{Answer, Error},
    files::{self, is_standard},
    output::{Output, Tone, counted, note},
    progress::Progress,
    replicas::{Choice, Replica, storage, storages},
};

/// What is asked; and frames under way at a time: while one is being written, the
/// next is there.
const RESTORE: (&str, usize) = ("control/restore", 3);

/// For how long the root of a storage that was empty is waited for: until what was
/// restored has settled.
const SETTLE: Duration = Duration::from_secs(20);

/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(50);

/// What a restore came to.
#[derive(Clone, Copy, Debug, Default)]
struct Restored {
    cells: Sum,
    newest: Sum,
    rejected: Sum,
    dead: Sum,
    /// Whether the root is the backup's, where it has to be unless somebody else
    /// writes.
    is_verified: Option<bool>,
}

impl Restored {
    fn answer(&self) -> Answer {
        Answer::of(self.rejected.0 == 0 && self.is_verified != Some(false))
    }
}

pub(super) fn run(context: &Context, args: &Restore) -> Result<Answer, Error> {
    let header = verified(&args.file)?;
    let connection = context.connect()?;
    let all = connection.replicas()?;
    let replica = target(context.choice(), all, &header, args.force_key_expr)?;
    let was_empty = replica.status.cells == 0 && replica.status.queues.is_empty();
    let expired = replica.status.lifetimes.expired;
    let mut restored = Restored::default();
    let sent = send(&connection, &replica, args, &header, &mut restored);
    if sent.is_err() && !args.dry_run {
        let done = counted(restored.cells.0, "cell was", "cells were");
        note(&format!(
            "{done} restored before that; to restore again is safe"
        ));
    }
    sent?;
    // What died is in the root of the backup, and in no other.
    let is_whole = restored.rejected.0 == 0 && restored.dead.0 == 0;
    if was_empty && is_whole && !args.dry_run {
        restored.is_verified = wait_for_root(&connection, &replica, &header, expired)?;
    }
    said(context.output, &replica, &restored, args.dry_run)?;
    Ok(restored.answer())
}

/// The header of a file that was read to its end.
pub(super) fn verified(path: &Path) -> Result<Header, Error> {
    if is_standard(path) {
        return Err(Error::Usage(
            "a backup is read twice, to verify it first: give a file in place of `-`".to_owned(),
        ));
    }
    verify::check(files::open(path)?).map_err(backup_error(path))
}

/// An error of this file.
pub(super) fn backup_error(path: &Path) -> impl Fn(BackupError) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Backup {
        path: path.clone(),
        source,
    }
}

/// The storage that a backup is of.
pub(super) fn group(header: &Header) -> Group {
    Group {
        key_expr: header.key_expr.clone(),
        strip_prefix: header.strip_prefix.clone(),
    }
}

/// Where a backup goes: into the storage that it is of, at the replica that holds
/// most, unless the user says otherwise.
fn target(
    choice: Choice<'_>,
    all: Vec<Replica>,
    header: &Header,
    is_forced: bool,
) -> Result<Replica, Error> {
    if is_forced {
        return choice.fullest(all);
    }
    choice.fullest(same_storage(choice, all, header)?)
}

/// The replicas that fit. Refuses a storage with another key expression or prefix
/// than the backup's.
pub(super) fn same_storage(
    choice: Choice<'_>,
    all: Vec<Replica>,
    header: &Header,
) -> Result<Vec<Replica>, Error> {
    let of = group(header);
    let fitting = choice.all(all)?;
    let found = storages(&fitting);
    let same = fitting
        .into_iter()
        .filter(|replica| replica.base.group == of);
    let same: Vec<Replica> = same.collect();
    match (same.is_empty(), choice.storage) {
        (false, _) => Ok(same),
        (true, Some(_)) => Err(Error::Usage(format!(
            "the backup is of {}, and not of {}; --force-key-expr restores what fits",
            storage(&of),
            found.join(", ")
        ))),
        (true, None) => Err(Error::NoSuch {
            what: "storage, which the backup is of,",
            wanted: storage(&of),
            found,
        }),
    }
}

fn send(
    connection: &Connection,
    replica: &Replica,
    args: &Restore,
    header: &Header,
    restored: &mut Restored,
) -> Result<(), Error> {
    let path = &args.file;
    let damaged = backup_error(path);
    let reader = BackupReader::open(files::open(path)?).map_err(&damaged)?;
    let frames = reader.verified_frames();
    let frames = frames.map(|frame| frame.map_err(&damaged));
    let progress = Progress::new("restoring");
    pump::send(
        connection,
        &replica.base,
        RESTORE,
        args.dry_run,
        frames,
        |answer| {
            restored.cells.add(answer, "cells");
            restored.newest.add(answer, "newest");
            restored.rejected.add(answer, "rejected");
            restored.dead.add(answer, "dead");
            progress.set(restored.cells.0, Some(header.cells));
        },
    )
}

/// Whether the storage comes to have the backup's root. None if something died meanwhile, beside the
/// number that had `expired` before.
fn wait_for_root(
    connection: &Connection,
    replica: &Replica,
    header: &Header,
    expired: u64,
) -> Result<Option<bool>, Error> {
    let wanted = header.root.to_string();
    let deadline = Instant::now() + SETTLE;
    let progress = Progress::new("settling");
    loop {
        let all = connection.replicas_within(connection.timeout)?;
        let mut now = all.iter().filter(|now| now.base == replica.base);
        if now.clone().any(|now| now.status.root == wanted) {
            return Ok(Some(true));
        }
        if now.any(|now| now.status.lifetimes.expired > expired) {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Ok(Some(false));
        }
        progress.set(0, None);
        std::thread::sleep(PAUSE);
    }
}

fn said(output: Output, replica: &Replica, restored: &Restored, is_dry: bool) -> Result<(), Error> {
    let Restored {
        cells,
        newest,
        rejected,
        dead,
        is_verified,
    } = restored;
    let document = json!({
        "replica": replica.base.replica.to_string(),
        "cells": cells.0,
        "newest": newest.0,
        "rejected": rejected.0,
        "dead": dead.0,
        "verified": is_verified,
        "dry_run": is_dry,
    });
    output.either(&document, |output| {
        let mut lines = vec![format!(
            "{}{} restored to {}, at replica {}; {} new there",
            if is_dry { "this would be: " } else { "" },
            counted(cells.0, "cell", "cells"),
            storage(&replica.base.group),
            replica.short(),
            counted(newest.0, "of them was", "of them were")
        )];
        if rejected.0 > 0 {
            let text = format!(
                "{} rejected: outside of the key expression, stamped ahead of the router's \
                 clock or before what it has collected, or of a strategy that it does not have; its log says more",
                counted(rejected.0, "was", "were")
            );
            lines.push(output.paint(Tone::Bad, &text));
        }
        if dead.0 > 0 {
            lines.push(format!(
                "{} dropped, as the lifetime of the key was over",
                counted(dead.0, "cell was", "cells were")
            ));
        }
        let verdict = match is_verified {
            Some(true) => Some((Tone::Good, "verified: its root is the backup's")),
            Some(false) => Some((
                Tone::Bad,
                "its root is not the backup's: somebody else wrote meanwhile, or see `mstctl status`",
            )),
            // What was there before is in the root, too.
            None => None,
        };
        lines.extend(verdict.map(|(tone, text)| output.paint(tone, text)));
        lines.join("\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::tests::replica;

    fn header(key_expr: &str) -> Header {
        Header {
            key_expr: key_expr.to_owned(),
            ..super::super::offline::tests::header()
        }
    }

    fn all() -> Vec<Replica> {
        vec![
            replica("a/**", 1, 0),
            replica("a/**", 2, 5),
            replica("b/**", 3, 0),
        ]
    }

    #[test]
    fn a_backup_goes_where_it_is_from() {
        let to = |choice, header: &Header, forced| target(choice, all(), header, forced);
        let any = Choice::default();
        let found = to(any, &header("a/**"), false).expect("found");
        assert_eq!(found.base.replica.0[0], 2);
        let missing = to(any, &header("c/**"), false).expect_err("missing");
        assert_eq!(missing.code(), 3);
        let other = Choice {
            storage: Some("b/**"),
            replica: None,
        };
        let refused = to(other, &header("a/**"), false).expect_err("refused");
        assert_eq!(refused.code(), 2);
        assert!(
            refused.to_string().contains("of a/**, and not of b/**"),
            "{refused}"
        );
        let forced = to(other, &header("a/**"), true).expect("forced");
        assert_eq!(forced.base.replica.0[0], 3);
    }

    #[test]
    fn what_was_rejected_or_differs_is_a_no() {
        let restored = |rejected, is_verified| Restored {
            rejected: Sum(rejected),
            is_verified,
            ..Restored::default()
        };
        assert_eq!(restored(0, None).answer(), Answer::Yes);
        assert_eq!(restored(0, Some(true)).answer(), Answer::Yes);
        assert_eq!(restored(0, Some(false)).answer(), Answer::No);
        assert_eq!(restored(1, None).answer(), Answer::No);
    }
}
