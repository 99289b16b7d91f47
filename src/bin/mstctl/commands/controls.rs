//! What replicas say of something that they do by themselves, such as the scrub.

use serde_json::{Value, json};

use super::Context;
use crate::{
    connection::Request,
    exit::{Answer, Error},
    output::{Output, Tone},
    replicas::{Replica, storage},
};

/// Asks all replicas for the state of `what`.
pub(super) fn states(context: &Context, what: &str) -> Result<Vec<(Replica, Value)>, Error> {
    let (connection, replicas) = context.all()?;
    let states = replicas.into_iter().map(|replica| {
        let state = connection.ask(Request::to(&replica.base, what))?.json()?;
        Ok((replica, state))
    });
    states.collect()
}

/// Has one replica do something, and returns the state of `what` after it.
pub(super) fn change(
    context: &Context,
    what: &str,
    action: &str,
) -> Result<(Replica, Value), Error> {
    let (connection, replica) = context.one()?;
    let request = Request::to(&replica.base, what).with("do", action);
    let state = connection.change(request)?.json()?;
    Ok((replica, state))
}

/// Shows states: as documents, in which they are called `name`; or in words.
pub(super) fn show(
    output: Output,
    name: &str,
    states: &[(Replica, Value)],
    text: impl Fn(&Value) -> String,
) -> Result<Answer, Error> {
    let documents: Value = states
        .iter()
        .map(|(replica, state)| {
            json!({
                "replica": replica.base.replica.to_string(),
                "key_expr": replica.base.group.key_expr,
                name: state,
            })
        })
        .collect();
    output.either(&documents, |output| {
        let lines = states.iter().map(|(replica, state)| {
            let of = format!("{}  {}", replica.short(), storage(&replica.base.group));
            format!("{}  {}", output.paint(Tone::Strong, &of), text(state))
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Answer::Yes)
}
