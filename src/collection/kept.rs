//! What a storage keeps of its collection, on the disk before it is used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lineage::{Eviction, Lineage};
use crate::hex;

/// The name of a member: the identity of a replica.
pub type MemberId = [u8; 16];

/// What a storage keeps of its collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// No client's write stamped below it is taken.
    pub floor: u64,
    /// Of a replica: what is collectable below it has left, or is leaving.
    pub horizon: u64,
    /// Of a replica: the lineage of its horizon.
    pub lineage: Lineage<MemberId>,
    /// Of a replica: it catches up with a horizon that is not its own, and may have let go of
    /// something already. It is nobody's source.
    pub is_catching: bool,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    floor: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    horizon: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    founder: Option<String>,
    /// Of each whether by force.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    evicted: BTreeMap<String, bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    catching: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn member(text: &str) -> Option<MemberId> {
    hex::decode(text)?.try_into().ok()
}

impl Kept {
    /// A line of JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        let evicted = self.lineage.evicted().iter();
        let evicted = evicted.map(|(id, kind)| (hex::encode(id), *kind == Eviction::Forced));
        let line = Line {
            floor: self.floor,
            horizon: self.horizon,
            founder: self.lineage.founder().map(|id| hex::encode(&id)),
            evicted: evicted.collect(),
            catching: self.is_catching,
        };
        // Numbers, strings and booleans can always be written.
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Reads a line; nothing if it is none.
    #[must_use]
    pub fn of_line(line: &str) -> Option<Self> {
        let line: Line = serde_json::from_str(line).ok()?;
        let founder = match line.founder {
            Some(founder) => Some(member(&founder)?),
            None => None,
        };
        let evicted = line.evicted.into_iter().map(|(id, is_forced)| {
            let kind = match is_forced {
                true => Eviction::Forced,
                false => Eviction::Lapsed,
            };
            Some((member(&id)?, kind))
        });
        let kept = Self {
            floor: line.floor,
            horizon: line.horizon,
            lineage: Lineage::new(founder, evicted.collect::<Option<_>>()?),
            is_catching: line.catching,
        };
        (kept.horizon <= kept.floor).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_pinned() {
        let evicted = [([2; 16], Eviction::Lapsed), ([3; 16], Eviction::Forced)];
        let kept = Kept {
            floor: 7,
            horizon: 5,
            lineage: Lineage::new(Some([1; 16]), evicted.into()),
            is_catching: true,
        };
        let (one, two, three) = ("01".repeat(16), "02".repeat(16), "03".repeat(16));
        let line = format!(
            r#"{{"floor":7,"horizon":5,"founder":"{one}","evicted":{{"{two}":false,"{three}":true}},"catching":true}}"#
        );
        assert_eq!(kept.to_line(), line);
        assert_eq!(Kept::of_line(&line), Some(kept));
        let floor = Kept {
            floor: 7,
            ..Kept::default()
        };
        assert_eq!(floor.to_line(), r#"{"floor":7}"#);
        assert_eq!(Kept::of_line(&floor.to_line()), Some(floor));
    }

    #[test]
    fn what_is_no_line_is_told_from_one() {
        for line in [
            "",
            "{",
            r#"{"floor":-1}"#,
            r#"{"floor":1,"roof":2}"#,
            r#"{"floor":1,"horizon":2}"#,
            r#"{"floor":1,"founder":"00"}"#,
            r#"{"floor":1,"evicted":{"x":true}}"#,
        ] {
            assert_eq!(Kept::of_line(line), None, "{line}");
        }
    }
}
