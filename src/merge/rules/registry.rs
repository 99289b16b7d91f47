//! Strategies by their names, and by the cells that they wrote.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard},
};

use thiserror::Error;

use crate::merge::{
    Additive, Object, SetUnion,
    part::{Nesting, Writer, custom_prefix},
    strategy::{Chosen, Strategy},
};

/// The names of the strategies that this backend has itself.
pub const BUILT_IN: [&str; 5] = ["lww", "additive", "set_union", "object", "automerge_crdt"];

/// Bytes of the name of a custom strategy: it is in the part of each cell.
const MAX_NAME: usize = 32;

struct Custom {
    version: u32,
    strategy: Arc<dyn Strategy>,
}

fn customs() -> &'static RwLock<BTreeMap<String, Custom>> {
    static CUSTOMS: OnceLock<RwLock<BTreeMap<String, Custom>>> = OnceLock::new();
    CUSTOMS.get_or_init(RwLock::default)
}

fn read() -> RwLockReadGuard<'static, BTreeMap<String, Custom>> {
    customs().read().unwrap_or_else(PoisonError::into_inner)
}

/// Why a strategy cannot be registered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is not one that a strategy can have.
    #[error(
        "a custom strategy cannot be called `{0}`: allowed are 1 to 32 of the characters a to z, \
         0 to 9 and _, except the names of the strategies that there are"
    )]
    Name(String),
    /// There is one of that name.
    #[error("a custom strategy called `{0}` is registered already")]
    Taken(String),
}

/// Registers a strategy of one's own: from then on the configuration of a storage
/// can name it. To be called before the volume is started.
///
/// Its name is in the cells that it writes. Replicas merge with each other only
/// if the versions of the strategies that they use are the same too: a change of
/// what the strategy writes or reads should change the version.
///
/// # Errors
/// If the name cannot be a strategy's, or is taken.
pub fn register(
    name: &str,
    version: u32,
    strategy: impl Strategy + 'static,
) -> Result<(), RegisterError> {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    let is_name = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_allowed);
    if !is_name || BUILT_IN.contains(&name) {
        return Err(RegisterError::Name(name.to_owned()));
    }
    let mut customs = customs().write().unwrap_or_else(PoisonError::into_inner);
    if customs.contains_key(name) {
        return Err(RegisterError::Taken(name.to_owned()));
    }
    let strategy = Arc::new(strategy);
    customs.insert(name.to_owned(), Custom { version, strategy });
    Ok(())
}

/// The names of the custom strategies.
pub(in crate::merge) fn custom_names() -> Vec<String> {
    read().keys().cloned().collect()
}

/// A custom strategy, and its version.
pub(in crate::merge) fn custom(name: &str) -> Option<(Chosen, u32)> {
    let customs = read();
    let Custom { version, strategy } = customs.get(name)?;
    let chosen = Chosen {
        name: name.into(),
        prefix: custom_prefix(name).into(),
        strategy: Arc::clone(strategy),
    };
    Some((chosen, *version))
}

/// The strategy that reads, in a place that is within `nesting`, what this one wrote.
pub(in crate::merge) fn strategy_of(
    writer: Writer<'_>,
    nesting: Nesting,
) -> Option<Arc<dyn Strategy>> {
    Some(match writer {
        Writer::Additive => Arc::new(Additive),
        Writer::SetUnion => Arc::new(SetUnion),
        Writer::Object => Arc::new(Object::of_fields_within(nesting.object(), strategy_of)),
        #[cfg(feature = "automerge")]
        Writer::Automerge => Arc::new(crate::merge::AutomergeCrdt),
        #[cfg(not(feature = "automerge"))]
        Writer::Automerge => return None,
        Writer::Custom(name) => Arc::clone(&read().get(name)?.strategy),
        Writer::Unknown | Writer::TooDeep => return None,
    })
}

impl Default for Object {
    /// Of all fields the last writer wins. Made outside of this crate it is part of
    /// a custom strategy: no custom strategy is found in its fields.
    fn default() -> Self {
        Self::of_fields_within(Nesting::CUSTOM.object(), strategy_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let long = "x".repeat(33);
        for name in ["", "lww", "additive", "Max", "a-b", "a b", &long] {
            let error = register(name, 1, Additive);
            assert_eq!(error, Err(RegisterError::Name(name.to_owned())), "{name}");
        }
        assert_eq!(register("sum_2", 1, Additive), Ok(()));
        let taken = Err(RegisterError::Taken("sum_2".to_owned()));
        assert_eq!(register("sum_2", 1, Additive), taken);
        let (chosen, version) = custom("sum_2").expect("registered");
        assert_eq!((&*chosen.prefix, version), (&b"\x7fsum_2\0"[..], 1));
        assert!(strategy_of(Writer::Custom("sum_2"), Nesting::KEY).is_some());
        assert!(strategy_of(Writer::Custom("sum_3"), Nesting::KEY).is_none());
    }
}
