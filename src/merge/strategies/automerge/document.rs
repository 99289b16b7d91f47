//! A document of changes, of which some may contradict each other.

use std::collections::HashSet;

use ::automerge::{ActorId, Automerge, Change};

use super::guarded;

/// Changes that cannot be applied are looked for until applying has failed so often; what has not
/// been applied then is left out. What devices do that share an actor does not count: only what
/// no Automerge makes does.
const MAX_FAILURES: usize = 64;

/// A document of as many changes as fit together. All replicas take the same ones: it is a
/// function of the changes, in the order of their hashes.
pub(super) struct Built {
    pub(super) document: Automerge,
    /// Whether all changes are in it.
    pub(super) is_whole: bool,
    /// How often changes could not be applied.
    failures: usize,
}

/// Whether all of the changes could be applied. If not, it is not known which were.
pub(super) fn apply(document: &mut Automerge, changes: &[Change]) -> bool {
    guarded(|| document.apply_changes(changes.iter().cloned()).ok()).is_some()
}

impl Built {
    /// The document of changes, in the order of their hashes. O(changes), but for those that
    /// cannot be applied for another reason than that their actor made another one with their
    /// number: each of these costs O(log changes) copies of the document.
    pub(super) fn of(changes: Vec<Change>) -> Self {
        let offered = changes.len();
        let mut numbers: HashSet<(ActorId, u64)> = HashSet::new();
        let mut changes = changes;
        changes.retain(|change| numbers.insert((change.actor_id().clone(), change.seq())));
        let mut built = Self {
            document: Automerge::new(),
            is_whole: changes.len() == offered,
            failures: 0,
        };
        built.take(&changes);
        built
    }

    /// Applies what can be applied.
    fn take(&mut self, changes: &[Change]) {
        // The next one comes last.
        let mut pieces = vec![changes];
        while let Some(piece) = pieces.pop() {
            let before = self.document.clone();
            if apply(&mut self.document, piece) {
                continue;
            }
            self.document = before;
            self.is_whole = false;
            self.failures += 1;
            if self.failures >= MAX_FAILURES {
                break;
            }
            if piece.len() > 1 {
                let (first, second) = piece.split_at(piece.len() / 2);
                pieces.extend([second, first]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ::automerge::{AutoCommit, ROOT, ReadDoc, transaction::Transactable};

    use super::*;

    /// `count` changes of an actor, each to a key of its own, as of the device `device`.
    fn changes_of(device: &str, count: usize) -> Vec<Change> {
        let mut document = AutoCommit::new().with_actor(vec![1; 16].into());
        for index in 0..count {
            document
                .put(ROOT, format!("{device} {index}"), 1)
                .expect("put");
            document.commit();
        }
        document.get_changes(&[])
    }

    fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
        changes.sort_by_key(|change| change.hash().0);
        changes
    }

    #[test]
    fn two_devices_with_one_actor_cost_no_more_than_one() {
        let (count, contradictory) = (2_000, 500);
        let mut changes = changes_of("a", count);
        changes.extend(changes_of("b", contradictory));
        let built = Built::of(sorted(changes.clone()));
        assert!(!built.is_whole);
        assert_eq!(built.failures, 0, "it is built in one go");
        // Of each number one is taken; those behind one that was not wait for it.
        let taken = built.document.get_changes(&[]);
        assert!(!taken.is_empty() && taken.len() <= count);
        // It does not depend on the order in which they came.
        changes.reverse();
        let again = Built::of(sorted(changes));
        assert_eq!(again.document.get_heads(), built.document.get_heads());
    }

    #[test]
    fn all_changes_that_fit_together_are_taken() {
        let changes = changes_of("a", 100);
        let built = Built::of(sorted(changes));
        assert!(built.is_whole);
        assert_eq!(built.document.length(ROOT), 100);
    }
}
