//! Writes and reads of single keys.

use serde_json::json;
use zenoh::{Session, Wait};
use zenoh_mst::{Stamp, Store};

use crate::checks::{Done, SHORT, fails, same};

pub fn writes_and_reads(store: &Store) -> Done {
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

    // What is refused is not confirmed, nor what no storage takes.
    let short = store.with_timeout(SHORT);
    for key in ["demo/count/no", "other/a"] {
        let refused = fails(short.put(key, "five", "text/plain"), key)?;
        same(refused.write().map(|write| &*write.key), Some(key))?;
    }
    fails(store.put("demo/*", "1", "text/plain"), "wildcard")?;
    Ok(())
}

pub fn waits(store: &Store, session: &Session) -> Done {
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
