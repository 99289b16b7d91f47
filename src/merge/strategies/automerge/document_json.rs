//! Automerge documents as JSON.
//!
//! Automerge's own serializer goes down into a document by recursion, and a document
//! of 100 kB may nest 50,000 maps.

use std::vec;

use ::automerge::{Automerge, ObjId, ObjType, ROOT, ReadDoc, Value};

/// An object of the document, of which some is written.
enum Open {
    Map {
        object: ObjId,
        // Automerge's own iterator has 4 KiB, which would be as many for each level.
        keys: vec::IntoIter<String>,
    },
    List {
        object: ObjId,
        length: usize,
        next: usize,
    },
}

/// The document as JSON: as [`AutoSerde`](::automerge::AutoSerde) writes it, in
/// bounded stack. Nothing, if the document cannot be read.
pub(super) fn document_json(document: &Automerge) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut open = vec![open_object(document, ROOT, ObjType::Map, &mut out)];
    while let Some(object) = open.last_mut() {
        let (value, id) = match object {
            Open::Map { object, keys } => match keys.next() {
                None => {
                    out.push(b'}');
                    open.pop();
                    continue;
                }
                Some(key) => {
                    separate(&mut out);
                    serde_json::to_writer(&mut out, &key).ok()?;
                    out.push(b':');
                    document.get(&*object, key).ok()??
                }
            },
            Open::List {
                object,
                length,
                next,
            } => {
                if next == length {
                    out.push(b']');
                    open.pop();
                    continue;
                }
                separate(&mut out);
                *next += 1;
                document.get(&*object, *next - 1).ok()??
            }
        };
        match value {
            Value::Object(ObjType::Text) => {
                serde_json::to_writer(&mut out, &document.text(&id).ok()?).ok()?;
            }
            Value::Object(kind) => open.push(open_object(document, id, kind, &mut out)),
            Value::Scalar(scalar) => serde_json::to_writer(&mut out, &*scalar).ok()?,
        }
    }
    Some(out)
}

/// Writes the comma before an entry that is not the first: no entry ends with a
/// bracket that opens.
fn separate(out: &mut Vec<u8>) {
    if !out.ends_with(b"{") && !out.ends_with(b"[") {
        out.push(b',');
    }
}

fn open_object(document: &Automerge, object: ObjId, kind: ObjType, out: &mut Vec<u8>) -> Open {
    match kind {
        ObjType::List => {
            out.push(b'[');
            Open::List {
                length: document.length(&object),
                next: 0,
                object,
            }
        }
        ObjType::Map | ObjType::Table | ObjType::Text => {
            out.push(b'{');
            let keys: Vec<String> = document.keys(&object).collect();
            Open::Map {
                object,
                keys: keys.into_iter(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ::automerge::{AutoCommit, AutoSerde, ScalarValue, transaction::Transactable};

    use super::*;

    #[test]
    fn it_is_what_automerge_writes() {
        let mut document = AutoCommit::new();
        let same = |document: &mut AutoCommit| {
            let expected = serde_json::to_vec(&AutoSerde::from(&*document)).expect("JSON");
            let text = document_json(document.document()).expect("JSON");
            assert_eq!(String::from_utf8(text), String::from_utf8(expected));
        };
        same(&mut document);
        for (key, scalar) in [
            ("null", ScalarValue::Null),
            ("bytes", ScalarValue::Bytes(vec![1, 2])),
            ("text \"\n\0", ScalarValue::Str("\u{1}\\é{[,".into())),
            ("int", ScalarValue::Int(i64::MIN)),
            ("uint", ScalarValue::Uint(u64::MAX)),
            ("float", ScalarValue::F64(0.1)),
            ("nan", ScalarValue::F64(f64::NAN)),
            ("counter", ScalarValue::counter(5)),
            ("timestamp", ScalarValue::Timestamp(-1)),
            ("bool", ScalarValue::Boolean(true)),
        ] {
            document.put(ROOT, key, scalar).expect("put");
            same(&mut document);
        }
        for kind in [ObjType::Map, ObjType::Table, ObjType::List, ObjType::Text] {
            for name in ["first", "second"] {
                let object = document.put_object(ROOT, name, kind);
                let object = object.expect("an object");
                same(&mut document);
                for index in 0..3 {
                    match kind {
                        ObjType::List => {
                            let inner = document.insert_object(&object, index, ObjType::Map);
                            document
                                .put(inner.expect("a map"), "{", index as i64)
                                .expect("put");
                            document
                                .insert_object(&object, index, ObjType::List)
                                .expect("a list");
                        }
                        ObjType::Text => document.splice_text(&object, 0, 0, "a\"b").expect("text"),
                        ObjType::Table => {}
                        ObjType::Map => {
                            let key = format!("{index}");
                            document
                                .put_object(&object, key, ObjType::Map)
                                .expect("a map");
                            document.put(&object, "[", "}").expect("put");
                        }
                    }
                    same(&mut document);
                }
            }
        }
        document.delete(ROOT, "first").expect("deleted");
        same(&mut document);
    }
}
