//! What a misspelt name may have been meant to be.

/// Names that are compared with are at most so long: of longer ones nobody knows how they are misspelt.
const LONGEST: usize = 64;

/// An error's reason, and what was meant.
pub(super) fn with_hint(reason: &str) -> String {
    format!("{reason}{}", hint(reason))
}

/// What to add to an error of an unknown name, which has the name and all allowed ones in backticks, as serde
/// says it and as the merge rules do: the one that was meant, if it is plain which.
fn hint(reason: &str) -> String {
    let is_of_names = reason.starts_with("unknown field")
        || reason.starts_with("unknown variant")
        || (reason.starts_with("found `") && reason.contains("`, allowed is one of `"));
    if !is_of_names {
        return String::new();
    }
    let mut names = reason.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    match nearest(found, names) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => String::new(),
    }
}

/// The one of `names` that is nearest to `found`, if it is near.
fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if found.len() > LONGEST {
        return None;
    }
    let found = found.to_lowercase();
    // Of a short word few letters can be wrong until it is another one.
    let allowed = (found.chars().count() / 3).clamp(1, 3);
    let names = names.filter(|name| name.len() <= LONGEST);
    let distances = names.map(|name| (strsim::osa_distance(&found, name), name));
    let mut near: Vec<_> = distances.filter(|(by, _)| *by <= allowed).collect();
    near.sort_unstable();
    match near[..] {
        [(by, _), (other, _), ..] if by == other => None,
        [(_, name), ..] => Some(name),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hinted(found: &str) -> String {
        hint(&format!(
            "unknown field `{found}`, expected one of `settle`, `dir`, `durability`, `persistence`, `scrub`"
        ))
    }

    #[test]
    fn the_nearest_name_is_told() {
        for (found, meant) in [
            ("settel", "settle"),
            ("Settle", "settle"),
            ("setle", "settle"),
            ("dri", "dir"),
            ("durabilty", "durability"),
            ("persistance", "persistence"),
            ("persistent", "persistence"),
            ("srcub", "scrub"),
        ] {
            assert_eq!(
                hinted(found),
                format!("; did you mean `{meant}`?"),
                "{found}"
            );
        }
    }

    #[test]
    fn nothing_is_told_that_is_not_plain() {
        for found in ["", "x", "db", "path", "replicate", &"settle".repeat(20)] {
            assert_eq!(hinted(found), "", "{found}");
        }
        assert_eq!(hint("unknown field `ab`, expected `aa` or `bb`"), "");
        assert_eq!(hint("unknown field `settel`, there are no fields"), "");
        assert_eq!(hint("found `settel`, allowed is `settle`"), "");
    }

    #[test]
    fn words_are_names_too() {
        let hinted = hint("unknown variant `mem`, expected `memory` or `durable`");
        assert_eq!(hinted, "");
        let hinted = hint("unknown variant `durabel`, expected `memory` or `durable`");
        assert_eq!(hinted, "; did you mean `durable`?");
        let hinted = hint(
            "found `aditive`, allowed is one of `lww`, `additive`; a custom one has to be there",
        );
        assert_eq!(hinted, "; did you mean `additive`?");
    }
}
