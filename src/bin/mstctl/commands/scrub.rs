//! `mstctl scrub`

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Context, status, stream::follow, verify::Findings};
use crate::{
    args::{Scrub, ScrubAction},
    connection::{Connection, Request},
    exit::{Answer, Error},
    output::{Output, Tone, plain, safe},
    replicas::{Replica, Scrub as State, storage},
};

/// What is asked.
const WHAT: &str = "control/scrub";

pub(super) fn run(context: &Context, args: &Scrub) -> Result<Answer, Error> {
    let action = match args.action {
        ScrubAction::Status => return states(context),
        ScrubAction::Now => return now(context),
        ScrubAction::Pause => "pause",
        ScrubAction::Resume => "resume",
        ScrubAction::Acknowledge => return acknowledge(context),
    };
    let (connection, replica) = context.one()?;
    let request = Request::to(&replica.base, WHAT).with("do", action);
    let state = connection.change(request)?.json()?;
    show(context.output, &[(replica, state)])
}

/// Takes `RECOVERED` off the status.
fn acknowledge(context: &Context) -> Result<Answer, Error> {
    let (connection, replica) = context.one()?;
    let request = Request::to(&replica.base, WHAT).with("do", "acknowledge");
    let document: Value = connection.change(request)?.json()?;
    context.output.either(&document, |_| {
        match document.get("acknowledged").and_then(Value::as_str) {
            Some(aside) => format!("acknowledged: the damaged store is in {}", safe(aside)),
            None => "there was nothing to acknowledge".to_owned(),
        }
    })?;
    Ok(Answer::Yes)
}

fn states(context: &Context) -> Result<Answer, Error> {
    let (connection, replicas) = context.all()?;
    let ask = |connection: &Connection, replica: Replica| {
        let state = connection.ask(Request::to(&replica.base, WHAT))?.json()?;
        Ok((replica, state))
    };
    let states = replicas
        .into_iter()
        .map(|replica| ask(&connection, replica));
    show(context.output, &states.collect::<Result<Vec<_>, Error>>()?)
}

fn show(output: Output, states: &[(Replica, Value)]) -> Result<Answer, Error> {
    let documents: Value = states
        .iter()
        .map(|(replica, state)| {
            json!({
                "replica": replica.base.replica.to_string(),
                "key_expr": replica.base.group.key_expr,
                "scrub": state,
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

/// A state in words, whatever its form.
fn text(state: &Value) -> String {
    match State::deserialize(state) {
        Ok(state) => status::scrub(&state),
        Err(_) => plain(state),
    }
}

/// Checks all, and says what was found as `verify` does.
fn now(context: &Context) -> Result<Answer, Error> {
    let (connection, replica) = context.one()?;
    let request = Request::to(&replica.base, WHAT).with("do", "now");
    let mut findings = Findings::default();
    follow(
        &connection,
        request,
        ("scrubbing", "checked"),
        context.output,
        |part| findings.see(part),
    )?;
    if !context.output.json {
        context.output.text(findings.text(context.output))?;
    }
    Ok(Answer::of(findings.damaged.is_empty()))
}
