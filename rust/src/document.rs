//! Automerge documents.

use automerge::{AutoCommit, AutomergeError, ChangeHash};
use serde_json::Value as Json;

use crate::{Error, Stamp, Store, Write, elements::canonical, error::invalid};

/// A document that several edit at once (`automerge_crdt`).
#[derive(Clone, Debug)]
pub struct Document {
    store: Store,
    key: String,
}

impl Document {
    /// That at a key.
    #[must_use]
    pub fn new(store: &Store, key: &str) -> Self {
        Self {
            store: store.clone(),
            key: key.to_owned(),
        }
    }

    /// The document as the storage has it, with an actor of its own; a new one if there is none.
    ///
    /// # Errors
    /// If it is not known in time, or the key has no document.
    pub fn load(&self) -> Result<AutoCommit, Error> {
        let Some(value) = self.store.get(&self.key)? else {
            return Ok(AutoCommit::new());
        };
        let document = AutoCommit::load(&value.payload);
        document.or_else(|error| invalid(format!("{} is no document: {error}", self.key)))
    }

    /// Puts the changes since the heads that are `known` to be in the storage, or all of them if none are.
    /// Nothing if there are no changes.
    ///
    /// # Errors
    /// If no storage shows them in time.
    pub fn put(
        &self,
        document: &mut AutoCommit,
        known: &[ChangeHash],
    ) -> Result<Option<Write>, Error> {
        self.write(document, known, None)
    }

    /// The same with a stamp: a retry is the same write.
    ///
    /// # Errors
    /// If no storage shows them in time.
    pub fn put_at(
        &self,
        document: &mut AutoCommit,
        known: &[ChangeHash],
        stamp: Stamp,
    ) -> Result<Option<Write>, Error> {
        self.write(document, known, Some(stamp))
    }

    fn write(
        &self,
        document: &mut AutoCommit,
        known: &[ChangeHash],
        stamp: Option<Stamp>,
    ) -> Result<Option<Write>, Error> {
        let changes = document.get_changes(known);
        if changes.is_empty() {
            return Ok(None);
        }
        let mut begun = self.store.begin(&self.key, stamp)?;
        let hashes = changes.iter();
        let hashes = hashes.map(|change| canonical(&Json::from(change.hash().to_string())));
        begun.write.elements = hashes.collect::<Result<_, _>>()?;
        let bytes: Vec<_> = changes.iter().map(|change| change.raw_bytes()).collect();
        let put = (bytes.concat(), "application/octet-stream");
        self.store.write(begun, Some(put)).map(Some)
    }

    /// Loads the document, changes it, and puts the changes. If `change` fails, nothing is put. To be able to
    /// retry a put that is not confirmed, keep the document: take [`load`](Self::load) and
    /// [`put_at`](Self::put_at).
    ///
    /// # Errors
    /// Those of [`load`](Self::load), of `change`, and of [`put`](Self::put).
    pub fn edit<T>(
        &self,
        change: impl FnOnce(&mut AutoCommit) -> Result<T, AutomergeError>,
    ) -> Result<T, Error> {
        let mut document = self.load()?;
        let known = document.get_heads();
        let result = change(&mut document);
        let result = result.or_else(|error| invalid(format!("{}: {error}", self.key)))?;
        self.put(&mut document, &known)?;
        Ok(result)
    }

    /// The document as JSON; nothing if there is none.
    ///
    /// # Errors
    /// If it is not known in time, or the key has no document.
    pub fn json(&self) -> Result<Option<Json>, Error> {
        let value = self.store.get(&format!("{}?json", self.key))?;
        value.map(|value| value.json()).transpose()
    }

    /// Deletes it, with all that was put until now.
    ///
    /// # Errors
    /// If no storage shows that in time.
    pub fn delete(&self) -> Result<Write, Error> {
        self.store.delete(&self.key)
    }

    /// Deletes what was put until a stamp; a retry is the same delete.
    ///
    /// # Errors
    /// If no storage shows that in time.
    pub fn delete_at(&self, stamp: Stamp) -> Result<Write, Error> {
        self.store.delete_at(&self.key, stamp)
    }
}
