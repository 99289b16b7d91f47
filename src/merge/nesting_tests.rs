//! What nests deeply: parts, rules, documents, elements, keys. All of it is read on
//! the stack of a worker, which is 2 MiB, and comes from anyone.

use std::{collections::BTreeMap, thread};

use ::automerge::{AutoCommit, ObjType, ROOT, transaction::Transactable};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use zenoh_keyexpr::keyexpr;

use super::{
    part::{custom_prefix, tag},
    tests::{State, any_put, deep_object, merging, put_within, rules, timestamp, try_rules, value},
    *,
};
use crate::{
    cell::{Cell, CellKey, Content, MAX_KEY_BYTES, Part, tests::key},
    config::{MergeConfig, StrategyConfig},
};

const STACK: usize = 2 << 20;

fn on_worker(run: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK).spawn(run);
    thread.expect("a thread").join().expect("no panic");
}

/// A field without a name, in an object.
const FIELD: [u8; 3] = [tag::OBJECT, 0, 1];

/// The most levels that fit into a key.
const MOST: usize = (MAX_KEY_BYTES - 1) / FIELD.len();

fn cell(time: u64, content: Content) -> Cell {
    let timestamp = timestamp(time, 1);
    Cell { timestamp, content }
}

fn json_value(text: &str) -> Content {
    Content::Value(value(text.to_owned()))
}

/// What the key is, as JSON.
fn read(state: &State) -> String {
    let mut merged = state.merged();
    let usual = merged.read(Form::Native).expect("readable");
    assert!(usual.is_some());
    let read = merged.read(Form::Json).expect("readable");
    let value = read.expect("a value").value().expect("a value").clone();
    String::from_utf8(value.payload.to_vec()).expect("text")
}

fn shown(state: &State) -> Vec<Json> {
    let cell = raw(&state.cells()).expect("cells");
    serde_json::from_slice(&cell.value().expect("a value").payload).expect("JSON")
}

/// A custom strategy that is made of ours, whose parts may name it again.
fn wrapper() -> Vec<u8> {
    const NAME: &str = "an_object";
    // Another test may have been first.
    match register(NAME, 1, Object::default()) {
        Ok(()) | Err(RegisterError::Taken(_)) => custom_prefix(NAME),
        Err(error) => panic!("{error}"),
    }
}

/// Parts that nest as deep as their bytes allow, and deeper than they may.
fn deepest_parts() -> Vec<Vec<u8>> {
    let named = [tag::OBJECT, b'a', 0, 1];
    let wrapper = wrapper();
    let of_wrapper = [&wrapper[..], &[0, 1]].concat();
    let mixed = [&FIELD[..], &of_wrapper].concat();
    let most = |piece: &[u8]| piece.repeat((MAX_KEY_BYTES - 64) / piece.len());
    let mut parts = vec![
        FIELD.repeat(19_000),
        FIELD.repeat(MOST),
        most(&named),
        most(&of_wrapper),
        most(&mixed),
        FIELD.repeat(MAX_NESTING + 1),
        of_wrapper.repeat(2),
    ];
    // What ends otherwise than with a field's own cell.
    for end in [
        &[tag::OBJECT][..],
        &[tag::SET_UNION, 0x12],
        b"\x03x",
        b"\x7f",
        &[0xff],
    ] {
        parts.push([&FIELD.repeat(19_000), end].concat());
    }
    parts.push([&FIELD.repeat(MAX_NESTING)[..], &[tag::OBJECT]].concat());
    parts
}

#[test]
fn parts_that_nest_too_deep_are_refused_with_a_reason() {
    on_worker(|| {
        for part in deepest_parts() {
            for content in [Content::Tombstone, json_value("1"), json_value("")] {
                let refused = check(&Part::from(&part[..]), &cell(1, content));
                let reason = refused.expect_err("too deep").to_string();
                assert!(reason.contains("16 objects"), "{reason}");
                assert!(reason.len() < 1_000, "{} bytes", reason.len());
            }
        }
    });
}

/// A store may have such cells already, from before they were refused.
#[test]
fn cells_that_nest_too_deep_are_read_around() {
    on_worker(|| {
        let rules = merging("object");
        let own_strategy = wrapper();
        for part in deepest_parts() {
            // The deep cell comes last, or is there before the others.
            for time in [1, 9] {
                let put = r#"{"a": 1, "hours": 2, "tags": ["x"]}"#;
                let mut state = State::default();
                state
                    .put(&rules, timestamp(5, 1), Some(value(put)))
                    .expect("taken");
                let deep = cell(time, json_value("1"));
                state.add(Part::from(&part[..]), deep.clone());
                if part.starts_with(&own_strategy) && time == 9 {
                    // The newest cell says who reads.
                    assert_eq!(read(&state), "{}");
                } else {
                    let read: Json = serde_json::from_str(&read(&state)).expect("JSON");
                    let of = |field: &str| read[field].clone();
                    if !part.starts_with(&[tag::OBJECT, b'a']) {
                        assert_eq!(of("a"), json!(1));
                    }
                    assert_eq!((of("hours"), of("tags")), (json!(2), json!(["x"])));
                }
                // All cells are there, and say what they are as far as it is known.
                let shown = shown(&state);
                if time < 5 && part.starts_with(b"\x03a\0\x01") {
                    // It is within the field that was put later.
                    assert_eq!(shown.len(), 5);
                    continue;
                }
                // Three fields; that there is an object, and in it a set; and the deep one.
                assert_eq!(shown.len(), 6);
                let text = json!(shown).to_string();
                // What a custom strategy's part says is for it to know.
                let is_custom = text.contains("an_object");
                let is_unknown = text.contains(r#""strategy":"unknown""#);
                assert!(is_unknown || is_custom, "{text:.1000}");

                // Folded first, and applied then.
                let mut merged = State::default().merged();
                for cell in state.cells() {
                    let _ = merged.apply(cell.part, cell.cell);
                }
                let mut merged = state.merged();
                assert!(merged.weight() > 0);
                let again = cell(10, Content::Tombstone);
                let _ = merged.apply(&part, &again);
                drop(merged);
            }
        }
    });
}

#[test]
fn a_cell_alone_that_nests_too_deep_is_an_object_whose_innermost_field_is_not_known() {
    on_worker(|| {
        let part = FIELD.repeat(MOST);
        let mut state = State::default();
        state.add(Part::from(&part[..]), cell(7, json_value("1")));
        let objects = |inner: &str, number: usize, around: [&str; 2]| {
            [&around[0].repeat(number), inner, &around[1].repeat(number)].concat()
        };
        let expected = objects("{}", MAX_NESTING - 1, ["{\"\":", "}"]);
        assert_eq!(read(&state), expected);
        let mut shown = shown(&state).pop().expect("a cell");
        for _ in 0..MAX_NESTING {
            assert_eq!(shown["strategy"], json!("object"));
            shown = shown["part"].take();
            assert_eq!(shown["field"], json!(""));
        }
        assert_eq!(shown["strategy"], json!("unknown"));
        let rest = &part[MAX_NESTING * FIELD.len()..];
        assert_eq!(shown["part"], json!({ "hex": crate::hex::encode(rest) }));
    });
}

#[test]
fn as_many_objects_as_may_be_are_taken_and_one_more_is_not() {
    let stamped = |cell: &Cell| {
        let timestamp = cell.timestamp;
        [
            &[tag::ADDITIVE][..],
            &timestamp.time.to_be_bytes(),
            &timestamp.id,
        ]
        .concat()
    };
    let number = cell(1, json_value("1"));
    let fits = |objects: usize, end: &[u8], content: Content| {
        let part = [&FIELD.repeat(objects)[..], end].concat();
        let cell = cell(1, content);
        let mut state = State::default();
        state.add(Part::from(&part[..]), cell.clone());
        let is_shown = !json!(shown(&state)).to_string().contains("unknown");
        (check(&Part::from(&part[..]), &cell).is_ok(), is_shown)
    };
    for objects in 0..3 * MAX_NESTING {
        let may_be = (objects <= MAX_NESTING, objects <= MAX_NESTING);
        if objects > 0 {
            assert_eq!(fits(objects, b"", Content::Tombstone), may_be);
            assert_eq!(fits(objects, b"", json_value("[1]")), may_be);
            assert_eq!(fits(objects, b"", json_value("[1")), (false, may_be.1));
        }
        assert_eq!(fits(objects, &stamped(&number), json_value("1")), may_be);
        assert_eq!(
            fits(objects, &[tag::SET_UNION, 0x12], json_value("")),
            may_be
        );
        // The object that is said to be there is one more.
        let may_be = (objects < MAX_NESTING, objects < MAX_NESTING);
        assert_eq!(fits(objects, &[tag::OBJECT], json_value("")), may_be);
    }
}

#[test]
fn rules_nest_as_deep_as_parts_may_and_what_they_write_is_taken() {
    on_worker(|| {
        let option = |strategy| json!({ "default_strategy": strategy });
        let rules = rules(option(deep_object(MAX_NESTING)));
        let mut state = State::default();
        // `put` asserts that what is written is taken.
        for (time, number) in [(1, 2), (2, 3)] {
            for objects in [1, MAX_NESTING - 1, MAX_NESTING] {
                let inner = json!({ "hours": number, "tags": [number], "plain": {} });
                let put = put_within(objects, inner).to_string();
                let put = Some(value(put));
                state.put(&rules, timestamp(time, 1), put).expect("taken");
            }
            let empty = put_within(MAX_NESTING, json!({})).to_string();
            let empty = Some(value(empty));
            state.put(&rules, timestamp(time, 2), empty).expect("taken");
        }
        let mut read: Json = serde_json::from_str(&read(&state)).expect("JSON");
        for objects in 1..=MAX_NESTING {
            if [1, MAX_NESTING - 1, MAX_NESTING].contains(&objects) {
                assert_eq!(read["hours"], json!(5), "{objects}");
                assert_eq!(read["tags"], json!([2, 3]), "{objects}");
            }
            read = read["in"].take();
        }
        assert_eq!(read, Json::Null);

        let path = format!(
            "replication.default_strategy{}",
            ".fields.in".repeat(MAX_NESTING)
        );
        for objects in [MAX_NESTING + 1, MAX_NESTING + 5] {
            let error = try_rules(option(deep_object(objects)));
            let error = error.expect_err("too deep").to_string();
            assert_eq!(
                error,
                format!(
                    "option `{path}`: found an `object` within 16 others, allowed are 16 within \
                     each other"
                )
            );
        }
        // Not even one whose fields have no strategies.
        let bare = (0..MAX_NESTING).fold(
            json!("object"),
            |inner, _| json!({ "strategy": "object", "fields": { "f": inner } }),
        );
        assert!(try_rules(json!({ "key_overrides": { "demo/a": bare } })).is_err());
    });
}

/// A configuration that was not parsed.
#[test]
fn rules_of_any_depth_are_refused() {
    on_worker(|| {
        let mut strategy = StrategyConfig::from("lww");
        for _ in 0..100_000 {
            let fields = BTreeMap::from([("f".to_owned(), strategy)]);
            let name = "object".to_owned();
            strategy = StrategyConfig { name, fields };
        }
        let mut config = MergeConfig {
            default: strategy,
            ..MergeConfig::default()
        };
        let demo = keyexpr::new("demo/**").expect("a key expression");
        let error = MergeRules::new(&config, demo, None).expect_err("too deep");
        assert!(error.to_string().contains("16"), "{error}");
        // It is dropped by recursion, too.
        let mut strategy = std::mem::take(&mut config.default);
        while let Some((_, inner)) = strategy.fields.pop_first() {
            strategy = inner;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Cells of one key, around the limit, some of them on the way to others.
    #[test]
    fn cells_around_the_limit_are_refused_or_read(
        parts in prop::collection::vec(
            (0..40usize, any::<bool>(), prop::sample::select(vec![&b""[..], b"\x02\x12", b"\x03", b"\x03a", b"\x01", b"\x7fan_object\0a\0\x01", b"\x05"])),
            1..6,
        ),
        times in prop::collection::vec(1u64..4, 6),
        payload in prop::sample::select(vec!["", "1", "{}"]),
        first in 0usize..6,
    ) {
        wrapper();
        let named = [tag::OBJECT, b'a', 0, 1];
        let mut cells = BTreeMap::new();
        for ((objects, is_named, end), time) in parts.into_iter().zip(times) {
            let piece = if is_named { &named[..] } else { &FIELD };
            let part = [&piece.repeat(objects), end].concat();
            let cell = cell(time, json_value(payload));
            let is_taken = check(&Part::from(&part[..]), &cell);
            let may_be = objects + usize::from(end.first() == Some(&tag::OBJECT)) <= MAX_NESTING;
            prop_assert!(may_be || is_taken.is_err());
            cells.insert(part, cell);
        }
        let cells: Vec<PartCell<'_>> = cells.iter().map(|(part, cell)| PartCell { part, cell }).collect();
        prop_assert!(raw(&cells).is_some());
        // What was folded and then applied reads as what was folded at once.
        let (first, later) = cells.split_at(first.min(cells.len()));
        let mut merged = Merged::fold(first);
        for (number, later) in later.iter().enumerate() {
            if merged.apply(later.part, later.cell) == Applied::NeedsRefold {
                merged = Merged::fold(&cells[..first.len() + number + 1]);
            }
        }
        let mut folded = Merged::fold(&cells);
        prop_assert_eq!(merged.read(Form::Native), folded.read(Form::Native));
        prop_assert_eq!(merged.read(Form::Json), folded.read(Form::Json));
    }

    /// The harness for strategies of one's own, with fields that nest up to the limit.
    #[test]
    fn deep_objects_keep_the_laws(
        puts in prop::collection::vec(any_put("deep_object"), 0..8),
        seed: u64,
    ) {
        let object = object_of(MAX_NESTING);
        let puts: Vec<_> = puts.into_iter().filter_map(|(timestamp, value)| Some((timestamp, value?))).collect();
        prop_assert_eq!(laws::check(&object, &puts, seed), Ok(()));
    }
}

/// As the rules make it of [`deep_object`].
fn object_of(objects: usize) -> Object {
    use crate::merge::{rules::registry::strategy_of, strategy::Chosen};
    let leaves = || {
        BTreeMap::from([
            (
                "hours".to_owned(),
                Chosen::built_in("additive", tag::ADDITIVE, Additive),
            ),
            (
                "tags".to_owned(),
                Chosen::built_in("set_union", tag::SET_UNION, SetUnion),
            ),
        ])
    };
    (1..objects).fold(Object::with_fields(leaves(), strategy_of), |inner, _| {
        let mut fields = leaves();
        let inner = Chosen::built_in("object", tag::OBJECT, inner);
        fields.insert("in".to_owned(), inner);
        Object::with_fields(fields, strategy_of)
    })
}

/// A kit that could not fail would prove nothing.
#[test]
fn an_object_that_writes_deeper_than_parts_may_nest_breaks_a_law() {
    let put = put_within(MAX_NESTING + 1, json!({ "hours": 1 })).to_string();
    let puts = [(timestamp(1, 1), value(put))];
    let error = laws::check(&object_of(MAX_NESTING + 1), &puts, 7).expect_err("too deep");
    let laws::Violation::Refused { put: 0, reason } = error else {
        panic!("{error}");
    };
    assert!(reason.contains("16 objects"), "{reason}");
}

#[test]
fn documents_of_any_depth_are_read() {
    on_worker(|| {
        const LEVELS: usize = 50_000;
        let mut document = AutoCommit::new();
        let mut inner = ROOT;
        for _ in 0..LEVELS {
            let map = document.put_object(&inner, "a", ObjType::Map);
            inner = map.expect("a map");
        }
        let rules = merging("automerge_crdt");
        let mut state = State::default();
        let put = Some(value(document.save()));
        state.put(&rules, timestamp(1, 1), put).expect("taken");
        let text = read(&state);
        let expected = [
            "{\"a\":".repeat(LEVELS),
            "{}".to_owned(),
            "}".repeat(LEVELS),
        ]
        .concat();
        assert!(text == expected, "{text:.100}");

        // As a field, which only another replica could make of it, it is JSON within
        // JSON.
        let cells = state.cells();
        let part = [b"\x03a\0\x01", cells[0].part].concat();
        assert_eq!(check(&Part::from(&part[..]), cells[0].cell), Ok(()));
        let mut of_field = State::default();
        of_field.add(Part::from(&part[..]), cells[0].cell.clone());
        assert!(read(&of_field) == format!("{{\"a\":{expected}}}"));
    });
}

#[test]
fn json_of_any_depth_is_taken_or_refused() {
    on_worker(|| {
        let arrays = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        let (sets, objects) = (merging("set_union"), merging("object"));

        // What a field holds is not looked into.
        let deep = format!("{{\"a\":{}}}", arrays(100_000));
        let mut state = State::default();
        let put = Some(value(deep.clone()));
        state.put(&objects, timestamp(1, 1), put).expect("taken");
        assert!(read(&state) == deep);
        // An element is, as deep as JSON is read: 127 levels, the array of elements
        // among them.
        let mut state = State::default();
        let put = Some(value(arrays(127)));
        state.put(&sets, timestamp(1, 1), put).expect("taken");
        assert_eq!(read(&state), arrays(127));
        // The first one says that there is a set.
        assert_eq!(shown(&state)[1]["part"], json!({ "json": arrays(126) }));
        for levels in [128, 100_000] {
            let refused = state.put(&sets, timestamp(2, 1), Some(value(arrays(levels))));
            let reason = refused.expect_err("too deep").reason.to_string();
            assert!(reason.contains("recursion limit"), "{reason}");
            let tags = format!("{{\"tags\":{}}}", arrays(levels));
            assert!(
                state
                    .put(&objects, timestamp(2, 1), Some(value(tags)))
                    .is_err()
            );
        }
        let mut state = State::default();
        let put = Some(value(arrays(65)));
        state.put(&sets, timestamp(1, 1), put).expect("taken");
        let element: Json = serde_json::from_str(&arrays(64)).expect("JSON");
        assert_eq!(shown(&state)[1]["part"], element, "as it is");

        // Of another replica.
        for kind in [0x40, 0x50] {
            for text in [arrays(29_000), "[".repeat(59_000), "{\"a\":".repeat(11_000)] {
                let part = [&[tag::SET_UNION, kind], text.as_bytes()].concat();
                let element = cell(1, json_value(""));
                assert!(check(&Part::from(&part[..]), &element).is_err());
                let mut state = State::default();
                state.add(Part::from(&part[..]), element);
                assert!(!read(&state).is_empty());
                assert_eq!(shown(&state).len(), 1);
            }
        }
    });
}

/// A rule is matched with whatever key somebody puts to.
#[test]
fn keys_of_any_length_find_their_rule() {
    on_worker(|| {
        let rules = rules(json!({ "key_overrides": { "demo/**/odometer": "additive" } }));
        let long = "a/".repeat(29_000);
        let strategy = |text: &str| {
            let cell = cell(1, json_value("1"));
            let cells = rules.write(&key(text), cell).expect("taken");
            cells[0].0.as_bytes().first().copied()
        };
        assert_eq!(strategy(&format!("{long}odometer")), Some(tag::ADDITIVE));
        assert_eq!(strategy(&format!("{long}trip")), None);
        let longest = CellKey::own(key(&format!("{long}odometer")));
        assert!(longest.canonical_len() <= MAX_KEY_BYTES);
    });
}
