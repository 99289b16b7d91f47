//! `mstctl schema`

use zenoh_backend_mst::{
    config,
    merge::{self, Additive, BUILT_IN, MAX_NESTING},
};

use super::Context;
use crate::{
    args::Strategies,
    exit::{Answer, Error},
};

pub(super) fn run(context: &Context, strategies: &Strategies) -> Result<Answer, Error> {
    known(strategies)?;
    let custom = strategies.names.iter().map(String::as_str);
    let names: Vec<_> = BUILT_IN.into_iter().chain(custom).collect();
    let schema = config::schema(&names, MAX_NESTING);
    context.output.document(&schema)?;
    Ok(Answer::Yes)
}

/// Makes custom strategies known by their names. What they do is not asked here.
///
/// # Errors
/// If a strategy cannot be called so.
pub(super) fn known(strategies: &Strategies) -> Result<(), Error> {
    strategies.names.iter().try_for_each(|name| {
        let registered = merge::register(name, 1, Additive);
        registered.map_err(|error| Error::Usage(error.to_string()))
    })
}
