//! `mstctl scrub`

use serde::Deserialize as _;
use serde_json::Value;

use super::{Context, controls, status, stream::follow, verify::Findings};
use crate::{
    args::{Scrub, ScrubAction},
    connection::Request,
    exit::{Answer, Error},
    output::{plain, safe},
    replicas::{Replica, Scrub as State},
};

/// What is asked.
const WHAT: &str = "control/scrub";

pub(super) fn run(context: &Context, args: &Scrub) -> Result<Answer, Error> {
    let action = match args.action {
        ScrubAction::Status => return show(context, &controls::states(context, WHAT)?),
        ScrubAction::Now => return now(context),
        ScrubAction::Pause => "pause",
        ScrubAction::Resume => "resume",
        ScrubAction::Acknowledge => return acknowledge(context),
    };
    show(context, &[controls::change(context, WHAT, action)?])
}

/// Takes `RECOVERED` off the status.
fn acknowledge(context: &Context) -> Result<Answer, Error> {
    let (_, document) = controls::change(context, WHAT, "acknowledge")?;
    context.output.either(&document, |_| {
        match document.get("acknowledged").and_then(Value::as_str) {
            Some(aside) => format!("acknowledged: the damaged store is in {}", safe(aside)),
            None => "there was nothing to acknowledge".to_owned(),
        }
    })?;
    Ok(Answer::Yes)
}

fn show(context: &Context, states: &[(Replica, Value)]) -> Result<Answer, Error> {
    controls::show(context.output, "scrub", states, text)
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
