//! The commands.

mod backup;
mod check_config;
mod collect;
mod completions;
mod confirm;
mod controls;
mod diff;
mod get;
mod keys;
mod lifetimes;
mod man;
mod members;
mod offline;
mod prove;
mod pump;
mod replicas;
mod restore;
mod rollback;
mod root;
mod schema;
mod scrub;
mod snapshot;
mod status;
mod stream;
mod sync;
mod verify;
mod watch;

use crate::{
    args::{Cli, Command, Global},
    connection::Connection,
    exit::{Answer, Error},
    output::Output,
    replicas::{Choice, Replica},
};

/// What every command is given.
pub(crate) struct Context {
    global: Global,
    output: Output,
}

impl Context {
    fn connect(&self) -> Result<Connection, Error> {
        Connection::open(&self.global)
    }

    fn choice(&self) -> Choice<'_> {
        Choice {
            storage: self.global.storage.as_deref(),
            replica: self.global.replica.as_deref(),
        }
    }

    /// A session, and all replicas that fit.
    fn all(&self) -> Result<(Connection, Vec<Replica>), Error> {
        let connection = self.connect()?;
        let replicas = self.choice().all(connection.replicas()?)?;
        Ok((connection, replicas))
    }

    /// A session, and the replica that is meant.
    fn one(&self) -> Result<(Connection, Replica), Error> {
        let connection = self.connect()?;
        let replica = self.choice().one(connection.replicas()?)?;
        Ok((connection, replica))
    }
}

/// Does what was asked for.
pub(crate) fn run(cli: Cli) -> Result<Answer, Error> {
    let Cli { global, command } = cli;
    let context = Context {
        output: Output::new(global.json),
        global,
    };
    if let Some(dir) = &context.global.dir {
        return offline::run(&context, dir, &command);
    }
    match &command {
        Command::Status => status::run(&context),
        Command::Replicas => replicas::run(&context),
        Command::Root(args) => root::run(&context, args),
        Command::Keys(args) => keys::run(&context, args),
        Command::Lifetimes(args) => lifetimes::run(&context, args),
        Command::Get(args) => get::run(&context, args),
        Command::Diff(args) => diff::run(&context, args),
        Command::Prove(args) => prove::run(&context, args),
        Command::Verify(args) => match &args.file {
            Some(file) => verify::file(&context, file, args),
            None => verify::storage(&context),
        },
        Command::Scrub(args) => scrub::run(&context, args),
        Command::Collect(args) => collect::run(&context, args),
        Command::Backup(args) => backup::run(&context, args),
        Command::Restore(args) => restore::run(&context, args),
        Command::Rollback(args) => rollback::run(&context, args),
        Command::Snapshot(args) => snapshot::run(&context, args),
        Command::Sync(args) => sync::run(&context, args),
        Command::Members(args) => members::run(&context, args),
        Command::Watch(args) => watch::run(&context, args),
        Command::Adopt(_) => Err(Error::Usage(
            "adopt is for a data folder: give it with --dir".to_owned(),
        )),
        Command::Salvage(_) => Err(Error::Usage(
            "salvage is for a data folder: give it with --dir".to_owned(),
        )),
        Command::CheckConfig { file, strategies } => check_config::run(&context, file, strategies),
        Command::Schema(strategies) => schema::run(&context, strategies),
        Command::Completions { shell } => completions::run(&context, *shell),
        Command::Man { folder } => man::run(folder),
    }
}
