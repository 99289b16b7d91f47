//! The laws of collecting, for all strategies.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use proptest::{
    prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest},
    strategy::Strategy as Generator,
};

use crate::{
    cell::{Cell, Content, Part, Timestamp, Value},
    hash::sha256,
    merge::{
        Form, MAX_NESTING, MergeRules, check,
        collect::{Collection, collect, may_collect},
        lifetimes::tests::lifetimes,
        strategy::PartCell,
        tests::{State, any_put, automerge_puts, merging, readings, timestamp, value},
    },
};

/// The strategy by which it is put, when, and what.
type AnyPut = (&'static str, Timestamp, Option<Value>);

/// A put by one strategy; of `mixed`, by any but that of documents, as after the rules changed.
fn any_put_by(strategy: &'static str) -> impl Generator<Value = AnyPut> {
    let strategies: &[&'static str] = match strategy {
        "mixed" => &["additive", "set_union", "object", "deep_object"],
        _ => std::slice::from_ref(Box::leak(Box::new(strategy))),
    };
    let put = prop::sample::select(strategies);
    put.prop_flat_map(move |of| {
        let is_lww = (0..4).prop_map(move |n| strategy == "mixed" && n == 0);
        (is_lww, any_put(of)).prop_map(move |(is_lww, (timestamp, value))| {
            (if is_lww { "lww" } else { of }, timestamp, value)
        })
    })
}

/// The rules are the same in all cases: they take longer to make than all else.
fn rules_of(strategy: &'static str) -> Arc<MergeRules> {
    static RULES: Mutex<BTreeMap<&str, Arc<MergeRules>>> = Mutex::new(BTreeMap::new());
    let mut rules = RULES.lock().expect("no test panicked in here");
    let rules = rules.entry(strategy);
    Arc::clone(rules.or_insert_with(|| Arc::new(merging(strategy))))
}

fn state_of<'a>(puts: impl Iterator<Item = &'a AnyPut>) -> State {
    let mut state = State::default();
    for (strategy, timestamp, value) in puts {
        // What is refused changes nothing.
        let _ = state.put(&rules_of(strategy), *timestamp, value.clone());
    }
    state
}

macro_rules! laws {
    ($($module:ident $strategy:literal)*) => {$(
        mod $module {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

                #[test]
                fn what_is_final_is_collected_and_nothing_is_read_otherwise(
                    puts in prop::collection::vec(any_put_by($strategy), 0..10),
                    came in prop::collection::vec(prop::bool::ANY, 10),
                    horizons in (0u64..14, 0u64..14, 0u64..14),
                ) {
                    let (strategy, mut times) = ($strategy, [horizons.0, horizons.1, horizons.2]);
                    times.sort_unstable();
                    let [first, horizon, next] = times;
                    // What is final has come, as the fence has it; of what is newer, some.
                    let has_come = |(put, came): &(&AnyPut, &bool)| put.1.time < horizon || **came;
                    let puts = || puts.iter().zip(&came);
                    let there = state_of(puts().filter(has_come).map(|(put, _)| put));
                    let newer = state_of(puts().filter(|it| !has_come(it)).map(|(put, _)| put));
                    let all = there.clone().join(&newer);

                    // What is read is the same, now and later.
                    let collected = there.collected(horizon);
                    let (joined, late) = (collected.clone().join(&newer), all.collected(horizon));
                    prop_assert_eq!(readings(&there, strategy), readings(&collected, strategy));
                    prop_assert_eq!(readings(&all, strategy), readings(&joined, strategy));
                    prop_assert_eq!(readings(&all, strategy), readings(&late, strategy));

                    // Once, twice, early or late, in steps or not, the same cells are left.
                    prop_assert_eq!(&collected.collected(horizon), &collected);
                    prop_assert_eq!(&there.collected(first).collected(horizon), &collected);
                    prop_assert_eq!(&collected.collected(first), &collected);
                    if strategy != "automerge_crdt" {
                        prop_assert_eq!(&joined, &late);
                        prop_assert_eq!(&joined.collected(horizon), &late);
                    }
                    let both = joined.clone().join(&late);
                    prop_assert_eq!(readings(&both, strategy), readings(&all, strategy));
                    let last = all.collected(next);
                    for replica in [&joined, &late, &both] {
                        let replica = match strategy {
                            // A document of which `newer` has changes that were bundled.
                            "automerge_crdt" => replica.collected(u64::MAX),
                            _ => replica.collected(next),
                        };
                        match strategy {
                            "automerge_crdt" => prop_assert_eq!(&replica, &all.collected(u64::MAX)),
                            _ => prop_assert_eq!(&replica, &last),
                        }
                    }

                    // By the tree alone it is known where there is nothing to do.
                    let cells = there.cells();
                    let mut is_final = cells.iter().filter(|cell| cell.cell.timestamp.time < horizon);
                    if !is_final.any(|cell| may_collect(cell.part, cell.cell.value().is_none())) {
                        prop_assert!(collect(&cells, horizon).is_empty());
                    }
                }
            }
        }
    )*};
}

laws! {
    lww "lww"
    additive "additive"
    set_union "set_union"
    object "object"
    deep_object "deep_object"
    automerge_crdt "automerge_crdt"
    mixed "mixed"
}

/// The state after these puts, at times 1, 2, ...; nothing deletes.
fn after(rules: &MergeRules, puts: &[Option<&str>]) -> State {
    let mut state = State::default();
    for (time, put) in (1..).zip(puts) {
        let put = put.map(|text| value(text.to_owned()));
        state.put(rules, timestamp(time, 1), put).expect("taken");
    }
    state
}

fn text(state: &State) -> Option<String> {
    let cell = state.merged().read(Form::Json).expect("readable")?;
    let payload = cell.value().expect("a value").payload.to_vec();
    Some(String::from_utf8(payload).expect("text"))
}

fn parts(state: &State) -> Vec<Vec<u8>> {
    let cells = state.cells().into_iter();
    cells.map(|cell| cell.part.to_vec()).collect()
}

fn cell_of(state: &State, part: &[u8]) -> Cell {
    let cells = state.cells();
    let found = cells.iter().find(|cell| cell.part == part);
    found.expect("there is one").cell.clone()
}

#[test]
fn a_counter_is_one_cell_and_goes_on() {
    let rules = merging("additive");
    let mut state = after(&rules, &[Some("0.1"), Some("-7"), Some("0.25")]);
    state = state.collected(4);
    assert_eq!(parts(&state), [b"\x01"]);
    let base = cell_of(&state, b"\x01");
    assert_eq!(base.timestamp, timestamp(3, 1));
    assert_eq!(base.value().expect("a value").payload, "-6.65");
    state
        .put(&rules, timestamp(5, 1), Some(value("1")))
        .expect("taken");
    state
        .put(&rules, timestamp(9, 1), Some(value("1")))
        .expect("taken");
    assert_eq!(text(&state).as_deref(), Some("-4.65"));
    state = state.collected(9);
    assert_eq!(state.cells().len(), 2);
    assert_eq!(text(&state).as_deref(), Some("-4.65"));
}

/// A crash between the commit of a base and the removal of what is in it, or a cell that came below
/// the horizon all the same.
#[test]
fn what_is_beside_a_base_that_has_it_is_not_counted_and_goes() {
    let whole = after(&merging("additive"), &[Some("1"), Some("2"), Some("4")]);
    let base = whole.collected(3);
    assert_eq!(text(&base).as_deref(), Some("7"));
    let both = base.clone().join(&whole);
    assert_eq!(both.cells().len(), 4);
    assert_eq!(text(&both).as_deref(), Some("7"));
    // Whether it was folded, or comes.
    let mut applied = base.merged();
    for PartCell { part, cell } in whole
        .cells()
        .iter()
        .filter(|cell| cell.cell.timestamp.time < 3)
    {
        let _ = applied.apply(part, cell);
    }
    let read = applied
        .read(Form::Json)
        .expect("readable")
        .expect("a value");
    assert_eq!(read.value().expect("a value").payload, "7");
    // It leaves at any horizon, even one that nothing is final at.
    assert_eq!(both.collected(0), base.collected(0));
    assert_eq!(both.collected(3), base);
}

#[test]
fn a_value_that_counts_as_the_first_put_is_kept_with_what_hides_it() {
    let (lww, set) = (merging("lww"), merging("set_union"));
    let mut state = after(&lww, &[Some("[1,2]")]);
    state
        .put(&set, timestamp(2, 1), Some(value(r#"{"remove":[1]}"#)))
        .expect("taken");
    assert_eq!(text(&state).as_deref(), Some("[2]"));
    assert!(
        collect(&state.cells(), u64::MAX).is_empty(),
        "or 1 would be there again"
    );
    // Of a counter the base does not have it in it.
    let mut state = after(&lww, &[Some("7")]);
    for time in [2, 3] {
        state
            .put(&merging("additive"), timestamp(time, 1), Some(value("2")))
            .expect("taken");
    }
    let state = state.collected(9);
    assert_eq!(parts(&state), [&b""[..], b"\x01"]);
    assert_eq!(text(&state).as_deref(), Some("11"));
}

#[test]
fn what_was_removed_goes_and_a_deleted_key_with_it() {
    let set = after(
        &merging("set_union"),
        &[Some("[1,2]"), Some(r#"{"remove":[1,2,3]}"#)],
    );
    assert_eq!(set.cells().len(), 4);
    let set = set.collected(3);
    assert_eq!(parts(&set), [b"\x02"]);
    assert_eq!(text(&set).as_deref(), Some("[]"));
    let puts = [
        Some(r#"{"a":1,"hours":5,"inner":{"n":1}}"#),
        Some(r#"{"a":null,"hours":null,"inner":{"n":null}}"#),
        Some(r#"{"hours":2}"#),
    ];
    let object = after(&merging("object"), &puts).collected(4);
    let expected = [&b"\x03"[..], b"\x03hours\0\x01\x01", b"\x03inner\0\x01\x03"];
    assert_eq!(parts(&object), expected);
    assert_eq!(text(&object).as_deref(), Some(r#"{"hours":2,"inner":{}}"#));
    let deleted = after(&merging("additive"), &[Some("1"), None]);
    assert_eq!(deleted.collected(3), State::default());
    assert_eq!(deleted.collected(2), deleted, "it is not final");
}

#[test]
fn a_tombstone_without_a_cell_that_says_that_there_is_a_set_stays() {
    for part in [&b"\x02\x12"[..], b"\x03a\0\x01"] {
        let mut state = State::default();
        state.add(Part::from(part), Cell::tombstone(timestamp(1, 1)));
        assert!(collect(&state.cells(), u64::MAX).is_empty(), "{part:02x?}");
    }
}

/// The payload, and the part, of the bundle of a document's changes.
#[test]
fn a_bundle_has_the_changes_in_the_order_of_their_hashes() {
    let mut state = State::default();
    for (time, put) in (1..).zip(automerge_puts()) {
        let put = Some(value(put.clone()));
        state
            .put(&merging("automerge_crdt"), timestamp(time, 1), put)
            .expect("taken");
    }
    let changes = state.cells();
    let payloads = changes
        .iter()
        .map(|cell| &cell.cell.value().expect("a value").payload[..]);
    let payload = payloads.collect::<Vec<_>>().concat();
    let collected = state.collected(u64::MAX);
    let part = [&[4][..], &sha256(&[&payload])[..24]].concat();
    assert_eq!(parts(&collected), std::slice::from_ref(&part));
    let bundle = cell_of(&collected, &part);
    assert_eq!(bundle.value().expect("a value").payload, payload);
    assert_eq!(
        Some(bundle.timestamp),
        changes.iter().map(|cell| cell.cell.timestamp).max()
    );
    assert_eq!(text(&collected), text(&state));

    // What is not in order, or twice there, or of another kind, or cut short is refused.
    let refused = |payload: Vec<u8>| {
        let part = [&[4][..], &sha256(&[&payload])[..24]].concat();
        let content = Content::Value(value(payload));
        let timestamp = timestamp(1, 1);
        check(&Part::from(&part[..]), &Cell { timestamp, content }).expect_err("refused")
    };
    let [first, second] =
        [0, 1].map(|at: usize| changes[at].cell.value().expect("a value").payload.to_vec());
    for wrong in [
        Vec::new(),
        [&second[..], &first].concat(),
        [&first[..], &first].concat(),
        payload[..payload.len() - 1].to_vec(),
        [&payload[..], b"x"].concat(),
        automerge_puts()[0].clone(),
    ] {
        assert!(refused(wrong).to_string().contains("order of their hashes"));
    }
    let other = check(&Part::from(&[&[4][..], &[0; 24]].concat()[..]), &bundle);
    assert!(
        other
            .expect_err("another part")
            .to_string()
            .contains("hash of the bundle")
    );
}

#[test]
fn there_are_more_bundles_than_one_if_there_is_no_room_in_one() {
    use ::automerge::{ActorId, AutoCommit, ROOT, transaction::Transactable};
    // Five changes of 4 MiB, of which there is room for three in a bundle.
    let mut state = State::default();
    let mut noise = 1u64;
    for actor in 0..5u8 {
        let bytes = std::iter::repeat_with(|| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 56) as u8
        });
        let bytes: Vec<u8> = bytes.take(4 << 20).collect();
        let mut document = AutoCommit::new().with_actor(ActorId::from([actor; 16]));
        document.put(ROOT, actor.to_string(), bytes).expect("put");
        let changes = document.save();
        let put = Some(value(changes));
        let at = timestamp(u64::from(actor) + 1, 1);
        state
            .put(&merging("automerge_crdt"), at, put)
            .expect("taken");
    }
    let collected = state.collected(u64::MAX);
    assert_eq!(collected.cells().len(), 2);
    assert_eq!(collected.collected(u64::MAX), collected);
    for cell in collected.cells() {
        assert_eq!(cell.cell.timestamp, timestamp(5, 1));
        assert!(cell.cell.value_bytes() <= super::MAX_COLLECTED_BYTES);
    }
    assert_eq!(text(&collected), text(&state));
    assert_eq!(state.collected(3).collected(u64::MAX), collected);
}

#[test]
fn bases_that_are_no_sums_are_refused() {
    let base = |text: &str| {
        let content = Content::Value(value(text.to_owned()));
        let timestamp = timestamp(1, 1);
        check(&Part::from(&[1][..]), &Cell { timestamp, content })
    };
    let most = "9".repeat(37);
    for sum in ["0", "-0.5", &most, &format!("-{most}.000000000000000001")] {
        assert_eq!(base(sum), Ok(()), "{sum}");
    }
    let more = format!("1{most}");
    for wrong in [
        "",
        "-",
        "-0",
        "+1",
        "01",
        "1.0",
        "1.",
        ".5",
        " 1",
        "1e3",
        "0.0000000000000000001",
        &more,
    ] {
        assert!(base(wrong).is_err(), "{wrong}");
    }
    let tombstone = Cell::tombstone(timestamp(1, 1));
    assert!(check(&Part::from(&[1][..]), &tombstone).is_err());
    // What would be more is not folded.
    let mut state = State::default();
    let content = Content::Value(value(most));
    let timestamp_of = |time| timestamp(time, 1);
    state.add(
        Part::from(&[1][..]),
        Cell {
            timestamp: timestamp_of(1),
            content,
        },
    );
    state
        .put(&merging("additive"), timestamp_of(2), Some(value("1")))
        .expect("taken");
    assert!(collect(&state.cells(), u64::MAX).is_empty());
    assert_eq!(text(&state), Some(format!("1{}", "0".repeat(37))));
}

#[test]
fn what_has_a_lifetime_is_left_to_fade() {
    let rules = merging("additive");
    let state = after(&rules, &[Some("1"), Some("2")]);
    let key = crate::cell::tests::key("k");
    assert!(!rules.collect(&key, &state.cells(), u64::MAX).is_empty());
    let fading = rules
        .with_lifetimes(lifetimes(serde_json::json!({ "k": "10s" })))
        .expect("valid");
    assert_eq!(
        fading.collect(&key, &state.cells(), u64::MAX),
        Collection::default()
    );
    let other = crate::cell::tests::key("l");
    assert!(!fading.collect(&other, &state.cells(), u64::MAX).is_empty());
}

#[test]
fn fields_are_collected_as_deep_as_they_nest() {
    let rules = merging("deep_object");
    let puts = [1, 2].map(|n| {
        let inner = serde_json::json!({ "hours": n, "tags": { "remove": [n] }, "plain": null });
        crate::merge::tests::put_within(MAX_NESTING, inner).to_string()
    });
    let state = after(&rules, &[Some(&puts[0]), Some(&puts[1])]);
    let collected = state.collected(3);
    assert_eq!(text(&collected), text(&state));
    // The objects, the sum, and the set.
    assert_eq!(collected.cells().len(), MAX_NESTING + 2);
}
