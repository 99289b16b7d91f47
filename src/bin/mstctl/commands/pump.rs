//! Frames of a backup on their way to a replica, several at a time.

use std::collections::VecDeque;

use serde_json::Value;
use zenoh_backend_mst::sync::Token;

use crate::{
    connection::{Connection, Pieces, Request},
    exit::Error,
};

/// Sends frames to `what` of a replica, so many at a time, and shows each answer, in
/// the order of the frames. Ends with the first error; what was sent then may have been done.
pub(super) fn send(
    connection: &Connection,
    base: &Token,
    (what, at_a_time): (&str, usize),
    is_dry: bool,
    frames: impl Iterator<Item = Result<Vec<u8>, Error>>,
    mut see: impl FnMut(&Value),
) -> Result<(), Error> {
    let _attendance = connection.attendance(&base.to_string())?;
    let mut under_way: VecDeque<Pieces> = VecDeque::with_capacity(at_a_time);
    let mut take = |pieces: Pieces| -> Result<(), Error> {
        see(&pieces.only()?.json()?);
        Ok(())
    };
    for frame in frames {
        if under_way.len() == at_a_time {
            under_way.pop_front().map_or(Ok(()), &mut take)?;
        }
        let request = Request::to(base, what).payload(frame?);
        let request = match is_dry {
            true => request.with("dry", true),
            false => request,
        };
        // Those before it are done first: the wait for it begins when they are.
        under_way.push_back(connection.stream_attended(request)?);
    }
    under_way.into_iter().try_for_each(take)
}

/// The sum of a field over all answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(pub(super) u64);

impl Sum {
    pub(super) fn add(&mut self, answer: &Value, field: &str) {
        self.0 += answer[field].as_u64().unwrap_or_default();
    }
}
