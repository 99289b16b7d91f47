//! Whether replicas hold the same, by the roots that they announce.
//!
//! Two roots can be compared where they are over the same updates: at a cut that
//! both have. A replica is seen several times, and what it said before counts:
//! while data is written its cut and another's may never meet in a single look.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use zenoh_backend_mst::{
    mst::RootHash,
    replica::Span,
    sync::{Group, ReplicaId},
};

use crate::{connection::Connection, exit::Error};

/// Spans of a replica that are remembered.
const MAX_SPANS: usize = 32;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// How replicas stand to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They hold the same.
    Equal,
    /// At a common cut they do not.
    Differ,
    /// There is no common cut yet.
    Unknown,
}

/// What replicas of one storage have announced.
#[derive(Debug, Default)]
pub(crate) struct Heard(BTreeMap<ReplicaId, VecDeque<Span>>);

impl Heard {
    /// One more announcement.
    pub(crate) fn hear(&mut self, replica: ReplicaId, span: Span) {
        let spans = self.0.entry(replica).or_default();
        match spans.back_mut() {
            // One root over more cuts than before replaces what it continues.
            Some(last) if last.root == span.root && last.from == span.from => *last = span,
            _ => spans.push_back(span),
        }
        while spans.len() > MAX_SPANS {
            spans.pop_front();
        }
    }

    /// What each announced last.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (ReplicaId, Span)> + '_ {
        let latest = self.0.iter();
        latest.filter_map(|(replica, spans)| Some((*replica, *spans.back()?)))
    }

    /// Those of these replicas that have announced this root, whenever.
    pub(crate) fn with_root(&self, root: RootHash) -> Vec<ReplicaId> {
        let with = self.0.iter();
        let with = with.filter(|(_, spans)| spans.iter().any(|span| span.root == root));
        with.map(|(replica, _)| *replica).collect()
    }

    /// How all stand to the first of them.
    pub(crate) fn standing(&self) -> Standing {
        let mut all = self.0.values();
        let Some(first) = all.next() else {
            return Standing::Unknown;
        };
        let mut standing = Standing::Equal;
        for other in all {
            match compare(first, other) {
                Standing::Equal => {}
                Standing::Differ => return Standing::Differ,
                Standing::Unknown => standing = Standing::Unknown,
            }
        }
        standing
    }
}

/// Compares at the latest common cut. Where there is none, replicas whose last
/// roots are one hold the same all the same.
fn compare(a: &VecDeque<Span>, b: &VecDeque<Span>) -> Standing {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let common = pairs.filter_map(|(a, b)| {
        let (from, to) = (a.from.max(b.from), a.to.min(b.to));
        (from <= to).then_some((to, a.root == b.root))
    });
    // What was announced later is at the end, and right where two speak of one cut.
    match common.max_by_key(|(cut, _)| *cut) {
        Some((_, true)) => Standing::Equal,
        Some((_, false)) => Standing::Differ,
        None => match (a.back(), b.back()) {
            (Some(a), Some(b)) if a.root == b.root => Standing::Equal,
            _ => Standing::Unknown,
        },
    }
}

/// Looks at the roots of these replicas of a group until they are equal, for as long
/// as `patience`; at least once.
pub(crate) fn settle(
    connection: &Connection,
    group: &Group,
    replicas: &[ReplicaId],
    patience: Duration,
) -> Result<(Heard, Standing), Error> {
    let deadline = Instant::now() + patience;
    let mut heard = Heard::default();
    loop {
        listen(connection, group, &mut heard)?;
        heard.0.retain(|replica, _| replicas.contains(replica));
        let standing = match heard.0.len() == replicas.len() {
            true => heard.standing(),
            // Somebody has not said anything yet.
            false => Standing::Unknown,
        };
        if standing == Standing::Equal || Instant::now() + PAUSE > deadline {
            return Ok((heard, standing));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Hears what all replicas of a group announce now.
pub(crate) fn listen(
    connection: &Connection,
    group: &Group,
    heard: &mut Heard,
) -> Result<(), Error> {
    for (token, announcement) in connection.announcements(&group.to_string())? {
        heard.hear(token.replica, announcement.span);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, to: u64, root: u8) -> Span {
        Span {
            from,
            to,
            root: RootHash([root; 32]),
        }
    }

    fn heard(spans: &[(u8, Span)]) -> Heard {
        let mut heard = Heard::default();
        for (replica, span) in spans {
            heard.hear(ReplicaId([*replica; 16]), *span);
        }
        heard
    }

    #[test]
    fn roots_are_compared_at_the_latest_common_cut() {
        let standing = |spans: &[(u8, Span)]| heard(spans).standing();
        let (a, b) = (1, 2);
        assert_eq!(
            standing(&[(a, span(1, 5, 7)), (b, span(3, 9, 7))]),
            Standing::Equal
        );
        assert_eq!(
            standing(&[(a, span(1, 5, 7)), (b, span(3, 9, 8))]),
            Standing::Differ
        );
        // They differed, and do not any more.
        let spans = [
            (a, span(1, 5, 7)),
            (b, span(3, 5, 8)),
            (a, span(6, 9, 9)),
            (b, span(6, 8, 9)),
        ];
        assert_eq!(standing(&spans), Standing::Equal);
        // One is behind, in its first look.
        assert_eq!(
            standing(&[(a, span(1, 5, 7)), (b, span(6, 9, 8))]),
            Standing::Unknown
        );
        let spans = [(a, span(1, 5, 7)), (b, span(6, 9, 8)), (a, span(6, 7, 8))];
        assert_eq!(standing(&spans), Standing::Equal);
        // No common cut, but the same data.
        assert_eq!(
            standing(&[(a, span(1, 5, 7)), (b, span(6, 9, 7))]),
            Standing::Equal
        );
    }

    #[test]
    fn one_replica_is_equal_to_itself_and_none_is_unknown() {
        assert_eq!(heard(&[]).standing(), Standing::Unknown);
        assert_eq!(heard(&[(1, span(1, 2, 3))]).standing(), Standing::Equal);
    }

    #[test]
    fn what_was_said_before_counts_within_bounds() {
        let mut heard = heard(&[(1, span(1, 2, 3)), (1, span(1, 9, 3)), (1, span(10, 11, 4))]);
        assert_eq!(heard.with_root(RootHash([3; 32])).len(), 1);
        assert_eq!(heard.with_root(RootHash([5; 32])).len(), 0);
        assert_eq!(heard.0[&ReplicaId([1; 16])].len(), 2, "the first went on");
        for cut in 0..1000 {
            heard.hear(ReplicaId([1; 16]), span(cut, cut, (cut % 251) as u8));
        }
        assert_eq!(heard.0[&ReplicaId([1; 16])].len(), MAX_SPANS);
        let latest: Vec<_> = heard.latest().map(|(_, span)| span.to).collect();
        assert_eq!(latest, [999]);
    }
}
