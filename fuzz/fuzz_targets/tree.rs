//! Any operations, on keys whose places in the tree are any, leave a tree that
//! holds what a map holds and has the shape of one built from it.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::{
    HASH_BYTES,
    mst::{Digested, Mst, Position, Resident, TreeKey},
};

#[derive(Arbitrary, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u16);

impl TreeKey for Key {
    fn write_canonical(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }

    /// Nearly all on level 0, so that runs become too wide.
    fn position(&self) -> Position {
        let mut bytes = [0xff; HASH_BYTES];
        if self.0 % 97 == 0 {
            bytes[0] = (self.0 % 3) as u8;
        }
        bytes[30..].copy_from_slice(&self.0.to_be_bytes());
        Position(bytes)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Value([u8; HASH_BYTES]);

impl Digested for Value {
    fn digest(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }
}

impl Value {
    fn new(key: &Key, number: u8) -> Self {
        let mut digest = [number; HASH_BYTES];
        digest[..2].copy_from_slice(&key.0.to_be_bytes());
        Self(digest)
    }
}

#[derive(Arbitrary, Debug)]
enum Op {
    Upsert(Key, u8),
    /// Many at once: a wide run takes more keys than a fuzzer likes to write.
    Fill(Key, u8),
    Remove(Key),
    RemoveMany(Key, u8),
    Root,
}

fuzz_target!(|ops: Vec<Op>| {
    let mut tree: Mst<Resident<Key, Value>> = Mst::default();
    let mut model = BTreeMap::new();
    for op in ops {
        match op {
            Op::Upsert(key, number) => {
                let value = Value::new(&key, number);
                assert_eq!(
                    tree.upsert(key.clone(), value.clone()),
                    Ok(model.insert(key, value))
                );
            }
            Op::Fill(Key(first), count) => {
                for key in (first..first.saturating_add(count.into())).map(Key) {
                    let value = Value::new(&key, 0);
                    assert_eq!(
                        tree.upsert(key.clone(), value.clone()),
                        Ok(model.insert(key, value))
                    );
                }
            }
            Op::Remove(key) => assert_eq!(tree.remove(&key), Ok(model.remove(&key))),
            Op::RemoveMany(Key(first), count) => {
                for key in (first..first.saturating_add(count.into())).map(Key) {
                    assert_eq!(tree.remove(&key), Ok(model.remove(&key)));
                }
            }
            Op::Root => drop(tree.root()),
        }
    }
    assert_eq!(tree.check(), Ok(Ok(())));
    let Ok(entries) = tree.iter();
    assert!(entries.map(Result::unwrap).eq(model.iter()));
});
