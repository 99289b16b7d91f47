//! `mstctl backup`

use std::path::Path;

use indicatif::HumanBytes;
use serde_json::{Value, json};
use zenoh_backend_mst::{admin::ASK_AGAIN, backup::Header};

use super::{Context, verify};
use crate::{
    args::Backup,
    connection::{Connection, Piece, Request},
    exit::{Answer, Error},
    files::{Unfinished, is_standard},
    output::{Output, Tone, note},
    progress::Progress,
    replicas::Replica,
};

/// What is in use comes first, where it is on this machine. Threads that are started
/// from now on inherit it.
const NICENESS: i32 = 15;

/// How often a backup is begun, of a storage in which damage is found.
const MAX_ATTEMPTS: u32 = 3;

pub(super) fn run(context: &Context, args: &Backup) -> Result<Answer, Error> {
    // To be refused costs time, and nothing else.
    let _ = rustix::process::nice(NICENESS);
    if is_standard(&args.file) {
        context.output.refuse_terminal()?;
        let (connection, replica) = fullest(context)?;
        fetch(&connection, &replica, |bytes| context.output.bytes(bytes))?;
        note("not read back: `mstctl verify` checks what was written");
        return Ok(Answer::Yes);
    }
    // Before anything is asked: a name that is taken is found out at once.
    let mut file = Unfinished::create(&args.file, args.force)?;
    let (connection, replica) = fullest(context)?;
    let mut attempts = 1;
    let bytes = loop {
        match fetch(&connection, &replica, |bytes| file.add(bytes)) {
            // What was damaged is not in the next one, which names it.
            Err(Error::Refused { reason, .. })
                if reason.ends_with(ASK_AGAIN) && attempts < MAX_ATTEMPTS =>
            {
                note(&reason);
                attempts += 1;
                file.restart()?;
            }
            fetched => break fetched?,
        }
    };
    let header = complete(file, &args.file)?;
    let from = Some(replica.base.replica.to_string());
    said(context.output, &args.file, &header, bytes, from)
}

fn fullest(context: &Context) -> Result<(Connection, Replica), Error> {
    let connection = context.connect()?;
    let replica = context.choice().fullest(connection.replicas()?)?;
    Ok((connection, replica))
}

/// What is said beside a piece of a backup.
struct Place {
    piece: u64,
    cells: u64,
    of: Option<u64>,
    is_last: bool,
}

impl Place {
    fn of(piece: &Piece) -> Result<Self, Error> {
        let beside = piece.beside()?;
        let number = beside["piece"].as_u64();
        Ok(Self {
            piece: number.ok_or_else(|| piece.problem("it does not say which piece it is"))?,
            cells: beside["cells"].as_u64().unwrap_or_default(),
            of: beside["of"].as_u64(),
            is_last: beside["last"] == true,
        })
    }
}

/// Hands on the bytes of a backup of a live replica, and returns how many there
/// were. All pieces have to come, in order.
fn fetch(
    connection: &Connection,
    replica: &Replica,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let pieces = connection.attend(Request::to(&replica.base, "control/backup"))?;
    let progress = Progress::new("backing up");
    let mut bytes = 0;
    let mut piece = pieces.only()?;
    for expected in 0.. {
        let place = Place::of(&piece)?;
        if place.piece != expected {
            let problem = format!("piece {expected} of the backup is missing; try again");
            return Err(piece.problem(problem));
        }
        take(&piece.payload)?;
        bytes += piece.payload.len() as u64;
        progress.set(place.cells, place.of);
        if place.is_last {
            break;
        }
        piece = pieces
            .next()?
            .ok_or_else(|| piece.problem("the backup ended before its last piece; try again"))?;
    }
    Ok(bytes)
}

/// Reads a file back that was written, and gives it its name if it is sound.
pub(super) fn complete(mut file: Unfinished, path: &Path) -> Result<Header, Error> {
    let header = verify::check(file.read_back()?).map_err(|error| Error::Place {
        path: path.to_owned(),
        problem: format!("what was written is not what is read back: {error}; it was removed"),
    })?;
    file.finish()?;
    Ok(header)
}

/// Says what was made.
pub(super) fn said(
    output: Output,
    path: &Path,
    header: &Header,
    bytes: u64,
    from: Option<String>,
) -> Result<Answer, Error> {
    let document: Value = json!({
        "file": path.display().to_string(),
        "bytes": bytes,
        "replica": from,
        "backup": verify::describe(header),
    });
    output.either(&document, |output| {
        let size = HumanBytes(bytes);
        let made = format!(
            "{}: {size}, complete, and verified by reading it back",
            path.display()
        );
        format!(
            "{}\n{}",
            output.paint(Tone::Good, &made),
            verify::text(header)
        )
    })?;
    Ok(Answer::Yes)
}
