//! What bounds a pull: answerers that make things up, links that are slow, others
//! that wait.

use std::{collections::BTreeSet, time::Duration};

use super::{
    machine_tests::{NOW, PEER, Run, announcement, asked, of_group, received},
    *,
};
use crate::replica::Tree;

/// The query in `actions`, if there is one.
fn query(actions: &[Action]) -> Option<(u64, ReplicaId, Query, Vec<u8>)> {
    actions.iter().find_map(|action| match action {
        Action::Ask(request, peer, query, bytes) => Some((*request, *peer, *query, bytes.clone())),
        _ => None,
    })
}

/// Answers as long as it is asked; how often that was.
fn answer_all(
    run: &mut Run,
    mut actions: Vec<Action>,
    mut answer: impl FnMut(&mut Run, u64, Query, &[u8]) -> Vec<u8>,
) -> u64 {
    for answers in 0..10_000 {
        let Some((request, _, kind, bytes)) = query(&actions) else {
            return answers;
        };
        run.now += Duration::from_millis(1);
        let answer = answer(run, request, kind, &bytes);
        actions = run.handle(Event::Answer(request, Ok(answer)));
    }
    panic!("it goes on for ever");
}

#[test]
fn changes_that_are_made_up_end_a_pull() {
    let mut run = Run::with_cell();
    let begin = run.hear(9);
    let mut change = 0;
    // Each time there is more, and none of it may be joined.
    let answers = answer_all(&mut run, begin, |_, _, _, _| {
        change += 1;
        more_from_the_future(change)
    });
    assert_eq!(answers, 64);
    let status = run.machine.status();
    assert_eq!((status.failed, status.rejected.clock), (1, 64));
    assert!(run.machine.is_idle());
}

/// A peer that has nothing but what is rejected is asked once, until the clock has come so far.
#[test]
fn what_was_rejected_is_asked_for_once() {
    let mut run = Run::with_peer();
    let mut theirs = Tree::default();
    let future = received("future", NOW + (60 << 32));
    let version = future.intact().expect("it is what it says");
    let Ok(_) = theirs.upsert(future.key.clone(), version.into());
    let mut pulls = 0;
    let mut actions = run.hear(9);
    while run.now < Duration::from_secs(300) {
        let Some((request, _, kind, bytes)) = query(&actions) else {
            actions = run.until_asked_or(300);
            continue;
        };
        let answer = match kind {
            Query::Digest => answer_digests(&theirs, &crate::merge::Lifetimes::default(), &bytes)
                .expect("answered"),
            Query::Entries => {
                pulls += 1;
                let cells = vec![future.clone()];
                let reply = EntriesReply {
                    done: 1,
                    cells,
                    notices: Vec::new(),
                };
                reply.encode(false)
            }
        };
        actions = run.handle(Event::Answer(request, Ok(answer)));
    }
    assert_eq!((pulls, run.machine.status().rejected.clock), (1, 1));
    assert_eq!(run.machine.status().peers[0].refused_cells, 1);
}

/// An answer that says that there is more, with a cell that may not be joined.
fn more_from_the_future(change: u64) -> Vec<u8> {
    let progress = Progress::After(change);
    let cells = vec![received("future", NOW + (60 << 32))];
    DeltaReply {
        progress,
        cells,
        notices: Vec::new(),
    }
    .encode(false)
}

#[test]
fn a_pull_that_fails_says_what_was_rejected() {
    let mut run = Run::with_cell();
    let mut actions = run.hear(9);
    for change in 1..=64 {
        let (request, ..) = query(&actions).expect("it goes on");
        actions = run.handle(Event::Answer(request, Ok(more_from_the_future(change))));
    }
    let reports: Vec<&Report> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Report(report) => Some(report),
            _ => None,
        })
        .collect();
    let rejections = Rejections {
        clock: 64,
        ..Rejections::default()
    };
    let is_told =
        |report: &&&Report| matches!(report, Report::Rejected(PEER, told) if *told == rejections);
    assert_eq!(reports.iter().filter(is_told).count(), 1, "{reports:?}");
    let has_failed = |report: &&&Report| matches!(report, Report::Failed(PEER, _));
    assert_eq!(reports.iter().filter(has_failed).count(), 1, "{reports:?}");
}

#[test]
fn differences_that_are_made_up_end_a_pull() {
    let mut run = Run::with_cell();
    run.hear(9);
    // What changed is not known to the peer.
    let (progress, cells) = (Progress::Unknown, Vec::new());
    let unknown = DeltaReply {
        progress,
        cells,
        notices: Vec::new(),
    }
    .encode(false);
    let begin = run.handle(Event::Answer(1, Ok(unknown)));
    let mut number = 0u64;
    let answers = answer_all(&mut run, begin, |_, _, kind, bytes| {
        if kind == Query::Entries {
            // Of what is made up nothing is there.
            let count = EntriesQuery::decode(bytes).expect("readable").wants.len();
            let (done, cells) = (count, Vec::new());
            return EntriesReply {
                done,
                cells,
                notices: Vec::new(),
            }
            .encode(false);
        }
        // There is always another key in between.
        number += 1;
        let query = DigestQuery::decode(bytes).expect("readable");
        let made_up = query.fragments.iter().map(|(range, fragment)| {
            let gap = fragment.gap(range, 0);
            let key = received(&format!("a{}", "a".repeat(number as usize)), 1).key;
            let is_inside = gap.contains(&key);
            let short = query.salted.short(&[number as u8; 32]);
            let theirs = Fragment {
                entries: vec![(key, short)],
                gaps: vec![Some(short), Some(short)],
                ..Fragment::default()
            };
            match is_inside {
                true => vec![Differing::Fragment(0, theirs)],
                false => Vec::new(),
            }
        });
        DigestReply(made_up.collect()).encode(query.salted)
    });
    assert!(answers <= 64, "{answers} answers");
    assert!(run.machine.is_idle());
}

#[test]
fn over_a_slow_link_messages_become_shorter_until_they_get_through() {
    let mut run = Run::with_peer();
    let mut actions = run.hear(9);
    let mut sizes = Vec::new();
    // What takes longer than an answer may is too much.
    let most = 17_000;
    let mut pulled = 0;
    while pulled < 2 {
        let (request, _, _, bytes) = query(&actions).expect("asked");
        let wanted = EntriesQuery::decode(&bytes).expect("readable").max_bytes;
        sizes.push(wanted);
        actions = match wanted > most {
            true => {
                run.now += run.machine.terms(&PEER).timeout;
                let error = "there was no answer".to_owned();
                run.handle(Event::Answer(request, Err(error)))
            }
            false => {
                run.view.useful += 1;
                pulled += 1;
                let cells = vec![received("new", NOW)];
                let reply = EntriesReply {
                    done: 1,
                    cells,
                    notices: Vec::new(),
                };
                run.handle(Event::Answer(request, Ok(reply.encode(false))))
            }
        };
        if query(&actions).is_none() {
            actions = run.until_asked();
        }
    }
    let kib = |size: &u32| size >> 10;
    let sizes: Vec<_> = sizes.iter().map(kib).collect();
    // The first that is lost may have been dropped for what clients write: that goes again, among it.
    assert_eq!(sizes, [48, 48, 24, 12, 12]);
}

#[test]
fn a_long_pull_gives_way_to_others_that_have_something_else() {
    for (root_of_other, gives_way) in [(9, false), (10, true)] {
        let mut run = Run::with_peer();
        let begin = run.hear(9);
        let other = ReplicaId([3; 16]);
        run.handle(Event::Appeared(of_group(other)));
        let announced = announcement(root_of_other).encode();
        run.handle(Event::Announced(other, announced));
        // There is more and more, and all of it is new.
        let (mut actions, mut number) = (begin, 0u64);
        let mut peers = Vec::new();
        while run.now < Duration::from_secs(100) {
            let Some((request, peer, _, _)) = query(&actions) else {
                actions = run.until_asked();
                continue;
            };
            peers.push(peer);
            run.now += Duration::from_secs(1);
            number += 1;
            let cells = vec![received(&format!("k/{number:08}"), NOW)];
            let reply = EntriesReply {
                done: 0,
                cells,
                notices: Vec::new(),
            };
            actions = run.handle(Event::Answer(request, Ok(reply.encode(false))));
            run.view.useful += 1;
        }
        assert!(peers[..60].iter().all(|peer| *peer == PEER), "{peers:?}");
        assert_eq!(peers.contains(&other), gives_way, "{peers:?}");
    }
}

/// Whose answers take almost as long as they may, and have more and more, keeps nobody from a turn.
#[test]
fn of_many_that_are_slow_each_has_its_turn() {
    let ids: Vec<ReplicaId> = (0..4).map(|n| ReplicaId([100 + n; 16])).collect();
    let mut run = Run::with_cell();
    for (n, id) in ids.iter().enumerate() {
        run.handle(Event::Appeared(of_group(*id)));
        let announced = announcement(10 + n as u8).encode();
        run.handle(Event::Announced(*id, announced));
    }
    let (mut actions, mut number) = (Vec::new(), 0u64);
    let mut turns: Vec<(ReplicaId, Duration)> = Vec::new();
    let hours = Duration::from_secs(4 * 3600);
    while run.now < hours {
        let Some((request, peer, _, _)) = query(&actions) else {
            actions = run.until_asked();
            continue;
        };
        if turns.last().is_none_or(|(last, _)| *last != peer) {
            turns.push((peer, run.now));
        }
        let is_slow = peer == ids[0] || peer == ids[1];
        run.now += Duration::from_secs(if is_slow { 9 } else { 1 });
        number += 1;
        let delta = DeltaReply {
            progress: match is_slow {
                true => Progress::After(number),
                false => Progress::Done,
            },
            cells: vec![received(&format!("k/{number:08}"), NOW)],
            notices: Vec::new(),
        };
        actions = run.handle(Event::Answer(request, Ok(delta.encode(false))));
        run.view.useful += 1;
    }
    // Two that are slow, of eight minutes each, and what they were answering.
    let most = Duration::from_secs(2 * (8 * 60 + 9) + 30);
    for id in &ids {
        let times = turns
            .iter()
            .filter(|(peer, _)| peer == id)
            .map(|(_, at)| *at);
        let times: Vec<Duration> = std::iter::once(Duration::ZERO)
            .chain(times)
            .chain([hours])
            .collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(longest <= Some(most), "{id}: {longest:?}");
    }
}

#[test]
fn cells_that_are_rejected_are_asked_for_less_and_less_often() {
    let mut run = Run::with_peer();
    let mut request = asked(&run.hear(9)).expect("a pull begins");
    let mut pulls = 0;
    while run.now < Duration::from_secs(300) {
        pulls += 1;
        // What its sender meant nobody knows, so it is not remembered.
        let cells = vec![Received {
            check: [0; CHECK_BYTES],
            ..received("damaged", NOW)
        }];
        let reply = EntriesReply {
            done: 1,
            cells,
            notices: Vec::new(),
        };
        run.handle(Event::Answer(request, Ok(reply.encode(false))));
        request = run.pull();
    }
    assert!((10..=20).contains(&pulls), "{pulls} in 300 s");
    assert_eq!(run.machine.status().rejected.digest, pulls);
}

#[test]
fn cells_that_are_not_new_end_a_pull_but_not_soon() {
    let mut run = Run::with_cell();
    let begin = run.hear(9);
    let mut change = 0;
    let answers = answer_all(&mut run, begin, |_, _, _, _| {
        change += 1;
        let (progress, cells) = (Progress::After(change), vec![received("old", 1)]);
        DeltaReply {
            progress,
            cells,
            notices: Vec::new(),
        }
        .encode(false)
    });
    assert_eq!((answers, run.machine.status().failed), (4096, 1));
}

/// Who announces another root ten times a second, and has nothing new, gets no more than
/// its share of the one pull at a time, and less and less of it.
#[test]
fn a_hundred_peers_with_ever_new_roots_are_pulled_from_one_at_a_time() {
    let ids: Vec<ReplicaId> = (0..100).map(|n| ReplicaId([100 + n; 16])).collect();
    let mut run = Run::with_cell();
    for id in &ids {
        run.handle(Event::Appeared(of_group(*id)));
    }
    let (mut asked_at, mut pulls) = (None, Vec::new());
    let mut take = |actions: Vec<Action>, now: Duration, asked_at: &mut Option<(u64, Duration)>| {
        for action in actions {
            if let Action::Ask(request, peer, ..) = action {
                assert_eq!(*asked_at, None, "one pull at a time");
                *asked_at = Some((request, now));
                pulls.push((now, peer));
            }
        }
    };
    for step in 0..1_200u32 {
        run.now = Duration::from_millis(100) * step;
        for (index, id) in ids.iter().enumerate() {
            let mut announced = announcement(9);
            let root = &mut announced.span.root.0;
            root[1..5].copy_from_slice(&step.to_be_bytes());
            root[5] = index as u8;
            let actions = run.handle(Event::Announced(*id, announced.encode()));
            take(actions, run.now, &mut asked_at);
        }
        // An answer takes as long as it may seem to from afar.
        if let Some((request, _)) =
            asked_at.take_if(|(_, at)| run.now >= *at + Duration::from_millis(300))
        {
            let (progress, cells) = (Progress::Done, Vec::new());
            let nothing = DeltaReply {
                progress,
                cells,
                notices: Vec::new(),
            }
            .encode(false);
            let actions = run.handle(Event::Answer(request, Ok(nothing)));
            take(actions, run.now, &mut asked_at);
        }
        let actions = run.handle(Event::Tick);
        take(actions, run.now, &mut asked_at);
    }
    let in_minute = |from: u64| {
        let minute = Duration::from_secs(from)..Duration::from_secs(from + 60);
        pulls.iter().filter(|(at, _)| minute.contains(at)).count()
    };
    assert!(in_minute(0) <= 200, "{} pulls", in_minute(0));
    // Many had their turn.
    let asked: BTreeSet<_> = pulls.iter().map(|(_, peer)| peer).collect();
    assert!(
        asked.len() > 30,
        "{} of {} were asked",
        asked.len(),
        pulls.len()
    );
}
