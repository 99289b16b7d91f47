//! `mstctl get`

use serde_json::{Value, json};
use zenoh_backend_mst::{hex, sync::Token};

use super::{
    Context,
    keys::{Wanted, each, is_over},
};
use crate::{
    args::Get,
    cells,
    connection::{Connection, Request},
    exit::{Answer, Error},
    output::{Output, Tone, counted, is_terminal, note, safe, safe_lines, short, time},
};

/// A value as it is read.
pub(super) struct Reading {
    pub(super) payload: Vec<u8>,
    pub(super) encoding: String,
    /// NTP64, if it has a time.
    pub(super) time: Option<u64>,
}

/// A key as it is shown.
pub(super) struct Shown {
    pub(super) key: String,
    pub(super) value: Option<Reading>,
    /// As a get with `raw` returns them.
    pub(super) cells: Value,
    /// Of which replica the cells are, if of one.
    pub(super) from: Option<String>,
    /// Until when it had a value, if it has none since its lifetime or its `ttl` is over.
    pub(super) ended: Option<String>,
}

pub(super) fn run(context: &Context, args: &Get) -> Result<Answer, Error> {
    let connection = context.connect()?;
    let replica = context.choice().of_key(&args.key, connection.replicas()?)?;
    crate::replicas::stored_key(&args.key, None)?;
    let request = Request::to(&replica.base, "cells").payload(args.key.as_bytes());
    let cells = connection.ask(request)?.json()?;
    let value = connection.get(&args.key)?.map(|sample| Reading {
        payload: sample.payload().to_bytes().into_owned(),
        encoding: sample.encoding().to_string(),
        time: sample
            .timestamp()
            .map(|timestamp| timestamp.get_time().as_u64()),
    });
    let is_gone = value.is_none() && cells.as_array().is_some_and(|cells| !cells.is_empty());
    let ended = match is_gone {
        true => ended(&connection, &replica.base, &args.key)?,
        false => None,
    };
    let shown = Shown {
        key: args.key.clone(),
        value,
        cells,
        from: Some(replica.base.replica.to_string()),
        ended,
    };
    show(context.output, &shown, args.value)
}

/// Until when a key had a value, if its lifetime or its `ttl` is over.
fn ended(connection: &Connection, base: &Token, key: &str) -> Result<Option<String>, Error> {
    // Others cannot be asked for.
    if key.is_empty() || key.contains(';') {
        return Ok(None);
    }
    let wanted = Wanted {
        pattern: Some(key),
        deleted: true,
        limit: Some(1),
        ..Wanted::default()
    };
    let mut ended = None;
    each(connection, base, wanted, |listed| {
        if listed["key"] == key && is_over(listed) {
            ended = listed["expires"].as_str().map(str::to_owned);
        }
        Ok(())
    })?;
    Ok(ended)
}

/// Shows a key, or only the bytes of its value.
pub(super) fn show(output: Output, shown: &Shown, only_value: bool) -> Result<Answer, Error> {
    match (&shown.value, only_value) {
        (Some(value), true) => output.bytes(&value.payload)?,
        (None, true) => note(&format!(
            "mstctl: `{}` has no value{}",
            safe(&shown.key),
            over(shown)
        )),
        (_, false) => output.either(&document(shown), |output| text(shown, output))?,
    }
    Ok(Answer::of(shown.value.is_some()))
}

/// Why there is no value, if that is known.
fn over(shown: &Shown) -> String {
    let ended = shown.ended.as_deref().map(safe);
    ended.map_or(String::new(), |ended| {
        format!(": its lifetime, or its `ttl`, was over at {ended}")
    })
}

fn document(shown: &Shown) -> Value {
    let value = shown.value.as_ref().map(|value| {
        json!({
            "value": match std::str::from_utf8(&value.payload) {
                Ok(text) => json!(text),
                Err(_) => json!({ "hex": hex::encode(&value.payload) }),
            },
            "bytes": value.payload.len(),
            "encoding": value.encoding,
            "time": value.time.map(time),
        })
    });
    json!({
        "key": shown.key,
        "value": value,
        "ended": shown.ended,
        "replica": shown.from,
        "cells": shown.cells,
    })
}

fn text(shown: &Shown, output: Output) -> String {
    let key = output.paint(Tone::Strong, &safe(&shown.key));
    let mut text = match &shown.value {
        None => {
            let said = format!("no value{}", over(shown));
            format!("{key}  {}\n", output.paint(Tone::Warn, &said))
        }
        Some(value) => {
            let at = value
                .time
                .map_or(String::new(), |at| format!(", {}", time(at)));
            let (bytes, encoding) = (
                counted(value.payload.len() as u64, "byte", "bytes"),
                safe(&value.encoding),
            );
            let (form, shown) = payload(&value.payload);
            format!("{key}  {encoding}, {bytes}{form}{at}\n{shown}\n")
        }
    };
    match shown.cells.as_array() {
        Some(cells) if !cells.is_empty() => {
            let of = shown.from.as_deref();
            let of = of.map_or(String::new(), |of| format!(" at replica {}", short(of)));
            let head = output.paint(Tone::Dim, &format!("cells{of}"));
            text.push_str(&format!("\n{head}\n{}", cells::table(&shown.cells, output)));
        }
        _ => text.push_str("\nno cells: nothing was ever put or deleted here"),
    }
    text
}

/// A payload for people, and what form it has.
fn payload(bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        // A file gets what was put; a terminal is not commanded by it.
        Ok(text) if is_terminal() => ("", safe_lines(text)),
        Ok(text) => ("", text.to_owned()),
        Err(_) => (" in hexadecimal", hex::encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payload: &[u8]) -> Shown {
        Shown {
            key: "a/b".to_owned(),
            value: Some(Reading {
                payload: payload.to_vec(),
                encoding: "text/plain".to_owned(),
                time: Some(0),
            }),
            cells: json!([{ "strategy": "lww", "timestamp": "0/1", "value": "x" }]),
            from: Some("0123456789".to_owned()),
            ended: None,
        }
    }

    #[test]
    fn a_value_is_text_or_digits() {
        let output = Output::new(true);
        let hello = text(&shown(b"hello"), output);
        assert!(
            hello
                .starts_with("a/b  text/plain, 5 bytes, 1970-01-01T00:00:00.000000000Z\nhello\n\n"),
            "{hello}"
        );
        assert!(hello.contains("cells at replica 01234567\nTIME"), "{hello}");
        let binary = text(&shown(&[0xff, 0]), output);
        assert!(
            binary.contains("2 bytes in hexadecimal") && binary.contains("\nff00\n"),
            "{binary}"
        );
        assert_eq!(document(&shown(b"hello"))["value"]["value"], "hello");
        assert_eq!(document(&shown(&[0xff]))["value"]["value"]["hex"], "ff");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let missing = Shown {
            value: None,
            cells: json!([]),
            ..shown(b"")
        };
        let said = text(&missing, Output::new(true));
        assert!(
            said.contains("no value") && said.contains("no cells"),
            "{said}"
        );
        assert!(document(&missing)["value"].is_null());
        let hidden = Shown {
            value: None,
            ended: Some("2026-11-24T04:44:34Z".to_owned()),
            ..shown(b"")
        };
        let said = text(&hidden, Output::new(true));
        let why = "no value: its lifetime, or its `ttl`, was over at 2026-11-24T04:44:34Z\n";
        assert!(said.contains(why), "{said}");
        assert_eq!(document(&hidden)["ended"], "2026-11-24T04:44:34Z");
    }
}
