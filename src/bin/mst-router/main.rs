//! `mst-router`: a Zenoh router with the plugins `mst` and `rest` in one program.
//!
//! It takes the options and the configuration files of `zenohd`. No library has to be found, and
//! none to be of the same compiler.
//!
//! | part | what it is |
//! |---|---|
//! | `args` | the command line |
//! | `configuration` | the configuration that it asks for |
//! | `plugins` | the plugins that the configuration asks for |

#![warn(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![forbid(unsafe_code)]

mod args;
mod configuration;
mod plugins;

use std::process::ExitCode;

use clap::Parser;
use zenoh::internal::runtime::{Runtime, RuntimeBuilder};

use crate::{args::Args, plugins::Plugins};

fn main() -> ExitCode {
    let args = Args::parse();
    // As zenohd has it: what begins so is Zenoh's and ours.
    zenoh::init_log_from_env_or("z=info");
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let started = threads
        .map_err(|error| format!("cannot start threads: {error}"))
        .and_then(|threads| {
            let router = threads.block_on(start(&args))?;
            Ok((threads, router))
        });
    match started {
        // Until a signal ends the process; then the plugin closes its storages.
        Ok(_running) => loop {
            std::thread::park();
        },
        Err(error) => {
            eprintln!("mst-router: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the router and all of its plugins.
async fn start(args: &Args) -> Result<Runtime, String> {
    let config = configuration::of(args)?;
    let Plugins { manager, required } = Plugins::load(&config)?;
    let builder = RuntimeBuilder::new(config).plugins_manager(manager);
    let built = builder.build().await;
    let mut router = built.map_err(|error| format!("cannot start: {error}"))?;
    for plugin in required {
        if router.plugins_manager().started_plugin(&plugin).is_none() {
            return Err(format!(
                "plugin '{plugin}' has not started; the log says why"
            ));
        }
    }
    let started = router.start().await;
    started.map_err(|error| format!("cannot start: {error}"))?;
    Ok(router)
}
