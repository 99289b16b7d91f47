//! `mstctl sync`

use std::time::Duration;

use serde_json::{json, Value};
use zenoh_backend_mst::sync::{Group, ReplicaId};

use super::Context;
use crate::{
    args::Sync,
    connection::{Connection, Request},
    exit::{Answer, Error},
    output::{short, Tone},
    replicas::{by_storage, storage, Replica},
    roots::{self, Standing},
};

pub(super) fn run(context: &Context, args: &Sync) -> Result<Answer, Error> {
    match args {
        Sync::Now { wait } => now(context, *wait),
    }
}

/// What came of asking the replicas of a storage.
struct Synced {
    group: Group,
    /// Replica, and whom it asked for what it has.
    asked: Vec<(String, Vec<String>)>,
    standing: Standing,
}

fn now(context: &Context, wait: Duration) -> Result<Answer, Error> {
    let (connection, replicas) = context.all()?;
    let replicated = replicas
        .into_iter()
        .filter(|replica| replica.status.replication.is_some());
    let storages = by_storage(replicated.collect());
    if storages.is_empty() {
        return Err(Error::NoSuch {
            what: "replicated storage",
            wanted: context.choice().storage.unwrap_or("any").to_owned(),
            found: Vec::new(),
        });
    }
    let storages = storages.into_iter();
    let synced = storages.map(|(group, replicas)| sync(&connection, group, &replicas, wait));
    let synced = synced.collect::<Result<Vec<_>, Error>>()?;
    let is_equal = synced
        .iter()
        .all(|storage| storage.standing == Standing::Equal);
    let storages: Value = synced.iter().map(document).collect();
    let document = json!({ "equal": is_equal, "storages": storages });
    context.output.either(&document, |output| {
        let lines = synced.iter().map(|storage| {
            let (tone, verdict) = match storage.standing {
                Standing::Equal => (Tone::Good, "equal"),
                Standing::Differ => (Tone::Warn, "not equal yet"),
                Standing::Unknown => (Tone::Warn, "not known to be equal yet"),
            };
            let title = output.paint(Tone::Strong, &self::storage(&storage.group));
            let verdict = output.paint(tone, verdict);
            format!("{title}  {verdict}\n{}", text(storage))
        });
        lines.collect::<Vec<_>>().join("\n\n")
    })?;
    // Not to wait is not to ask.
    Ok(Answer::of(is_equal || wait.is_zero()))
}

fn sync(
    connection: &Connection,
    group: Group,
    replicas: &[Replica],
    wait: Duration,
) -> Result<Synced, Error> {
    let mut asked = Vec::with_capacity(replicas.len());
    for replica in replicas {
        let request = Request::to(&replica.base, "control/sync");
        let answer = connection.ask(request)?.json()?;
        let whom = answer["asked"].as_array().into_iter().flatten();
        let whom = whom.filter_map(Value::as_str).map(ToOwned::to_owned);
        asked.push((replica.base.replica.to_string(), whom.collect()));
    }
    let ids: Vec<ReplicaId> = replicas
        .iter()
        .map(|replica| replica.base.replica)
        .collect();
    let (_, standing) = roots::settle(connection, &group, &ids, wait)?;
    Ok(Synced {
        group,
        asked,
        standing,
    })
}

fn document(synced: &Synced) -> Value {
    let replicas = synced.asked.iter();
    let replicas: Value = replicas
        .map(|(replica, asked)| json!({ "replica": replica, "asked": asked }))
        .collect();
    json!({
        "key_expr": synced.group.key_expr,
        "strip_prefix": synced.group.strip_prefix,
        "equal": synced.standing == Standing::Equal,
        "replicas": replicas,
    })
}

fn text(synced: &Synced) -> String {
    let lines = synced.asked.iter().map(|(replica, asked)| {
        let asked: Vec<String> = asked.iter().map(|id| short(id)).collect();
        let asked = match asked.is_empty() {
            true => "had nobody to ask".to_owned(),
            false => format!("asked {}", asked.join(", ")),
        };
        format!("  {}  {asked}", short(replica))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_whom_is_told() {
        let synced = Synced {
            group: Group {
                key_expr: "a/**".to_owned(),
                strip_prefix: None,
            },
            asked: vec![
                ("0123456789".to_owned(), vec!["abcdef0123".to_owned()]),
                ("abcdef0123".to_owned(), Vec::new()),
            ],
            standing: Standing::Unknown,
        };
        assert_eq!(
            text(&synced),
            "  01234567  asked abcdef01\n  abcdef01  had nobody to ask"
        );
        assert_eq!(document(&synced)["equal"], false);
    }
}
