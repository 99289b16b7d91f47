//! Options that Zenoh keeps to itself: those below `private`.
//!
//! Zenoh leaves out of its log and of its admin space what is below a field of this name, so that
//! a password can be in a configuration.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, map::Entry};

use super::{ConfigError, levels::shallow, option_error, parse};

const PRIVATE: &str = "private";

/// Options, and which of them have something that is private.
pub(super) struct Revealed {
    options: Value,
    names: BTreeSet<String>,
}

/// The options, with those below `private` among the others, and the names of these.
///
/// # Errors
/// If they nest too deep, or `private` is no object, or has an option that is there as well: nobody could tell which of
/// them holds.
pub(super) fn revealed(options: Map<String, Value>) -> Result<Revealed, ConfigError> {
    let mut options = match shallow(Value::Object(options))? {
        Value::Object(options) => options,
        other => return Err(ConfigError::NotAnObject(other)),
    };
    let mut names = BTreeSet::new();
    match options.remove(PRIVATE) {
        None => {}
        Some(Value::Object(private)) => {
            names.extend(private.keys().cloned());
            overlay(&mut options, private, "")?;
        }
        // Not what it is: it may be a secret.
        Some(_) => {
            return Err(option_error(
                PRIVATE,
                "found no object, allowed is an object with options",
            ));
        }
    }
    let options = Value::Object(options);
    Ok(Revealed { options, names })
}

impl Revealed {
    /// Parses the options. An error does not show what is in a private one.
    pub(super) fn parse<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        let Self { options, names } = self;
        parse(options).map_err(|error| match error {
            ConfigError::Option { option, .. } if is_within(&option, &names) => option_error(
                &option,
                "found in `private`, so not shown, and not what it may be",
            ),
            error => error,
        })
    }

    /// Whether this option has something from below `private`.
    pub(super) fn has(&self, option: &str) -> bool {
        self.names.contains(option)
    }
}

fn is_within(option: &str, names: &BTreeSet<String>) -> bool {
    let first = option.split(['.', '[']).next();
    first.is_some_and(|first| names.contains(first))
}

fn overlay(
    options: &mut Map<String, Value>,
    private: Map<String, Value>,
    path: &str,
) -> Result<(), ConfigError> {
    for (name, value) in private {
        let option = format!("{path}{name}");
        if option == PRIVATE {
            return Err(option_error(PRIVATE, "found another `private` in it"));
        }
        match options.entry(name) {
            Entry::Vacant(entry) => _ = entry.insert(value),
            Entry::Occupied(mut entry) => match (entry.get_mut(), value) {
                (Value::Object(options), Value::Object(private)) => {
                    overlay(options, private, &format!("{option}."))?;
                }
                _ => {
                    let reason = "found both in `private` and beside it";
                    return Err(option_error(&option, reason));
                }
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::config::VolumeConfig;

    fn parsed(options: Value) -> Result<VolumeConfig, String> {
        let options = options.as_object().cloned().unwrap_or_default();
        VolumeConfig::parse(options, Path::new("/")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_private_is_an_option_like_any_other() {
        let secret = json!({ "transport": { "auth": { "usrpwd": { "password": "secret" } } } });
        let private = parsed(json!({
            "session": { "mode": "client", "transport": { "auth": { "usrpwd": { "user": "u" } } } },
            "private": { "session": secret, "root": "/data" },
        }));
        let open = parsed(json!({
            "session": { "mode": "client", "transport": {
                "auth": { "usrpwd": { "user": "u", "password": "secret" } } } },
            "root": "/data",
        }));
        let (private, open) = (private.expect("valid"), open.expect("valid"));
        assert_eq!(private.root, Path::new("/data"));
        assert_eq!((private.root, private.session), (open.root, open.session));
        assert!(private.session_is_private && !open.session_is_private);
    }

    #[test]
    fn no_error_tells_a_secret() {
        for (options, said) in [
            (
                json!({ "private": "secret" }),
                "option `private`: found no object",
            ),
            (
                json!({ "private": { "private": {} } }),
                "option `private`: found another",
            ),
            (
                json!({ "root": "/a", "private": { "root": "secret" } }),
                "option `root`: found both",
            ),
            (
                json!({ "session": { "a": { "b": 1 } }, "private": { "session": { "a": { "b": "secret" } } } }),
                "option `session.a.b`: found both",
            ),
            (json!({ "private": { "pasword": "secret" } }), "`pasword`"),
            (
                json!({ "private": { "session": "secret" } }),
                "option `session`: found in `private`, so not shown",
            ),
        ] {
            let error = parsed(options).expect_err("wrong");
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }
}
