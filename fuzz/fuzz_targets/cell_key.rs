//! Any bytes are refused, or are the canonical bytes of the key they decode to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::cell::CellKey;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = CellKey::from_canonical(bytes) {
        assert_eq!(key.to_canonical(), bytes);
        assert_eq!(key.canonical_len(), bytes.len());
    }
});
