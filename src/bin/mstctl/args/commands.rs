//! The commands, and the options of each.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use zenoh_backend_mst::mst::RootHash;

use super::{
    copies::{Adopt, Backup, Restore, Rollback, Salvage, Snapshot},
    values::{root, time},
};
use crate::files;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What each replica holds, and how it stands to the others
    #[command(after_long_help = "\
Examples:
  mstctl status                        all storages of all routers that can be reached
  mstctl -s 'demo/**' -r 6f1d status   one of them
  mstctl --dir /data/demo status       a data folder that no router has open")]
    Status,
    /// A line for each replica
    Replicas,
    /// The root hash of each replica, and whether they are equal
    #[command(long_about = "\
The root hash of each replica, and whether those of one storage are equal.

Roots are compared where they are over the same updates: at a common cut. While data is written a replica may be \
behind for a moment; so it is looked at several times, for up to --timeout, before roots are said to differ. Exit \
code 1 if they do, if a replica that others know is absent, or if one that is there is isolated or not replicated. \
With --expect N the number of those that answer decides, and not who is absent.")]
    Root(Root),
    /// The keys of a storage, with their timestamps
    #[command(after_long_help = "\
Examples:
  mstctl keys                       all of them
  mstctl keys 'demo/robot/*'        those that match
  mstctl keys --deleted --limit 20  the first twenty, deleted ones among them
  mstctl keys --json | jq -r .key   for scripts: a line of JSON for each")]
    Keys(Keys),
    /// What lifetimes would take away that are not configured yet
    #[command(after_long_help = "\
It changes nothing. It counts the keys that match PATTERN, and those of them whose last write is longer ago than TIME: \
with such a lifetime they would be gone at once. See docs/lifetimes.md.

Example:
  mstctl lifetimes 'fleet/*/pose=10s' 'fleet/**/image=2d'")]
    Lifetimes(Lifetimes),
    /// The value of a key, and the cells that it is made of
    #[command(after_long_help = "\
Examples:
  mstctl get demo/greeting
  mstctl get demo/photo --value > photo.jpg   the bytes of the value, and nothing else

Exit code 1 if the key has no value.")]
    Get(Get),
    /// The keys in which two live replicas differ
    #[command(long_about = "\
The keys in which two live replicas of a storage differ, sorted:

  < KEY   only A has it
  > KEY   only B has it
  ~ KEY   both have it, and differ

Deletes count as keys. What has not settled yet at either may be listed while data is written. Exit code 1 if any \
key differs.")]
    Diff(Diff),
    /// Fetches a proof of what a key holds, and verifies it
    #[command(after_long_help = "\
Examples:
  mstctl prove demo/greeting
  mstctl prove demo/greeting -o greeting.proof
  mstctl prove demo/greeting --root 9f3a...   against a root that you trust

Without --root the proof is taken from one replica, and its root compared with what the other replicas of the storage \
announce. Exit code 1 if there are others and none of them has this root.")]
    Prove(Prove),
    /// Checks a proof, a backup, or all data of a storage
    #[command(after_long_help = "\
Examples:
  mstctl verify fleet.mst                                       a backup
  mstctl verify greeting.proof --root 9f3a... --key demo/greeting
  mstctl -s 'demo/**' -r 6f1d verify                            all that a replica has on disk
  mstctl --dir /data/demo verify                                the same, while no router has it open

Exit code 1 if damage is found, or a proof does not hold.")]
    Verify(Verify),
    /// The storage's own check of its data in the background
    Scrub(Scrub),
    /// What was deleted, and leaves the storage for good
    Collect(Collect),
    /// Writes a backup of a storage, live or of a folder
    #[command(after_long_help = "\
The backup is of one moment, whatever is written meanwhile. It is FILE.part until it is complete and was read back. \
`-` writes to standard output; then nothing is read back: use `mstctl verify` on what was written.

Examples:
  mstctl -s 'fleet/**' backup fleet.mst
  mstctl -s 'fleet/**' backup - | ssh vault 'cat > fleet.mst'
  mstctl --dir /data/fleet backup fleet.mst")]
    Backup(Backup),
    /// Joins a backup into a storage
    #[command(long_about = "\
Joins a backup into a storage, timestamps and all. The file is verified first.

In a live storage, what is newer than the backup stays, deletes as well: use `rollback` to go back. With --dir it makes \
a new data folder, which has to be missing or empty, and which a router can then open.")]
    Restore(Restore),
    /// Makes a storage what it was, by new writes that replicate
    #[command(long_about = "\
Makes a storage what it was when a backup or a snapshot was made, by new writes: what was changed since is put again, \
what was put since is deleted, and all replicas follow. It asks before it begins, unless --yes is given.

Examples:
  mstctl -s 'fleet/**' rollback fleet.mst
  mstctl -s 'fleet/**' -r 6f1d rollback --snapshot before-upgrade --yes")]
    Rollback(Rollback),
    /// Snapshots that a replica keeps beside its data
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Replication
    #[command(subcommand)]
    Sync(Sync),
    /// Which replicas there are to be
    #[command(subcommand)]
    Members(Members),
    /// Replicas, roots, lag and traffic, live; q or Ctrl-C ends it
    #[command(long_about = "\
Replicas, roots, lag and traffic, live; q or Ctrl-C ends it. Where the output is no terminal, it prints a table each \
time; with --json a line of JSON.")]
    Watch(Watch),
    /// Has a data folder be another storage's
    #[command(long_about = "\
Has a data folder be of the storage that -s and --strip-prefix say. A storage opens only a folder that is its own, or \
one of a storage with the same prefix and fewer keys.

Keys are kept without the prefix, so another prefix gives all of them other names. Keys that are outside of the key \
expression are removed, for good, with --drop; without it nothing is changed if there are any. It says how many keys \
there are, and asks before it begins, unless --yes is given.

Examples:
  mstctl --dir /data/demo -s 'demo/**' adopt
  mstctl --dir /data/demo -s 'demo/a/**' adopt --drop --yes")]
    Adopt(Adopt),
    /// Saves what can be read of a damaged data folder
    #[command(long_about = "\
Saves what can be read of a data folder that a storage does not open, as it is damaged, into a new one, and lists what is \
lost. Without --to the new folder takes the place of the damaged one, which is renamed to FOLDER.damaged-1, and keeps its \
snapshots.

Of a replicated storage a router does this itself. Exit code 1 if anything is lost.

Example:
  mstctl --dir /data/demo salvage --to /data/demo-saved")]
    Salvage(Salvage),
    /// Checks the configuration of a router
    #[command(
        name = "check-config",
        long_about = "\
Reads the configuration file of a router as the router would, without one: which storages of this backend are in it, \
where they keep their data, and what is wrong. Folders are not looked into.

Exit code 1 if anything is wrong."
    )]
    CheckConfig {
        /// A configuration of zenohd or mst-router
        file: PathBuf,
        #[command(flatten)]
        strategies: Strategies,
    },
    /// Writes the JSON Schema of the configuration of a router
    #[command(after_long_help = "\
For editors, and for checks where there is no mstctl. It says of a file what check-config says, but for what concerns two \
options, or two storages.

Example:
  mstctl schema > zenoh-mst.schema.json")]
    Schema(Strategies),
    /// Writes the completions of a shell to standard output
    #[command(after_long_help = "\
Example:
  mstctl completions bash > ~/.local/share/bash-completion/completions/mstctl")]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Writes the manual pages to a folder
    Man {
        /// A folder that is there
        folder: PathBuf,
    },
}

impl Command {
    /// Whether what is printed is a file that has to be whole.
    pub(crate) fn is_copied_to_standard_output(&self) -> bool {
        let output = match self {
            Self::Backup(args) => Some(&args.file),
            Self::Prove(args) => args.output.as_ref(),
            _ => None,
        };
        output.is_some_and(|path| files::is_standard(path))
    }
}

/// Of `check-config` and `schema`.
#[derive(Debug, Args)]
pub(crate) struct Strategies {
    /// A custom strategy, which the backend of these routers has; may be given several times
    #[arg(long = "strategy", value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Of `root`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Root {
    /// How many replicas there have to be of each storage; else none that is known may be absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) expect: Option<u32>,
}

/// Of `keys`.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// A key expression that the keys match; all keys without it
    pub(crate) pattern: Option<String>,
    /// Deleted keys, too
    #[arg(long)]
    pub(crate) deleted: bool,
    /// So many at the most
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

/// Of `lifetimes`.
#[derive(Debug, Args)]
pub(crate) struct Lifetimes {
    /// Key expressions, each with a time, as in the option `lifetimes` of a storage
    #[arg(required = true, value_name = "PATTERN=TIME")]
    pub(crate) lifetimes: Vec<String>,
}

/// Of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key
    pub(crate) key: String,
    /// Writes the bytes of the value, and nothing else
    #[arg(long)]
    pub(crate) value: bool,
}

/// Of `diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A replica, by its identity or the beginning of it
    pub(crate) a: String,
    /// Another one of the same storage
    pub(crate) b: String,
}

/// Of `prove`.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The key
    pub(crate) key: String,
    /// Writes the proof to a file; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The root that the proof has to be of, 64 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = root)]
    pub(crate) root: Option<RootHash>,
}

/// Of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A proof or a backup, which are told apart; `-` is standard input. Without it
    /// the storage is verified
    pub(crate) file: Option<PathBuf>,
    /// Of a proof: the root that you trust, 64 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = root, requires = "file")]
    pub(crate) root: Option<RootHash>,
    /// Of a proof: the key
    #[arg(long, requires = "file")]
    pub(crate) key: Option<String>,
    /// Of a proof: what the storage takes off its keys
    #[arg(long, value_name = "PREFIX", requires = "key")]
    pub(crate) strip_prefix: Option<String>,
}

/// Of `scrub`.
#[derive(Debug, Args)]
pub(crate) struct Scrub {
    /// What to do
    #[arg(value_enum, default_value_t = ScrubAction::Status)]
    pub(crate) action: ScrubAction,
}

/// What can be done to a scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScrubAction {
    /// Shows how far it is
    Status,
    /// Holds it until it is resumed, also after a restart
    Pause,
    /// Goes on
    Resume,
    /// Checks everything now
    Now,
    /// Takes `RECOVERED` off the status: somebody knows that the store was damaged
    Acknowledge,
}

/// Of `collect`.
#[derive(Debug, Args)]
pub(crate) struct Collect {
    /// What to do
    #[arg(value_enum, default_value_t = CollectAction::Status)]
    pub(crate) action: CollectAction,
}

/// What can be done to a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CollectAction {
    /// Shows how far it is
    Status,
    /// Collects what may be by the clock as it is now, even if that is far ahead of what was stored
    /// before
    Now,
}

/// Of `sync`.
#[derive(Debug, Subcommand)]
pub(crate) enum Sync {
    /// Has replicas compare with all others at once, and waits until they are equal
    Now {
        /// For how long to wait until all are equal; "0s" does not wait
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
        wait: Duration,
    },
}

/// Of `members`.
#[derive(Debug, Subcommand)]
pub(crate) enum Members {
    /// Has the others forget a replica that is gone for good, which they would do after a day
    #[command(long_about = "\
Has the other replicas of a storage forget one that is gone for good: they show it as absent no more. They would do so \
by themselves a day after it went. One that comes back is known again.")]
    Forget(Forget),
}

/// Of `members forget`.
#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// The replica, by its identity or the beginning of it
    pub(crate) member: String,
    /// Says what would be done, and does nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Of `watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) every: Duration,
}
