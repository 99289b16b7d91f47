//! The page: what a storage shows to whoever asks with a browser, through the REST plugin.
//!
//! It is one file, which is made of the ones beside this: it loads nothing, and its own policy
//! (`Content-Security-Policy`) lets it run no other script than its own, and speak to nobody
//! but the REST plugin that it came from.

use std::sync::LazyLock;

use zenoh::bytes::Encoding;

use crate::hash::sha256;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");

/// In this order: each uses only what is before it.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("base.js"),
    include_str!("proof.js"),
    include_str!("fleet.js"),
    include_str!("plots.js"),
    include_str!("tree.js"),
    include_str!("keys.js"),
    include_str!("start.js"),
);

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let policy = format!("'sha256-{}'", base64(&sha256(&[SCRIPT.as_bytes()])));
    FRAME
        .replace("{policy of the script}", &policy)
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT)
});

/// The page.
pub(super) fn text() -> &'static str {
    &PAGE
}

/// The encoding of the page, of which the REST plugin makes the type of its answer.
pub(super) fn encoding() -> Encoding {
    Encoding::TEXT_HTML.with_schema("charset=utf-8")
}

/// Base 64, as the policy has hashes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, place| {
            number << 8 | u32::from(piece.get(place).copied().unwrap_or_default())
        });
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= piece.len() {
                digit.into()
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_that_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let page = text();
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        for left in ["{policy of the script}", "{style}", "{script}"] {
            assert!(!page.contains(left), "{left}");
        }
        // The end of the script is not in the script, so the policy's hash is of all of it.
        assert_eq!(page.matches("</script").count(), 1);
        let script = page.split_once("<script>").expect("a script").1;
        assert_eq!(script.split_once("</script>").expect("its end").0, SCRIPT);
        for outside in ["http://", "https://", "src=", "@import", "url(", "//cdn"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn nothing_that_was_stored_becomes_a_part_of_the_page() {
        for dangerous in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "DOMParser",
            "srcdoc",
            "javascript:",
            "createContextualFragment",
        ] {
            assert!(!SCRIPT.contains(dangerous), "{dangerous}");
        }
    }

    /// REST makes queries of GET and POST, and these change nothing without a token.
    #[test]
    fn the_page_asks_and_writes_nothing() {
        assert_eq!(SCRIPT.matches("await fetch(").count(), 1);
        assert!(SCRIPT.contains("method: payload === undefined ? \"GET\" : \"POST\","));
        for other in [
            "XMLHttpRequest",
            "sendBeacon",
            "WebSocket",
            "control/restore",
            "control/rollback",
            "do=",
        ] {
            assert!(!SCRIPT.contains(other), "{other}");
        }
    }
}
