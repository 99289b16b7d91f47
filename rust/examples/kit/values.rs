//! Values that merge, and proofs of them.

use automerge::{ROOT, transaction::Transactable};
use serde_json::{Value as Json, json};
use zenoh_mst::{Counter, Document, Error, Number, Object, Set, Store};

use crate::checks::{Done, fails, same};

fn number(text: &str) -> Result<Number, Error> {
    text.parse()
}

pub fn merges(store: &Store) -> Done {
    let counter = Counter::new(store, "demo/count/a");
    counter.delete()?;
    same(counter.value()?, number("0")?)?;
    let stamp = store.stamp()?;
    for _ in 0..3 {
        counter.add_at(5, stamp)?;
    }
    same(counter.value()?, number("5")?)?;
    counter.add("0.1")?;
    counter.add(0.2)?;
    // It is found, too, behind what others added.
    counter.add_at(5, stamp)?;
    counter.add(-1)?;
    same(counter.value()?, number("4.3")?)?;
    fails(counter.add("1e3"), "decimal number")?;
    fails(counter.add("1234567890123456789"), "at most 18 digits")?;
    // A delete covers it: it was taken, and is not put again.
    counter.delete()?;
    counter.add_at(5, stamp)?;
    same(counter.value()?, number("0")?)?;

    let tags = Set::new(store, "demo/tags/a");
    tags.delete()?;
    same(tags.value()?, [Json::Null; 0])?;
    let elements = [
        json!(null),
        json!(false),
        json!(true),
        json!(-1),
        json!(0.5),
        json!(u64::MAX),
        json!("red"),
        json!("ü\0\n"),
        json!([1, [2]]),
        json!({ "b": 1, "a": [null] }),
    ];
    let stamp = store.stamp()?;
    tags.change_at(&elements, &[], stamp)?;
    same(tags.value()?, elements.clone())?;
    tags.remove(&[json!("red"), json!(null)])?;
    tags.change_at(&elements, &[], stamp)?;
    let left: Vec<_> = elements
        .iter()
        .filter(|e| !e.is_null() && **e != json!("red"))
        .collect();
    same(tags.value()?.iter().collect::<Vec<_>>(), left)?;
    tags.change_at(&[json!("new")], &elements, store.stamp()?)?;
    same(tags.value()?, [json!("new")])?;
    let empty = Set::new(store, "demo/tags/empty");
    empty.add(&[])?;
    empty.add(&[])?;
    same(
        store.get("demo/tags/empty")?.ok_or("no set")?.json()?,
        json!([]),
    )?;
    fails(
        tags.change_at(&[json!(1)], &[json!(1.0)], stamp),
        "added and removed",
    )?;

    let machine = Object::new(store, "demo/machine/a");
    machine.delete()?;
    same(machine.value()?, None)?;
    let fields = |fields: Json| fields.as_object().cloned().unwrap_or_default();
    let first = fields(json!({ "driver": "Ana", "hours": 1.5, "tags": ["new"] }));
    let stamp = store.stamp()?;
    for _ in 0..2 {
        machine.put_at(&first, stamp)?;
    }
    machine.put(&fields(json!({ "hours": 2, "site": { "lat": 48.1 } })))?;
    machine.remove(&["driver"])?;
    machine.put_at(&first, stamp)?;
    let expected = json!({ "hours": 3.5, "site": { "lat": 48.1 }, "tags": ["new"] });
    same(machine.value()?.map(Json::Object), Some(expected))?;

    store.put("demo/other", "{}", "application/json")?;
    fails(Set::new(store, "demo/other").value(), "is no set")?;
    store.put("demo/other", "[]", "application/json")?;
    fails(Object::new(store, "demo/other").value(), "is no object")?;
    Ok(())
}

pub fn proves(store: &Store) -> Done {
    let counter = Counter::new(store, "demo/count/proven");
    counter.delete()?;
    counter.add("1.5")?;
    counter.add(-4)?;
    store.put("demo/empty", "", "text/plain")?;
    let gone = store.delete("demo/gone")?;
    let write = store.put("demo/proven", "ready", "text/plain")?;
    store.settled(&gone)?;
    store.settled(&write)?;
    let root = store.root(1)?;
    same(
        store.verified("demo/proven", &root)?.payload()?,
        Some(&b"ready"[..]),
    )?;
    same(
        store.verified("demo/empty", &root)?.payload()?,
        Some(&b""[..]),
    )?;
    same(store.verified("demo/gone", &root)?.payload()?, None)?;
    same(store.verified("demo/never", &root)?.cells.len(), 0)?;
    let counted = store.verified("demo/count/proven", &root)?;
    same(counted.sum()?, Some(number("-2.5")?))?;
    fails(counted.payload(), "is merged")?;
    let mut other = root;
    other.0[0] ^= 1;
    fails(
        store.verified("demo/proven", &other),
        "no proof of demo/proven",
    )?;
    Ok(())
}

pub fn documents(store: &Store) -> Done {
    let notes = Document::new(store, "demo/notes/a");
    notes.delete()?;
    same(notes.json()?, None)?;
    notes.edit(|document| document.put(ROOT, "title", "Route 7"))?;
    let mut other = notes.load()?;
    notes.edit(|document| document.put(ROOT, "state", "open"))?;
    let known = other.get_heads();
    other.put(ROOT, "driver", "Ana")?;
    // A retry is the same write.
    let stamp = store.stamp()?;
    let first = notes.put_at(&mut other, &known, stamp)?;
    same(first.is_some(), true)?;
    same(notes.put_at(&mut other, &known, stamp)?, first)?;
    let all = json!({ "title": "Route 7", "state": "open", "driver": "Ana" });
    same(notes.json()?, Some(all))?;
    let heads = other.get_heads();
    same(notes.put(&mut other, &heads)?, None)?;
    // What fails is not put, nor is what changes nothing.
    fails(
        notes.edit(|document| document.insert(ROOT, 0, "x")),
        "demo/notes/a",
    )?;
    same(notes.load()?.get_heads().len(), 2)?;
    same(notes.edit(|document| Ok(document.get_heads().len()))?, 2)?;
    store.put("demo/other", "x", "text/plain")?;
    fails(Document::new(store, "demo/other").load(), "is no document")?;
    Ok(())
}

/// What is within the limits is taken, and nothing beyond them is sent.
pub fn limits(store: &Store, strip_prefix: Option<&str>) -> Done {
    // Of 60,000 bytes four are no text: what a key begins and ends with, and the tag of a part. An
    // element has a byte more, that of its kind, and a field two, with which its name ends.
    let cut = strip_prefix.map_or(0, |prefix| prefix.len() + 1);
    let longest = 60_000 - ("demo/tags/limits".len() - cut) - 5;
    let tags = Set::new(store, "demo/tags/limits");
    let numbers = [
        json!(u64::MAX),
        json!(i64::MIN),
        json!(9_007_199_254_740_991.0),
        json!(1.7e-308),
        json!(1.5e-7),
    ];
    tags.add(&numbers)?;
    tags.add(&[json!("x".repeat(longest))])?;
    tags.add(&[json!(["x".repeat(longest - 4)])])?;
    same(tags.value()?.len(), numbers.len() + 2)?;
    for wrong in [
        json!(9_007_199_254_740_992.0),
        json!(1e300),
        json!("x".repeat(longest + 1)),
        json!(["x".repeat(longest - 3)]),
    ] {
        fails(tags.add(std::slice::from_ref(&wrong)), "allowed are")?;
        fails(tags.remove(&[wrong]), "allowed are")?;
    }
    let many: Vec<_> = (0..65_537).map(Json::from).collect();
    fails(tags.add(&many), "65536")?;

    let machine = Object::new(store, "demo/machine/limits");
    let name = 60_000 - ("demo/machine/limits".len() - cut) - 6;
    let field = |length| [("x".repeat(length), json!(1))].into_iter().collect();
    machine.put(&field(name))?;
    fails(machine.put(&field(name + 1)), "60000")?;
    let long = format!("demo/{}", "x".repeat(60_000));
    fails(store.put(&long, "1", "text/plain"), "60000")?;
    fails(store.delete(&long), "60000")?;
    let deep = format!("demo{}", "/x".repeat(5000));
    fails(store.put(&deep, "1", "text/plain"), "4096")?;
    Ok(())
}
