//! Text of others, for the log.

/// Characters of it that are written, at the most.
const MAX_CHARS: usize = 1_000;

/// A text that others wrote, as one line of the log: whoever wrote it must not be able to
/// write a line of their own, nor fill the disk.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (count, letter) in text.chars().enumerate() {
        if count == MAX_CHARS {
            line.push_str(" ...");
            break;
        }
        match letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_one_line_with_an_end() {
        assert_eq!(one_line("it's 'ä/**'"), "it's 'ä/**'");
        let forged = "x\n2026-01-01 ERROR all is lost\r\u{1b}[2J\u{2028}";
        assert_eq!(
            one_line(forged),
            "x\\n2026-01-01 ERROR all is lost\\r\\u{1b}[2J\\u{2028}"
        );
        let long = one_line(&"x".repeat(1 << 20));
        assert_eq!(long.len(), MAX_CHARS + " ...".len());
    }
}
