//! `mstctl`: looks into, checks, backs up and repairs storages of this backend.
//!
//! Everything it asks of a router goes through the key space `@mst/2/**`, and
//! everything it does to a folder through the library, so that there is one way
//! of doing each.
//!
//! | part | what it is |
//! |---|---|
//! | `args` | the command line |
//! | `exit` | exit codes and errors |
//! | `connection` | the session, requests and answers |
//! | `replicas` | who is there, and who is meant |
//! | `overview` | how the replicas of each storage stand |
//! | `roots` | whether they hold the same |
//! | `output`, `cells`, `progress`, `terminal` | what is shown |
//! | `files` | what is written |
//! | `commands` | a file for each |

#![warn(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![forbid(unsafe_code)]

mod args;
mod cells;
mod commands;
mod connection;
mod exit;
mod files;
mod output;
mod overview;
mod progress;
mod replicas;
mod roots;
mod terminal;

use std::process::ExitCode;

use clap::error::ErrorKind;
use serde_json::json;

use crate::{args::Cli, exit::Error, output::note};

fn main() -> ExitCode {
    // Of the library that is asked, and only if it is wanted: errors are ours to say.
    zenoh::init_log_from_env_or("off");
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    let json = cli.global.json;
    let is_copy = cli.command.is_copied_to_standard_output();
    match commands::run(cli) {
        Ok(answer) => answer.into(),
        // Half a copy is none.
        Err(error) if error.is_end_of_reader() && !is_copy => ExitCode::SUCCESS,
        Err(error) => {
            fail(&error.to_string(), error.code(), json);
            ExitCode::from(error.code())
        }
    }
}

fn fail(text: &str, code: u8, json: bool) {
    match json {
        true => note(&json!({ "error": text, "exit": code }).to_string()),
        false => note(&format!("mstctl: {text}")),
    }
}

/// Help and the version are asked for, and no mistakes.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    let is_asked = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let json = std::env::args_os().any(|argument| argument == "--json");
    let code = Error::Usage(String::new()).code();
    match (is_asked, json) {
        (false, true) => {
            let text = error.to_string();
            fail(text.trim_start_matches("error: ").trim_end(), code, true);
        }
        // If it cannot be printed, there is nowhere left to say so.
        _ => drop(error.print()),
    }
    match is_asked {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(code),
    }
}
