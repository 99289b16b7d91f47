//! What a program can do with storages, each of it done and checked against the router at ENDPOINT,
//! whose storage has the merge rules of `config/zenohd.json5`:
//!
//! ```sh
//! cargo run --release --example kit -- all tcp/127.0.0.1:7447
//! ```
//!
//! `replicated REPLICAS ENDPOINT...` writes at several routers, and waits until all replicas have it;
//! `watch CHANGES ENDPOINT` prints changes. Any difference ends it with an error.

use std::{fmt::Debug, time::Duration};

use serde_json::{Value as Json, json};
use zenoh::{Session, Wait};
use zenoh_mst::{Counter, Error, Number, Object, Set, Stamp, Store, client_config};

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

const SHORT: Duration = Duration::from_millis(300);

fn same<T: PartialEq<U> + Debug, U: Debug>(found: T, expected: U) -> Done {
    match found == expected {
        true => Ok(()),
        false => Err(format!("found {found:?}, expected {expected:?}").into()),
    }
}

fn fails<T: Debug>(result: Result<T, Error>, said: &str) -> Result<Error, String> {
    match result {
        Err(error) if error.to_string().contains(said) => Ok(error),
        other => Err(format!("found {other:?}, expected an error with {said:?}")),
    }
}

fn number(text: &str) -> Result<Number, Error> {
    text.parse()
}

fn writes_and_reads(store: &Store) -> Done {
    let write = store.put("demo/a", "one", "text/plain")?;
    let value = store.get("demo/a")?.ok_or("nothing was stored")?;
    same(
        (value.text()?, &*value.encoding, value.stamp),
        ("one", "text/plain", write.stamp),
    )?;
    same(store.get("demo/none")?, None)?;
    store.put("demo/b", r#"{"x":1}"#, "application/json")?;
    let value = store.get("demo/b")?.ok_or("nothing was stored")?;
    same(value.json()?, json!({ "x": 1 }))?;
    let all = store.get_all("demo/*")?;
    same(all.keys().collect::<Vec<_>>(), ["demo/a", "demo/b"])?;
    store.delete("demo/a")?;
    same(store.get("demo/a")?, None)?;

    // A write that is repeated is one write, whatever was written since.
    let stamp: Stamp = store.stamp()?.to_string().parse().map_err(|_| "no stamp")?;
    let first = store.put_at("demo/a", "one", "text/plain", stamp)?;
    same(
        store.put_at("demo/a", "one", "text/plain", stamp)?,
        first.clone(),
    )?;
    store.put("demo/a", "two", "text/plain")?;
    same(store.put_at("demo/a", "one", "text/plain", stamp)?, first)?;
    store.delete_at("demo/a", stamp)?;
    let value = store.get("demo/a")?.ok_or("it was deleted")?;
    same(value.text()?, "two")?;

    // What is refused is not confirmed.
    let short = store.with_timeout(SHORT);
    let refused = fails(
        short.put("demo/count/no", "five", "text/plain"),
        "demo/count/no",
    )?;
    same(
        matches!(refused, Error::Unconfirmed(write) if write.key == "demo/count/no"),
        true,
    )?;
    fails(
        short.put("other/a", "1", "text/plain"),
        "no storage has shown",
    )?;
    fails(store.put("demo/*", "1", "text/plain"), "wildcard")?;
    Ok(())
}

fn waits(store: &Store, session: &Session) -> Done {
    let short = store.with_timeout(SHORT);
    fails(
        short.get_until("demo/w", |value| value.is_some()),
        "demo/w is not",
    )?;
    let mut asked = Vec::new();
    let value = store.get_until("demo/w", |value| {
        if asked.is_empty() {
            // An error would be one of the wait.
            let _ = session.put("demo/w", "1").wait();
        }
        asked.push(value.is_some());
        value.is_some()
    })?;
    same(value.ok_or("nothing")?.payload, b"1")?;
    same(asked[0], false)?;
    let stamp = store.stamp()?;
    fails(short.get_since("demo/w", stamp), "demo/w is not")?;
    store.put_at("demo/w", "2", "text/plain", stamp)?;
    let value = store.get_since("demo/w", stamp)?.ok_or("nothing")?;
    same(value.text()?, "2")?;

    for name in ["1", "2", "3"] {
        store.put(&format!("demo/s/{name}"), name, "text/plain")?;
    }
    let all = store.snapshot(&["demo/s/3", "demo/s/1", "demo/s/none"])?;
    same(all.keys().collect::<Vec<_>>(), ["demo/s/1", "demo/s/3"])
}

fn merges(store: &Store) -> Done {
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

fn proves(store: &Store) -> Done {
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

/// Without timestamps of its own a client could repeat nothing.
fn needs_a_clock(endpoint: &str) -> Done {
    let mut config = client_config([endpoint])?;
    config.insert_json5("timestamping/enabled", "false")?;
    let session = zenoh::open(config).wait()?;
    fails(
        Store::new(&session, "demo/**", None),
        "enable `timestamping`",
    )?;
    Ok(())
}

fn session(endpoint: &str) -> Result<Session, Box<dyn std::error::Error + Send + Sync>> {
    zenoh::open(client_config([endpoint])?).wait()
}

fn replicated(replicas: usize, stores: &[Store]) -> Done {
    let (first, last) = (&stores[0], &stores[stores.len() - 1]);
    let fields = json!({ "driver": "Ana", "hours": 1 });
    let fields = fields.as_object().cloned().unwrap_or_default();
    for write in [
        first.put("demo/a", "1", "text/plain")?,
        Counter::new(first, "demo/count/a").add(1)?,
        Set::new(last, "demo/tags/a").add(&[json!("x"), json!("y")])?,
        Object::new(last, "demo/machine/a").put(&fields)?,
        first.delete("demo/b")?,
    ] {
        same(first.replicated(&write, replicas)?.len(), replicas)?;
        let more = first.with_timeout(SHORT).replicated(&write, replicas + 1);
        fails(more, &format!("of {} replicas", replicas + 1))?;
    }
    same(first.statuses()?.len(), replicas)?;
    same(first.nearest()? == last.nearest()?, stores.len() == 1)?;
    first.root(replicas)?;
    Ok(())
}

fn watch(changes: usize, store: &Store) -> Done {
    let mut watch = store.watch("demo/**")?;
    println!("{}", json!({ "nearest": store.nearest()? }));
    for _ in 0..changes {
        let change = watch
            .next(Duration::from_secs(60))?
            .ok_or("there was no change")?;
        let payload = change.payload.as_deref().map(String::from_utf8_lossy);
        println!(
            "{}",
            json!({
                "key": change.key, "payload": payload, "by": change.by, "origin": change.origin,
                "stamp": change.stamp.map(|stamp| stamp.to_string()), "outdated": change.outdated,
            })
        );
    }
    same(watch.dropped(), 0)
}

fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let open = |session: &Session| Store::new(session, "demo/**", None);
    match arguments[..] {
        ["all", endpoint, ref prefix @ ..] if prefix.len() < 2 => {
            let session = session(endpoint)?;
            let store = Store::new(&session, "demo/**", prefix.first().copied())?;
            needs_a_clock(endpoint)?;
            writes_and_reads(&store)?;
            waits(&store, &session)?;
            merges(&store)?;
            proves(&store)?;
        }
        ["replicated", replicas, ref endpoints @ ..] if !endpoints.is_empty() => {
            let sessions = endpoints.iter().map(|endpoint| session(endpoint));
            let sessions = sessions.collect::<Result<Vec<_>, _>>()?;
            let stores = sessions.iter().map(open).collect::<Result<Vec<_>, _>>()?;
            replicated(replicas.parse()?, &stores)?;
        }
        ["watch", changes, endpoint] => watch(changes.parse()?, &open(&session(endpoint)?)?)?,
        _ => {
            let usage = "usage: kit all ENDPOINT [STRIP_PREFIX] | replicated REPLICAS ENDPOINT... | \
                         watch CHANGES ENDPOINT";
            return Err(usage.into());
        }
    }
    println!("done");
    Ok(())
}
