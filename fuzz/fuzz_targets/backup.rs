//! Backups, and what is sent of them: any bytes are refused, or are read as they were
//! written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::backup::{RollbackFrame, read_restore_frame, verify};

fuzz_target!(|bytes: &[u8]| {
    let _ = verify(bytes, &mut |_, _| ());
    let _ = read_restore_frame(bytes);
    if let Ok(frame) = RollbackFrame::decode(bytes, 1 << 20) {
        assert_eq!(
            RollbackFrame::decode(&frame.encode(), usize::MAX),
            Ok(frame)
        );
    }
});
