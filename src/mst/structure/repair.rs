//! Keeping ranks what [`rank`](super::rank) says they are, after a change.
//!
//! [`edit`](super::edit) inserts with rank 0, cuts runs in two and joins them.
//! What it leaves is right in every run of [`MAX_WIDTH`] entries or fewer that
//! has no ranks, which is nearly every run there is. The others are put right
//! here, at the cost of a bounded neighbourhood of the change in each round.

use super::{
    edit::{self, Slot},
    level::{Level, TreeKey},
    node::{NodeOf, NodeStore},
    rank::{COLOUR_REACH, MAX_WIDTH, survivors},
};

/// A change before an entry reaches its colour from up to [`COLOUR_REACH`]
/// entries away, and its survival from one more.
const AFTER: usize = COLOUR_REACH + 1;
/// A change after an entry reaches its survival from the next place.
const BEFORE: usize = 1;
/// To know whether an entry survives, this many before it have to be looked at.
const CONTEXT: usize = COLOUR_REACH + 1;

/// Puts right the ranks in every run of `max_digit` or lower that is at `key`:
/// those that hold it, end or begin at it, or were joined over it.
pub(in crate::mst) fn repair<S: NodeStore>(
    store: &S,
    slot: &mut Slot<S>,
    key: &S::Key,
    max_digit: u8,
) -> Result<(), S::Error> {
    if needs_repair(store, slot.as_ref(), key, max_digit)? {
        repair_below(store, slot, key, max_digit, None)?;
    }
    Ok(())
}

fn is_ranked_or_wide<S: NodeStore>(node: &NodeOf<S>, max_digit: u8) -> bool {
    node.level.digit <= max_digit && (node.level.rank > 0 || node.keys.len() > MAX_WIDTH)
}

/// The children of `node` that `key` lies in, or beside.
fn places_at<S: NodeStore>(node: &NodeOf<S>, key: &S::Key) -> std::ops::RangeInclusive<usize> {
    match node.keys.search(key) {
        Ok(index) => index..=index + 1,
        Err(index) => index..=index,
    }
}

/// Looks without touching: honest trees end here.
fn needs_repair<S: NodeStore>(
    store: &S,
    link: Option<&S::Link>,
    key: &S::Key,
    max_digit: u8,
) -> Result<bool, S::Error> {
    let Some(link) = link else {
        return Ok(false);
    };
    let node = store.load(link)?;
    if is_ranked_or_wide::<S>(node, max_digit) {
        return Ok(true);
    }
    for index in places_at::<S>(node, key) {
        if needs_repair(store, node.child(index), key, max_digit)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `run` is the digit of the run that `slot` belongs to, if its top is above.
fn repair_below<S: NodeStore>(
    store: &S,
    slot: &mut Slot<S>,
    key: &S::Key,
    max_digit: u8,
    run: Option<u8>,
) -> Result<(), S::Error> {
    let Some(link) = slot.as_ref() else {
        return Ok(());
    };
    let node = store.load(link)?;
    let digit = node.level.digit;
    if run != Some(digit) && is_ranked_or_wide::<S>(node, max_digit) {
        repair_run(store, slot, key, digit)?;
    }
    if let Some(link) = slot {
        let node = store.edit(link)?;
        for index in places_at::<S>(node, key) {
            if node.child(index).is_some() {
                repair_below(store, node.child_mut(index), key, max_digit, Some(digit))?;
            }
        }
    }
    Ok(())
}

/// Puts right the ranks of the run whose top is in `slot`, after a change at
/// `key`.
///
/// Round by round: the entries that survived so far are a sequence; within
/// reach of the window in which that sequence changed, who survives is worked
/// out again, and the window widens to the entries for whom that is news. On a
/// side of `key` that had no ranks as high as the round, because it was a run of
/// its own with fewer rounds, all is news; that is at most [`MAX_WIDTH`]
/// entries.
fn repair_run<S: NodeStore>(
    store: &S,
    slot: &mut Slot<S>,
    key: &S::Key,
    digit: u8,
) -> Result<(), S::Error> {
    let (rounds_left, rounds_right) = rounds_beside(store, slot.as_ref(), key, digit)?;
    let (mut low, mut high) = (Some(key.clone()), Some(key.clone()));
    for rank in 0..=u8::MAX {
        let round = Level { digit, rank };
        let alive = Alive { store, round };
        if alive.count_to(slot.as_ref(), MAX_WIDTH + 1)? <= MAX_WIDTH {
            let next = Alive {
                store,
                round: Level {
                    digit,
                    rank: rank.saturating_add(1),
                },
            };
            let mut too_high = Vec::new();
            next.forward(slot.as_ref(), None, None, 0, &mut too_high)?;
            for (key, _) in too_high {
                set_rank(store, slot, &key, round)?;
            }
            return Ok(());
        }
        if rank >= rounds_left {
            low = None;
        }
        if rank >= rounds_right {
            high = None;
        }
        for (key, level) in alive.changes(slot.as_ref(), low.as_ref(), high.as_ref())? {
            set_rank(store, slot, &key, level)?;
            if low.as_ref().is_some_and(|low| key < *low) {
                low = Some(key);
            } else if high.as_ref().is_some_and(|high| key > *high) {
                high = Some(key);
            }
        }
    }
    // At least half of a sequence goes in each round: 255 rounds thin any
    // number of entries that a machine can hold.
    Ok(())
}

/// The highest ranks in the run before `key` and after it.
fn rounds_beside<'a, S: NodeStore>(
    store: &'a S,
    mut link: Option<&'a S::Link>,
    key: &S::Key,
    digit: u8,
) -> Result<(u8, u8), S::Error> {
    let (mut left, mut right) = (None, None);
    while let Some(node) = link.map(|link| store.load(link)).transpose()? {
        if node.level.digit != digit {
            break;
        }
        let (before, after) = match node.keys.search(key) {
            Ok(index) => (index, index + 1),
            Err(index) => (index, index),
        };
        if before > 0 {
            left = left.or(Some(node.level.rank));
        }
        if after < node.keys.len() {
            right = right.or(Some(node.level.rank));
        }
        if before != after {
            // The key itself is here. It is new, so of rank 0, and below it
            // there is nothing of this run.
            break;
        }
        link = node.child(before);
    }
    Ok((left.unwrap_or(0), right.unwrap_or(0)))
}

fn set_rank<S: NodeStore>(
    store: &S,
    slot: &mut Slot<S>,
    key: &S::Key,
    level: Level,
) -> Result<(), S::Error> {
    if let Some(entry) = edit::remove(store, slot, key)? {
        edit::insert(store, slot, entry, level)?;
    }
    Ok(())
}

/// The entries of a run that survived the rounds so far, as a sequence.
struct Alive<'a, S> {
    store: &'a S,
    round: Level,
}

impl<S: NodeStore> Alive<'_, S> {
    fn load<'b>(&'b self, link: Option<&'b S::Link>) -> Result<Option<&'b NodeOf<S>>, S::Error> {
        let node = link.map(|link| self.store.load(link)).transpose()?;
        Ok(node.filter(|node| node.level >= self.round))
    }

    /// How many there are, counted no further than `limit`.
    fn count_to(&self, link: Option<&S::Link>, limit: usize) -> Result<usize, S::Error> {
        let Some(node) = self.load(link)? else {
            return Ok(0);
        };
        let mut count = node.keys.len();
        for child in &node.children {
            if count >= limit {
                break;
            }
            count += self.count_to(child.as_ref(), limit - count)?;
        }
        Ok(count)
    }

    /// The levels that change, in the reach of a change within `low..=high`.
    fn changes(
        &self,
        link: Option<&S::Link>,
        low: Option<&S::Key>,
        high: Option<&S::Key>,
    ) -> Result<Vec<(S::Key, Level)>, S::Error> {
        let mut around = Vec::new();
        if low.is_some() {
            self.backward(link, low, BEFORE + CONTEXT, &mut around)?;
            around.reverse();
        }
        let before = around.len();
        // One more than the reach: the last entry's survival needs its successor.
        self.forward(link, low, high, AFTER + 1, &mut around)?;

        let first = before.saturating_sub(BEFORE);
        let last = match high {
            None => around.len(),
            Some(high) => {
                let beyond = around.iter().filter(|(key, _)| key > high).count();
                around.len() - beyond.saturating_sub(AFTER)
            }
        };
        let positions: Vec<_> = around.iter().map(|(key, _)| key.position()).collect();
        let survives = survivors(&positions);
        Ok(around
            .into_iter()
            .zip(survives)
            .take(last)
            .skip(first)
            .filter(|((_, rank), survives)| (*rank > self.round.rank) != *survives)
            .map(|((key, _), survives)| {
                let rank = self.round.rank + u8::from(survives);
                (key, Level { rank, ..self.round })
            })
            .collect())
    }

    /// Up to `limit` entries below `bound`, from high to low, with their ranks.
    fn backward(
        &self,
        link: Option<&S::Link>,
        bound: Option<&S::Key>,
        limit: usize,
        out: &mut Vec<(S::Key, u8)>,
    ) -> Result<(), S::Error> {
        let Some(node) = self.load(link)? else {
            return Ok(());
        };
        let end = bound.map_or(node.keys.len(), |bound| {
            let (Ok(index) | Err(index)) = node.keys.search(bound);
            index
        });
        self.backward(node.child(end), bound, limit, out)?;
        for index in (0..end).rev() {
            if out.len() >= limit {
                break;
            }
            out.push((node.keys[index].clone(), node.level.rank));
            self.backward(node.child(index), None, limit, out)?;
        }
        Ok(())
    }

    /// All entries from `low` to `high`, and `beyond` more; ascending. True if
    /// there is no need to go on.
    fn forward(
        &self,
        link: Option<&S::Link>,
        low: Option<&S::Key>,
        high: Option<&S::Key>,
        beyond: usize,
        out: &mut Vec<(S::Key, u8)>,
    ) -> Result<bool, S::Error> {
        let Some(node) = self.load(link)? else {
            return Ok(false);
        };
        let start = match low.map(|low| node.keys.search(low)) {
            None => 0,
            Some(Ok(index)) => index,
            Some(Err(index)) => {
                if self.forward(node.child(index), low, high, beyond, out)? {
                    return Ok(true);
                }
                index
            }
        };
        if low.is_none() && self.forward(node.child(0), None, high, beyond, out)? {
            return Ok(true);
        }
        for index in start..node.keys.len() {
            if let Some(high) = high {
                let is_beyond = |key: &S::Key| key > high;
                let gathered = out.iter().rev().take_while(|(key, _)| is_beyond(key));
                if gathered.count() >= beyond {
                    return Ok(true);
                }
            }
            out.push((node.keys[index].clone(), node.level.rank));
            if self.forward(node.child(index + 1), None, high, beyond, out)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
