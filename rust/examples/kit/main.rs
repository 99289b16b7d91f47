//! What a program can do with storages, each of it done and checked against the router at ENDPOINT,
//! whose storage has the merge rules of `config/zenohd.json5`:
//!
//! ```sh
//! cargo run --release -p zenoh-mst --features documents --example kit -- all tcp/127.0.0.1:7447
//! ```
//!
//! `replicated REPLICAS ENDPOINT...` writes at several routers, and waits until all replicas have it;
//! `hanging ENDPOINT` writes while one of the other routers does not answer; `gone ENDPOINT` repeats
//! writes that are deleted by wildcards, or had a lifetime of a second below `demo/short`; `dead
//! ENDPOINT` waits for a line, and then writes to a router that has gone; `watch CHANGES ENDPOINT`
//! prints changes. Any difference ends it with an error.

mod checks;
mod confirming;
mod single;
mod values;

use std::time::Duration;

use serde_json::json;
use zenoh::{Session, Wait};
use zenoh_mst::{Counter, Object, Set, Store, client_config};

use checks::{Done, SHORT, fails, same};

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
            single::writes_and_reads(&store)?;
            single::waits(&store, &session)?;
            values::merges(&store)?;
            values::documents(&store)?;
            values::limits(&store, prefix.first().copied())?;
            values::proves(&store)?;
            confirming::answers_with_errors(&store, &session)?;
        }
        ["replicated", replicas, ref endpoints @ ..] if !endpoints.is_empty() => {
            let sessions = endpoints.iter().map(|endpoint| session(endpoint));
            let sessions = sessions.collect::<Result<Vec<_>, _>>()?;
            let stores = sessions.iter().map(open).collect::<Result<Vec<_>, _>>()?;
            replicated(replicas.parse()?, &stores)?;
        }
        ["hanging", endpoint] => confirming::hanging(&open(&session(endpoint)?)?)?,
        ["gone", endpoint] => {
            let session = session(endpoint)?;
            confirming::gone(&open(&session)?, &session)?;
        }
        ["dead", endpoint] => confirming::dead(&open(&session(endpoint)?)?)?,
        ["watch", changes, endpoint] => watch(changes.parse()?, &open(&session(endpoint)?)?)?,
        _ => {
            let usage = "usage: kit all ENDPOINT [STRIP_PREFIX] | replicated REPLICAS ENDPOINT... | \
                         hanging ENDPOINT | gone ENDPOINT | dead ENDPOINT | watch CHANGES ENDPOINT";
            return Err(usage.into());
        }
    }
    println!("done");
    Ok(())
}
