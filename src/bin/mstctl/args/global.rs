//! Options of all commands.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::values::time;

/// Options of all commands.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// How to join the network; client, if neither this nor the configuration says it
    #[arg(
        short,
        long,
        global = true,
        value_name = "MODE",
        help_heading = "Connection"
    )]
    pub(crate) mode: Option<Mode>,
    /// Where to connect to, such as tcp/10.0.0.7:7447; may be given several times; else the
    /// environment's MSTCTL_CONNECT, with commas between several [default: tcp/localhost:7447]
    #[arg(
        short = 'e',
        long = "connect",
        global = true,
        value_name = "ENDPOINT",
        help_heading = "Connection"
    )]
    pub(crate) endpoints: Vec<String>,
    /// A configuration file of Zenoh, as for TLS or a password; -m and -e go over it
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Connection"
    )]
    pub(crate) config: Option<PathBuf>,
    /// For how long to wait for an answer, or for the next one of several
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "10s",
        value_parser = time,
        help_heading = "Connection"
    )]
    pub(crate) timeout: Duration,
    /// The storage, by its key expression (`demo/**`) or its name
    #[arg(
        short,
        long,
        global = true,
        value_name = "STORAGE",
        help_heading = "Choice"
    )]
    pub(crate) storage: Option<String>,
    /// The replica, by its identity or the beginning of it
    #[arg(
        short,
        long,
        global = true,
        value_name = "REPLICA",
        help_heading = "Choice"
    )]
    pub(crate) replica: Option<String>,
    /// The data folder of a storage that no router has open, in place of a
    /// connection: for status, root, keys, get, verify, backup, restore, adopt
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Choice")]
    pub(crate) dir: Option<PathBuf>,
    /// One JSON document on standard output, or a line of JSON for each item;
    /// errors as JSON on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// How to join the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Through a router
    Client,
    /// Among others, routers or not
    Peer,
}

impl Mode {
    /// As Zenoh calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}
