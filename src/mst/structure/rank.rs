//! Ranks: how an over-wide run is thinned, whoever chose its keys.
//!
//! A *run* is a sequence of entries of one digit with no entry of a higher
//! digit between them: what the paper makes one node. Of honest keys a run has
//! [`MAX_WIDTH`] entries or fewer, but for one in some thousands; keys can be
//! *mined*, though, so that any number of them fall into one run, and an update
//! would then cost as much as the run is wide.
//!
//! No rule that looks at each key alone can prevent that. So a run of more than
//! [`MAX_WIDTH`] entries is thinned in rounds, each of which looks at a key's
//! *neighbours*: deterministic coin tossing (Cole and Vishkin, 1986; used on
//! sequences by Mehlhorn, Sundar and Uhrig, 1997). Five times each entry takes,
//! for its colour, the number of the lowest bit in which it differs from its
//! left neighbour, and that bit; neighbours keep different colours, and 256
//! bits shrink to six colours. The entries whose colour is a local maximum
//! survive the round. Whatever the keys are, no two neighbours survive and of
//! any ten in a row one does. Rounds go on until [`MAX_WIDTH`] or fewer
//! survive. The rank of an entry is the number of rounds that it survived.
//!
//! Whether an entry survives depends on six entries before it and one after it,
//! so a change of one key changes a bounded number of ranks a round, and there
//! are O(log n) rounds.

use super::level::Position;

/// Entries in a node, at the most.
///
/// (15/16)^128 of honest runs, 1 in 3,900, are wider than this and get ranks.
pub const MAX_WIDTH: usize = 128;

/// Times that colours are reduced: 256 bits to 512, 18, 10, 8, and 6 colours.
const REDUCTIONS: usize = 5;

/// How many entries before an entry decide, with the entry itself, its colour.
pub(in crate::mst) const COLOUR_REACH: usize = REDUCTIONS;

/// The colours (0 to 5) of a sequence of entries. Neighbours differ.
fn colours(positions: &[Position]) -> Vec<u8> {
    // 2 * index + bit, where `index` is the lowest bit that differs from the
    // left neighbour. The first entry, having none, takes index 0.
    let first = |bits: u8| bits & 1;
    let mut colours: Vec<u16> = Vec::with_capacity(positions.len());
    for (i, position) in positions.iter().enumerate() {
        let Some(left) = i.checked_sub(1).map(|left| &positions[left]) else {
            colours.push(u16::from(first(position.0[0])));
            continue;
        };
        let differs = (0..position.0.len()).find(|&byte| position.0[byte] != left.0[byte]);
        // Equal positions, that is a collision of SHA-256, get equal colours
        // and lose the guarantee, not the determinism.
        let byte = differs.unwrap_or(0);
        let bit = (position.0[byte] ^ left.0[byte]).trailing_zeros().min(7) as u16;
        colours.push((byte as u16 * 8 + bit) * 2 + u16::from(position.0[byte] >> bit & 1));
    }
    for _ in 1..REDUCTIONS {
        let mut left = None;
        for colour in &mut colours {
            let bit = left.map_or(0, |left: u16| (*colour ^ left).trailing_zeros().min(15));
            left = Some(*colour);
            *colour = bit as u16 * 2 + (*colour >> bit & 1);
        }
    }
    colours.into_iter().map(|colour| colour as u8).collect()
}

/// Which entries of a sequence survive a round: the local maxima of colour.
/// Beyond either end of the sequence every colour is lower.
pub(in crate::mst) fn survivors(positions: &[Position]) -> Vec<bool> {
    let colours = colours(positions);
    (0..colours.len())
        .map(|i| {
            let above = |j: Option<usize>| match j.and_then(|j| colours.get(j)) {
                Some(neighbour) => colours[i] > *neighbour,
                None => true,
            };
            above(i.checked_sub(1)) && above(i.checked_add(1))
        })
        .collect()
}

/// The ranks of a whole run. O(n).
pub(in crate::mst) fn ranks(positions: &[Position]) -> Vec<u8> {
    let mut ranks = vec![0; positions.len()];
    let mut alive: Vec<usize> = (0..positions.len()).collect();
    while alive.len() > MAX_WIDTH {
        let of_alive: Vec<Position> = alive.iter().map(|&i| positions[i]).collect();
        let survives = survivors(&of_alive);
        let mut survives = survives.iter();
        alive.retain(|_| *survives.next().unwrap_or(&false));
        alive.iter().for_each(|&i| ranks[i] += 1);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(prefix: u8, number: u32) -> Position {
        let mut bytes = [prefix; 32];
        bytes[28..].copy_from_slice(&number.to_be_bytes());
        Position(bytes)
    }

    proptest! {
        #[test]
        fn of_any_ten_one_survives_and_no_two_neighbours(
            numbers in prop::collection::vec(any::<u32>(), 1..400),
            monotone in any::<bool>(),
        ) {
            let mut numbers = numbers;
            if monotone {
                numbers.sort_unstable();
            }
            numbers.dedup();
            let positions: Vec<_> = numbers.iter().map(|n| position(0xaa, *n)).collect();
            let colours = colours(&positions);
            prop_assert!(colours.iter().all(|colour| *colour < 6));
            prop_assert!(colours.windows(2).all(|pair| pair[0] != pair[1]));
            let survives = survivors(&positions);
            prop_assert!(survives.windows(2).all(|pair| !(pair[0] && pair[1])));
            prop_assert!(survives.windows(10).all(|ten| ten.contains(&true)));
            prop_assert!(survives.contains(&true));
        }

        #[test]
        fn survival_depends_on_six_before_and_one_after(
            numbers in prop::collection::btree_set(any::<u32>(), 20..60),
            cut in 0usize..10,
            end in 0usize..10,
        ) {
            let all: Vec<_> = numbers.iter().map(|n| position(1, n.wrapping_mul(2_654_435_761))).collect();
            let whole = survivors(&all);
            let part = survivors(&all[cut..all.len() - end]);
            let exact_from = if cut == 0 { 0 } else { COLOUR_REACH + 1 };
            let exact_to = part.len() - usize::from(end > 0);
            for i in exact_from..exact_to {
                prop_assert_eq!(part[i], whole[cut + i]);
            }
        }
    }

    #[test]
    fn ranks_stop_when_the_run_is_narrow() {
        let positions: Vec<_> = (0..MAX_WIDTH as u32).map(|n| position(0, n)).collect();
        assert!(ranks(&positions).iter().all(|rank| *rank == 0));
        let positions: Vec<_> = (0..100_000).map(|n| position(0, n)).collect();
        let ranks = ranks(&positions);
        let top = ranks.iter().copied().max().unwrap_or(0);
        let width = |rank| ranks.iter().filter(|r| **r >= rank).count();
        assert!((5..=20).contains(&top), "{top} rounds");
        assert!(width(top) <= MAX_WIDTH && width(top - 1) > MAX_WIDTH);
    }
}
