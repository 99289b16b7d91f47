//! The cells of a key, for people.

use serde_json::{Value, json};
use zenoh_backend_mst::{
    cell::{Cell, CellSummary, Content},
    hex,
    merge::{PartCell, encoding, raw},
    proof::Proven,
};

use crate::output::{Align, Field, Output, Table, Tone, plain, safe, short, time};

/// Letters of a value that are shown in a table.
const MAX_SHOWN: usize = 48;

/// A table of cells in the JSON that a get with `raw` returns.
pub(crate) fn table(cells: &Value, output: Output) -> String {
    let mut table = Table::new(&[
        ("TIME", Align::Left),
        ("BY", Align::Left),
        ("STRATEGY", Align::Left),
        ("PART", Align::Left),
        ("VALUE", Align::Left),
    ]);
    for cell in cells.as_array().into_iter().flatten() {
        let text = |name: &str| cell[name].as_str().map(safe).unwrap_or_default();
        let (at, by) = timestamp(cell["timestamp"].as_str().unwrap_or_default());
        let tone = match cell["covered"].as_bool() {
            Some(true) => Tone::Dim,
            _ => Tone::Plain,
        };
        let part = match &cell["part"] {
            Value::Null => String::new(),
            part => shorten(&plain(part)),
        };
        table.row([
            Field::new(at, tone),
            Field::new(short(&by), tone),
            Field::new(text("strategy"), tone),
            Field::new(part, tone),
            Field::new(value(cell), tone),
        ]);
    }
    table.render(output)
}

fn value(cell: &Value) -> String {
    let mut shown = match (&cell["deleted"], &cell["payload_hash"]) {
        (Value::Bool(true), _) => "deleted".to_owned(),
        (_, Value::String(hash)) => format!("{} B, hash {hash}", cell["bytes"]),
        _ => match &cell["value"] {
            Value::Object(hex) => match hex.get("hex").and_then(Value::as_str) {
                Some(digits) => shorten(&format!("0x{digits}")),
                None => shorten(&plain(&cell["value"])),
            },
            value => shorten(&plain(value)),
        },
    };
    if cell["covered"] == true {
        shown.push_str(" (covered)");
    }
    shown
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Time and clock of a timestamp as Zenoh writes it; the text itself, if it is of
/// another form.
pub(crate) fn timestamp(text: &str) -> (String, String) {
    let parts = text.split_once('/');
    match parts.and_then(|(at, by)| Some((at.parse().ok()?, by))) {
        Some((at, by)) => (time(at), safe(by)),
        None => (safe(text), String::new()),
    }
}

/// What was proven, in the form of cells that are read, but that payloads are there
/// by length and hash.
pub(crate) fn proven(proven: &Proven) -> Value {
    let timestamps: Vec<Cell> = proven
        .cells
        .iter()
        .map(|cell| Cell {
            timestamp: cell.timestamp,
            content: Content::Tombstone,
        })
        .collect();
    let parts = proven.cells.iter().zip(&timestamps);
    let parts: Vec<PartCell<'_>> = parts
        .map(|(proven, cell)| PartCell {
            part: proven.part.as_bytes(),
            cell,
        })
        .collect();
    // All but the content is as it is when cells are read: told in one place.
    let text = raw(&parts).and_then(|cell| cell.value().map(|value| value.payload.clone()));
    let shown = text.and_then(|text| serde_json::from_slice(&text).ok());
    let mut shown: Vec<Value> = shown.unwrap_or_default();
    for (shown, cell) in shown.iter_mut().zip(&proven.cells) {
        if let CellSummary::Value {
            encoding_id,
            schema,
            attachment,
            payload_len,
            payload_hash,
        } = &cell.content
        {
            if let Some(fields) = shown.as_object_mut() {
                fields.remove("deleted");
            }
            let text = encoding::text(*encoding_id, schema.as_deref());
            shown["encoding"] = text.into();
            if let Some(attachment) = attachment {
                shown["attachment_bytes"] = json!(attachment.len());
            }
            shown["bytes"] = json!(payload_len);
            shown["payload_hash"] = hex::encode(payload_hash).into();
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use zenoh_backend_mst::{
        cell::{Key, Part, Timestamp},
        proof::ProvenCell,
    };

    use super::*;

    #[test]
    fn cells_are_a_table() {
        let cells = json!([
            { "strategy": "lww", "timestamp": "0/ab", "deleted": true },
            { "strategy": "set_union", "part": "red", "timestamp": "1/ab", "covered": true,
              "encoding": "text/plain", "value": "\u{1b}x" },
            { "strategy": "own", "part": { "hex": "00ff" }, "timestamp": "?", "value": { "hex": "ff" } },
        ]);
        let text = table(&cells, Output::new(true));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("TIME"), "{text}");
        assert!(
            lines[1].contains("1970-01-01") && lines[1].ends_with("deleted"),
            "{text}"
        );
        assert!(lines[2].ends_with("\\u{1b}x (covered)"), "{text}");
        assert!(
            lines[3].starts_with('?') && lines[3].ends_with("0xff"),
            "{text}"
        );
    }

    #[test]
    fn long_values_are_cut() {
        let cell = json!({ "value": "é".repeat(100) });
        assert_eq!(value(&cell).chars().count(), MAX_SHOWN + 1);
    }

    #[test]
    fn what_is_proven_is_told_as_what_is_read() {
        let timestamp = Timestamp {
            time: 7,
            id: [1; 16],
        };
        let own = ProvenCell {
            part: Part::EMPTY,
            timestamp,
            content: CellSummary::Value {
                encoding_id: 0,
                schema: None,
                attachment: None,
                payload_len: 5,
                payload_hash: [0xab; 32],
            },
        };
        let proven_cells = proven(&Proven {
            key: Key::NONE,
            cells: vec![own],
        });
        let cell = &proven_cells[0];
        assert_eq!(cell["strategy"], "lww");
        assert_eq!(cell["bytes"], 5);
        assert_eq!(cell["payload_hash"], "ab".repeat(32));
        assert_eq!(cell.get("deleted"), None);
        assert!(value(cell).starts_with("5 B, hash abab"));
    }
}
