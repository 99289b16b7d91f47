//! Arguments of the commands on copies of the data: backups, snapshots, folders.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Of `backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to be made; `-` is standard output
    pub(crate) file: PathBuf,
    /// Replaces the file, if there is one
    #[arg(long)]
    pub(crate) force: bool,
    /// With --dir, of a folder that does not say whose it is: what the storage takes off its keys
    #[arg(long, value_name = "PREFIX")]
    pub(crate) strip_prefix: Option<String>,
}

/// Of `adopt`.
#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// What the storage takes off its keys
    #[arg(long, value_name = "PREFIX")]
    pub(crate) strip_prefix: Option<String>,
    /// Says what would be done, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Removes the keys that are outside of the storage's key expression
    #[arg(long)]
    pub(crate) drop: bool,
    /// Does not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Of `salvage`.
#[derive(Debug, Args)]
pub(crate) struct Salvage {
    /// The folder that is made; it has to be missing or empty
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: Option<PathBuf>,
}

/// Of `restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    pub(crate) file: PathBuf,
    /// Into a storage of another key expression or prefix than the backup's. Keys
    /// are restored below the new prefix; those that the storage does not keep are
    /// rejected
    #[arg(long)]
    pub(crate) force_key_expr: bool,
    /// Says what would be done, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Of `rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The backup
    #[arg(required_unless_present = "snapshot", conflicts_with = "snapshot")]
    pub(crate) file: Option<PathBuf>,
    /// The snapshot
    #[arg(long, value_name = "NAME")]
    pub(crate) snapshot: Option<String>,
    /// Says what would be done, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Does not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Of `snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Keeps what a replica holds now
    Create {
        /// What to call it
        name: String,
    },
    /// All snapshots
    List,
    /// Removes one
    Delete {
        /// Which
        name: String,
    },
}
