//! Any bytes are refused, or are the bytes of the cells they decode to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::cell::{read_ahead, write_ahead};

fuzz_target!(|bytes: &[u8]| {
    let cells: Result<Vec<_>, _> = read_ahead(bytes).collect();
    if let Ok(cells) = cells {
        let mut written = Vec::new();
        for (key, cell) in &cells {
            write_ahead(key, cell, &mut written);
        }
        assert_eq!(written, bytes);
    }
});
