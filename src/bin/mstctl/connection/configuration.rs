//! The configuration of the session.

use std::path::Path;

use serde_json::json;
use zenoh::Config;

use crate::{
    args::{Global, Mode},
    exit::{Error, file_error, of_zenoh},
};

/// Where a router listens, if nobody says otherwise.
const DEFAULT_ENDPOINT: &str = "tcp/localhost:7447";

/// The variable of the environment that says where to connect to, with commas between
/// several endpoints. A configuration file and `-e` go over it.
pub(super) const CONNECT_ENV: &str = "MSTCTL_CONNECT";

/// The configuration of a session, and in words where it connects to. `connect` is the
/// environment's.
pub(super) fn configuration(
    global: &Global,
    connect: Option<&str>,
) -> Result<(Config, String), Error> {
    let of_environment = connect.unwrap_or_default().split(',');
    let of_environment = of_environment
        .map(str::trim)
        .filter(|endpoint| !endpoint.is_empty())
        .map(ToOwned::to_owned);
    let (endpoints, whence): (Vec<String>, &str) =
        match global.endpoints.is_empty() && global.config.is_none() {
            true => (of_environment.collect(), CONNECT_ENV),
            false => (global.endpoints.clone(), "-e"),
        };
    let usage = |error: zenoh::Error| Error::Usage(of_zenoh(&error));
    let mut config = match &global.config {
        None => {
            let default = json!({
                "mode": "client",
                "connect": { "endpoints": [DEFAULT_ENDPOINT] },
                "scouting": { "multicast": { "enabled": global.mode == Some(Mode::Peer) } },
            });
            Config::from_json5(&default.to_string()).map_err(usage)?
        }
        Some(file) => read(file)?,
    };
    if let Some(mode) = global.mode {
        let mode = json!(mode.name()).to_string();
        config.insert_json5("mode", &mode).map_err(usage)?;
    }
    if !endpoints.is_empty() {
        let inserted = config.insert_json5("connect/endpoints", &json!(endpoints).to_string());
        inserted.map_err(|error| {
            Error::Usage(format!(
                "{whence} {}: {}",
                endpoints.join(" "),
                of_zenoh(&error)
            ))
        })?;
    }
    let to = match (&global.config, endpoints.is_empty()) {
        (_, false) => endpoints.join(", "),
        (Some(file), true) => format!("what {} says", file.display()),
        (None, true) => DEFAULT_ENDPOINT.to_owned(),
    };
    Ok((config, to))
}

/// A configuration of Zenoh from a file.
pub(crate) fn read(file: &Path) -> Result<Config, Error> {
    // Whether it can be read at all is the system's to say, and the rest Zenoh's.
    std::fs::metadata(file).map_err(file_error("read", file))?;
    Config::from_file(file).map_err(|error| Error::Place {
        path: file.to_owned(),
        problem: format!("not a configuration of Zenoh: {}", of_zenoh(&error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;

    fn configured(line: &str) -> Result<(Config, String), Error> {
        let cli = Cli::read(line.split(' ')).expect("valid");
        configuration(&cli.global, None)
    }

    #[test]
    fn the_environment_says_where_to_if_nothing_else_does() {
        let to = |line: &str, connect: &str| {
            let cli = Cli::read(line.split(' ')).expect("valid");
            configuration(&cli.global, Some(connect)).map(|(_, to)| to)
        };
        let plain = "mstctl status";
        assert_eq!(
            to(plain, "tcp/a:1, tcp/b:2,").expect("valid"),
            "tcp/a:1, tcp/b:2"
        );
        assert_eq!(to(plain, "").expect("valid"), DEFAULT_ENDPOINT);
        assert_eq!(
            to("mstctl -e tcp/c:3 status", "tcp/a:1").expect("valid"),
            "tcp/c:3"
        );
        let wrong = to(plain, "nowhere").expect_err("refused");
        assert!(
            wrong.to_string().starts_with("MSTCTL_CONNECT nowhere"),
            "{wrong}"
        );
    }

    fn shown(line: &str) -> String {
        let (config, to) = configured(line).expect("valid");
        let get = |key: &str| config.get_json(key).expect("there");
        format!("{} {} {to}", get("mode"), get("connect/endpoints"))
    }

    #[test]
    fn sessions_are_configured() {
        assert_eq!(
            shown("mstctl status"),
            r#""client" ["tcp/localhost:7447"] tcp/localhost:7447"#
        );
        assert_eq!(
            shown("mstctl -m peer -e tcp/a:1 -e tcp/b:2 status"),
            r#""peer" ["tcp/a:1","tcp/b:2"] tcp/a:1, tcp/b:2"#
        );
        let Err(wrong) = configured("mstctl -e nowhere status") else {
            panic!("not refused");
        };
        assert_eq!(wrong.code(), 2);
        assert!(wrong.to_string().contains("nowhere"), "{wrong}");
        let missing = configured("mstctl -c /no/such/file status").err();
        assert!(missing.is_some_and(|error| error.code() == 5));
    }
}
