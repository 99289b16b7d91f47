//! Any options are refused with a message, or understood; nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::config::StorageConfig;

fuzz_target!(|text: &str| {
    let Ok(options) = serde_json::from_str(text) else {
        return;
    };
    match StorageConfig::parse("name", options) {
        Ok(config) => assert!(config.dir.is_relative()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
