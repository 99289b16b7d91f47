//! The command line: the options of `zenohd`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// A Zenoh router with replicated storages and the REST API in one program: `zenohd`, with the
/// plugins `mst` and `rest` inside.
#[derive(Clone, Debug, Default, Parser)]
#[command(version = VERSION)]
pub(crate) struct Args {
    /// The configuration file, JSON5 or YAML
    #[arg(short, long, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen, such as tcp/0.0.0.0:7447; may be given several times
    #[arg(short, long, value_name = "ENDPOINT")]
    pub(crate) listen: Vec<String>,
    /// Another router to connect to; may be given several times
    #[arg(short = 'e', long, value_name = "ENDPOINT")]
    pub(crate) connect: Vec<String>,
    /// The router's Zenoh ID, up to 32 hexadecimal digits; must be unique [default: a random one]
    #[arg(short, long)]
    pub(crate) id: Option<String>,
    /// A plugin that has to start, NAME or NAME:PATH; may be given several times. What is neither
    /// `mst` nor `rest` is loaded from a file
    #[arg(short = 'P', long)]
    pub(crate) plugin: Vec<String>,
    /// A folder to search for the files of further plugins; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) plugin_search_dir: Vec<String>,
    /// Give no timestamp to what comes without. Storages need timestamps, and do not open then
    #[arg(long)]
    pub(crate) no_timestamp: bool,
    /// Do not answer multicast scouting
    #[arg(long)]
    pub(crate) no_multicast_scouting: bool,
    /// Serve the REST API there: a port, IP:PORT, or `none`
    #[arg(long, value_name = "SOCKET")]
    pub(crate) rest_http_port: Option<String>,
    /// A change of the configuration: KEY:VALUE, the value being JSON5; the empty key is all of
    /// it. May be given several times, such as
    /// --cfg='plugins/mst/storages/demo:{key_expr:"demo/**"}'
    #[arg(long, value_name = "KEY:VALUE")]
    pub(crate) cfg: Vec<String>,
    /// What others may do in the admin space [default: r, or what the configuration says]
    #[arg(long, value_name = "PERMISSIONS")]
    pub(crate) adminspace_permissions: Option<Permissions>,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " with Zenoh 1.10.2");

/// What others may do in the admin space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Permissions {
    /// Read
    R,
    /// Write
    W,
    /// Read and write
    Rw,
    /// Nothing
    None,
}

impl Permissions {
    /// As the configuration has them.
    pub(crate) fn json(self) -> String {
        let read = matches!(self, Self::R | Self::Rw);
        let write = matches!(self, Self::W | Self::Rw);
        format!("{{ read: {read}, write: {write} }}")
    }
}
