//! Which strategy merges which put.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use super::{
    registry::{self, BUILT_IN},
    specificity,
};
use crate::{
    cell::{Cell, Content, Key, Part, intersect, ttls, without_ttl},
    config::{ConfigError, MergeConfig, StorageConfig, StrategyConfig},
    merge::{
        Additive, Lifetimes, Object, SetUnion,
        collect::{self, Collection},
        encoding::is_of_type,
        part::{MAX_NESTING, tag},
        strategy::{Chosen, InvalidPut, PartCell, Put},
    },
};

/// Cells that one put may write.
pub const MAX_CELLS: usize = 65_536;

/// A rule of `key_overrides`, made for the keys that a storage keeps, from which
/// its prefix is stripped.
struct KeyRule {
    /// As it was written.
    written: OwnedKeyExpr,
    keys: Vec<OwnedKeyExpr>,
    /// Whether it matches the key that is the prefix itself.
    matches_prefix: bool,
    strategy: Option<Chosen>,
}

/// The merge rules of a storage.
///
/// A put is merged by the strategy of the most specific of the key rules that
/// match its key; else by that of the type rules of whose type it is, of several by
/// that with the longest name; else by the default.
pub struct MergeRules {
    default: Option<Chosen>,
    /// Longer names first.
    types: Vec<(String, Option<Chosen>)>,
    keys: Vec<KeyRule>,
    lifetimes: Arc<Lifetimes>,
    text: String,
}

impl fmt::Debug for MergeRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MergeRules").field(&self.text).finish()
    }
}

/// Why a put is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedPut {
    /// The strategy that does not take it.
    pub strategy: Arc<str>,
    /// Why.
    pub reason: InvalidPut,
}

/// The strategy that a configuration names for what is within so many objects, and
/// the versions of the custom ones in it.
fn choose(
    option: &str,
    config: &StrategyConfig,
    objects: usize,
    versions: &mut BTreeMap<String, u32>,
) -> Result<Option<Chosen>, ConfigError> {
    let error = |reason: String| ConfigError::Option {
        option: option.to_owned(),
        reason,
    };
    if !config.fields.is_empty() && config.name != "object" {
        return Err(error(format!(
            "`{}` has no fields, only `object` has",
            config.name
        )));
    }
    Ok(Some(match config.name.as_str() {
        "lww" => return Ok(None),
        "additive" => Chosen::built_in("additive", tag::ADDITIVE, Additive),
        "set_union" => Chosen::built_in("set_union", tag::SET_UNION, SetUnion),
        #[cfg(feature = "automerge")]
        "automerge_crdt" => {
            let strategy = crate::merge::AutomergeCrdt;
            Chosen::built_in("automerge_crdt", tag::AUTOMERGE, strategy)
        }
        #[cfg(not(feature = "automerge"))]
        "automerge_crdt" => {
            let text = "this build has no `automerge_crdt`: build it with the feature `automerge`";
            return Err(error(text.to_owned()));
        }
        "object" if objects == MAX_NESTING => {
            return Err(error(format!(
                "found an `object` within {objects} others, allowed are {MAX_NESTING} within each \
                 other"
            )));
        }
        "object" => {
            let mut fields = BTreeMap::new();
            for (name, config) in &config.fields {
                let option = format!("{option}.fields.{name}");
                if config.name == "automerge_crdt" {
                    return Err(ConfigError::Option {
                        option,
                        reason: "found `automerge_crdt`, whose documents are bytes and no JSON, \
                                 so that they cannot be a field"
                            .to_owned(),
                    });
                }
                if let Some(chosen) = choose(&option, config, objects + 1, versions)? {
                    fields.insert(name.clone(), chosen);
                }
            }
            Chosen::built_in(
                "object",
                tag::OBJECT,
                Object::with_fields(fields, registry::strategy_of),
            )
        }
        name => match registry::custom(name) {
            Some((chosen, version)) => {
                versions.insert(name.to_owned(), version);
                chosen
            }
            None => {
                let mut allowed = BUILT_IN.map(String::from).to_vec();
                allowed.extend(registry::custom_names());
                return Err(error(format!(
                    "found `{name}`, allowed is one of `{}`; a custom strategy has to be \
                     registered by the backend that has it",
                    allowed.join("`, `")
                )));
            }
        },
    }))
}

impl MergeRules {
    /// Last writer wins, for all.
    #[must_use]
    pub fn lww() -> Self {
        Self {
            default: None,
            types: Vec::new(),
            keys: Vec::new(),
            lifetimes: Arc::default(),
            text: MergeConfig::default().text(),
        }
    }

    /// All rules of a storage with these options, with its lifetimes.
    ///
    /// # Errors
    /// Those of [`MergeRules::new`], [`Lifetimes::new`] and [`MergeRules::with_lifetimes`].
    pub fn of(
        options: &StorageConfig,
        key_expr: &keyexpr,
        strip_prefix: Option<&keyexpr>,
    ) -> Result<Self, ConfigError> {
        let rules = Self::new(&options.merge, key_expr, strip_prefix)?;
        rules.with_lifetimes(Lifetimes::new(&options.lifetimes, key_expr, strip_prefix)?)
    }

    /// The rules of a storage with this key expression, from whose keys this
    /// prefix is stripped.
    ///
    /// # Errors
    /// If a strategy is not known, or a rule could never match.
    pub fn new(
        config: &MergeConfig,
        key_expr: &keyexpr,
        strip_prefix: Option<&keyexpr>,
    ) -> Result<Self, ConfigError> {
        let mut versions = BTreeMap::new();
        let default = choose(
            "replication.default_strategy",
            &config.default,
            0,
            &mut versions,
        )?;
        let mut types = Vec::new();
        for (name, strategy) in &config.types {
            let option = format!("replication.type_overrides.{name}");
            types.push((name.clone(), choose(&option, strategy, 0, &mut versions)?));
        }
        types.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let mut keys = Vec::new();
        for (rule, strategy) in &config.keys {
            let option = format!("replication.key_overrides.{rule}");
            if !intersect(rule, key_expr) {
                return Err(ConfigError::Option {
                    option,
                    reason: format!("it matches no key of the storage, which keeps `{key_expr}`"),
                });
            }
            let strategy = choose(&option, strategy, 0, &mut versions)?;
            keys.push((rule.clone(), strategy));
        }
        let keys = specificity::sort(keys).into_iter();
        let keys = keys.map(|(rule, strategy)| KeyRule {
            keys: match strip_prefix {
                None => vec![rule.clone()],
                Some(prefix) => rule
                    .strip_prefix(prefix)
                    .into_iter()
                    .map(ToOwned::to_owned)
                    .collect(),
            },
            matches_prefix: strip_prefix.is_some_and(|prefix| intersect(&rule, prefix)),
            written: rule,
            strategy,
        });
        let mut text = config.text();
        for (name, version) in versions {
            text.push_str(&format!("\n{name} {version}"));
        }
        Ok(Self {
            default,
            types,
            keys: keys.collect(),
            lifetimes: Arc::default(),
            text,
        })
    }

    /// The rules, with lifetimes of keys.
    ///
    /// # Errors
    /// If keys have a lifetime whose puts are merged by a strategy whose cells may not fade one by
    /// one.
    pub fn with_lifetimes(self, lifetimes: Lifetimes) -> Result<Self, ConfigError> {
        for pattern in lifetimes.patterns() {
            if let Some(name) = self.unfading(pattern) {
                return Err(ConfigError::Option {
                    option: format!("lifetimes.{pattern}"),
                    reason: format!(
                        "it matches keys that `{name}` may merge, whose cells mean nothing without \
                         earlier ones: give these keys no lifetime, or another strategy by \
                         `key_overrides`"
                    ),
                });
            }
        }
        let mut text = self.text;
        if !lifetimes.is_empty() {
            text.push_str(&format!("\nlifetimes {}", lifetimes.text()));
        }
        Ok(Self {
            lifetimes: Arc::new(lifetimes),
            text,
            ..self
        })
    }

    /// A strategy that may merge keys which `pattern` matches, and whose cells may not fade.
    fn unfading(&self, pattern: &keyexpr) -> Option<Arc<str>> {
        let keys = self.keys.iter();
        let keys = keys.filter(|rule| intersect(&rule.written, pattern));
        let of_keys = keys.map(|rule| &rule.strategy);
        // Where a key rule is for all of these keys, no other is.
        let is_decided = (self.keys.iter()).any(|rule| rule.written.includes(pattern));
        let others = self.types.iter().map(|(_, strategy)| strategy);
        let others = others.chain([&self.default]).filter(|_| !is_decided);
        let mut chosen = of_keys.chain(others).flatten();
        let unfading = chosen.find(|chosen| !chosen.strategy.may_fade());
        unfading.map(|chosen| Arc::clone(&chosen.name))
    }

    /// How long cells are kept.
    #[must_use]
    pub fn lifetimes(&self) -> &Arc<Lifetimes> {
        &self.lifetimes
    }

    /// All by which replicas have to merge alike, in one form.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Nothing for last writer wins.
    fn strategy(&self, key: &Key, value: &crate::cell::Value) -> Option<&Chosen> {
        let matches = |rule: &&KeyRule| match key.as_key_expr() {
            None => rule.matches_prefix,
            Some(key) => rule.keys.iter().any(|rule| intersect(rule, key)),
        };
        if let Some(rule) = self.keys.iter().find(matches) {
            return rule.strategy.as_ref();
        }
        // For how long it is shown makes it no other type.
        let schema = value.schema.as_deref();
        let without = schema.filter(|schema| ttls(schema).next().is_some());
        let without = without.map(without_ttl);
        let schema = without.as_ref().map_or(schema, Option::as_deref);
        let id = value.encoding_id;
        let of_type = |(name, _): &&(String, _)| is_of_type(id, schema, name);
        match self.types.iter().find(of_type) {
            Some((_, strategy)) => strategy.as_ref(),
            None => self.default.as_ref(),
        }
    }

    /// Whether a put of this value to `key` is merged by a strategy, and the last writer does not win.
    #[must_use]
    pub fn merges(&self, key: &Key, value: &crate::cell::Value) -> bool {
        self.strategy(key, value).is_some()
    }

    /// Turns what is put to `key` into cells, each with its part: a delete, and
    /// what last writer wins, into the key's own.
    ///
    /// # Errors
    /// If the strategy cannot take the value. That depends on the put and on the
    /// rules alone: every replica refuses it alike.
    pub fn write(&self, key: &Key, cell: Cell) -> Result<Vec<(Part, Content)>, RejectedPut> {
        let Content::Value(value) = &cell.content else {
            return Ok(vec![(Part::EMPTY, cell.content)]);
        };
        let Some(chosen) = self.strategy(key, value) else {
            return Ok(vec![(Part::EMPTY, cell.content)]);
        };
        let misfit = |reason| RejectedPut {
            strategy: Arc::clone(&chosen.name),
            reason,
        };
        if value
            .schema
            .as_deref()
            .is_some_and(|schema| ttls(schema).next().is_some())
        {
            return Err(misfit(InvalidPut::new(
                "its encoding has a `ttl=`, and what is merged cannot be hidden put by put: give the \
                 key a lifetime, by the option `lifetimes`",
            )));
        }
        let put = Put {
            timestamp: cell.timestamp,
            value,
        };
        // A strategy of the user's own must not take the storage down.
        let writes = catch_unwind(AssertUnwindSafe(|| chosen.strategy.write(&put)));
        let writes = writes.unwrap_or_else(|_| Err(InvalidPut::new("the strategy panicked")));
        let writes = writes.map_err(misfit)?;
        if writes.is_empty() {
            return Err(misfit(InvalidPut::new("the strategy wrote nothing")));
        }
        if writes.len() > MAX_CELLS {
            return Err(misfit(InvalidPut::new(format!(
                "it writes {} cells, for each element, field or change one, and one for a set or an \
                 object; allowed are {MAX_CELLS} in one put",
                writes.len()
            ))));
        }
        let mut part = chosen.prefix.to_vec();
        let prefix = part.len();
        let writes = writes.into_iter().map(|write| {
            part.truncate(prefix);
            part.extend_from_slice(&write.part);
            let mut content = write.content;
            if let Content::Value(value) = &mut content {
                // That of one put is not that of the value which several come to.
                value.attachment = None;
            }
            (Part::from(&part[..]), content)
        });
        Ok(writes.collect())
    }

    /// [Collects](collect::collect) the cells of a key. What has a lifetime is left to fade: an
    /// increment that was added to others could not go when its time is over.
    #[must_use]
    pub fn collect(&self, key: &Key, cells: &[PartCell<'_>], horizon: u64) -> Collection {
        match key.is_pattern() || self.lifetimes.of(key).is_some() {
            true => Collection::default(),
            false => collect::collect(cells, horizon),
        }
    }

    /// Whether every put is one of last writer wins.
    #[must_use]
    pub fn is_lww(&self) -> bool {
        let is_lww = |chosen: &Option<Chosen>| chosen.is_none();
        is_lww(&self.default)
            && self.types.iter().all(|(_, chosen)| is_lww(chosen))
            && self.keys.iter().all(|rule| is_lww(&rule.strategy))
    }
}
