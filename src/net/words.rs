//! The words of an operator's query: parameters and payload.

use zenoh::query::{Parameters, Query as ZQuery};

use super::request::Request;
use crate::{admin::AdminError, cell::CellKey, hex, mst::RootHash, sync::ReplicaId};

/// The words of a query.
pub(super) struct Words<'a> {
    parameters: &'a Parameters<'a>,
    pub(super) payload: Option<Vec<u8>>,
}

impl<'a> Words<'a> {
    /// Those of Zenoh's own begin with `_`, and are its affair.
    pub(super) fn new(request: Request, query: &'a ZQuery) -> Result<Self, AdminError> {
        let (parameters, payload) = (query.parameters(), query.payload());
        let allowed = request.parameters();
        for (name, _) in parameters.iter() {
            if !name.is_empty() && !name.starts_with('_') && !allowed.contains(&name) {
                let allowed = allowed.iter().map(|name| format!("`{name}`"));
                let allowed = allowed.collect::<Vec<_>>().join(", ");
                return Err(AdminError::UnknownParameter {
                    name: name.to_owned(),
                    allowed: if allowed.is_empty() {
                        "none".to_owned()
                    } else {
                        allowed
                    },
                });
            }
        }
        let max = request.max_payload();
        let payload = payload.filter(|_| max > 0);
        if let Some(payload) = payload.filter(|payload| payload.len() > max) {
            return Err(AdminError::TooLong {
                bytes: payload.len(),
                max,
            });
        }
        Ok(Self {
            parameters,
            payload: payload.map(|payload| payload.to_bytes().into_owned()),
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.parameters.get(name).filter(|value| !value.is_empty())
    }

    /// A parameter that is read so, if it is there.
    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        allowed: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, AdminError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(AdminError::Parameter {
                name,
                value: value.to_owned(),
                allowed,
            }),
        }
    }

    /// The replica that a parameter names.
    pub(super) fn replica(&self, name: &'static str) -> Result<ReplicaId, AdminError> {
        let allowed = "a replica's 32 hexadecimal digits";
        let named = self.parsed(name, allowed, |text| text.parse().ok())?;
        named.ok_or(AdminError::Parameter {
            name,
            value: String::new(),
            allowed,
        })
    }

    /// A parameter that is true or false; false if it is not there.
    pub(super) fn is(&self, name: &'static str) -> Result<bool, AdminError> {
        let given = self.parsed(name, "`true` or `false`", |text| text.parse().ok())?;
        Ok(given.unwrap_or_default())
    }

    /// A key, with its prefix: in the payload, or in a parameter as long as there is no
    /// `;` in it.
    pub(super) fn text(
        &self,
        name: &'static str,
        key_expr: &str,
    ) -> Result<Option<String>, AdminError> {
        let of_payload = self
            .payload
            .as_deref()
            .filter(|payload| !payload.is_empty());
        let bytes = match of_payload {
            Some(payload) => Some(payload.to_vec()),
            None => self.get(name).map(|text| text.as_bytes().to_vec()),
        };
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|error| AdminError::Key {
            key: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            key_expr: key_expr.to_owned(),
        })
    }

    /// The key that is asked about.
    pub(super) fn key(&self, key_expr: &str) -> Result<String, AdminError> {
        self.text("key", key_expr)?.ok_or(AdminError::Parameter {
            name: "key",
            value: String::new(),
            allowed: "a key of the storage, with its prefix",
        })
    }
}

/// What bounds of ranges are.
pub(super) const BOUND: &str = "a cell's key in hexadecimal";

/// The key of a cell, in hexadecimal.
pub(super) fn cell_key(text: &str) -> Option<CellKey> {
    CellKey::from_canonical(&hex::decode(text)?).ok()
}

/// A root, in hexadecimal.
pub(super) fn root(text: &str) -> Option<RootHash> {
    Some(RootHash(hex::decode(text)?.try_into().ok()?))
}

/// The error of a verb that there is not.
pub(super) fn unknown_verb(found: &str, allowed: &'static str) -> AdminError {
    AdminError::Parameter {
        name: "do",
        value: found.to_owned(),
        allowed,
    }
}
