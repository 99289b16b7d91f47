//! Values that storages merge: counters, sets, objects.
//!
//! The storage's rules decide how a key is merged (docs/merging.md): these are for keys whose rule is
//! the strategy that each of them names. Other strategies take such puts for what they are to them.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::{Error, Number, Stamp, Store, Write, elements::canonical, error::invalid};

const JSON: &str = "application/json";

/// A number to which everybody adds (`additive`).
#[derive(Clone, Debug)]
pub struct Counter {
    store: Store,
    key: String,
}

impl Counter {
    /// That at a key.
    #[must_use]
    pub fn new(store: &Store, key: &str) -> Self {
        Self {
            store: store.clone(),
            key: key.to_owned(),
        }
    }

    /// Adds to it, and returns when a storage has counted it.
    ///
    /// # Errors
    /// If a storage would refuse the number, or none shows the addition in time.
    pub fn add<N: TryInto<Number>>(&self, amount: N) -> Result<Write, Error>
    where
        Error: From<N::Error>,
    {
        self.write(amount.try_into()?, None)
    }

    /// Adds to it. Safe to retry: with the stamp of a call that failed, or that was made before a crash,
    /// it is the same addition, which counts once.
    ///
    /// # Errors
    /// If a storage would refuse the number, or none shows the addition in time.
    pub fn add_at<N: TryInto<Number>>(&self, amount: N, stamp: Stamp) -> Result<Write, Error>
    where
        Error: From<N::Error>,
    {
        self.write(amount.try_into()?, Some(stamp))
    }

    fn write(&self, amount: Number, stamp: Option<Stamp>) -> Result<Write, Error> {
        let amount = amount.addable()?.to_string();
        let begun = self.store.begin(&self.key, stamp)?;
        let put = Some((amount.into_bytes(), "text/plain"));
        self.store.write(begun, put)
    }

    /// The sum; 0 if nothing was added.
    ///
    /// # Errors
    /// If it is not known in time, or the key has no number.
    pub fn value(&self) -> Result<Number, Error> {
        match self.store.get(&self.key)? {
            None => Ok(Number::from(0)),
            Some(value) => value.text()?.parse(),
        }
    }

    /// Deletes it, with all that was added until now.
    ///
    /// # Errors
    /// If no storage shows that in time.
    pub fn delete(&self) -> Result<Write, Error> {
        self.store.delete(&self.key)
    }

    /// Deletes what was added until a stamp; a retry is the same delete.
    ///
    /// # Errors
    /// If no storage shows that in time.
    pub fn delete_at(&self, stamp: Stamp) -> Result<Write, Error> {
        self.store.delete_at(&self.key, stamp)
    }
}

/// A set of JSON values (`set_union`).
#[derive(Clone, Debug)]
pub struct Set {
    store: Store,
    key: String,
}

impl Set {
    /// That at a key.
    #[must_use]
    pub fn new(store: &Store, key: &str) -> Self {
        Self {
            store: store.clone(),
            key: key.to_owned(),
        }
    }

    /// Adds elements; without any it makes an empty set.
    ///
    /// # Errors
    /// Those of [`Set::change_at`].
    pub fn add(&self, elements: &[Json]) -> Result<Write, Error> {
        self.write(elements, &[], None)
    }

    /// Removes elements, until somebody adds them again.
    ///
    /// # Errors
    /// Those of [`Set::change_at`].
    pub fn remove(&self, elements: &[Json]) -> Result<Write, Error> {
        self.write(&[], elements, None)
    }

    /// Adds and removes elements in one write, with a stamp: a retry is the same write.
    ///
    /// # Errors
    /// If an element is to be both, or is none that a storage takes, or no storage shows the write in time.
    pub fn change_at(&self, add: &[Json], remove: &[Json], stamp: Stamp) -> Result<Write, Error> {
        self.write(add, remove, Some(stamp))
    }

    fn write(&self, add: &[Json], remove: &[Json], stamp: Option<Stamp>) -> Result<Write, Error> {
        let names = |elements: &[Json]| {
            elements
                .iter()
                .map(canonical)
                .collect::<Result<BTreeSet<_>, _>>()
        };
        let (mut added, removed) = (names(add)?, names(remove)?);
        if let Some(both) = added.intersection(&removed).next() {
            return invalid(format!("to be added and removed: {both}"));
        }
        added.extend(removed);
        let mut begun = self.store.begin(&self.key, stamp)?;
        begun.write.elements = added;
        let payload = json!({ "add": add, "remove": remove }).to_string();
        self.store.write(begun, Some((payload.into_bytes(), JSON)))
    }

    /// The elements, in the order of the storage; empty if there is no set.
    ///
    /// # Errors
    /// If they are not known in time, or the key has no set.
    pub fn value(&self) -> Result<Vec<Json>, Error> {
        match self
            .store
            .get(&self.key)?
            .map(|value| value.json())
            .transpose()?
        {
            None => Ok(Vec::new()),
            Some(Json::Array(elements)) => Ok(elements),
            Some(other) => invalid(format!("{} is no set: {other}", self.key)),
        }
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

/// A JSON object, merged field by field (`object`).
#[derive(Clone, Debug)]
pub struct Object {
    store: Store,
    key: String,
}

impl Object {
    /// That at a key.
    #[must_use]
    pub fn new(store: &Store, key: &str) -> Self {
        Self {
            store: store.clone(),
            key: key.to_owned(),
        }
    }

    /// Puts fields, and leaves the others as they are; null removes one.
    ///
    /// # Errors
    /// If no storage shows it in time.
    pub fn put(&self, fields: &Map<String, Json>) -> Result<Write, Error> {
        self.write(fields, None)
    }

    /// Puts fields with a stamp: a retry is the same write.
    ///
    /// # Errors
    /// If no storage shows it in time.
    pub fn put_at(&self, fields: &Map<String, Json>, stamp: Stamp) -> Result<Write, Error> {
        self.write(fields, Some(stamp))
    }

    fn write(&self, fields: &Map<String, Json>, stamp: Option<Stamp>) -> Result<Write, Error> {
        let mut begun = self.store.begin(&self.key, stamp)?;
        begun.write.fields = fields.keys().cloned().collect();
        let payload = serde_json::to_vec(fields);
        let payload = payload.map_err(|error| Error::Invalid(error.to_string()))?;
        self.store.write(begun, Some((payload, JSON)))
    }

    /// Removes fields.
    ///
    /// # Errors
    /// If no storage shows it in time.
    pub fn remove(&self, names: &[&str]) -> Result<Write, Error> {
        let fields = names.iter().map(|name| ((*name).to_owned(), Json::Null));
        self.put(&fields.collect())
    }

    /// The object; nothing if there is none.
    ///
    /// # Errors
    /// If it is not known in time, or the key has no object.
    pub fn value(&self) -> Result<Option<Map<String, Json>>, Error> {
        match self
            .store
            .get(&self.key)?
            .map(|value| value.json())
            .transpose()?
        {
            None => Ok(None),
            Some(Json::Object(fields)) => Ok(Some(fields)),
            Some(other) => invalid(format!("{} is no object: {other}", self.key)),
        }
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
