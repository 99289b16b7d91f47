//! `mstctl rollback`

use std::{cell::Cell, path::Path};

use indicatif::HumanCount;
use serde_json::{Value, json};
use zenoh_backend_mst::backup::{BackupReader, RollbackFrame};

use super::{
    Context,
    confirm::confirm,
    pump::{self, Sum},
    restore::{backup_error, same_storage, verified},
    stream::follow,
};
use crate::{
    args::Rollback,
    connection::Request,
    exit::{Answer, Error},
    files,
    output::{Output, Tone, counted, note, safe, time},
    progress::Progress,
    replicas::{Replica, storage},
};

/// What is asked; and one at a time, as a replica does few things at once that take
/// long, and refuses more.
const ROLLBACK: (&str, usize) = ("control/rollback", 1);

/// What a rollback did, in keys.
#[derive(Clone, Copy, Debug, Default)]
struct RolledBack {
    restored: Sum,
    deleted: Sum,
    kept: Sum,
    dead: Sum,
}

impl RolledBack {
    fn add(&mut self, answer: &Value) {
        self.restored.add(answer, "restored");
        self.deleted.add(answer, "deleted");
        self.kept.add(answer, "kept");
        self.dead.add(answer, "dead");
    }
}

pub(super) fn run(context: &Context, args: &Rollback) -> Result<Answer, Error> {
    match (&args.file, &args.snapshot) {
        (Some(file), _) => to_file(context, file, args),
        (None, Some(name)) => to_snapshot(context, name, args),
        (None, None) => Err(Error::Usage("give a FILE, or --snapshot NAME".to_owned())),
    }
}

/// What is about to happen, for whoever has to agree.
fn question(replica: &Replica, to: &str) -> String {
    format!(
        "This makes {} what it was {to}. What was put or deleted since is undone, at all of its \
         replicas.",
        storage(&replica.base.group)
    )
}

fn to_file(context: &Context, path: &Path, args: &Rollback) -> Result<Answer, Error> {
    let header = verified(path)?;
    if let Some(key) = header.missing.first() {
        return Err(Error::Place {
            path: path.to_owned(),
            problem: format!(
                "it lacks what was damaged when it was made, such as `{key}`, which a rollback would \
                 delete; nothing was changed: restore it, or roll back to another"
            ),
        });
    }
    let connection = context.connect()?;
    let same = same_storage(context.choice(), connection.replicas()?, &header)?;
    let replica = context.choice().fullest(same)?;
    if !args.yes && !args.dry_run {
        let (cut, cells) = (time(header.cut), counted(header.cells, "cell", "cells"));
        confirm(&question(&replica, &format!("at {cut}, with {cells}")))?;
    }
    let damaged = backup_error(path);
    let open = || BackupReader::open(files::open(path)?).map_err(&damaged);
    let rules = open()?.wildcard_rules().map_err(&damaged)?;
    let reader = open()?;
    // Of the cells that are sent: a frame is done when others are under way.
    let cells = Cell::new(0);
    let frames = reader.rollback_frames(rules).map(|frame| {
        let frame: RollbackFrame = frame.map_err(&damaged)?;
        cells.set(cells.get() + frame.cells.len() as u64);
        Ok(frame.encode())
    });
    let mut done = RolledBack::default();
    let sent = {
        let progress = Progress::new("rolling back");
        pump::send(
            &connection,
            &replica.base,
            ROLLBACK,
            args.dry_run,
            frames,
            |answer| {
                done.add(answer);
                progress.set(cells.get(), Some(header.cells));
            },
        )
    };
    if sent.is_err() && !args.dry_run {
        note("a part of it may be done; to roll back again is safe");
    }
    sent?;
    said(context.output, &replica, &done, args.dry_run)?;
    Ok(Answer::Yes)
}

fn to_snapshot(context: &Context, name: &str, args: &Rollback) -> Result<Answer, Error> {
    let (connection, replica) = context.one()?;
    if !args.yes && !args.dry_run {
        confirm(&question(
            &replica,
            &format!("at snapshot `{}`", safe(name)),
        ))?;
    }
    let request = Request::to(&replica.base, ROLLBACK.0)
        .with("snapshot", super::snapshot::parameter(name)?)
        .with("dry", args.dry_run)
        .meant();
    let last = follow(
        &connection,
        request,
        ("rolling back", "cells"),
        context.output,
        |_| {},
    )?;
    if !context.output.json {
        // Each part says what was done so far.
        let mut done = RolledBack::default();
        done.add(&last);
        said(context.output, &replica, &done, args.dry_run)?;
    }
    Ok(Answer::Yes)
}

fn said(output: Output, replica: &Replica, done: &RolledBack, is_dry: bool) -> Result<(), Error> {
    let document = json!({
        "replica": replica.base.replica.to_string(),
        "restored": done.restored.0,
        "deleted": done.deleted.0,
        "kept": done.kept.0,
        "dead": done.dead.0,
        "dry_run": is_dry,
    });
    output.either(&document, |output| {
        let dead = match done.dead.0 {
            0 => String::new(),
            dead => format!(
                ", {} left as they are: the lives of their values are over",
                HumanCount(dead)
            ),
        };
        let text = format!(
            "{}: {} put again, {} deleted, {} as they were{dead}",
            match is_dry {
                true => "this would be a rollback of",
                false => "rolled back",
            },
            counted(done.restored.0, "key", "keys"),
            HumanCount(done.deleted.0),
            HumanCount(done.kept.0)
        );
        output.paint(Tone::Good, &text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_add_up() {
        let mut done = RolledBack::default();
        done.add(&json!({ "restored": 1, "deleted": 2, "kept": 3, "dead": 4 }));
        done.add(&json!({ "restored": 10, "kept": 30 }));
        assert_eq!(
            (done.restored, done.deleted, done.kept, done.dead),
            (Sum(11), Sum(2), Sum(33), Sum(4))
        );
    }
}
