//! Whose a folder is.
//!
//! A cell's key is kept without the storage's prefix. So the rows of a folder do not say what their keys
//! are called: opened with another prefix they would be other keys, and be replicated as such. The
//! file `OWNER` says it: the key expression and the prefix of the storage that the folder is of.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};
use zenoh_keyexpr::OwnedKeyExpr;

use super::{
    Sidecar, StoreError,
    folder::{self, State},
};
use crate::cell::{Key, MAX_KEY_CHUNKS, intersect};

/// The storage that a folder is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Its key expression: all keys in the folder are within it.
    pub key_expr: OwnedKeyExpr,
    /// What it takes off its keys.
    pub strip_prefix: Option<OwnedKeyExpr>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.key_expr)?;
        match &self.strip_prefix {
            Some(prefix) => write!(f, " (strip_prefix '{prefix}')"),
            None => Ok(()),
        }
    }
}

impl Owner {
    /// Whether a key of the folder is within the storage's key expression.
    #[must_use]
    pub fn includes(&self, key: &Key) -> bool {
        let full = key.with_prefix(self.strip_prefix.as_ref());
        full.is_some_and(|full| intersect(&self.key_expr, &full))
    }

    /// Whether the keys of a folder of `other` are all keys of this one, and are called the same.
    fn is_as_wide_as(&self, other: &Self) -> bool {
        self.strip_prefix == other.strip_prefix && self.key_expr.includes(&other.key_expr)
    }

    /// What the folder says; nothing if it says nothing that can be understood. Blocks on disk.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let line = Sidecar::Owner.read(dir)?;
        let owner = line.and_then(|line| serde_json::from_str::<Self>(&line).ok());
        // Comparing longer ones would take more stack than there is.
        let is_short = |text: &OwnedKeyExpr| text.as_str().split('/').count() <= MAX_KEY_CHUNKS;
        Ok(owner.filter(|owner| is_short(&owner.key_expr)))
    }

    /// Has the folder say that it is of this storage. Blocks on disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), StoreError> {
        // Two texts and their names: there is nothing that could not be written.
        let line = serde_json::to_string(self).unwrap_or_default();
        Sidecar::Owner.write(dir, &line)
    }

    /// Makes sure that the folder is of this storage: a new one becomes so, and one of a storage whose
    /// key expression is within this one's. With `may_create` false there has to be a storage in it.
    /// Blocks on disk.
    ///
    /// # Errors
    /// If it is of another storage, lies in the folder of one, or holds something else; it is then left
    /// as it was found.
    pub fn take(&self, dir: &Path, may_create: bool) -> Result<(), StoreError> {
        if let Some(outer) = folder::enclosing(dir)? {
            return Err(StoreError::Overlap {
                path: dir.to_owned(),
                other: outer,
            });
        }
        if folder::state(dir)? == State::New {
            if !may_create {
                return Err(StoreError::Absent {
                    path: dir.to_owned(),
                });
            }
            folder::create_folder(dir)?;
            return self.write(dir);
        }
        match self.check(dir)? {
            true => Ok(()),
            false => self.write(dir),
        }
    }

    /// Whether the folder, which has a storage in it, says that it is of this one; false if it is of one
    /// whose key expression is within this one's. Changes nothing. Blocks on disk.
    ///
    /// # Errors
    /// If it is of another storage.
    pub fn check(&self, dir: &Path) -> Result<bool, StoreError> {
        match Self::read(dir)? {
            Some(owner) if owner == *self => Ok(true),
            Some(owner) if self.is_as_wide_as(&owner) => Ok(false),
            owner => Err(StoreError::Owner {
                path: dir.to_owned(),
                owner: owner.map(Box::new),
                asked: Box::new(self.clone()),
            }),
        }
    }

    /// How to have a folder be of this storage.
    pub(in crate::store) fn adopt_command(&self, dir: &Path) -> String {
        let mut command = format!(
            "mstctl --dir {} -s '{}' adopt",
            dir.display(),
            self.key_expr
        );
        if let Some(prefix) = &self.strip_prefix {
            command += &format!(" --strip-prefix '{prefix}'");
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{cell::tests::key, store::DurableStore};

    const CACHE: u64 = 8 << 20;

    fn owner(key_expr: &str, prefix: Option<&str>) -> Owner {
        let parse = |text: &str| OwnedKeyExpr::try_from(text).expect("a key expression");
        Owner {
            key_expr: parse(key_expr),
            strip_prefix: prefix.map(parse),
        }
    }

    fn folder_of(owner: &Owner) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        owner.take(dir.path(), true).expect("new");
        drop(DurableStore::open(dir.path(), CACHE).expect("made"));
        dir
    }

    #[test]
    fn a_folder_is_its_storages_or_a_wider_ones() {
        let first = owner("fleet/a/**", None);
        let dir = folder_of(&first);
        first.take(dir.path(), false).expect("its own");
        let wider = owner("fleet/**", None);
        wider.take(dir.path(), false).expect("nothing is outside");
        assert_eq!(Owner::read(dir.path()).expect("read"), Some(wider));
        // Which is recorded: there may be keys of the wider one now.
        for (key_expr, prefix) in [
            ("fleet/a/**", None),
            ("fleet/**", Some("fleet")),
            ("tele/**", None),
            ("*/**/a", None),
        ] {
            let before = fs::read(dir.path().join("OWNER")).expect("there");
            let other = owner(key_expr, prefix);
            let error = other
                .take(dir.path(), true)
                .expect_err("refused")
                .to_string();
            assert!(
                error.contains("'fleet/**'") && error.contains("adopt"),
                "{error}"
            );
            assert_eq!(fs::read(dir.path().join("OWNER")).expect("there"), before);
        }
    }

    #[test]
    fn a_folder_that_does_not_say_whose_it_is_is_refused() {
        let first = owner("fleet/**", Some("fleet"));
        let dir = folder_of(&first);
        let file = dir.path().join("OWNER");
        let long = format!(
            r#"{{"key_expr":"{}a","strip_prefix":null}}"#,
            "a/".repeat(50_000)
        );
        for text in ["", "{}", "fleet/**\n", r#"{"key_expr":"//"}"#, &long] {
            fs::write(&file, text).expect("written");
            let error = first
                .take(dir.path(), true)
                .expect_err("refused")
                .to_string();
            assert!(
                error.ends_with("-s 'fleet/**' adopt --strip-prefix 'fleet'`"),
                "{error}"
            );
        }
        fs::remove_file(&file).expect("removed");
        assert!(first.take(dir.path(), true).is_err());
    }

    #[test]
    fn a_making_that_was_cut_short_begins_anew() {
        let first = owner("fleet/**", None);
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("OWNER.new"), "{").expect("written");
        owner("tele/**", None).take(dir.path(), true).expect("new");
        first.take(dir.path(), true).expect("as good as new");
        drop(DurableStore::open(dir.path(), CACHE).expect("made"));
        first.take(dir.path(), false).expect("its own");
    }

    #[test]
    fn a_folder_that_has_to_be_there_is_not_made() {
        let first = owner("fleet/**", None);
        let dir = tempfile::tempdir().expect("a folder");
        let missing = dir.path().join("missing");
        for path in [&*missing, dir.path()] {
            let error = first.take(path, false).expect_err("nothing is there");
            assert!(matches!(error, StoreError::Absent { .. }), "{error}");
        }
        assert!(!missing.exists());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn no_folder_is_inside_another_ones() {
        let first = owner("fleet/**", None);
        let dir = folder_of(&first);
        let inner = dir.path().join("a/b");
        let error = first.take(&inner, true).expect_err("inside");
        assert!(matches!(error, StoreError::Overlap { .. }), "{error}");
        assert!(!inner.exists());
        let outer = tempfile::tempdir().expect("a folder");
        first.take(&outer.path().join("in"), true).expect("new");
        let error = first.take(outer.path(), true).expect_err("around another");
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }

    #[test]
    fn foreign_folders_get_no_owner() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("thesis.tex"), "x").expect("written");
        assert!(owner("a", None).take(dir.path(), true).is_err());
        assert!(!dir.path().join("OWNER").exists());
    }

    #[test]
    fn keys_are_within_or_not() {
        let all = owner("fleet/**", Some("fleet"));
        assert!(all.includes(&key("a/b")) && all.includes(&Key::NONE));
        let some = owner("fleet/a/**", Some("fleet"));
        assert!(some.includes(&key("a/b")) && !some.includes(&key("b")));
        assert!(!some.includes(&Key::NONE));
        let plain = owner("fleet/**", None);
        assert!(plain.includes(&key("fleet/b")) && !plain.includes(&key("b")));
        assert!(!plain.includes(&Key::NONE));
    }
}
