//! What can be asked for, and how it is written.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{error::ErrorKind, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use zenoh_backend_mst::{config::Span, hex, mst::RootHash};

use crate::files;

const ABOUT: &str = "Looks into, checks, backs up and repairs storages of zenoh-backend-mst";

const LONG_ABOUT: &str = "\
Looks into, checks, backs up and repairs storages of zenoh-backend-mst.

It talks to routers through Zenoh; any router of the network will do. With --dir it opens the data folder of a storage \
that no router has open.

Where one storage or one replica fits, -s and -r may be left out; where several fit and one is needed, they are listed.";

const AFTER_HELP: &str = "\
Examples:
  mstctl status                               all storages that can be reached, at the local router
  mstctl -e tcp/10.0.0.7:7447 root            whether all replicas hold the same
  mstctl -s 'fleet/**' backup fleet.mst       a backup of a storage while it runs
  mstctl --dir /var/lib/zenoh-mst/fleet verify

Exit codes:
  0    done, and the answer is yes
  1    done, and the answer is no: roots or keys differ, damage was found, a proof does not hold, no such key
  2    wrong usage
  3    nobody answers, or there is no such replica or storage
  4    the router refused or failed
  5    a local file or folder cannot be read or written, or is damaged
  130  interrupted";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "mstctl",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads a command line.
    pub(crate) fn read<T>(line: impl IntoIterator<Item = T>) -> Result<Self, clap::Error>
    where
        T: Into<OsString> + Clone,
    {
        let cli = Self::try_parse_from(line)?;
        match cli.contradiction() {
            Some((kind, text)) => Err(Self::command().error(kind, text)),
            None => Ok(cli),
        }
    }

    /// What does not go together. Options of all commands may be before or after the
    /// command, which is known only when both were read.
    fn contradiction(&self) -> Option<(ErrorKind, &'static str)> {
        let global = &self.global;
        let is_connection = global.mode.is_some()
            || !global.endpoints.is_empty()
            || global.config.is_some()
            || global.replica.is_some();
        if global.dir.is_some() && is_connection {
            let text = "--dir is a folder, and no router is asked: leave -m, -e, -c and -r out";
            return Some((ErrorKind::ArgumentConflict, text));
        }
        match &self.command {
            Command::Get(args) if args.value && global.json => {
                let text = "--value writes bytes, and --json a document: leave one of them out";
                Some((ErrorKind::ArgumentConflict, text))
            }
            Command::Backup(args) if args.strip_prefix.is_some() && global.dir.is_none() => {
                let text = "--strip-prefix is for --dir: a router knows it";
                Some((ErrorKind::MissingRequiredArgument, text))
            }
            Command::Restore(args) if args.force_key_expr && global.storage.is_none() => {
                let text = "--force-key-expr needs the storage: give it with -s";
                Some((ErrorKind::MissingRequiredArgument, text))
            }
            _ => None,
        }
    }
}

/// The options of `root`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Root {
    /// How many replicas there have to be of each storage; else none that is known may be absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) expect: Option<u32>,
}

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
    /// connection: for status, root, keys, get, verify, backup, restore
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
    /// Writes a backup of a storage, live or of a folder
    #[command(after_long_help = "\
The backup is of one moment, whatever is written meanwhile. It is FILE.part until it is complete and was read back. \
`-` writes to standard output; then nothing is read back: use `mstctl verify` on what was written.

Examples:
  mstctl -s 'fleet/**' backup fleet.mst
  mstctl -s 'fleet/**' backup - | ssh vault 'cat > fleet.mst'
  mstctl --dir /data/fleet -s 'fleet/**' --strip-prefix fleet backup fleet.mst")]
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
    /// Replicas, roots, lag and traffic, live; q or Ctrl-C ends it
    #[command(long_about = "\
Replicas, roots, lag and traffic, live; q or Ctrl-C ends it. Where the output is no terminal, it prints a table each \
time; with --json a line of JSON.")]
    Watch(Watch),
    /// Writes the completions of a shell to standard output
    #[command(after_long_help = "\
Example:
  mstctl completions bash > ~/.local/share/bash-completion/completions/mstctl")]
    Completions {
        /// Which shell
        shell: Shell,
    },
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
}

/// Of `backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to be made; `-` is standard output
    pub(crate) file: PathBuf,
    /// Replaces the file, if there is one
    #[arg(long)]
    pub(crate) force: bool,
    /// With --dir: what the storage takes off its keys
    #[arg(long, value_name = "PREFIX")]
    pub(crate) strip_prefix: Option<String>,
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

/// Of `watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) every: Duration,
}

/// A span of time, as in the backend's configuration.
fn time(text: &str) -> Result<Duration, String> {
    let span = serde_json::from_value::<Span>(text.into());
    span.map(|span| span.0).map_err(|error| error.to_string())
}

fn root(text: &str) -> Result<RootHash, String> {
    let bytes = hex::decode(text).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(RootHash)
        .ok_or_else(|| "a root has 64 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(line.split(' '))
    }

    fn kind(line: &str) -> ErrorKind {
        parse(line).expect_err("wrong usage").kind()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_all_commands_go_anywhere() {
        for line in [
            "mstctl -e tcp/a:1 -e tcp/b:2 -s demo/** -r 6f --timeout 500ms --json status",
            "mstctl status -e tcp/a:1 -e tcp/b:2 -s demo/** -r 6f --timeout 500ms --json",
        ] {
            let global = parse(line).expect("valid").global;
            assert_eq!(global.endpoints, ["tcp/a:1", "tcp/b:2"]);
            assert_eq!(global.storage.as_deref(), Some("demo/**"));
            assert_eq!(global.replica.as_deref(), Some("6f"));
            assert_eq!(global.timeout, Duration::from_millis(500));
            assert!(global.json);
        }
        assert_eq!(
            parse("mstctl -m peer root").expect("valid").global.mode,
            Some(Mode::Peer)
        );
    }

    #[test]
    fn a_folder_is_no_connection() {
        assert!(parse("mstctl --dir d status").is_ok());
        for other in ["-e tcp/a:1", "-m peer", "-c f", "-r 6f"] {
            let line = format!("mstctl --dir d {other} status");
            assert_eq!(kind(&line), ErrorKind::ArgumentConflict, "{line}");
        }
    }

    #[test]
    fn every_command_is_read() {
        for line in [
            "replicas",
            "root",
            "keys",
            "keys demo/* --deleted --limit 5",
            "get demo/a --value",
            "diff 6f a0",
            "prove demo/a -o f",
            "verify",
            "verify f",
            "scrub",
            "scrub pause",
            "scrub now",
            "backup f --force",
            "backup -",
            "--dir d -s demo/** backup f --strip-prefix demo",
            "restore f",
            "-s other/** restore f --force-key-expr",
            "rollback f",
            "rollback --snapshot n --yes",
            "snapshot create n",
            "snapshot list",
            "snapshot delete n",
            "sync now",
            "sync now --wait 0s",
            "watch --every 2s",
            "completions bash",
        ] {
            let parsed = parse(&format!("mstctl {line}"));
            assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("wrong"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, expected) in [
            (
                "mstctl",
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ),
            ("mstctl rollback", ErrorKind::MissingRequiredArgument),
            (
                "mstctl rollback f --snapshot n",
                ErrorKind::ArgumentConflict,
            ),
            (
                "mstctl verify --root 00 --key a",
                ErrorKind::ValueValidation,
            ),
            ("mstctl verify --key a", ErrorKind::MissingRequiredArgument),
            (
                "mstctl restore f --force-key-expr",
                ErrorKind::MissingRequiredArgument,
            ),
            ("mstctl status --timeout 5", ErrorKind::ValueValidation),
            ("mstctl get a --value --json", ErrorKind::ArgumentConflict),
            ("mstctl scrub often", ErrorKind::InvalidValue),
            ("mstctl stats", ErrorKind::InvalidSubcommand),
        ] {
            assert_eq!(kind(line), expected, "{line}");
        }
    }

    #[test]
    fn roots_are_sixty_four_digits() {
        assert_eq!(root(&"ab".repeat(32)), Ok(RootHash([0xab; 32])));
        for wrong in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(root(wrong).is_err(), "{wrong}");
        }
    }
}
