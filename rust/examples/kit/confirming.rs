//! Writes that some router, or all of them, do not answer for.

use std::{io::stdin, time::Duration};

use zenoh::{Session, Wait, qos::CongestionControl};
use zenoh_mst::{Counter, Error, Store};

use crate::checks::{Done, SHORT, fails, same, until};

const LONG: Duration = Duration::from_secs(60);

/// Another router is linked with and does not answer: it keeps no write from being confirmed.
pub fn hanging(store: &Store) -> Done {
    let store = store.with_timeout(Duration::from_secs(5));
    let write = store.put("demo/a", "1", "text/plain")?;
    same(
        store.put_at("demo/a", "1", "text/plain", write.stamp)?,
        write,
    )?;
    let stamp = store.stamp()?;
    same(
        store.put_at("demo/b", "2", "text/plain", stamp)?.stamp,
        stamp,
    )?;
    store.delete_at("demo/c", store.stamp()?)?;
    let counter = Counter::new(&store, "demo/count/b");
    let added = counter.add_at(1, store.stamp()?)?;
    same(counter.add_at(1, added.stamp)?, added.clone())?;
    same(store.replicated(&added, 1)?.len(), 1)?;
    // What is refused is not shown, and not all have answered.
    let short = store.with_timeout(Duration::from_secs(1));
    let refused = short.put_at("demo/count/b", "five", "text/plain", store.stamp()?);
    let error = fails(refused, "demo/count/b")?;
    same(error.write().map(|write| &*write.key), Some("demo/count/b"))
}

/// Something answers with errors: that keeps no write from being sent.
pub fn answers_with_errors(store: &Store, session: &Session) -> Done {
    let failing = session
        .declare_queryable("demo/failing")
        .callback(|query| {
            // If it cannot be sent, the query has no such answer, which is checked below.
            let _ = query.reply_err("it is out of order").wait();
        })
        .wait()?;
    let write = store.put_at("demo/failing", "1", "text/plain", store.stamp()?)?;
    same(
        store.put_at("demo/failing", "1", "text/plain", write.stamp)?,
        write.clone(),
    )?;
    let mut never = write;
    never.stamp = store.stamp()?;
    let short = store.with_timeout(Duration::from_millis(500));
    let error = fails(short.confirm(never.clone()), "it is out of order")?;
    same(matches!(error, Error::Unconfirmed(_)), true)?;
    same(error.write(), Some(&never))?;
    failing.undeclare().wait()?;
    Ok(())
}

/// A write that was deleted with others, or has faded: no storage can say any more whether it was taken.
pub fn gone(store: &Store, session: &Session) -> Done {
    let not_shown = |error: Error| match error {
        Error::NotShown(unshown) => Ok(*unshown),
        other => Err(format!("found {other:?}, expected that it is not shown")),
    };
    // Nothing of it can have gone: it cannot have been taken.
    let store = store.with_timeout(LONG);
    let refused = not_shown(fails(
        store.put("demo/count/a", "five", "text/plain"),
        "five",
    )?)?;
    same(refused.reason.contains("refused it"), true)?;
    let written = [
        store.put("demo/w/1", "1", "text/plain")?,
        store.put("demo/short/1", "1", "text/plain")?,
    ];
    session
        .delete("demo/w/*")
        .timestamp(store.stamp()?)
        .congestion_control(CongestionControl::Block)
        .wait()?;
    for write in written {
        let (key, stamp) = (&*write.key, write.stamp);
        store.get_until(key, |value| value.is_none())?;
        until(|| Ok(store.cells(key)?.iter().all(Vec::is_empty)))?;
        for again in [
            store.put_at(key, "1", "text/plain", stamp),
            store.delete_at(key, stamp),
            store.confirm(write.clone()),
        ] {
            let unshown = not_shown(fails(again, key)?)?;
            same(unshown.write.stamp, stamp)?;
            for way in ["wildcards", "lifetime"] {
                same((way, unshown.reason.contains(way)), (way, true))?;
            }
            same(unshown.reason.contains("within"), false)?;
        }
        same(store.get(key)?, None)?;
    }
    Ok(())
}

/// A router that has gone, and with it the session: a write is unconfirmed, and no more.
pub fn dead(store: &Store) -> Done {
    let write = store.put("demo/a", "1", "text/plain")?;
    println!("written");
    stdin().read_line(&mut String::new())?;
    let short = store.with_timeout(SHORT);
    let error = fails(short.confirm(write.clone()), "within 300ms")?;
    same(matches!(error, Error::Unconfirmed(_)), true)?;
    same(error.write(), Some(&write))
}
