//! `mstctl collect`

use serde::Deserialize;
use serde_json::Value;
use zenoh_backend_mst::net::status::Collection;

use super::{Context, controls};
use crate::{
    args::{Collect, CollectAction},
    exit::{Answer, Error},
    output::{counted, plain, safe},
};

/// What is asked.
const WHAT: &str = "control/collect";

pub(super) fn run(context: &Context, args: &Collect) -> Result<Answer, Error> {
    let states = match args.action {
        CollectAction::Now => vec![controls::change(context, WHAT, "now")?],
        CollectAction::Status => controls::states(context, WHAT)?,
    };
    controls::show(context.output, "collection", &states, text)
}

/// A state in words, whatever its form.
fn text(state: &Value) -> String {
    let Ok(state) = Collection::deserialize(state) else {
        return plain(state);
    };
    let mut text = safe(&state.state).to_string();
    if let Some(floor) = &state.floor {
        text += &format!(
            ", floor {}, {} and {} collected",
            safe(floor),
            counted(state.collected_tombstones, "tombstone", "tombstones"),
            counted(state.collected_rules, "rule", "rules")
        );
    }
    if state.refused_late > 0 {
        text += &format!(
            ", {} refused",
            counted(state.refused_late, "late write", "late writes")
        );
    }
    if state.held_seconds > 0 {
        text += &format!(", the clock is {} s ahead", state.held_seconds);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn states_are_told_in_words() {
        let mut state = json!({
            "state": "off", "floor": null, "horizon": null, "collected_tombstones": 0,
            "collected_rules": 0, "refused_late": 0, "held_seconds": 0,
        });
        assert_eq!(text(&state), "off");
        state["state"] = "idle".into();
        state["floor"] = "2026-11-24T04:00:00Z".into();
        state["collected_tombstones"] = 1200.into();
        state["collected_rules"] = 1.into();
        state["refused_late"] = 2.into();
        state["held_seconds"] = 86_400.into();
        assert_eq!(
            text(&state),
            "idle, floor 2026-11-24T04:00:00Z, 1,200 tombstones and 1 rule collected, 2 late writes \
             refused, the clock is 86400 s ahead"
        );
        assert_eq!(text(&json!("soon")), plain(&json!("soon")));
    }
}
