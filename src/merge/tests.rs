//! The laws of all strategies, and what they mean for users.

use std::{collections::BTreeMap, sync::OnceLock};

use ::automerge::{AutoCommit, ObjType, ROOT, ReadDoc, transaction::Transactable};
use bytes::Bytes;
use proptest::{
    prelude::{Just, ProptestConfig, any, prop, prop_assert_eq, prop_oneof, proptest},
    strategy::Strategy as Generator,
};
use serde_json::{Value as Json, json};
use zenoh_keyexpr::keyexpr;

use super::*;
use crate::{
    cell::{Cell, CellKey, Content, Key, Part, Timestamp, Value, Version, tests::key},
    config::{ConfigError, StorageConfig},
    merge::values::element::tests::any_element,
};

pub(crate) fn timestamp(time: u64, writer: u8) -> Timestamp {
    let id = [writer; 16];
    Timestamp { time, id }
}

pub(crate) fn value(payload: impl Into<Bytes>) -> Value {
    Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: payload.into(),
    }
}

pub(crate) fn rules(options: Json) -> MergeRules {
    try_rules(options).expect("rules")
}

pub(crate) fn try_rules(options: Json) -> Result<MergeRules, ConfigError> {
    let config = StorageConfig::parse("demo", json!({ "replication": options }))?;
    let key_expr = keyexpr::new("demo/**").expect("a key expression");
    let prefix = keyexpr::new("demo").ok();
    MergeRules::new(&config.merge, key_expr, prefix)
}

pub(crate) fn merging(strategy: &str) -> MergeRules {
    let strategy = match strategy {
        "object" => json!({ "strategy": "object", "fields": {
            "hours": "additive",
            "tags": "set_union",
            "inner": { "strategy": "object", "fields": { "n": "additive" } },
        } }),
        "deep_object" => deep_object(MAX_NESTING),
        name => json!(name),
    };
    rules(json!({ "default_strategy": strategy }))
}

/// The rule of so many objects within each other, each in the field `in` of the one
/// before, with fields that add and unite in each.
pub(crate) fn deep_object(objects: usize) -> Json {
    (1..objects).fold(
        json!({ "strategy": "object", "fields": { "hours": "additive", "tags": "set_union" } }),
        |inner, _| {
            let fields = json!({ "hours": "additive", "tags": "set_union", "in": inner });
            json!({ "strategy": "object", "fields": fields })
        },
    )
}

/// What a put to the object at such a depth is.
pub(crate) fn put_within(objects: usize, inner: Json) -> Json {
    (1..objects).fold(inner, |inner, _| json!({ "in": inner }))
}

/// All cells of a key, naively: of each part the newest, and none that is covered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    key: Key,
    cells: BTreeMap<Part, (Version, Cell)>,
}

impl Default for State {
    fn default() -> Self {
        Self::of(key("k"))
    }
}

impl State {
    pub(crate) fn of(key: Key) -> Self {
        let cells = BTreeMap::new();
        Self { key, cells }
    }

    pub(crate) fn add(&mut self, part: Part, cell: Cell) {
        let cell_key = CellKey {
            key: self.key.clone(),
            part: part.clone(),
        };
        let version = Version::of(&cell_key, &cell);
        let old = self.cells.get(&part);
        if old.is_none_or(|(old, _)| *old < version) {
            self.cells.insert(part, (version, cell));
        }
        let cells = self.cells.iter();
        let own = cells.filter(|(part, _)| part.is_empty() || is_of_field(part.as_bytes()));
        let own: BTreeMap<Part, Timestamp> = own
            .map(|(part, (own, _))| (part.clone(), own.timestamp))
            .collect();
        let covers = |part: &[u8]| own.get(&Part::from(part)).copied();
        self.cells.retain(|part, (_, cell)| {
            let around = fields_around(part.as_bytes()).filter_map(covers).max();
            let of_key = covers(&[]).filter(|_| !part.is_empty());
            around.max(of_key) < Some(cell.timestamp)
        });
    }

    /// What is left when final cells were collected.
    pub(crate) fn collected(&self, horizon: u64) -> Self {
        let collection = collect::collect(&self.cells(), horizon);
        let mut left = self.clone();
        for part in &collection.leave {
            assert!(left.cells.remove(part).is_some(), "{part:?} is not there");
        }
        for (part, cell) in collection.come {
            assert_eq!(check(&part, &cell), Ok(()), "{part:?}");
            assert!(cell.timestamp.time < horizon, "{part:?} is newer");
            left.add(part.clone(), cell.clone());
            let held = left.cells.get(&part).map(|(_, held)| held);
            assert_eq!(held, Some(&cell), "{part:?} is not what is held");
        }
        left
    }

    pub(crate) fn join(mut self, other: &Self) -> Self {
        for (part, (_, cell)) in &other.cells {
            self.add(part.clone(), cell.clone());
        }
        self
    }

    pub(crate) fn put(
        &mut self,
        rules: &MergeRules,
        timestamp: Timestamp,
        value: Option<Value>,
    ) -> Result<(), RejectedPut> {
        let content = value.map_or(Content::Tombstone, Content::Value);
        for (part, content) in rules.write(&self.key, Cell { timestamp, content })? {
            let cell = Cell { timestamp, content };
            assert_eq!(check(&part, &cell), Ok(()), "{part:?}");
            self.add(part, cell);
        }
        Ok(())
    }

    /// All that the tree has of it.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (CellKey, Version)> + '_ {
        self.cells.iter().map(|(part, (version, _))| {
            let (key, part) = (self.key.clone(), part.clone());
            (CellKey { key, part }, *version)
        })
    }

    pub(crate) fn cells(&self) -> Vec<PartCell<'_>> {
        let cells = self.cells.iter();
        cells
            .map(|(part, (_, cell))| PartCell {
                part: part.as_bytes(),
                cell,
            })
            .collect()
    }

    pub(crate) fn merged(&self) -> Merged {
        Merged::fold(&self.cells())
    }

    fn read(&self) -> Option<Value> {
        self.read_as(Form::Native)
    }

    fn read_as(&self, form: Form) -> Option<Value> {
        let cell = self.merged().read(form).expect("readable");
        cell.and_then(|cell| cell.value().cloned())
    }

    fn text(&self) -> Option<String> {
        let value = self.read()?;
        Some(String::from_utf8(value.payload.to_vec()).expect("text"))
    }
}

/// The state after these puts, at times 1, 2, ...; nothing deletes.
fn state_of(rules: &MergeRules, puts: &[Option<&str>]) -> State {
    let mut state = State::default();
    for (time, put) in (1..).zip(puts) {
        let put = put.map(|text| value(text.to_owned()));
        state.put(rules, timestamp(time, 1), put).expect("taken");
    }
    state
}

fn read_after(rules: &MergeRules, puts: &[Option<&str>]) -> Option<String> {
    state_of(rules, puts).text()
}

/// Changes of one document by three authors who do not always know each other's.
pub(crate) fn automerge_puts() -> &'static [Vec<u8>] {
    static PUTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    PUTS.get_or_init(|| {
        let mut first = AutoCommit::new().with_actor(vec![1; 16].into());
        let list = first.put_object(ROOT, "list", ObjType::List).unwrap();
        let mut puts = vec![first.save()];
        let mut authors: Vec<AutoCommit> = (1..4u8)
            .map(|actor| first.fork().with_actor(vec![actor; 16].into()))
            .collect();
        for round in 0..6i64 {
            for (author, document) in (0i64..).zip(&mut authors) {
                let heads = document.get_heads();
                document.put(ROOT, "last", round * 10 + author).unwrap();
                let length = document.length(&list);
                document.insert(&list, length / 2, round).unwrap();
                let change = document.get_changes(&heads).pop().unwrap();
                puts.push(change.raw_bytes().to_vec());
            }
            if round % 2 == 1 {
                let mut other = authors[2].clone();
                authors[0].merge(&mut other).unwrap();
                puts.push(authors[0].save());
            }
        }
        puts
    })
}

/// Puts and deletes of a strategy, with few times and writers, so that all that can
/// be equal is.
pub(crate) fn any_put(
    strategy: &str,
) -> impl Generator<Value = (Timestamp, Option<Value>)> + use<> {
    let payload = match strategy {
        "additive" => (-50i32..50)
            .prop_map(|n| format!("{}.{}", n / 4, n.rem_euclid(4) * 25).into_bytes())
            .boxed(),
        "set_union" => {
            let some = || {
                prop::collection::vec(
                    prop_oneof![any_element(), (0..4).prop_map(Json::from)],
                    0..3,
                )
            };
            prop_oneof![
                some().prop_map(|elements| json!(elements)),
                // What is both added and removed is refused.
                (some(), some()).prop_map(|(add, remove)| json!({ "add": add, "remove": remove })),
            ]
            .prop_map(|json| json.to_string().into_bytes())
            .boxed()
        }
        "object" => {
            let field = prop_oneof![
                any_element().prop_map(|element| ("plain", element)),
                Just(("plain", Json::Null)),
                (-9..9).prop_map(|n| ("hours", json!(n))),
                Just(("hours", Json::Null)),
                (0..3).prop_map(|n| ("tags", json!([n]))),
                (0..3).prop_map(|n| ("tags", json!({ "remove": [n] }))),
                (-9..9).prop_map(|n| ("inner", json!({ "n": n, "m": n }))),
                Just(("inner", json!({ "n": null }))),
            ];
            prop::collection::vec(field, 0..3)
                .prop_map(|fields| {
                    let fields = fields.into_iter();
                    let fields: serde_json::Map<_, _> =
                        fields.map(|(name, json)| (name.to_owned(), json)).collect();
                    Json::from(fields).to_string().into_bytes()
                })
                .boxed()
        }
        "deep_object" => {
            let field = prop_oneof![
                Just(json!({})),
                Just(json!({ "in": null })),
                (-9..9).prop_map(|n| json!({ "hours": n })),
                Just(json!({ "hours": null })),
                (0..3).prop_map(|n| json!({ "tags": [n], "plain": n })),
                (0..3).prop_map(|n| json!({ "tags": { "remove": [n] }, "plain": null })),
            ];
            let objects = prop_oneof![1..3usize, MAX_NESTING - 1..=MAX_NESTING];
            (objects, field)
                .prop_map(|(objects, field)| put_within(objects, field).to_string().into_bytes())
                .boxed()
        }
        "automerge_crdt" => prop::sample::select(automerge_puts()).boxed(),
        _ => prop::collection::vec(any::<u8>(), 0..3).boxed(),
    };
    let value = (payload, 0u16..7).prop_map(|(payload, encoding_id)| Value {
        encoding_id,
        schema: encoding_id.is_multiple_of(2).then(|| b"type"[..].into()),
        attachment: None,
        payload: payload.into(),
    });
    let value = prop_oneof![6 => value.prop_map(Some), 1 => Just(None)];
    (
        (1u64..12, 1u8..3).prop_map(|(time, writer)| timestamp(time, writer)),
        value,
    )
}

fn any_state(strategy: &'static str) -> impl Generator<Value = State> {
    prop::collection::vec(any_put(strategy), 0..5).prop_map(|puts| {
        let rules = merging(strategy);
        let mut state = State::default();
        for (timestamp, value) in puts {
            // What is refused changes nothing.
            let before = state.clone();
            if state.put(&rules, timestamp, value).is_err() {
                assert_eq!(state, before);
            }
        }
        state
    })
}

/// Both forms, with the time of the last write. A document of Automerge may be
/// saved in several ways, so of that only the other form.
pub(crate) fn readings(state: &State, strategy: &str) -> Vec<Option<Cell>> {
    let mut merged = state.merged();
    let forms = match strategy {
        "automerge_crdt" => &[Form::Json][..],
        _ => &[Form::Native, Form::Json],
    };
    let forms = forms.iter();
    forms
        .map(|form| {
            merged
                .read(*form)
                .expect("readable")
                .map(|cell| (*cell).clone())
        })
        .collect()
}

macro_rules! laws {
    ($($module:ident $strategy:literal)*) => {$(
        mod $module {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

                #[test]
                fn joins_commute(a in any_state($strategy), b in any_state($strategy)) {
                    let (ab, ba) = (a.clone().join(&b), b.join(&a));
                    prop_assert_eq!(&ab, &ba);
                    prop_assert_eq!(readings(&ab, $strategy), readings(&ba, $strategy));
                }

                #[test]
                fn joins_associate(a in any_state($strategy), b in any_state($strategy), c in any_state($strategy)) {
                    let left = a.clone().join(&b).join(&c);
                    let right = a.join(&b.join(&c));
                    prop_assert_eq!(&left, &right);
                    prop_assert_eq!(readings(&left, $strategy), readings(&right, $strategy));
                }

                #[test]
                fn joins_are_idempotent(a in any_state($strategy), b in any_state($strategy)) {
                    prop_assert_eq!(&a.clone().join(&a), &a);
                    let ab = a.clone().join(&b);
                    prop_assert_eq!(&ab.clone().join(&b), &ab);
                    prop_assert_eq!(readings(&ab.clone().join(&a), $strategy), readings(&ab, $strategy));
                }

                /// What was folded and then applied, in any order, reads as what
                /// was folded at once.
                #[test]
                fn the_order_of_delivery_is_irrelevant(puts in prop::collection::vec(any_put($strategy), 0..8), order in prop::collection::vec(any::<usize>(), 16), first in 0usize..16) {
                    let rules = merging($strategy);
                    let mut coming = Vec::new();
                    for (timestamp, value) in puts {
                        let content = value.map_or(Content::Tombstone, Content::Value);
                        let cells = rules.write(&key("k"), Cell { timestamp, content });
                        let cells = cells.into_iter().flatten();
                        coming.extend(cells.map(|(part, content)| (part, Cell { timestamp, content })));
                    }
                    let (mut expected, mut state) = (State::default(), State::default());
                    for (part, cell) in &coming {
                        expected.add(part.clone(), cell.clone());
                    }
                    for (index, other) in order.iter().enumerate() {
                        if coming.len() > 1 {
                            let length = coming.len();
                            coming.swap(index % length, other % length);
                        }
                    }
                    let mut merged = state.merged();
                    for (number, (part, cell)) in coming.iter().enumerate() {
                        let before = state.clone();
                        state.add(part.clone(), cell.clone());
                        let is_tied = before.cells.get(part).is_some_and(|(old, _)| old.timestamp == cell.timestamp);
                        // What is covered, or older, is not told.
                        let is_news = state.cells.get(part).is_some_and(|(_, new)| new == cell) && state != before;
                        if number < first || (is_news && (is_tied || merged.apply(part.as_bytes(), cell) == Applied::NeedsRefold)) {
                            merged = state.merged();
                        }
                    }
                    prop_assert_eq!(&state, &expected);
                    let json = merged.read(Form::Json).expect("readable");
                    prop_assert_eq!(json, expected.merged().read(Form::Json).expect("readable"));
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
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// The harness for strategies of one's own, on our own.
    #[test]
    fn strategies_keep_their_laws(
        additive in prop::collection::vec(any_put("additive"), 0..8),
        sets in prop::collection::vec(any_put("set_union"), 0..8),
        objects in prop::collection::vec(any_put("object"), 0..8),
        seed: u64,
    ) {
        let puts = |puts: Vec<(Timestamp, Option<Value>)>| -> Vec<(Timestamp, Value)> {
            puts.into_iter().filter_map(|(timestamp, value)| Some((timestamp, value?))).collect()
        };
        prop_assert_eq!(laws::check(&Additive, &puts(additive), seed), Ok(()));
        prop_assert_eq!(laws::check(&SetUnion, &puts(sets), seed), Ok(()));
        prop_assert_eq!(laws::check(&Object::default(), &puts(objects), seed), Ok(()));
        // A document may be saved in several ways, by which the harness would be misled.
    }

    #[test]
    fn any_cell_is_refused_or_read(part in prop::collection::vec(any::<u8>(), 0..12), tag in 0u8..6, payload in prop::collection::vec(any::<u8>(), 0..6), deleted: bool) {
        let part = Part::from(&[&[tag][..], &part].concat()[..]);
        let content = if deleted { Content::Tombstone } else { Content::Value(value(payload)) };
        let cell = Cell { timestamp: timestamp(1, 1), content };
        let _ = check(&part, &cell);
        let mut state = State::default();
        state.add(part, cell);
        let _ = state.merged().read(Form::Native);
        let _ = state.merged().read(Form::Json);
        assert!(raw(&state.cells()).is_some());
        // If it is not known how to read it, that stays so.
        let collected = state.collected(2);
        prop_assert_eq!(collected.merged().read(Form::Json), state.merged().read(Form::Json));
    }
}

/// A strategy that counts how often it folded, which is not what it was given.
struct Impure(std::sync::atomic::AtomicU64);

impl Strategy for Impure {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
        Additive.write(put)
    }

    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut> {
        Additive.check(part, cell)
    }

    fn fold(&self, _: &[PartCell<'_>]) -> Box<dyn Fold> {
        let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let number = value(count.to_string());
        let cell = Cell {
            timestamp: timestamp(1, 1),
            content: Content::Value(number),
        };
        let part: &[u8] = &[];
        Additive.fold(&[PartCell { part, cell: &cell }])
    }
}

#[test]
fn the_harness_finds_what_is_broken() {
    let puts = [(timestamp(1, 1), value("5"))];
    let error = laws::check(&Impure(0.into()), &puts, 7).expect_err("it is broken");
    assert!(matches!(error, laws::Violation::Applied { .. }), "{error}");
}

/// How a counter's collection is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    No,
    Forgets,
    Counts,
    Restamps,
    Hides,
    IsWrong,
}

impl Strategy for Broken {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
        Additive.write(put)
    }

    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut> {
        Additive.check(part, cell)
    }

    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
        Additive.fold(cells)
    }

    fn may_collect(&self) -> bool {
        *self != Self::Hides
    }

    fn collect(
        &self,
        stable: &[PartCell<'_>],
        newer: &[PartCell<'_>],
    ) -> Option<Vec<CollectedCell>> {
        let mut collected = Additive.collect(stable, newer)?;
        let cell = &mut collected.first_mut()?.cell;
        match self {
            Self::No | Self::Hides => {}
            // What it has already.
            Self::Forgets if !stable[0].part.is_empty() => {}
            Self::Forgets => *cell = Additive.collect(&stable[1..], newer)?.pop()?.cell,
            Self::Counts => cell.content = Content::Value(value(stable.len().to_string())),
            Self::Restamps => cell.timestamp.time -= 1,
            Self::IsWrong => cell.content = Content::Value(value("01")),
        }
        Some(collected)
    }
}

#[test]
fn the_harness_finds_a_collection_that_is_broken() {
    let puts = [1, 2, 3, 4].map(|time| (timestamp(time, 1), value("5")));
    let found = |broken: Broken| (0..64).find_map(|seed| laws::check(&broken, &puts, seed).err());
    use laws::Violation::{Collected, CollectedCells, CollectedReads};
    assert_eq!(found(Broken::No), None);
    for broken in [Broken::Restamps, Broken::Hides, Broken::IsWrong] {
        assert!(
            matches!(found(broken), Some(Collected { .. })),
            "{broken:?}"
        );
    }
    assert!(matches!(found(Broken::Counts), Some(CollectedReads { .. })));
    assert!(matches!(
        found(Broken::Forgets),
        Some(CollectedCells { .. })
    ));
}

#[test]
fn a_counter_adds_exactly_and_counts_each_put_once() {
    let rules = merging("additive");
    assert_eq!(
        read_after(&rules, &[Some("1"), Some(" 2.5\n"), Some("-0.5")]).as_deref(),
        Some("3")
    );
    // 0.1 + 0.2, of which doubles make something else.
    assert_eq!(
        read_after(&rules, &[Some("0.1"), Some("0.2")]).as_deref(),
        Some("0.3")
    );
    let mut state = state_of(&rules, &[Some("5")]);
    state
        .put(&rules, timestamp(1, 1), Some(value("5")))
        .expect("taken");
    assert_eq!(state.text().as_deref(), Some("5"), "the same put again");
    for wrong in ["", "five", "1,5", "\"5\"", "[5]", "1e40", "NaN"] {
        let error = state.put(&rules, timestamp(9, 1), Some(value(wrong)));
        let RejectedPut { strategy, reason } = error.expect_err(wrong);
        assert_eq!(&*strategy, "additive");
        assert!(reason.to_string().contains("18 digits"), "{reason}");
    }
    assert_eq!(
        state.text().as_deref(),
        Some("5"),
        "and nothing was written"
    );
}

#[test]
fn the_value_has_the_encoding_and_the_time_of_the_newest_put() {
    let rules = merging("additive");
    let mut state = State::default();
    for (time, encoding_id) in [(2, 5), (3, 4), (1, 1)] {
        let put = Value {
            encoding_id,
            schema: Some(b"counter"[..].into()),
            attachment: None,
            payload: "1".into(),
        };
        state
            .put(&rules, timestamp(time, 1), Some(put))
            .expect("taken");
    }
    let cell = state.merged().read(Form::Native).expect("readable");
    let cell = cell.expect("a value");
    assert_eq!(cell.timestamp, timestamp(3, 1));
    let expected = Value {
        encoding_id: 4,
        schema: Some(b"counter"[..].into()),
        attachment: None,
        payload: "3".into(),
    };
    assert_eq!(cell.value(), Some(&expected));
}

#[test]
fn a_set_has_what_was_added_and_not_removed_since() {
    let rules = merging("set_union");
    let read = |puts: &[Option<&str>]| read_after(&rules, puts);
    let puts = [
        Some(r#"["b", 2, "a"]"#),
        Some("red"),
        Some("10"),
        Some(r#"{"add": [null], "remove": ["b", "never"]}"#),
    ];
    assert_eq!(read(&puts).as_deref(), Some(r#"[null,2,10,"a","red"]"#));
    assert_eq!(
        read(&[Some("[1]"), Some(r#"{"remove":[1]}"#)]).as_deref(),
        Some("[]")
    );
    assert_eq!(
        read(&[Some("[1]"), Some(r#"{"remove":[1]}"#), Some("1.0")]).as_deref(),
        Some("[1]")
    );
    assert_eq!(
        read(&[Some("[]")]).as_deref(),
        Some("[]"),
        "an empty set is a value"
    );
    let mut state = State::default();
    for wrong in [
        "",
        "[1",
        "{\"a\":1}",
        "{\"add\":1}",
        "\"x",
        r#"{"add":[1],"remove":[1.0]}"#,
        "[1e300]",
    ] {
        assert!(
            state
                .put(&rules, timestamp(1, 1), Some(value(wrong)))
                .is_err(),
            "{wrong}"
        );
    }
    let json = Value {
        encoding_id: 5,
        ..value("red")
    };
    assert!(
        state.put(&rules, timestamp(1, 1), Some(json)).is_err(),
        "it says that it is JSON"
    );
    assert_eq!(state, State::default());
}

#[test]
fn an_object_is_merged_field_by_field() {
    let rules = merging("object");
    let read = |puts: &[Option<&str>]| read_after(&rules, puts);
    assert_eq!(
        read(&[
            Some(r#"{"a": 1, "b": {"x": [1, 2]}}"#),
            Some(r#"{"b": "two", "c": 1e2}"#),
            Some(r#"{"a": null}"#)
        ])
        .as_deref(),
        Some(r#"{"b":"two","c":1e2}"#)
    );
    assert_eq!(
        read(&[
            Some(r#"{"hours": 1.5, "tags": ["x"]}"#),
            Some(r#"{"hours": 2, "tags": ["y"], "inner": {"n": 1, "m": 1}}"#),
            Some(r#"{"inner": {"n": 2, "m": 2}}"#)
        ])
        .as_deref(),
        Some(r#"{"hours":3.5,"inner":{"m":2,"n":3},"tags":["x","y"]}"#)
    );
    assert_eq!(
        read(&[
            Some(r#"{"hours": 5}"#),
            Some(r#"{"hours": null}"#),
            Some(r#"{"hours": 2}"#)
        ])
        .as_deref(),
        Some(r#"{"hours":2}"#)
    );
    assert_eq!(
        read(&[Some("{}")]).as_deref(),
        Some("{}"),
        "an empty object is a value"
    );
    assert_eq!(
        read(&[Some(r#"{"a":1}"#), Some(r#"{"a":null}"#)]).as_deref(),
        Some("{}")
    );
    let mut state = State::default();
    for wrong in ["", "5", "[]", "null", "{", r#"{"hours": "x"}"#] {
        assert!(
            state
                .put(&rules, timestamp(1, 1), Some(value(wrong)))
                .is_err(),
            "{wrong}"
        );
    }
    let error = state.put(
        &rules,
        timestamp(1, 1),
        Some(value(r#"{"a": 1, "hours": "x"}"#)),
    );
    let error = error.expect_err("no number").reason.to_string();
    assert!(error.contains("field `hours`"), "{error}");
    assert_eq!(state, State::default(), "not the other field either");
}

#[test]
fn a_document_is_made_of_changes_in_whatever_order_they_come() {
    let rules = merging("automerge_crdt");
    let puts = automerge_puts();
    let (mut forwards, mut backwards) = (State::default(), State::default());
    for (time, put) in (1..).zip(puts) {
        forwards
            .put(&rules, timestamp(time, 1), Some(value(put.clone())))
            .expect("taken");
    }
    for (time, put) in (1..).zip(puts.iter().rev()) {
        backwards
            .put(&rules, timestamp(time, 1), Some(value(put.clone())))
            .expect("taken");
    }
    let json = |state: &State| state.read_as(Form::Json).map(|value| value.payload);
    assert!(json(&forwards).is_some_and(|json| json.starts_with(b"{\"last\":")));
    assert_eq!(json(&forwards), json(&backwards));
    // One cell for each change; what came with a document again is no new one.
    assert_eq!(forwards.cells.len(), 19);
    assert_eq!(
        forwards.cells.keys().collect::<Vec<_>>(),
        backwards.cells.keys().collect::<Vec<_>>()
    );
    let document = forwards.read().expect("a value").payload;
    let document = AutoCommit::load(&document).expect("a document");
    let list = document.get(ROOT, "list").expect("read").expect("there").1;
    assert_eq!(document.length(&list), 18);
    let mut state = State::default();
    let flipped = |put: usize, at: usize| {
        let mut broken = puts[put].clone();
        broken[at] ^= 1;
        broken
    };
    let (of_sum, last) = (flipped(3, 4), flipped(3, puts[3].len() - 1));
    let document = flipped(0, puts[0].len() - 1);
    for wrong in [&b""[..], b"text", &puts[0][..20], &of_sum, &last, &document] {
        let error = state.put(&rules, timestamp(1, 1), Some(value(wrong.to_vec())));
        let error = error.expect_err("no document").reason.to_string();
        assert!(error.contains("Automerge"), "{error}");
    }
    assert_eq!(state, State::default());
    for (part, (_, cell)) in &forwards.cells {
        let mut cell = cell.clone();
        let Content::Value(value) = &mut cell.content else {
            panic!("a change is a value");
        };
        let mut payload = value.payload.to_vec();
        payload[4] ^= 1;
        value.payload = payload.into();
        assert!(check(part, &cell).is_err(), "of another replica neither");
    }
}

#[test]
fn a_delete_covers_what_is_not_newer_and_nothing_else() {
    for (strategy, put, after) in [
        ("additive", "2", "2"),
        ("set_union", "[2]", "[2]"),
        ("object", r#"{"b":2}"#, r#"{"b":2}"#),
    ] {
        let rules = merging(strategy);
        let first = match strategy {
            "additive" => "1",
            "set_union" => "[1]",
            _ => r#"{"a":1}"#,
        };
        assert_eq!(read_after(&rules, &[Some(first), None]), None);
        let state = state_of(&rules, &[Some(first), None, Some(put)]);
        assert_eq!(state.text().as_deref(), Some(after), "{strategy}");
        // The delete, the put, and that there is a set or an object.
        let cells = if strategy == "additive" { 2 } else { 3 };
        assert_eq!(
            state.cells.len(),
            cells,
            "what was covered is gone: {state:?}"
        );
        // A put from before the delete that comes after it, and one of the same
        // time.
        let mut late = state.clone();
        for time in [1, 2] {
            late.put(&rules, timestamp(time, 1), Some(value(first)))
                .expect("taken");
        }
        assert_eq!(late, state, "{strategy}");
    }
}

#[test]
fn a_value_of_before_is_shown_until_the_first_put_by_the_new_rules_and_is_the_first_of_them() {
    let values: &[(&str, &str)] = &[
        ("lww", "7"),
        ("additive", "7"),
        ("set_union", "[7]"),
        ("object", "{\"a\":7}"),
    ];
    for (old, put) in values {
        let mut state = State::default();
        state
            .put(&merging(old), timestamp(1, 1), Some(value(*put)))
            .expect("taken");
        for (new, next) in values.iter().filter(|(new, _)| new != old) {
            let mut state = state.clone();
            assert_eq!(
                state.text().as_deref(),
                Some(*put),
                "{old} before the first of {new}"
            );
            state
                .put(&merging(new), timestamp(2, 1), Some(value(*next)))
                .expect("taken");
            let expected = match (*old, *new) {
                // What last writer wins wrote is the first put, if it can be.
                ("lww", "additive") => "14",
                _ => *next,
            };
            assert_eq!(state.text().as_deref(), Some(expected), "{old} to {new}");
            // Nothing is lost: but for what last writer wins replaces.
            let cells = |strategy: &str| match strategy {
                "lww" | "additive" => 1,
                _ => 2,
            };
            let kept = if *new == "lww" { 0 } else { cells(old) };
            assert_eq!(state.cells.len(), kept + cells(new), "{old} to {new}");
        }
    }
    let (lww, sets) = (merging("lww"), merging("set_union"));
    let mut state = state_of(&lww, &[Some("[1,2]")]);
    state
        .put(
            &sets,
            timestamp(2, 1),
            Some(value(r#"{"add":[3],"remove":[1]}"#)),
        )
        .expect("taken");
    assert_eq!(state.text().as_deref(), Some("[2,3]"));
}

#[test]
fn the_cells_are_shown_with_their_timestamps() {
    let rules = merging("object");
    let mut state = state_of(
        &rules,
        &[None, Some(r#"{"hours":1,"a":[1]}"#), Some(r#"{"a":null}"#)],
    );
    state.add(
        Part::from(&b"\x01x"[..]),
        Cell {
            timestamp: timestamp(9, 1),
            content: Content::Value(value(vec![0xff])),
        },
    );
    let cell = raw(&state.cells()).expect("cells");
    assert_eq!(cell.timestamp, timestamp(9, 1));
    let shown: Json =
        serde_json::from_slice(&cell.value().expect("a value").payload).expect("JSON");
    let id = "1010101010101010101010101010101";
    assert_eq!(
        shown,
        json!([
            { "strategy": "lww", "timestamp": format!("1/{id}"), "deleted": true },
            { "strategy": "additive", "timestamp": format!("9/{id}"), "encoding": "zenoh/bytes", "value": { "hex": "ff" } },
            { "strategy": "object", "timestamp": format!("3/{id}"), "encoding": "zenoh/bytes", "value": "" },
            { "strategy": "object", "part": { "field": "a" }, "timestamp": format!("3/{id}"), "deleted": true },
            { "strategy": "object", "part": { "field": "hours", "strategy": "additive" }, "timestamp": format!("2/{id}"),
              "encoding": "application/json", "value": "1" },
        ])
    );
    assert_eq!(raw(&[]), None);
}

#[test]
fn parts_on_disk_and_on_the_wire_are_pinned() {
    let write = |strategy: &str, put: &str| -> Vec<Vec<u8>> {
        let content = Content::Value(value(put.to_owned()));
        let cell = Cell {
            timestamp: timestamp(0x0102_0304_0506_0708, 9),
            content,
        };
        let cells = merging(strategy).write(&key("k"), cell).expect("taken");
        cells
            .into_iter()
            .map(|(part, _)| part.as_bytes().to_vec())
            .collect()
    };
    let time = b"\x01\x02\x03\x04\x05\x06\x07\x08";
    let counted = [&time[..], &[9; 16]].concat();
    assert_eq!(write("lww", "1"), [b""]);
    assert_eq!(write("additive", "1"), [[&[1][..], &counted].concat()]);
    assert_eq!(
        write("set_union", "[true, \"a\"]"),
        [&b"\x02"[..], b"\x02\x12", b"\x02\x30a"]
    );
    assert_eq!(write("set_union", "[]"), [b"\x02"]);
    assert_eq!(
        write("object", r#"{"f":1,"hours":1}"#),
        [
            b"\x03".to_vec(),
            b"\x03f\0\x01".to_vec(),
            [&b"\x03hours\0\x01\x01"[..], &counted].concat()
        ]
    );
    assert_eq!(write("object", "{}"), [b"\x03"]);
}

fn strategy_of(rules: &MergeRules, key: Key, encoding_id: u16, schema: Option<&str>) -> Vec<u8> {
    let value = Value {
        encoding_id,
        schema: schema.map(|schema| schema.as_bytes().into()),
        attachment: None,
        payload: "1".into(),
    };
    let cell = Cell {
        timestamp: timestamp(1, 1),
        content: Content::Value(value),
    };
    let cells = rules.write(&key, cell).expect("taken");
    cells[0].0.as_bytes().iter().take(1).copied().collect()
}

#[test]
fn the_most_specific_rule_wins_and_keys_go_before_types() {
    const LWW: &[u8] = &[];
    let rules = rules(json!({
        "default_strategy": "set_union",
        "type_overrides": { "counter": "additive", "application/json": "lww", "application/json;counter": "set_union" },
        "key_overrides": { "demo/*/odometer": "additive", "demo/truck/*": "lww", "demo/car": "additive", "demo": "additive" },
    }));
    let by_key = |text: &str| strategy_of(&rules, key(text), 0, Some("counter"));
    assert_eq!(by_key("bus/odometer"), [1]);
    assert_eq!(by_key("truck/odometer"), LWW, "the first chunk decides");
    assert_eq!(by_key("car"), [1]);
    assert_eq!(
        strategy_of(&rules, Key::NONE, 0, None),
        [1],
        "the prefix itself"
    );
    let by_type = |id, schema| strategy_of(&rules, key("other"), id, schema);
    assert_eq!(by_type(4, Some("counter")), [1]);
    assert_eq!(by_type(encoding::CUSTOM, Some("counter")), [1]);
    assert_eq!(by_type(5, None), LWW);
    assert_eq!(by_type(5, Some("counter")), [2], "the longer name");
    assert_eq!(by_type(4, None), [2], "the default");
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let error = |options: Json| match try_rules(options) {
        Ok(rules) => panic!("accepted as {rules:?}"),
        Err(error) => error.to_string(),
    };
    let unknown = error(json!({ "default_strategy": "magic" }));
    assert!(
        unknown.contains("`replication.default_strategy`") && unknown.contains("`magic`"),
        "{unknown}"
    );
    assert!(
        unknown.contains("`set_union`") && unknown.contains("registered"),
        "{unknown}"
    );
    let nested = error(
        json!({ "type_overrides": { "x": { "strategy": "object", "fields": { "f": "magic" } } } }),
    );
    assert!(
        nested.contains("`replication.type_overrides.x.fields.f`"),
        "{nested}"
    );
    let fields =
        error(json!({ "default_strategy": { "strategy": "additive", "fields": { "f": "lww" } } }));
    assert!(fields.contains("only `object`"), "{fields}");
    let bytes = error(
        json!({ "default_strategy": { "strategy": "object", "fields": { "f": "automerge_crdt" } } }),
    );
    assert!(bytes.contains("no JSON"), "{bytes}");
    let dead = error(json!({ "key_overrides": { "demos/*": "additive" } }));
    assert!(
        dead.contains("`replication.key_overrides.demos/*`") && dead.contains("`demo/**`"),
        "{dead}"
    );
}

#[test]
fn the_text_of_the_rules_tells_them_apart_and_not_their_order() {
    let text = |options: Json| rules(options).text().to_owned();
    assert_eq!(text(json!({})), MergeRules::lww().text());
    assert_eq!(
        text(json!({ "default_strategy": "lww" })),
        r#"{"default":{"name":"lww","fields":{}},"types":{},"keys":[]}"#
    );
    let all = [
        json!({}),
        json!({ "default_strategy": "additive" }),
        json!({ "type_overrides": { "a": "additive" } }),
        json!({ "key_overrides": { "demo/a": "additive" } }),
        json!({ "key_overrides": { "demo/a": { "strategy": "object", "fields": { "f": "additive" } } } }),
        json!({ "key_overrides": { "demo/a": { "strategy": "object", "fields": { "g": "additive" } } } }),
    ];
    let texts: std::collections::BTreeSet<_> =
        all.iter().map(|options| text(options.clone())).collect();
    assert_eq!(texts.len(), all.len());
    assert_eq!(
        text(json!({ "key_overrides": { "demo/a": "additive", "demo/b": "lww" } })),
        text(json!({ "key_overrides": { "demo/b": { "strategy": "lww" }, "demo/a": "additive" } })),
    );
    register("versioned", 3, Additive).expect("registered");
    let versioned = text(json!({ "default_strategy": "versioned" }));
    assert!(versioned.ends_with("\nversioned 3"), "{versioned}");
}

#[test]
fn a_strategy_of_ones_own_is_used_by_its_name() {
    register("my_sum", 1, Additive).expect("registered");
    let mut state = state_of(&merging("my_sum"), &[Some("1"), Some("2")]);
    assert_eq!(state.text().as_deref(), Some("3"));
    assert!(
        state
            .cells
            .keys()
            .all(|part| part.as_bytes().starts_with(b"\x7fmy_sum\0"))
    );
    // Cells of a strategy that is not there cannot be read, but are not lost.
    let foreign = Part::from(&b"\x7fgone\0x"[..]);
    let cell = Cell {
        timestamp: timestamp(9, 1),
        content: Content::Value(value("7")),
    };
    assert!(check(&foreign, &cell).is_err());
    state.add(foreign, cell);
    let error = state
        .merged()
        .read(Form::Native)
        .expect_err("unknown")
        .to_string();
    assert!(
        error.contains("`gone`") && error.contains("`raw`"),
        "{error}"
    );
    assert!(raw(&state.cells()).is_some());
}

#[test]
fn more_cells_than_a_put_may_write_are_refused() {
    let rules = merging("set_union");
    // And the cell that says that there is a set.
    let elements: Vec<usize> = (0..MAX_CELLS).collect();
    let content = Content::Value(value(json!(elements).to_string()));
    let cell = Cell {
        timestamp: timestamp(1, 1),
        content,
    };
    let error = rules
        .write(&key("k"), cell)
        .expect_err("too many")
        .reason
        .to_string();
    assert!(
        error.contains("65537") && error.contains("65536"),
        "{error}"
    );
}
