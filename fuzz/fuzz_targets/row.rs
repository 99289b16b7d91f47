//! Any bytes are refused, or are the bytes of the row they decode to; and what is
//! read of a row without its value is what is read with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::cell::Row;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(row) = Row::decode(bytes) {
        assert_eq!(row.encode(), bytes);
        assert_eq!(Row::decode_version(bytes), Ok(row.version));
    }
});
