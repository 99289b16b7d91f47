//! Values of options.

use std::time::Duration;

use zenoh_backend_mst::{config::Span, hex, mst::RootHash};

/// A span of time, as in the backend's configuration.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let span = serde_json::from_value::<Span>(text.into());
    span.map(|span| span.0).map_err(|error| error.to_string())
}

/// A root hash, in hexadecimal.
pub(super) fn root(text: &str) -> Result<RootHash, String> {
    let bytes = hex::decode(text).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(RootHash)
        .ok_or_else(|| "a root has 64 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_sixty_four_digits() {
        assert_eq!(root(&"ab".repeat(32)), Ok(RootHash([0xab; 32])));
        for wrong in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(root(wrong).is_err(), "{wrong}");
        }
    }
}
