//! Where a replica is: its router, and its host.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zenoh::{Session, Wait, config::WhatAmI};

/// Where a replica is, for people who have to find it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Whereabouts {
    /// Zenoh's ID of the router, or of the program that serves the storage; none until there is a
    /// session.
    pub zid: Option<String>,
    /// The name that Zenoh's configuration gives it, at `metadata: { name: ... }`.
    pub name: Option<String>,
    /// What its machine calls itself.
    pub host: String,
}

/// What is found out when there is a session.
#[derive(Debug, Default)]
pub(super) struct Found(OnceLock<Whereabouts>);

impl Found {
    /// What is known now.
    pub(super) fn whereabouts(&self) -> Whereabouts {
        self.0.get().cloned().unwrap_or_else(|| Whereabouts {
            host: host(),
            ..Whereabouts::default()
        })
    }

    /// Asks the session, once. May wait for a lock of Zenoh's.
    pub(super) fn look(&self, session: &Session) {
        self.0.get_or_init(|| {
            let config = session.config();
            let is_client = config.get_typed("mode").ok() == Some(WhatAmI::Client);
            let zid = match is_client {
                true => session.info().routers_zid().wait().next(),
                false => None,
            };
            Whereabouts {
                zid: Some(zid.unwrap_or_else(|| session.zid()).to_string()),
                name: name(&config.get_typed("metadata").unwrap_or_default()),
                host: host(),
            }
        });
    }
}

/// The name in Zenoh's `metadata`, which may be anything.
fn name(metadata: &Value) -> Option<String> {
    metadata["name"].as_str().map(ToOwned::to_owned)
}

fn host() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_read_if_they_are_names() {
        let metadata = json!({ "name": "strawberry", "location": "Penny Lane" });
        assert_eq!(name(&metadata).as_deref(), Some("strawberry"));
        for other in [
            json!(null),
            json!([1]),
            json!({ "name": 7 }),
            json!("strawberry"),
        ] {
            assert_eq!(name(&other), None, "{other}");
        }
    }

    #[test]
    fn the_host_is_known_without_a_session() {
        let found = Found::default().whereabouts();
        assert_eq!((found.zid, found.name), (None, None));
        assert!(!found.host.is_empty());
    }
}
