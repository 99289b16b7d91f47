//! Obtains the Zenoh session.
//!
//! The storage manager gives a volume none. Either the companion plugin hands over the
//! router's runtime, on which a session costs nothing; or the volume opens a session of
//! its own, as a client of the local router. The router listens only when all its plugins
//! have started, so the volume keeps trying.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;
use zenoh::{
    Config, Session, Wait, config::WhatAmI, internal::runtime::DynamicRuntime, session::ZenohId,
};

use crate::config::VolumeConfig;

/// How long to wait for the companion plugin, which may start after the storage manager.
const COMPANION: Duration = Duration::from_secs(1);

/// How often to look for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pauses between attempts to connect.
const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(10);

static RUNTIME: Mutex<Option<DynamicRuntime>> = Mutex::new(None);

/// Accepts the router's runtime from the companion plugin, which states its version.
///
/// # Errors
/// This library's version, if the plugin's differs.
pub fn attach(version: &str, runtime: &DynamicRuntime) -> Result<(), &'static str> {
    if version != env!("CARGO_PKG_VERSION") {
        return Err(env!("CARGO_PKG_VERSION"));
    }
    *RUNTIME.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime.clone());
    Ok(())
}

fn attached() -> Option<DynamicRuntime> {
    RUNTIME
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// How the session was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The router's own session.
    Runtime,
    /// A session as a client of the router.
    Client,
    /// That of the program, or of the plugin, that serves the storage.
    Given,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Client => "client",
            Self::Given => "given",
        }
    }
}

/// A volume's session, opened at first use.
pub struct Sessions {
    volume: String,
    client: Config,
    /// Whether the option `session` says how to connect.
    is_configured: bool,
    session: OnceCell<(Session, Way)>,
    /// Whether the log already says that there is no session.
    is_told: AtomicBool,
}

/// Overlays `under` with `over`, object by object.
fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                overlay(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

impl Sessions {
    /// For the volume of this name. `options` is Zenoh's configuration of a client, on
    /// top of one that connects to the default port of this machine.
    ///
    /// # Errors
    /// If Zenoh rejects the configuration.
    pub fn new(volume: &str, options: Map<String, Value>) -> zenoh::Result<Self> {
        let is_configured = !options.is_empty();
        let mut config = json!({
            "mode": "client",
            "connect": { "endpoints": ["tcp/localhost:7447"] },
            "scouting": { "multicast": { "enabled": false } },
        });
        overlay(&mut config, Value::Object(options));
        let client = Config::from_json5(&config.to_string())
            .map_err(|error| format!("option `session`: {error}"))?;
        Ok(Self {
            volume: volume.to_owned(),
            client,
            is_configured,
            session: OnceCell::new(),
            is_told: AtomicBool::new(false),
        })
    }

    /// For the volume of this name, as it is configured.
    ///
    /// # Errors
    /// If Zenoh rejects what the option `session` says: why, unless part of it is private.
    pub fn of_volume(volume: &str, config: &VolumeConfig) -> zenoh::Result<Self> {
        Self::new(volume, config.session.clone()).map_err(|error| match config.session_is_private {
            // Zenoh's message may quote it.
            true => "option `session`: Zenoh does not take it; part of it is in `private`, so what is wrong is \
                     not shown"
                .into(),
            false => error,
        })
    }

    /// Of a storage called `name`, which is served on this session.
    #[must_use]
    pub fn given(name: &str, session: Session) -> Self {
        Self {
            volume: name.to_owned(),
            client: Config::default(),
            is_configured: true,
            session: OnceCell::from((session, Way::Given)),
            is_told: AtomicBool::new(false),
        }
    }

    /// The session for a storage that is not replicated, and so only answers operators.
    /// Without the plugin or the option `session` there is none: the volume would have to
    /// guess which router is its own, and does not connect to a router unless it is
    /// certain.
    pub(super) async fn get_for_operators(&self) -> Option<(Session, Way)> {
        let deadline = Instant::now() + COMPANION;
        while !self.is_configured && !self.session.initialized() && attached().is_none() {
            if Instant::now() > deadline {
                let volume = &self.volume;
                tracing::info!(
                    "volume '{volume}': operators cannot reach storages that are not replicated \
                     through Zenoh; load the plugin `mst` in the router, or set the volume's option \
                     `session`"
                );
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Some(self.get().await)
    }

    /// The IDs of our router and of those that it is linked with, as far as they can be
    /// known.
    pub(super) fn routers(&self) -> Vec<[u8; 16]> {
        let routers: Vec<ZenohId> = match (attached(), self.session.get()) {
            (Some(runtime), _) => {
                let linked = runtime.get_zids(WhatAmI::Router);
                [runtime.zid()].into_iter().chain(linked).collect()
            }
            (None, Some((session, _))) => session.info().routers_zid().wait().collect(),
            (None, None) => Vec::new(),
        };
        routers.into_iter().map(ZenohId::to_le_bytes).collect()
    }

    /// The router that we are part of, if it is known.
    pub(super) fn own_router(&self) -> Option<[u8; 16]> {
        attached().map(|runtime| runtime.zid().to_le_bytes())
    }

    /// The session, once there is one.
    pub(super) async fn get(&self) -> (Session, Way) {
        self.session.get_or_init(|| self.open()).await.clone()
    }

    async fn open(&self) -> (Session, Way) {
        let volume = &self.volume;
        let mut is_told = false;
        for _ in 0..COMPANION.as_millis() / LOOK_EVERY.as_millis() {
            if let Some(runtime) = attached() {
                match zenoh::session::init(runtime).await {
                    Ok(session) => return (session, Way::Runtime),
                    Err(error) => {
                        if !std::mem::replace(&mut is_told, true) {
                            tracing::error!(
                                "volume '{volume}': the router's session cannot be used: {error}"
                            );
                        }
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let mut pause = MIN_PAUSE;
        loop {
            match zenoh::open(self.client.clone()).await {
                Ok(session) => {
                    tracing::info!("volume '{volume}': replication has a session of its own");
                    return (session, Way::Client);
                }
                Err(error) if self.is_news(pause) => tracing::error!(
                    "volume '{volume}': there is no Zenoh session, so nothing is replicated and \
                     operators get no answers: {error}; load the plugin `mst` in the router, or \
                     set the volume's option `session`"
                ),
                Err(error) => tracing::debug!("volume '{volume}': no session yet: {error}"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Whether to log a failed attempt as an error: once, after attempts have failed for
    /// a while, given the pause that follows. Nothing else says that nothing is
    /// replicated; but a router takes a moment to listen.
    fn is_news(&self, pause: Duration) -> bool {
        pause == MAX_PAUSE && !self.is_told.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn options_go_over_the_defaults() {
        let mut under = json!({ "a": { "b": 1, "c": 2 }, "d": 3 });
        overlay(&mut under, json!({ "a": { "b": [4] }, "e": null }));
        assert_eq!(
            under,
            json!({ "a": { "b": [4], "c": 2 }, "d": 3, "e": null })
        );
        let wrong = json!({ "conect": {} });
        let wrong = wrong.as_object().cloned().expect("an object");
        assert!(Sessions::new("mst", wrong).is_err());
        assert!(Sessions::new("mst", Map::new()).is_ok());
    }

    #[test]
    fn what_zenoh_does_not_take_is_refused_and_no_secret_is_told() {
        let refused = |options: Value| {
            let options = options.as_object().cloned().expect("options");
            let config = VolumeConfig::parse(options, Path::new("/")).expect("options of a volume");
            let sessions = Sessions::of_volume("mst", &config);
            sessions.err().map(|error| error.to_string())
        };
        let auth = json!({ "usrpwd": { "user": "u", "password": "secret" } });
        let auth = json!({ "transport": { "auth": auth } });
        assert_eq!(refused(json!({})), None);
        assert_eq!(refused(json!({ "session": auth })), None);
        assert_eq!(refused(json!({ "private": { "session": auth } })), None);
        let told = refused(json!({ "session": { "mode": "clint" } })).expect("no mode");
        assert!(
            told.contains("option `session`") && told.contains("clint"),
            "{told}"
        );
        let told =
            refused(json!({ "session": auth, "private": { "session": { "mode": "secret" } } }));
        let told = told.expect("no mode");
        assert!(
            told.contains("`private`") && !told.contains("secret"),
            "{told}"
        );
    }

    #[test]
    fn that_there_is_no_session_is_news_once_when_it_has_lasted() {
        let sessions = Sessions::new("mst", Map::new()).expect("it is Zenoh's");
        let mut pause = MIN_PAUSE;
        let mut attempts = Vec::new();
        for _ in 0..20 {
            attempts.push(sessions.is_news(pause));
            pause = (pause * 2).min(MAX_PAUSE);
        }
        let told = attempts.iter().filter(|is_news| **is_news).count();
        assert_eq!((told, attempts[0]), (1, false), "{attempts:?}");
        // Another storage of the volume has it tried from the beginning.
        assert!(!sessions.is_news(MAX_PAUSE));
    }
}
