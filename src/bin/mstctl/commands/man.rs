//! `mstctl man`

use std::path::Path;

use clap::CommandFactory as _;

use crate::{
    args::Cli,
    exit::{Answer, Error, file_error},
};

pub(super) fn run(folder: &Path) -> Result<Answer, Error> {
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(file_error("write manual pages to", folder))?;
    Ok(Answer::Yes)
}
