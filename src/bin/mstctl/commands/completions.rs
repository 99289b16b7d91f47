//! `mstctl completions`

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Context;
use crate::{
    args::Cli,
    exit::{Answer, Error},
};

pub(super) fn run(context: &Context, shell: Shell) -> Result<Answer, Error> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "mstctl", &mut script);
    context.output.bytes(&script)?;
    Ok(Answer::Yes)
}
