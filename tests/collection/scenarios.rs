//! The bounds that are searched, and the bugs that have to be found in them.

use std::collections::BTreeSet;

use crate::{
    content::{DEL2, INC1, INC2, INC4, NULL2, OWN4, Ops, PUT1, PUT4, RULE2, set},
    explore::explore,
    world::{Action, Bounds, Budget, Bug, REPLICAS},
};

/// How many worlds a search looks at before it gives up: a bound, said in the documentation.
fn most() -> usize {
    let text = std::env::var("MST_MODEL_STATES").ok();
    text.map_or(60_000, |text| {
        text.parse().expect("MST_MODEL_STATES is a number")
    })
}

/// In one of so many worlds all is let come to rest.
const RESTS: u64 = 8;

fn scenario(name: &'static str, clients: [Ops; REPLICAS], budget: Budget) -> Bounds {
    Bounds {
        name,
        clients,
        budget,
        members: REPLICAS,
        top: 3,
        ..Bounds::default()
    }
}

fn deletes() -> Bounds {
    let clients = [set(&[PUT1]), set(&[DEL2]), 0];
    scenario("deletes", clients, Budget::default())
}

fn counters() -> Bounds {
    let clients = [set(&[INC1]), set(&[INC2]), 0];
    scenario("counters", clients, Budget::default())
}

fn queues() -> Bounds {
    Bounds {
        queues: true,
        ..scenario("queues", [set(&[INC1]), 0, 0], Budget::default())
    }
}

fn epochs() -> Bounds {
    let clients = [set(&[INC1, INC4]), 0, 0];
    Bounds {
        top: 5,
        ..scenario("epochs", clients, Budget::default())
    }
}

fn rules() -> Bounds {
    let clients = [set(&[PUT1, INC1]), set(&[RULE2]), 0];
    scenario("rules", clients, Budget::default())
}

fn fields() -> Bounds {
    let clients = [set(&[INC1]), set(&[NULL2]), set(&[OWN4])];
    scenario("fields", clients, Budget::default())
}

fn late() -> Bounds {
    let budget = Budget {
        announcements: 5,
        crashes: 1,
        ..Budget::default()
    };
    Bounds {
        late: true,
        ..scenario("late announcements", [set(&[INC1]), 0, 0], budget)
    }
}

fn answers() -> Bounds {
    Bounds {
        answers: true,
        ..scenario(
            "answers on their way",
            [set(&[PUT1]), set(&[DEL2]), 0],
            Budget::default(),
        )
    }
}

fn crashes() -> Bounds {
    let budget = Budget {
        crashes: 1,
        ..Budget::default()
    };
    scenario("crashes", [set(&[INC1]), 0, 0], budget)
}

fn restores() -> Bounds {
    let budget = Budget {
        restores: 1,
        ..Budget::default()
    };
    Bounds {
        imaged: 1,
        ..scenario("restores", [set(&[INC1]), 0, 0], budget)
    }
}

fn lapses() -> Bounds {
    let budget = Budget {
        lapses: 1,
        ..Budget::default()
    };
    Bounds {
        lapsing: 1,
        ..scenario("lapses", [set(&[PUT1]), set(&[DEL2]), 0], budget)
    }
}

fn lapses_of_counters() -> Bounds {
    Bounds {
        name: "lapses, counters",
        clients: [set(&[INC1]), set(&[INC2]), 0],
        ..lapses()
    }
}

fn lapses_of_one_counter() -> Bounds {
    Bounds {
        name: "lapses, one counter",
        clients: [set(&[INC1]), 0, 0],
        ..lapses()
    }
}

/// Two members, of which neither may go on without the other.
fn lapses_of_two() -> Bounds {
    let budget = Budget {
        lapses: 2,
        ..Budget::default()
    };
    Bounds {
        members: 2,
        lapsing: 3,
        ..scenario("lapses of two", [set(&[PUT1]), set(&[DEL2]), 0], budget)
    }
}

/// One is cut off while another is put back to an image.
fn lapses_and_restores() -> Bounds {
    let budget = Budget {
        lapses: 1,
        restores: 1,
        ..Budget::default()
    };
    Bounds {
        lapsing: 1,
        imaged: 4,
        before: &[
            Action::Save(2),
            Action::Client(0, INC1),
            Action::Sync(2, 0),
            Action::Hear(0, 2),
            Action::Restore(2),
        ],
        ..scenario("lapses and restores", [set(&[INC1]), 0, 0], budget)
    }
}

fn forgets() -> Bounds {
    let budget = Budget {
        forgets: 2,
        joins: 1,
        ..Budget::default()
    };
    Bounds {
        members: 2,
        alone: true,
        ..scenario("forced evictions", [set(&[PUT1]), set(&[DEL2]), 0], budget)
    }
}

fn joins() -> Bounds {
    let budget = Budget {
        joins: 1,
        ..Budget::default()
    };
    Bounds {
        members: 2,
        ..scenario("joins", [set(&[PUT1]), set(&[DEL2]), set(&[PUT4])], budget)
    }
}

fn all() -> Vec<Bounds> {
    vec![
        deletes(),
        counters(),
        queues(),
        epochs(),
        rules(),
        fields(),
        late(),
        answers(),
        crashes(),
        restores(),
        lapses(),
        lapses_of_counters(),
        lapses_of_one_counter(),
        lapses_of_two(),
        lapses_and_restores(),
        forgets(),
        joins(),
    ]
}

#[test]
fn nothing_breaks() {
    let mut reached = BTreeSet::new();
    for bounds in all() {
        let found = explore(&bounds, most(), RESTS);
        let (name, states, depth) = (bounds.name, found.states, found.depth);
        println!(
            "{name}: {states} worlds, {depth} steps, all: {}",
            !found.is_cut
        );
        assert_eq!(found.broken, None, "{name}");
        reached.extend(
            found
                .reached
                .into_iter()
                .filter(|it| it.1 > 0)
                .map(|it| it.0),
        );
    }
    let expected = [
        "a base",
        "all at the first horizon",
        "another name",
        "evidence that a late join lowered",
        "restored",
        "something aside",
    ];
    assert!(
        expected.iter().all(|name| reached.contains(name)),
        "{reached:?}"
    );
}

#[test]
fn each_seeded_bug_is_found() {
    for (bug, breaks, bounds) in seeded() {
        let bug = Some(bug);
        let found = explore(&Bounds { bug, ..bounds }, most().max(400_000), RESTS);
        println!(
            "{bug:?} in {}: {} {:?}",
            bounds.name, found.states, found.broken
        );
        let (broken, _) = found.broken.unwrap_or_default();
        assert!(broken.starts_with(breaks), "{bug:?} breaks '{broken}'");
    }
}

/// What would be lost without these rules is set aside by others.
#[test]
fn two_rules_are_a_second_guard() {
    for (bug, bounds) in [
        (Bug::OldLifeIsEvidence, restores()),
        (Bug::ForcedResetsItself, forgets()),
    ] {
        let bug = Some(bug);
        let found = explore(&Bounds { bug, ..bounds }, most(), RESTS);
        assert_eq!(found.broken, None, "{bug:?}");
    }
}

/// The beginnings of runs that are too long to be found from the first world on.
const TWO_HORIZONS: &[Action] = &[
    Action::Raise(0),
    Action::Raise(1),
    Action::Raise(2),
    Action::Hear(0, 2),
    Action::Hear(2, 0),
    Action::Hear(2, 1),
];
const EVICTED_AND_ADOPTING: &[Action] = &[
    Action::Raise(0),
    Action::Raise(1),
    Action::Hear(0, 1),
    Action::Adopt(1, 1),
    Action::Raise(2),
    Action::Hear(0, 2),
    Action::Adopt(0, 0),
];
const COUNTED_AND_SET_ASIDE: &[Action] = &[
    Action::Client(0, INC1),
    Action::Raise(1),
    Action::Adopt(1, 1),
    Action::Sync(0, 1),
    Action::Raise(2),
    Action::Sync(2, 1),
    Action::Hear(2, 1),
    Action::Sync(1, 0),
    Action::Hear(0, 1),
    Action::Adopt(2, 0),
];
const EMPTY_SOURCE: &[Action] = &[
    Action::Client(0, PUT4),
    Action::Sync(1, 0),
    Action::Raise(0),
    Action::Raise(1),
    Action::Hear(0, 1),
    Action::Hear(1, 0),
    Action::Adopt(0, 0),
    Action::Adopt(1, 0),
    Action::Raise(0),
    Action::Raise(1),
    Action::Hear(0, 1),
    Action::Adopt(0, 0),
    Action::Begin(2, 0),
];
const DELETED_WHILE_AWAY: &[Action] = &[
    Action::Client(0, PUT1),
    Action::Sync(1, 0),
    Action::Sync(2, 0),
    Action::Client(1, DEL2),
    Action::Raise(0),
    Action::Adopt(0, 2),
    Action::Raise(2),
    Action::Sync(2, 0),
];
const COUNTED_WHILE_AWAY: &[Action] = &[
    Action::Hear(0, 1),
    Action::Client(0, INC1),
    Action::Raise(1),
    Action::Adopt(1, 1),
];
const FORGOTTEN_WHILE_AWAY: &[Action] = &[
    Action::Save(2),
    Action::Client(0, INC1),
    Action::Sync(2, 0),
    Action::Hear(0, 2),
    Action::Restore(2),
    Action::Raise(1),
    Action::Raise(2),
    Action::Adopt(1, 1),
];

const FORKED: &[Action] = &[
    Action::Client(1, PUT1),
    Action::Raise(0),
    Action::Raise(1),
    Action::Forget(0, 1),
    Action::Forget(1, 0),
    Action::Adopt(0, 0),
    Action::Adopt(1, 0),
];

fn after(before: &'static [Action], bounds: Bounds) -> Bounds {
    Bounds { before, ..bounds }
}

fn lapse_of_the_second() -> Bounds {
    Bounds {
        lapsing: 2,
        ..lapses()
    }
}

fn seeded() -> Vec<(Bug, &'static str, Bounds)> {
    vec![
        (Bug::FloorNotSynced, "I2", crashes()),
        (Bug::NoFence, "fence", counters()),
        (Bug::LateJoinAfterHearing, "fence", counters()),
        (Bug::LateJoinBeforeHearing, "fence", counters()),
        (Bug::PendingBelowFloor, "fence", queues()),
        (Bug::AnswersSurviveAdoption, "I1", answers()),
        (Bug::TimeAlone, "I2", deletes()),
        (Bug::UnknownMemberIgnored, "I2", joins()),
        (Bug::UnknownMemberIgnored, "I2", deletes()),
        (Bug::CatchUpKeepsOwn, "I1", lapses()),
        (Bug::BaseBeforeAside, "I2", lapses_of_counters()),
        (Bug::LapseWithoutMajority, "I5", lapses_of_two()),
        (Bug::AnyHorizonObeyed, "I2", forgets()),
        (Bug::GateWithoutLineage, "I1", forgets()),
        (Bug::JoinByHandDropsOwn, "I2", after(FORKED, forgets())),
        (
            Bug::EvictionCountsAtOnce,
            "I5",
            after(TWO_HORIZONS, lapse_of_the_second()),
        ),
        (Bug::PastKeptAtAdoption, "fence", epochs()),
        (Bug::PullIsEvidence, "fence", deletes()),
        (
            Bug::KnownOfAnyMember,
            "I2",
            after(FORGOTTEN_WHILE_AWAY, lapses_and_restores()),
        ),
        (
            Bug::KnownNotLowered,
            "I2",
            after(COUNTED_WHILE_AWAY, lapses_of_one_counter()),
        ),
        (
            Bug::KnownOutlivesRestore,
            "I2",
            after(FORGOTTEN_WHILE_AWAY, lapses_and_restores()),
        ),
        (
            Bug::FreshIsSource,
            "I2",
            after(EMPTY_SOURCE, Bounds { top: 5, ..joins() }),
        ),
        (
            Bug::TombstonesDropped,
            "I2",
            after(DELETED_WHILE_AWAY, lapse_of_the_second()),
        ),
        (
            Bug::ShownEvictionForgotten,
            "I5",
            after(EVICTED_AND_ADOPTING, lapses_of_one_counter()),
        ),
        (
            Bug::AsideKeepsLife,
            "I2",
            after(COUNTED_AND_SET_ASIDE, lapses_of_one_counter()),
        ),
    ]
}
