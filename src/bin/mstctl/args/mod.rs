//! What can be asked for, and how it is written.
//!
//! | part | what it is |
//! |---|---|
//! | `global` | options of all commands |
//! | `commands` | the commands, and the options of each |
//! | `values` | values of options |

mod commands;
mod copies;
mod global;
mod values;

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser, error::ErrorKind};

pub(crate) use commands::{
    Collect, CollectAction, Command, Diff, Forget, Get, Keys, Lifetimes, Members, Prove, Root,
    Scrub, ScrubAction, Strategies, Sync, Verify, Watch,
};
pub(crate) use copies::{Adopt, Backup, Restore, Rollback, Salvage, Snapshot};
pub(crate) use global::{Global, Mode};

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
            Command::Restore(args) if args.dry_run && global.dir.is_some() => {
                let text = "--dry-run is for a live storage: with --dir the folder is a new one";
                Some((ErrorKind::ArgumentConflict, text))
            }
            Command::Restore(args) if args.force_key_expr && global.storage.is_none() => {
                let text = "--force-key-expr needs the storage: give it with -s";
                Some((ErrorKind::MissingRequiredArgument, text))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            "rollback f --dry-run",
            "restore f --dry-run",
            "--dir d -s demo/** adopt --dry-run",
            "snapshot create n",
            "snapshot list",
            "snapshot delete n",
            "sync now",
            "sync now --wait 0s",
            "members forget 6f",
            "members forget 6f --dry-run",
            "watch --every 2s",
            "--dir d -s demo/** adopt",
            "--dir d -s demo/** adopt --strip-prefix demo --drop --yes",
            "--dir d salvage",
            "--dir d salvage --to e",
            "scrub acknowledge",
            "collect",
            "collect now",
            "check-config f",
            "check-config f --strategy a --strategy b",
            "schema",
            "schema --strategy a",
            "completions bash",
            "man d",
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
}
