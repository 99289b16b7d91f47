//! The terminal while `watch` has it: another screen, and keys as they are pressed.

use std::io::{self, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::exit::Error;

/// Enters the alternate screen and hides the cursor; and the way back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner; to the end of the line; to the end of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// Columns and rows, where the terminal does not say.
const USUAL: (usize, usize) = (80, 24);

/// The terminal, which is given back as it was when this is dropped.
pub(crate) struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes the terminal that is both standard input and output. Ctrl-C becomes a
    /// key: whoever reads the keys ends the program, so that the terminal is
    /// given back.
    pub(crate) fn enter() -> Result<Self, Error> {
        let failed = |error: rustix::io::Errno| Error::Output(error.into());
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut keys = before.clone();
        keys.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Now, &keys).map_err(failed)?;
        let screen = Self { before };
        put(ENTER).map_err(Error::Output)?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => USUAL,
        }
    }

    /// Shows these lines, which fit, in place of what was there; without a flicker.
    pub(crate) fn show<'a>(&self, lines: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        let mut frame = HOME.to_owned();
        for (place, line) in lines.enumerate() {
            if place > 0 {
                frame.push_str("\r\n");
            }
            frame.push_str(line);
            frame.push_str(CLEAR_LINE);
        }
        frame.push_str(CLEAR_REST);
        put(&frame).map_err(Error::Output)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody left to tell of a failure.
        let _ = put(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Cuts a line with colours to so many columns.
pub(crate) fn cut(line: &str, columns: usize) -> String {
    let mut shown = String::new();
    let mut left = columns;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\x1b' {
            // A colour takes no column, and the one that ends it has to come.
            shown.push(letter);
            for letter in letters.by_ref() {
                shown.push(letter);
                if letter.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if left > 0 {
            shown.push(letter);
            left -= 1;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_colours_end() {
        assert_eq!(cut("abcdef", 3), "abc");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("a\x1b[31mbcd\x1b[0m e", 2), "a\x1b[31mb\x1b[0m");
        assert_eq!(cut("äöü", 2), "äö");
    }
}
