//! The configuration of merging.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use zenoh_keyexpr::OwnedKeyExpr;

/// A strategy: its name, and for an object the strategies of those fields that last
/// writer wins does not merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrategyConfig {
    /// The name.
    pub name: String,
    /// Strategies by the names of fields.
    pub fields: BTreeMap<String, StrategyConfig>,
}

impl From<&str> for StrategyConfig {
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            fields: BTreeMap::new(),
        }
    }
}

impl Default for StrategyConfig {
    /// Last writer wins.
    fn default() -> Self {
        "lww".into()
    }
}

struct StrategyVisitor;

impl<'de> Visitor<'de> for StrategyVisitor {
    type Value = StrategyConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the name of a strategy, or an object with it as `strategy` and, where that is \
             \"object\", the strategies of its `fields`",
        )
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<StrategyConfig, E> {
        Ok(name.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StrategyConfig, A::Error> {
        const FIELDS: &[&str] = &["strategy", "fields"];
        let (mut name, mut fields) = (None, BTreeMap::new());
        while let Some(option) = map.next_key::<String>()? {
            match option.as_str() {
                "strategy" => name = Some(map.next_value()?),
                "fields" => fields = map.next_value()?,
                _ => return Err(Error::unknown_field(&option, FIELDS)),
            }
        }
        let name = name.ok_or_else(|| Error::missing_field("strategy"))?;
        Ok(StrategyConfig { name, fields })
    }
}

impl<'de> Deserialize<'de> for StrategyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrategyVisitor)
    }
}

/// The merge rules of a storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MergeConfig {
    /// The strategy where no other rule applies.
    pub default: StrategyConfig,
    /// Strategies by the type of what is put: its encoding, or the encoding's schema.
    pub types: BTreeMap<String, StrategyConfig>,
    /// Strategies by key expressions, in the order of their texts.
    pub keys: Vec<(OwnedKeyExpr, StrategyConfig)>,
}

impl MergeConfig {
    /// The canonical text of the rules, whatever the order in which they were written.
    #[must_use]
    pub fn text(&self) -> String {
        // It cannot fail: all keys are text.
        serde_json::to_string(self).unwrap_or_default()
    }
}
