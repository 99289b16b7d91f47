//! Counts of what is rejected.

/// Rejected messages and cells, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// Messages that could not be read, or that answer what was not asked.
    pub malformed: u64,
    /// Cells whose key is not within the storage's key expression.
    pub key_expr: u64,
    /// Cells that do not match the digest that their sender gave.
    pub digest: u64,
    /// Cells with a timestamp too far ahead of the clock.
    pub clock: u64,
    /// Cells whose key or value is too long.
    pub too_large: u64,
    /// Cells that no strategy writes.
    pub strategy: u64,
}

impl Rejections {
    /// Their sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        let of_cells = self.key_expr + self.digest + self.clock + self.too_large + self.strategy;
        self.malformed + of_cells
    }

    /// Adds the counts of another.
    pub(super) fn add(&mut self, other: &Self) {
        self.malformed += other.malformed;
        self.key_expr += other.key_expr;
        self.digest += other.digest;
        self.clock += other.clock;
        self.too_large += other.too_large;
        self.strategy += other.strategy;
    }
}
