//! The state machine, event by event.

use std::{cell::RefCell, time::Duration};

use super::*;
use crate::{
    cell::{Cell, CellKey, Content, Part, Timestamp, Version},
    merge::MAX_NESTING,
    mst::RootHash,
    replica::{Change, Comparison, Span, Tree},
};

pub(super) const NOW: u64 = 1_700_000_000 << 32;
const OWN: ReplicaId = ReplicaId([1; 16]);
pub(super) const PEER: ReplicaId = ReplicaId([2; 16]);

/// A replica of which others that announce roots above 2 differ.
#[derive(Default)]
pub(super) struct Stub {
    pub(super) tree: Tree,
    /// Of its root.
    root: u8,
    /// Cells that were of use.
    pub(super) useful: u64,
}

impl View for Stub {
    fn witness(&self, _: u64) {}
    fn tree(&self) -> Tree {
        self.tree.clone()
    }
    fn has_had(&self, root: &RootHash) -> bool {
        root.0[0] < 2
    }
    fn compare(&self, theirs: &Span) -> Comparison {
        match theirs.root {
            RootHash([0, ..]) => Comparison::Equal,
            RootHash([1, ..]) => Comparison::Behind,
            RootHash([2, ..]) => Comparison::Unknown,
            _ => Comparison::Divergent,
        }
    }
    fn latest(&self) -> Option<(Span, u64)> {
        Some((span(self.root), 0))
    }
    fn newest(&self, _: &CellKey) -> Option<Timestamp> {
        None
    }
    fn changes_since(&self, root: &RootHash, _: u64) -> Option<Vec<Change>> {
        (root.0[0] < 3).then(Vec::new)
    }
    fn joined(&self) -> u64 {
        u64::MAX
    }
    fn useful(&self) -> u64 {
        self.useful
    }
}

fn span(root: u8) -> Span {
    Span {
        from: 0,
        to: NOW,
        root: RootHash([root; 32]),
    }
}

fn group(key_expr: &str, strip_prefix: Option<&str>) -> Group {
    Group {
        key_expr: key_expr.to_owned(),
        strip_prefix: strip_prefix.map(str::to_owned),
    }
}

fn token(group: Group, replica: ReplicaId) -> Token {
    Token {
        protocol: PROTOCOL,
        group,
        replica,
    }
}

pub(super) fn announcement(root: u8) -> Announcement {
    Announcement {
        stand: None,
        fingerprint: Fingerprint::of("lww"),
        incarnation: Incarnation {
            started: 5,
            nonce: 5,
        },
        clock: NOW,
        span: span(root),
        cells: 1,
    }
}

pub(super) struct Run {
    pub(super) machine: Machine,
    pub(super) view: Stub,
    pub(super) now: Duration,
    random: RefCell<u64>,
}

impl Run {
    fn new() -> Self {
        let settings = Settings {
            members: None,
            replica: OWN,
            incarnation: Incarnation {
                started: 5,
                nonce: 5,
            },
            group: group("demo/**", Some("demo")),
            fingerprint: Fingerprint::of("lww"),
            sync_interval: Duration::from_secs(30),
            max_clock_drift: Duration::from_secs(10),
        };
        let mut random = || 0;
        let view = Stub::default();
        let mut context = Context {
            now: Duration::ZERO,
            wall: NOW,
            random: &mut random,
            view: &view,
        };
        Self {
            machine: Machine::new(settings, &mut context),
            view,
            now: Duration::ZERO,
            random: RefCell::new(0),
        }
    }

    /// With a peer of the group.
    pub(super) fn with_peer() -> Self {
        let mut run = Self::new();
        run.handle(Event::Appeared(token(group("demo/**", Some("demo")), PEER)));
        run
    }

    pub(super) fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut random = || {
            *self.random.borrow_mut() += 1;
            *self.random.borrow()
        };
        let mut context = Context {
            now: self.now,
            wall: NOW,
            random: &mut random,
            view: &self.view,
        };
        self.machine.handle(event, &mut context)
    }

    pub(super) fn hear(&mut self, root: u8) -> Vec<Action> {
        self.handle(Event::Announced(PEER, announcement(root).encode()))
    }

    /// With a peer, and a cell of its own.
    pub(super) fn with_cell() -> Self {
        let mut run = Self::with_peer();
        let Received { key, cell, .. } = received("k", 1);
        let version = Version::of(&key, &cell);
        let Ok(_) = run.view.tree.upsert(key, version.into());
        run
    }

    /// As after a new name was taken, which is the same again.
    fn rename(&mut self) {
        let settings = self.machine.settings().clone();
        let mut context = Context {
            now: self.now,
            wall: NOW,
            random: &mut || 0,
            view: &self.view,
        };
        self.machine = self.machine.renamed(settings, &mut context);
    }

    /// Goes on until a pull begins; its query.
    pub(super) fn pull(&mut self) -> u64 {
        let actions = self.until_asked();
        asked(&actions).expect("asked")
    }

    /// Goes on until a query is made, or for so many seconds.
    pub(super) fn until_asked_or(&mut self, seconds: u64) -> Vec<Action> {
        while self.now < Duration::from_secs(seconds) {
            let actions = self.handle(Event::Tick);
            if asked(&actions).is_some() {
                return actions;
            }
            self.now = self
                .machine
                .wake_at()
                .max(self.now + Duration::from_millis(1));
        }
        Vec::new()
    }

    /// Goes on until a pull begins.
    pub(super) fn until_asked(&mut self) -> Vec<Action> {
        for _ in 0..100 {
            let actions = self.handle(Event::Tick);
            if asked(&actions).is_some() {
                return actions;
            }
            self.now = self.machine.wake_at().max(self.now);
        }
        panic!("no pull");
    }

    fn relation(&self) -> Relation {
        self.machine.status().peers[0].relation
    }
}

pub(super) fn asked(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Ask(request, ..) => Some(*request),
        _ => None,
    })
}

/// The roots since which what changed is asked for; nothing if the trees are compared.
fn asked_since(actions: &[Action]) -> Option<Vec<RootHash>> {
    actions.iter().find_map(|action| match action {
        Action::Ask(.., Query::Entries, bytes) => Some(DeltaQuery::decode(bytes).ok()?.roots),
        _ => None,
    })
}

fn delta(cells: Vec<Received>) -> Vec<u8> {
    let progress = Progress::Done;
    DeltaReply {
        progress,
        cells,
        notices: Vec::new(),
    }
    .encode(false)
}

pub(super) fn received(key: &str, time: u64) -> Received {
    let key = CellKey::own(Some(zenoh_keyexpr::OwnedKeyExpr::try_from(key).unwrap()).into());
    let cell = Cell {
        timestamp: Timestamp { time, id: [7; 16] },
        content: Content::Tombstone,
    };
    intact(key, cell)
}

fn intact(key: CellKey, cell: Cell) -> Received {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&Version::of(&key, &cell).digest.0[..CHECK_BYTES]);
    Received { key, cell, check }
}

#[test]
fn only_what_may_be_believed_is_joined() {
    let mut run = Run::with_peer();
    let request = asked(&run.hear(9)).expect("a pull begins");
    let ahead = NOW + (11 << 32);
    let mut damaged = received("d", NOW);
    damaged.check[0] ^= 1;
    let reply = EntriesReply {
        done: 1,
        cells: vec![
            received("a", NOW),
            received("c", ahead),
            damaged,
            received("e", NOW + (9 << 32)),
        ],
        notices: Vec::new(),
    };
    let actions = run.handle(Event::Answer(request, Ok(reply.encode(false))));
    let joined: Vec<&CellKey> = actions
        .iter()
        .flat_map(|action| match action {
            Action::Join(_, cells) => cells.iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        })
        .collect();
    let expected = [received("a", 0).key, received("e", 0).key];
    assert_eq!(joined, expected.iter().collect::<Vec<_>>());
    let rejected = run.machine.status().rejected;
    assert_eq!((rejected.clock, rejected.digest), (1, 1));
    assert_eq!(rejected.total(), 2);
    let is_told = |action: &Action| matches!(action, Action::Report(Report::Rejected(PEER, _)));
    assert!(actions.iter().any(is_told));
}

#[test]
fn cells_whose_parts_nest_too_deep_are_rejected_and_counted() {
    // On the stack of a worker.
    let run = || {
        let mut run = Run::with_peer();
        let request = asked(&run.hear(9)).expect("a pull begins");
        let within = |objects: usize| {
            let part = [3, 0, 1].repeat(objects);
            let own = received("a", NOW);
            let key = CellKey {
                part: Part::from(&part[..]),
                ..own.key
            };
            intact(key, own.cell)
        };
        let cells = vec![within(MAX_NESTING), within(MAX_NESTING + 1), within(19_000)];
        let expected = cells[0].key.clone();
        let reply = EntriesReply {
            done: 1,
            cells,
            notices: Vec::new(),
        }
        .encode(false);
        let actions = run.handle(Event::Answer(request, Ok(reply)));
        let joined = actions.iter().find_map(|action| match action {
            Action::Join(_, cells) => Some(cells.iter().map(|(key, _)| key).collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(joined, Some(vec![&expected]));
        let status = run.machine.status();
        assert_eq!((status.rejected.strategy, status.rejected.total()), (2, 2));
        assert_eq!(status.cells_received, 1);
    };
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    worker.expect("a thread").join().expect("no panic");
}

/// Nobody can be made to walk through a key expression, however many chunks it has.
#[test]
fn a_token_with_a_long_key_expression_is_compared() {
    let run = || {
        let mut run = Run::new();
        let settings = Settings {
            group: group("demo/**/state", Some("demo")),
            ..run.machine.settings().clone()
        };
        run.machine = Machine::new(
            settings,
            &mut Context {
                now: Duration::ZERO,
                wall: NOW,
                random: &mut || 0,
                view: &Stub::default(),
            },
        );
        let long = "a/".repeat(29_000);
        for (theirs, has_common) in [("state", true), ("other", false)] {
            let theirs = format!("demo/**/{long}{theirs}");
            let other = token(group(&theirs, None), PEER);
            let actions = run.handle(Event::Appeared(other));
            let is_told = |action: &Action| matches!(action, Action::Report(Report::Isolated(..)));
            assert_eq!(actions.iter().any(is_told), has_common);
        }
    };
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    worker.expect("a thread").join().expect("no panic");
}

#[test]
fn keys_outside_of_the_storage_are_rejected() {
    let mut run = Run::new();
    // The storage's keys have one chunk below the prefix.
    let settings = Settings {
        group: group("demo/*", Some("demo")),
        ..run.machine.settings().clone()
    };
    run.machine = Machine::new(
        settings,
        &mut Context {
            now: Duration::ZERO,
            wall: NOW,
            random: &mut || 0,
            view: &Stub::default(),
        },
    );
    run.handle(Event::Appeared(token(group("demo/*", Some("demo")), PEER)));
    let request = asked(&run.hear(9)).expect("a pull begins");
    let reply = EntriesReply {
        done: 1,
        cells: vec![received("a", NOW), received("a/b", NOW)],
        notices: Vec::new(),
    };
    run.handle(Event::Answer(request, Ok(reply.encode(false))));
    let status = run.machine.status();
    assert_eq!((status.cells_received, status.rejected.key_expr), (1, 1));
}

#[test]
fn a_bad_answer_ends_the_pull_and_the_next_comes_later_and_later() {
    let mut run = Run::with_peer();
    let mut request = asked(&run.hear(9)).expect("a pull begins");
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let failed_at = run.now;
        let actions = run.handle(Event::Answer(request, Ok(vec![0xff; 20])));
        assert!(asked(&actions).is_none());
        request = run.pull();
        pauses.push(run.now - failed_at);
    }
    assert!(pauses[0] < Duration::from_secs(1), "{pauses:?}");
    assert!(
        pauses.windows(2).all(|two| two[0] < two[1] * 2),
        "{pauses:?}"
    );
    assert!(pauses[5] > Duration::from_secs(10), "{pauses:?}");
    assert!(pauses[8] < Duration::from_secs(40), "{pauses:?}");
    let status = run.machine.status();
    assert_eq!((status.failed, status.rejected.malformed), (9, 9));
    // A link that heals is reason to try at once.
    run.handle(Event::Answer(request, Err("gone".to_owned())));
    let healed = run.handle(Event::Appeared(token(group("demo/**", Some("demo")), PEER)));
    assert!(asked(&healed).is_some());
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    let mut run = Run::with_peer();
    assert!(asked(&run.hear(9)).is_some());
    run.now = run.machine.wake_at().max(REQUEST_TIMEOUT * 2);
    run.handle(Event::Tick);
    assert_eq!(run.machine.status().failed, 1);
    // What comes too late is not taken for an answer to something else.
    let request = run.pull();
    let late = run.handle(Event::Answer(request - 1, Ok(vec![])));
    assert!(late.is_empty() && !run.machine.is_idle());
}

#[test]
fn only_a_peer_that_differs_is_pulled_from() {
    for (root, relation) in [(0, Relation::Equal), (1, Relation::Behind)] {
        let mut run = Run::with_peer();
        assert!(asked(&run.hear(root)).is_none());
        assert_eq!(run.relation(), relation);
        run.now = Duration::from_secs(20);
        assert!(asked(&run.handle(Event::Tick)).is_none());
    }
    // One that cannot be compared counts as different, after a time.
    let mut run = Run::with_peer();
    assert!(asked(&run.hear(2)).is_none());
    assert_eq!(run.relation(), Relation::Unknown);
    run.pull();
    assert!(run.now >= Duration::from_secs(3) && run.now < Duration::from_secs(4));
    // One that is not there is left alone.
    let mut run = Run::new();
    assert!(asked(&run.hear(9)).is_none());
}

/// What was found out by a pull is over, and the peer is behind for another reason.
#[test]
fn what_is_over_wakes_nobody() {
    let mut run = Run::with_peer();
    run.now = Duration::from_secs(10);
    let peer = run.machine.peers.get_mut(&PEER).expect("known");
    peer.included = Some(peers::Included {
        theirs: RootHash([9; 32]),
        ours: RootHash([0; 32]),
        until: Duration::from_secs(9),
    });
    run.hear(1);
    assert_eq!(run.relation(), Relation::Behind);
    run.handle(Event::Tick);
    assert!(run.machine.wake_at() > run.now);
}

#[test]
fn of_many_with_one_root_one_is_asked() {
    let mut run = Run::new();
    for n in 2..50u8 {
        let id = ReplicaId([n; 16]);
        run.handle(Event::Appeared(token(group("demo/**", Some("demo")), id)));
        run.handle(Event::Announced(id, announcement(9).encode()));
    }
    run.now = REQUEST_TIMEOUT / 2;
    run.handle(Event::Tick);
    let status = run.machine.status();
    assert_eq!((status.started, status.peers.len()), (1, 48));
}

#[test]
fn replicas_that_merge_or_are_named_otherwise_are_isolated() {
    let mut run = Run::with_peer();
    let other = Announcement {
        fingerprint: Fingerprint::of("magic"),
        ..announcement(9)
    };
    let actions = run.handle(Event::Announced(PEER, other.encode()));
    assert!(asked(&actions).is_none());
    assert_eq!(run.relation(), Relation::Isolated);
    let tell = |actions: &[Action]| {
        let reports = actions.iter().filter_map(|action| match action {
            Action::Report(report @ Report::Isolated(..)) => Some(report.to_string()),
            _ => None,
        });
        reports.collect::<Vec<_>>()
    };
    assert_eq!(tell(&actions).len(), 1);
    let again = run.handle(Event::Announced(PEER, other.encode()));
    assert!(tell(&again).is_empty(), "once is enough");
    // It was configured anew.
    assert!(asked(&run.hear(9)).is_some());

    let mut run = Run::new();
    let mut newer = token(group("demo/**", Some("demo")), PEER);
    newer.protocol = PROTOCOL + 1;
    for (token, reason) in [
        (token(group("demo/*", Some("demo")), PEER), "key expression"),
        (token(group("demo/**", None), PEER), "strip_prefix"),
        (newer, "protocol 3"),
    ] {
        let told = tell(&run.handle(Event::Appeared(token)));
        assert!(told.len() == 1 && told[0].contains(reason), "{told:?}");
    }
    // What has no key in common is nothing to us.
    let stranger = token(group("else/**", None), ReplicaId([9; 16]));
    assert!(tell(&run.handle(Event::Appeared(stranger))).is_empty());
    assert_eq!(run.machine.status().peers.len(), 1);
}

/// A replica that is upgraded, and put back: what it said before comes after its token, or before it.
#[test]
fn what_is_on_its_way_while_a_token_changes_makes_no_second_replica() {
    let mut run = Run::with_peer();
    let newer = || Token {
        protocol: PROTOCOL + 1,
        ..of_group(PEER)
    };
    let check = |run: &Run, relation| {
        assert_eq!(run.machine.status().peers.len(), 1);
        assert_eq!(run.relation(), relation);
    };
    run.hear(1);
    run.handle(Event::Gone(of_group(PEER)));
    run.handle(Event::Appeared(newer()));
    check(&run, Relation::Isolated);
    run.hear(1);
    check(&run, Relation::Isolated);
    run.handle(Event::Gone(newer()));
    check(&run, Relation::Isolated);
    run.hear(0);
    check(&run, Relation::Unknown);
    run.handle(Event::Appeared(of_group(PEER)));
    check(&run, Relation::Equal);
}

#[test]
fn of_two_with_one_identity_the_younger_takes_another() {
    let with = |started| Announcement {
        incarnation: Incarnation { started, nonce: 5 },
        ..announcement(9)
    };
    let mut run = Run::new();
    // Itself, as heard by way of its own subscription.
    assert!(!renames(
        &run.handle(Event::Announced(OWN, with(5).encode()))
    ));
    run.now = Duration::from_secs(5);
    let actions = run.handle(Event::Announced(OWN, with(6).encode()));
    assert!(!renames(&actions));
    // The younger hears of it, and when it is silent all is declared again.
    let is_announced = |actions: &[Action]| {
        let announce = |action: &Action| matches!(action, Action::Announce(_));
        actions.iter().any(announce)
    };
    assert!(is_announced(&actions));
    run.now = Duration::from_secs(7);
    assert!(run.handle(Event::Tick).contains(&Action::DeclareAgain));

    let actions = run.handle(Event::Announced(OWN, with(4).encode()));
    assert!(is_announced(&actions) && renames(&actions));
}

fn renames(actions: &[Action]) -> bool {
    actions.contains(&Action::TakeNewIdentity)
}

#[test]
fn who_is_silent_is_asked_and_what_cannot_be_read_is_counted() {
    let mut run = Run::with_peer();
    let mut asks = 0;
    while run.now < Duration::from_secs(60) {
        run.now = run.machine.wake_at();
        let actions = run.handle(Event::Tick);
        asks += actions
            .iter()
            .filter(|a| **a == Action::AskRoot(PEER))
            .count();
    }
    assert!((5..12).contains(&asks), "{asks} times");
    run.handle(Event::Announced(PEER, vec![7, 7]));
    run.handle(Event::Announced(PEER, Vec::new()));
    let status = run.machine.status();
    assert_eq!((status.rejected.malformed, status.heard), (2, 0));
}

#[test]
fn what_changed_since_a_common_root_is_asked_for_before_trees_are_compared() {
    let root = |n| RootHash([n; 32]);
    let mut run = Run::with_cell();
    run.hear(1);
    // One's own root, and the last that both have had.
    let actions = run.hear(9);
    assert_eq!(asked_since(&actions), Some(vec![root(0), root(1)]));
    // Nothing came of it, and yet the roots differ.
    let request = asked(&actions).expect("asked");
    run.handle(Event::Answer(request, Ok(delta(vec![]))));
    assert_eq!(run.machine.status().deltas, 1);
    let actions = run.until_asked();
    assert!(run.now >= Duration::from_millis(400), "{:?}", run.now);
    assert_eq!(asked_since(&actions), None);
    // When they have been equal again, it is as before.
    let request = asked(&actions).expect("asked");
    run.handle(Event::Answer(request, Err("gone".to_owned())));
    run.hear(0);
    run.now += Duration::from_secs(5);
    assert_eq!(asked_since(&run.hear(9)), Some(vec![root(0)]));
}

#[test]
fn a_peer_that_knows_no_common_root_is_compared_with_at_once() {
    let mut run = Run::with_cell();
    let request = asked(&run.hear(9)).expect("asked");
    let progress = Progress::Unknown;
    let cells = Vec::new();
    let answer = DeltaReply {
        progress,
        cells,
        notices: Vec::new(),
    }
    .encode(false);
    let actions = run.handle(Event::Answer(request, Ok(answer)));
    let asks = |action: &Action| matches!(action, Action::Ask(.., Query::Digest, _));
    assert!(actions.iter().any(asks), "{actions:?}");
}

#[test]
fn cells_of_a_delta_are_checked_as_any() {
    let mut run = Run::with_cell();
    let request = asked(&run.hear(9)).expect("asked");
    let mut wrong = received("wrong", 1);
    wrong.check[0] ^= 1;
    let cells = vec![
        received("future", NOW + (60 << 32)),
        received("new", 1),
        wrong,
    ];
    let actions = run.handle(Event::Answer(request, Ok(delta(cells))));
    let joined = actions.iter().find_map(|action| match action {
        Action::Join(_, cells) => Some(cells.len()),
        _ => None,
    });
    assert_eq!(joined, Some(1));
    let rejected = run.machine.status().rejected;
    assert_eq!((rejected.clock, rejected.digest), (1, 1));
}

#[test]
fn after_a_useful_pull_the_next_waits_until_the_peer_has_another_root() {
    for other_root in [false, true] {
        let mut run = Run::with_cell();
        let request = asked(&run.hear(9)).expect("asked");
        run.view.useful = 1;
        let answer = delta(vec![received("new", 1)]);
        run.handle(Event::Answer(request, Ok(answer)));
        // It has been joined.
        assert!(asked(&run.handle(Event::Root)).is_none());
        run.now += Duration::from_millis(10);
        match other_root {
            true => assert!(asked(&run.hear(10)).is_some()),
            false => {
                assert!(asked(&run.hear(9)).is_none());
                run.pull();
                assert!(run.now > Duration::from_millis(400), "{:?}", run.now);
            }
        }
    }
}

#[test]
fn who_cannot_be_reached_yet_is_asked_again_soon_and_quietly() {
    let mut run = Run::with_peer();
    let reports = |actions: &[Action]| {
        let reports = |action: &&Action| matches!(action, Action::Report(_));
        actions.iter().filter(reports).count()
    };
    let request = asked(&run.hear(9)).expect("asked");
    let actions = run.handle(Event::Answer(request, Err("no answer".to_owned())));
    assert_eq!((reports(&actions), asked(&actions)), (0, None));
    let request = run.pull();
    assert!(run.now <= Duration::from_millis(60), "{:?}", run.now);
    let status = run.machine.status();
    assert_eq!((status.started, status.failed), (1, 0));
    // Once.
    let actions = run.handle(Event::Answer(request, Err("no answer".to_owned())));
    assert_eq!((reports(&actions), asked(&actions)), (1, None));
    run.pull();
    assert!(run.now >= Duration::from_millis(400), "{:?}", run.now);
    assert_eq!(run.machine.status().failed, 1);
}

fn announces(actions: &[Action]) -> bool {
    let announce = |action: &Action| matches!(action, Action::Announce(_));
    actions.iter().any(announce)
}

/// Has what is due happen until `end`; the times at which it announced itself.
fn announced_until(run: &mut Run, end: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    loop {
        if announces(&run.handle(Event::Tick)) {
            times.push(run.now);
        }
        let next = run.machine.wake_at().max(run.now);
        if next > end {
            run.now = end;
            return times;
        }
        run.now = next;
    }
}

#[test]
fn roots_are_announced_at_once_once_a_second_under_load_and_now_and_then_when_idle() {
    let seconds = Duration::from_secs_f64;
    let mut run = Run::new();
    announced_until(&mut run, seconds(100.0));
    // Idle: every sync interval, give or take a fifth.
    let idle = announced_until(&mut run, seconds(1000.0));
    let pauses: Vec<_> = idle.windows(2).map(|two| two[1] - two[0]).collect();
    let is_about = |pause: &Duration| (seconds(24.0)..=seconds(36.0)).contains(pause);
    assert!(pauses.len() > 20 && pauses.iter().all(is_about), "{idle:?}");
    // A root that changed is announced at once.
    run.now += seconds(2.0);
    run.view.root = 1;
    assert!(announces(&run.handle(Event::Root)));
    assert!(!announces(&run.handle(Event::Root)), "it is the same");
    // One that changes all the time is announced once a second.
    let (begin, mut times) = (run.now, vec![run.now]);
    for step in 1..=200u32 {
        let at = begin + seconds(0.05) * step;
        times.extend(announced_until(&mut run, at));
        run.view.root = (step % 250) as u8;
        if announces(&run.handle(Event::Root)) {
            times.push(run.now);
        }
    }
    let pauses: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).collect();
    let is_about = |pause: &Duration| (seconds(1.0)..=seconds(1.06)).contains(pause);
    assert!(
        pauses.len() >= 9 && pauses.iter().all(is_about),
        "{times:?}"
    );
    // Who appears hears it within a moment.
    run.now += seconds(0.2);
    let appeared = run.now;
    let mut heard = announces(&run.handle(Event::Appeared(of_group(PEER))));
    while !heard && run.now < appeared + seconds(1.0) {
        run.now = run.machine.wake_at().max(run.now);
        heard = announces(&run.handle(Event::Tick));
    }
    assert!(
        run.now - appeared <= Duration::from_millis(50),
        "{:?}",
        run.now
    );
}

pub(super) fn of_group(replica: ReplicaId) -> Token {
    token(group("demo/**", Some("demo")), replica)
}

#[test]
fn what_anyone_can_make_happen_is_told_now_and_then_and_renames_are_bounded() {
    let mut run = Run::with_peer();
    let reports = |actions: &[Action]| {
        let reports = actions.iter().filter(|a| matches!(a, Action::Report(_)));
        reports.count()
    };
    let mut told = 0;
    for _ in 0..3000 {
        run.now += Duration::from_millis(10);
        told += reports(&run.handle(Event::Announced(PEER, vec![7, 7])));
    }
    assert!((3..=4).contains(&told), "{told} times in 30 s");
    assert_eq!(run.machine.status().rejected.malformed, 3000);
    // Someone claims to have had this one's name before, again and again.
    let forged = Announcement {
        incarnation: Incarnation {
            started: 1,
            nonce: 1,
        },
        ..announcement(9)
    };
    let (mut renamed, mut told) = (0, 0);
    for _ in 0..360_000 {
        run.now += Duration::from_millis(10);
        let actions = run.handle(Event::Announced(OWN, forged.encode()));
        told += reports(&actions);
        if renames(&actions) {
            renamed += 1;
            run.rename();
        }
    }
    assert!((5..=9).contains(&renamed), "{renamed} times in an hour");
    assert!((renamed..=400).contains(&told), "{told} reports in an hour");
}

#[test]
fn what_a_double_undeclares_is_declared_again_but_not_again_and_again() {
    let mut run = Run::with_peer();
    let declares = |run: &mut Run, seconds: u64, event: &dyn Fn() -> Event| {
        let mut count = 0;
        for _ in 0..seconds * 10 {
            run.now += Duration::from_millis(100);
            let actions = run.handle(event());
            count += actions
                .iter()
                .filter(|a| **a == Action::DeclareAgain)
                .count();
        }
        count
    };
    let gone = || Event::Gone(of_group(OWN));
    assert!(run.handle(gone()).is_empty());
    assert_eq!(
        declares(&mut run, 1, &|| Event::Tick),
        1,
        "its own token is gone"
    );
    assert_eq!(declares(&mut run, 60, &|| Event::Tick), 0);
    assert!((5..=9).contains(&declares(&mut run, 3600, &gone)));
    // Of another group it is not its own.
    let mut run = Run::with_peer();
    let other = || Event::Gone(token(group("demo/*", None), OWN));
    assert_eq!(declares(&mut run, 60, &other), 0);
    // Younger ones that are made up, every second.
    let forged = || {
        let incarnation = Incarnation {
            started: 6,
            nonce: 5,
        };
        let announced = Announcement {
            incarnation,
            ..announcement(9)
        };
        Event::Announced(OWN, announced.encode())
    };
    assert!(declares(&mut run, 10, &forged) <= 1);
    assert!(declares(&mut run, 3600, &forged) <= 9);
}

/// Zenoh does not tell a router that was away for a moment what its neighbours have declared: it answers, but
/// neither are its announcements heard, nor does it find whom to pull from.
#[test]
fn for_one_that_only_answers_all_is_declared_again_but_not_again_and_again() {
    // For so many seconds, of a peer that announces itself so often by itself, and answers. An operator has it
    // asked each five seconds, or nobody does.
    let declares = |seconds: u64, announces: u64, is_asked: bool| {
        let mut run = Run::with_peer();
        let mut count = 0;
        for second in 1..seconds {
            run.now = Duration::from_secs(second);
            let event = match is_asked && second % 5 == 0 {
                true => Event::SyncNow,
                false => Event::Tick,
            };
            let mut actions = run.handle(event);
            if actions.contains(&Action::AskRoot(PEER)) || second % announces == 0 {
                actions.extend(run.hear(0));
            }
            let again = actions.contains(&Action::DeclareAgain);
            count += u64::from(again);
            if again {
                // Nothing has come of it.
                run.handle(Event::TokensMissed);
                run.handle(Event::Appeared(of_group(PEER)));
            }
        }
        count
    };
    let never = u64::MAX;
    assert_eq!(declares(120, never, false), 1, "within four intervals");
    assert_eq!(declares(120, never, true), 0, "it was asked too often");
    assert_eq!(declares(3600, 30, false), 0);
    assert_eq!(declares(3600, 30, true), 0);
    let again = declares(86_400, never, false);
    assert!((5..=40).contains(&again), "{again} times in a day");
    // One whose token is not there does not know this one, or is gone.
    let mut run = Run::new();
    for _ in 0..100 {
        run.now += Duration::from_secs(30);
        assert!(!run.handle(Event::SyncNow).contains(&Action::DeclareAgain));
        assert!(!run.hear(0).contains(&Action::DeclareAgain));
    }
}

#[test]
fn who_has_been_gone_for_a_day_is_forgotten() {
    let mut run = Run::with_peer();
    let foreign = ReplicaId([8; 16]);
    let other = || token(group("demo/*", None), foreign);
    run.handle(Event::Appeared(other()));
    let day = Duration::from_secs(86_400);
    let known = |run: &mut Run, at: Duration| {
        run.now = at;
        run.handle(Event::Tick);
        run.machine.status().peers.len()
    };
    assert_eq!(known(&mut run, 2 * day), 2, "who is there stays");
    run.handle(Event::Gone(of_group(PEER)));
    run.handle(Event::Gone(other()));
    assert_eq!(known(&mut run, 3 * day - Duration::from_secs(1)), 2);
    run.hear(9);
    assert_eq!(known(&mut run, 3 * day), 1, "who is heard stays");
    run.handle(Event::TokensMissed);
    assert_eq!(known(&mut run, 4 * day), 0);
}

#[test]
fn who_is_gone_can_be_forgotten_and_comes_back_as_new() {
    let mut run = Run::with_peer();
    let foreign = ReplicaId([8; 16]);
    run.handle(Event::Appeared(token(group("demo/*", None), foreign)));
    run.hear(9);
    for id in [PEER, foreign] {
        assert_eq!(run.machine.forget(&id), Forgotten::Present);
    }
    assert_eq!(run.machine.status().peers.len(), 2);
    run.handle(Event::Gone(of_group(PEER)));
    run.handle(Event::Gone(token(group("demo/*", None), foreign)));
    for id in [PEER, foreign] {
        assert_eq!(run.machine.forget(&id), Forgotten::Done);
        assert_eq!(run.machine.forget(&id), Forgotten::Unknown);
    }
    assert!(run.machine.status().peers.is_empty());
    // A pull from it, if one is going on, ends as any.
    run.now += Duration::from_secs(120);
    run.handle(Event::Tick);
    assert!(run.machine.is_idle());
    run.handle(Event::Appeared(of_group(PEER)));
    assert_eq!(run.relation(), Relation::Unknown);
}

#[test]
fn who_is_heard_and_not_seen_is_looked_for() {
    let mut run = Run::with_peer();
    let looks = |run: &mut Run, seconds: u64| {
        let mut count = 0;
        for _ in 0..seconds {
            run.now += Duration::from_secs(1);
            let actions = run.hear(9);
            count += actions
                .iter()
                .filter(|a| **a == Action::LookAtTokens)
                .count();
        }
        count
    };
    assert_eq!(looks(&mut run, 60), 0, "it is there");
    run.handle(Event::Gone(of_group(PEER)));
    assert_eq!(looks(&mut run, 3), 1);
    run.handle(Event::TokensMissed);
    run.handle(Event::Appeared(of_group(PEER)));
    assert_eq!(looks(&mut run, 60), 0);
    // One that has none is not looked for for ever.
    run.handle(Event::Gone(of_group(PEER)));
    assert_eq!(looks(&mut run, 3600), 6);
}

#[test]
fn after_tokens_were_missed_only_those_count_that_are_seen_again() {
    let mut run = Run::with_peer();
    let gone = ReplicaId([9; 16]);
    run.handle(Event::Appeared(of_group(gone)));
    run.handle(Event::Appeared(token(
        group("demo/*", None),
        ReplicaId([8; 16]),
    )));
    let present = |run: &Run| {
        let peers = run.machine.status().peers.into_iter();
        let present = peers.filter(|peer| peer.present);
        present.map(|peer| peer.replica).collect::<Vec<_>>()
    };
    assert_eq!(present(&run).len(), 3);
    run.handle(Event::TokensMissed);
    assert!(present(&run).is_empty());
    assert!(
        asked(&run.hear(9)).is_none(),
        "who is not there is not asked"
    );
    run.handle(Event::Appeared(of_group(PEER)));
    assert_eq!(present(&run), [PEER]);
    run.pull();
}

#[test]
fn replicas_of_other_groups_that_are_gone_make_room_for_others() {
    let mut run = Run::new();
    for number in 0..5000u16 {
        let mut id = [8; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let token = token(group("demo/*", None), ReplicaId(id));
        run.handle(Event::Appeared(token.clone()));
        let is_known = |peer: &PeerStatus| peer.replica == token.replica && peer.present;
        assert!(run.machine.status().peers.iter().any(is_known), "{number}");
        run.handle(Event::Gone(token));
    }
    assert!(run.machine.status().peers.len() <= 1024);
}
