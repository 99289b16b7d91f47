//! Asking before something is changed.

use std::io::{self, BufRead, IsTerminal as _};

use crate::{exit::Error, output::note};

/// What has to be typed.
const YES: &str = "yes";

/// Whether the user wants what `question` says, who has not said so yet. Where
/// nobody can be asked, that is wrong usage.
pub(super) fn confirm(question: &str) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::Usage(format!(
            "{question} Nobody can be asked here: say --yes if that is meant."
        )));
    }
    note(&format!("{question} Type `{YES}` to go on:"));
    answer(&mut io::stdin().lock())
}

fn answer(input: &mut impl BufRead) -> Result<(), Error> {
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(_) if line.trim() == YES => Ok(()),
        Ok(_) | Err(_) => Err(Error::Declined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(answer(&mut &b"yes\n"[..]).is_ok());
        for other in ["", "\n", "y\n", "no\n", "yes, please\n"] {
            let refused = answer(&mut other.as_bytes()).expect_err("refused");
            assert_eq!(refused.code(), 130, "{other:?}");
        }
    }
}
