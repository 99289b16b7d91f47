//! Answers that come in parts, of which each says how far it is.

use serde_json::Value;

use crate::{
    connection::{Connection, Request},
    exit::Error,
    output::Output,
    progress::Progress,
};

/// Shows how far something is, by the number that the field `count` of each part
/// has, and hands each part on; returns the last. With JSON each part is a line.
pub(super) fn follow(
    connection: &Connection,
    request: Request,
    (what, count): (&'static str, &str),
    output: Output,
    mut see: impl FnMut(&Value),
) -> Result<Value, Error> {
    let pieces = connection.attend(request)?;
    let progress = Progress::new(what);
    let mut piece = pieces.only()?;
    loop {
        let part = piece.json()?;
        if let Some(done) = part[count].as_u64() {
            progress.set(done, part["of"].as_u64());
        }
        if output.json {
            output.line(&part)?;
        }
        see(&part);
        if part["done"] == true {
            return Ok(part);
        }
        piece = pieces
            .next()?
            .ok_or_else(|| piece.problem("it ended before it was done"))?;
    }
}
