//! The gate: with whom a replica exchanges cells.

/// What a query, an answer and an announcement say of a replica's horizon. `L` is a lineage, or what
/// messages say of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Standing<L> {
    /// The horizon.
    pub horizon: u64,
    /// The lineage of the horizon.
    pub lineage: L,
}

impl<L: PartialEq> Standing<L> {
    /// Whether a replica with this standing gives cells to one with the standing `asker`, and takes
    /// its announcements as evidence: the horizon and the lineage are the same. The grid of horizons is
    /// the same everywhere: a copy of a folder that ran by itself may well have the horizon of the
    /// group.
    #[must_use]
    pub fn admits(&self, asker: &Self) -> bool {
        self == asker
    }

    /// Whether an answer to a query that was asked with the standing `asked` may still be joined. An
    /// answer that is older than an adoption may have what that removed.
    #[must_use]
    pub fn takes_answer_to(&self, asked: &Self) -> bool {
        self == asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_horizon_of_one_lineage_passes() {
        let standing = |horizon, lineage| Standing { horizon, lineage };
        let own = standing(3, 'a');
        for (other, passes) in [
            (standing(3, 'a'), true),
            (standing(3, 'b'), false),
            (standing(0, 'a'), false),
            (standing(5, 'a'), false),
        ] {
            assert_eq!(own.admits(&other), passes, "{other:?}");
            assert_eq!(own.takes_answer_to(&other), passes, "{other:?}");
        }
    }
}
