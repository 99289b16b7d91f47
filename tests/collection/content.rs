//! What a replica of the model holds: a small universe of updates, their join, and their collection.

/// A set of updates.
pub type Ops = u16;

/// Names of updates: `k` is a key of which the last writer wins, `n` a counter, which may also be
/// nulled or overwritten as a field of an object is; the rule is a delete with wildcards of both.
pub const PUT1: usize = 0;
pub const DEL2: usize = 1;
pub const PUT4: usize = 2;
pub const INC1: usize = 3;
pub const INC2: usize = 4;
pub const INC4: usize = 5;
pub const RULE2: usize = 6;
pub const NULL2: usize = 7;
pub const OWN4: usize = 8;
pub const OPS: usize = 9;

const TIMES: [u8; OPS] = [1, 2, 4, 1, 2, 4, 2, 2, 4];
const INCS: [usize; 3] = [INC1, INC2, INC4];

/// Later than all times.
pub const NEVER: u8 = 9;

pub fn time(op: usize) -> u8 {
    TIMES[op]
}

pub fn set(ops: &[usize]) -> Ops {
    ops.iter().fold(0, |all, op| all | 1 << op)
}

pub fn each(ops: Ops) -> impl Iterator<Item = usize> {
    (0..OPS).filter(move |op| ops >> op & 1 == 1)
}

/// Those before `time`.
pub fn below(ops: Ops, time: u8) -> Ops {
    each(ops)
        .filter(|op| TIMES[*op] < time)
        .fold(0, |all, op| all | 1 << op)
}

pub fn earliest(ops: Ops) -> u8 {
    each(ops).map(|op| TIMES[op]).min().unwrap_or(NEVER)
}

/// The updates that make `op` as if it had never been.
fn covering(op: usize) -> Ops {
    match op {
        PUT1 => set(&[DEL2, PUT4, RULE2]),
        DEL2 => set(&[PUT4, RULE2]),
        INC1 | INC2 => set(&[RULE2, NULL2, OWN4]),
        INC4 => set(&[OWN4]),
        NULL2 => set(&[OWN4, RULE2]),
        _ => 0,
    }
}

/// Whether who has `ops` has at least `op`: it, or what covers it.
pub fn has(ops: Ops, op: usize) -> bool {
    ops & (1 << op | covering(op)) != 0
}

/// How often each increment counts.
pub type Counts = [u8; 3];

/// The tree: data, and system cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content {
    pub cells: Ops,
    /// The base of the counter: its stamp, 0 for none, and its sum.
    pub base: (u8, Counts),
    /// Names that have joined, and that were evicted.
    pub joins: u8,
    pub lapsed: u8,
    pub forced: u8,
}

/// What a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub key: Ops,
    pub counter: (Ops, Counts),
}

impl Content {
    pub fn of(ops: Ops) -> Self {
        let cells = ops;
        let mut content = Self {
            cells,
            ..Self::default()
        };
        content.normalise(false);
        content
    }

    /// Up to when the counter's increments are covered.
    fn covered(&self) -> u8 {
        let covers = self.cells & set(&[RULE2, NULL2, OWN4]);
        each(covers).map(time).max().unwrap_or(0)
    }

    /// Removes what is covered. `nested`: as if cells under a field's own cell were kept.
    fn normalise(&mut self, nested: bool) {
        let all = self.cells;
        for op in each(all) {
            let mut by = covering(op) & all;
            if nested && INCS.contains(&op) {
                by &= set(&[RULE2]);
            }
            let is_in_base = INCS.contains(&op) && time(op) <= self.base.0;
            if by != 0 || is_in_base {
                self.cells &= !(1 << op);
            }
        }
        let covered = match nested {
            true => each(all & set(&[RULE2])).map(time).max().unwrap_or(0),
            false => self.covered(),
        };
        if self.base.0 <= covered {
            self.base = (0, [0; 3]);
        }
    }

    pub fn join(&self, other: &Self, nested: bool) -> Self {
        let mut joined = self.with_system_cells(other);
        joined.cells |= other.cells;
        joined.base = self.base.max(other.base);
        joined.normalise(nested);
        joined
    }

    pub fn with_system_cells(&self, other: &Self) -> Self {
        let mut joined = *self;
        joined.joins |= other.joins;
        joined.lapsed |= other.lapsed;
        joined.forced |= other.forced;
        joined
    }

    pub fn evicted(&self) -> u8 {
        self.lapsed | self.forced
    }

    /// Lets tombstones below `horizon` go, and folds increments.
    pub fn collect(&self, horizon: u8) -> Self {
        let mut next = *self;
        // What is below the horizon is folded by itself: what is above may be anything.
        let stable = Self {
            cells: below(self.cells, horizon),
            ..*self
        };
        let covered = stable.covered();
        for (nth, op) in INCS.into_iter().enumerate() {
            if self.cells >> op & 1 == 1 && time(op) < horizon {
                next.cells &= !(1 << op);
                // Hidden ones are not part of the sum.
                if time(op) > covered {
                    next.base.0 = next.base.0.max(time(op));
                    next.base.1[nth] += 1;
                }
            }
        }
        let tombstones = self.cells & set(&[DEL2, RULE2, NULL2]);
        next.cells &= !below(tombstones, horizon);
        next
    }

    pub fn view(&self) -> View {
        let covered = self.covered();
        let mut counts = if self.base.0 > covered {
            self.base.1
        } else {
            [0; 3]
        };
        for (nth, op) in INCS.into_iter().enumerate() {
            let is_seen = time(op) > covered && time(op) > self.base.0;
            counts[nth] += u8::from(is_seen && self.cells >> op & 1 == 1);
        }
        let hides = self.cells & set(&[DEL2, RULE2]) != 0;
        let old = if hides { 0 } else { self.cells & set(&[PUT1]) };
        let new = self.cells & set(&[PUT4]);
        View {
            key: if new != 0 { new } else { old },
            counter: (self.cells & set(&[OWN4]), counts),
        }
    }

    /// Whether the tombstone `op` would cover anything here.
    pub fn is_touched_by(&self, op: usize) -> bool {
        let covers_base = self.base.0 != 0 && self.base.0 <= time(op);
        let has_covered = each(self.cells).any(|cell| covering(cell) >> op & 1 == 1);
        has_covered || (matches!(op, RULE2 | NULL2) && covers_base)
    }
}

pub fn is_tombstone(op: usize) -> bool {
    matches!(op, DEL2 | RULE2 | NULL2)
}

/// The increments of a base.
pub fn counted(base: (u8, Counts)) -> Ops {
    let counted = INCS.into_iter().zip(base.1).filter(|(_, count)| *count > 0);
    counted.fold(0, |all, (op, _)| all | 1 << op)
}

/// Cells that are kept although a field's own cell covers them make it depend on what came first.
#[test]
fn nested_cells_have_to_leave() {
    let old = [INC1, NULL2].map(|op| Content::of(set(&[op])));
    let old = old[0].join(&old[1], true);
    let new = Content::of(set(&[OWN4]));
    let late = old.join(&new, true).collect(3);
    assert_ne!(late, old.collect(3).join(&new, true));
}

/// Collection commutes with the join of what is not below the horizon: for all sets of updates.
#[test]
fn collection_is_confluent() {
    let mut compared = 0;
    for old in 0..1 << OPS {
        for new in 0..1 << OPS {
            for horizon in [3, 5] {
                if below(new, horizon) != 0 {
                    continue;
                }
                let (old, new) = (Content::of(old), Content::of(new));
                let late = old.join(&new, false).collect(horizon);
                let early = old.collect(horizon).join(&new, false).collect(horizon);
                assert_eq!(late, early, "{old:?} {new:?} {horizon}");
                assert_eq!(late.view(), old.join(&new, false).view());
                compared += 1;
            }
        }
    }
    assert_eq!(compared, (1 << OPS) * (8 + 1));
}
