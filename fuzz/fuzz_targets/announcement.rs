//! Announcements and tokens: any bytes are refused, or canonical.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::sync::{Announcement, Token};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(announcement) = Announcement::decode(bytes) {
        assert_eq!(announcement.encode(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(token) = Token::parse(text) {
            // A number can be written with zeros before it.
            assert_eq!(Token::parse(&token.to_string()), Some(token));
        }
    }
});
