//! Any bytes are refused, or are the bytes of the cells they decode to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::cell::{read_logged, write_logged};

fuzz_target!(|bytes: &[u8]| {
    let cells: Result<Vec<_>, _> = read_logged(bytes).collect();
    if let Ok(cells) = cells {
        let (mut written, mut head) = (Vec::new(), Vec::new());
        for (key, cell) in &cells {
            let payload = write_logged(key, cell, &mut head);
            written.extend_from_slice(&head);
            written.extend_from_slice(payload);
        }
        assert_eq!(written, bytes);
    }
});
