//! Compares a tree with what another replica says of its own.
//!
//! | part | purpose |
//! |---|---|
//! | `place` | parts of a tree, and their digests |
//! | `summary` | makes fragments of them |
//! | `part` | one beside a peer's fragment of the same range |

mod part;
mod place;
mod summary;

pub(super) use place::Place;
pub(super) use summary::{first_fragment, fragment};

use super::{
    MAX_KEY_TEXT_SENT,
    digests::{Differing, DigestQueryReader, DigestReplyWriter},
    entries::Want,
    fragment::{Bounds, Fragment, Range},
    salted::Salted,
    wire::MessageError,
};
use crate::{
    cell::CellKey,
    merge::Lifetimes,
    replica::{Tree, TreeEntry},
};
use part::{Other, Part};

/// Cells of a range in which the asker has nothing that are looked at, to see whether all are dead.
const MAX_LOOKED_AT: usize = 64;

/// Whether all that a tree has between two bounds is dead; false if that is much.
fn are_dead(
    tree: &Tree,
    (low, high): Bounds<'_>,
    is_dead: impl Fn(&CellKey, &TreeEntry) -> bool,
) -> bool {
    use std::ops::Bound::{Excluded, Unbounded};
    let low = low.cloned().map_or(Unbounded, Excluded);
    let high = high.cloned().map_or(Unbounded, Excluded);
    let Ok(cells) = tree.range((low, high));
    let mut looked_at = 0;
    cells.into_iter().all(|cell| {
        let Ok((key, held)) = cell;
        looked_at += 1;
        looked_at <= MAX_LOOKED_AT && is_dead(key, held)
    })
}

/// Answers a digest query: where `tree` has something that the asker lacks, and that is not dead at its
/// watermark. In about `max_bytes`; what does not fit is left for later. To one that catches up, as
/// `is_mirror` says, also where the asker has something and `tree` nothing.
///
/// # Errors
/// If the query cannot be read.
pub(in crate::sync) fn answer(
    tree: &Tree,
    lifetimes: &Lifetimes,
    mut query: DigestQueryReader<'_>,
    max_bytes: usize,
    is_mirror: bool,
) -> Result<Vec<u8>, MessageError> {
    let salted = &{ query.salted };
    let watermark = query.watermark;
    let is_dead =
        |key: &CellKey, held: &TreeEntry| lifetimes.is_dead(&key.key, held.timestamp(), watermark);
    let mut writer = DigestReplyWriter::new(*salted);
    while let Some((range, theirs)) = query.next()? {
        if let Some(own) = Part::new(tree, &Place::Anywhere, range.bounds(), &theirs, salted) {
            for (place, (gap, found)) in own.gaps(range.bounds(), &theirs).enumerate() {
                let told = theirs.gaps[place];
                if place < theirs.known_gaps() {
                    let differing = match told {
                        None if !lifetimes.is_empty()
                            && are_dead(
                                tree,
                                theirs.gap_bounds(range.bounds(), place),
                                is_dead,
                            ) =>
                        {
                            None
                        }
                        None => own.run(&gap).map(|_| Differing::All(place)),
                        Some(_) if own.short(&gap) == told => None,
                        Some(_) => match own.run(&gap) {
                            None => is_mirror.then_some(Differing::Empty(place)),
                            Some(run) => {
                                let room = max_bytes.saturating_sub(writer.len());
                                Some(match room > 0 && writer.key_text() < MAX_KEY_TEXT_SENT {
                                    false => Differing::Later(place),
                                    true => {
                                        let fragment = fragment(tree, &run, salted, room);
                                        Differing::Fragment(place, fragment)
                                    }
                                })
                            }
                        },
                    };
                    differing
                        .iter()
                        .for_each(|differing| writer.push(differing));
                }
                if let Some((key, told)) = theirs.entries.get(place) {
                    match own.other(key, *told, found) {
                        Other::Differs(held) if !is_dead(key, held) => {
                            writer.push(&Differing::Entry(place));
                        }
                        Other::Missing if is_mirror => writer.push(&Differing::Gone(place)),
                        _ => {}
                    }
                }
            }
        } else if is_mirror {
            say_nothing_is_there(&theirs, &mut writer);
        }
        writer.end();
    }
    Ok(writer.finish())
}

/// All that the asker has in a range is missing.
fn say_nothing_is_there(theirs: &Fragment, writer: &mut DigestReplyWriter) {
    for (place, told) in theirs.gaps.iter().enumerate() {
        if place < theirs.known_gaps() && told.is_some() {
            writer.push(&Differing::Empty(place));
        }
        if place < theirs.entries.len() {
            writer.push(&Differing::Gone(place));
        }
    }
}

/// What a peer has and the own tree lacks, as far as is known.
#[derive(Debug, Default)]
pub(in crate::sync) struct Found {
    /// Ranges in which the peer has nothing, and the own tree something, if anybody asks for them.
    pub(in crate::sync) own: Option<Vec<Range>>,
    /// Wanted cells, ascending.
    pub(in crate::sync) wants: Vec<Want>,
    /// Ranges to look into.
    pub(in crate::sync) open: Vec<(Range, Place)>,
}

/// Compares a peer's fragment between two bounds with that place of `tree`.
pub(in crate::sync) fn look(
    tree: &Tree,
    salted: &Salted,
    (bounds, place): (Bounds<'_>, &Place),
    theirs: &Fragment,
    found: &mut Found,
) {
    let Some(own) = Part::new(tree, place, bounds, theirs, salted) else {
        found.wants.push(Want::All(Range::of(bounds)));
        return;
    };
    for (place, (gap, at)) in own.gaps(bounds, theirs).enumerate() {
        let all = || Range::of(theirs.gap_bounds(bounds, place));
        if place == theirs.known_gaps() {
            found.open.push((all(), Place::Anywhere));
        } else if let Some(ranges) = &mut found.own
            && theirs.gaps[place].is_none()
            && own.run(&gap).is_some()
        {
            ranges.push(all());
        } else if let Some(told) = theirs.gaps[place] {
            match own.short(&gap) {
                Some(here) if here == told => {}
                Some(_) => found.open.push((all(), own.place(&gap))),
                None => found.wants.push(Want::All(all())),
            }
        }
        if let Some((key, told)) = theirs.entries.get(place) {
            match own.other(key, *told, at) {
                Other::Missing => found.wants.push(Want::Key(key.clone(), None)),
                Other::Same => {}
                Other::Differs(version) => {
                    let time = version.timestamp().time;
                    found.wants.push(Want::Key(key.clone(), Some(time)));
                }
            }
        }
    }
}
