//! `mstctl sync`

use std::time::Duration;

use serde_json::{Value, json};
use zenoh_backend_mst::sync::{Group, ReplicaId};

use super::Context;
use crate::{
    args::Sync,
    connection::{Connection, Request},
    exit::{Answer, Error},
    output::{Output, Tone, short},
    replicas::{Replica, by_storage, storage},
    roots::{self, Standing},
};

pub(super) fn run(context: &Context, args: &Sync) -> Result<Answer, Error> {
    match args {
        Sync::Now { wait } => now(context, *wait),
    }
}

/// What a replica did.
struct Asked {
    replica: String,
    /// Whom it asked for what it has.
    asked: Vec<String>,
    /// Who is there, and exchanges no data with it.
    isolated: Vec<String>,
}

/// What came of asking the replicas of a storage.
struct Synced {
    group: Group,
    asked: Vec<Asked>,
    standing: Standing,
}

impl Synced {
    fn is_isolated(&self) -> bool {
        self.asked.iter().any(|asked| !asked.isolated.is_empty())
    }

    /// Whether all hold the same, and will.
    fn is_equal(&self) -> bool {
        self.standing == Standing::Equal && !self.is_isolated()
    }
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
    let is_equal = synced.iter().all(Synced::is_equal);
    let is_isolated = synced.iter().any(Synced::is_isolated);
    let storages: Value = synced.iter().map(document).collect();
    let document = json!({ "equal": is_equal, "storages": storages });
    context.output.either(&document, |output| {
        let lines = synced.iter().map(|storage| {
            let (tone, verdict) = match storage.standing {
                _ if storage.is_isolated() => (Tone::Bad, "ISOLATED: see `mstctl status`"),
                Standing::Equal => (Tone::Good, "equal"),
                Standing::Differ => (Tone::Warn, "not equal yet"),
                Standing::Unknown => (Tone::Warn, "not known to be equal yet"),
            };
            let title = output.paint(Tone::Strong, &self::storage(&storage.group));
            let verdict = output.paint(tone, verdict);
            format!("{title}  {verdict}\n{}", text(storage, output))
        });
        lines.collect::<Vec<_>>().join("\n\n")
    })?;
    // Not to wait is not to ask; but whoever is isolated was not asked for anything.
    Ok(Answer::of(is_equal || wait.is_zero() && !is_isolated))
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
        let answer = connection.change(request)?.json()?;
        let whom = answer["asked"].as_array().into_iter().flatten();
        let whom = whom.filter_map(Value::as_str).map(ToOwned::to_owned);
        asked.push(Asked {
            replica: replica.base.replica.to_string(),
            asked: whom.collect(),
            isolated: isolated(replica),
        });
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

/// The replicas that are there, and exchange no data with this one.
fn isolated(replica: &Replica) -> Vec<String> {
    let peers = replica.status.replication.iter();
    peers
        .flat_map(|replication| &replication.peers)
        .filter(|peer| peer.present && peer.relation == "isolated")
        .map(|peer| peer.replica.clone())
        .collect()
}

fn document(synced: &Synced) -> Value {
    let replicas = synced.asked.iter();
    let replicas: Value = replicas
        .map(|asked| {
            json!({
                "replica": asked.replica,
                "asked": asked.asked,
                "isolated": asked.isolated,
            })
        })
        .collect();
    json!({
        "key_expr": synced.group.key_expr,
        "strip_prefix": synced.group.strip_prefix,
        "equal": synced.is_equal(),
        "replicas": replicas,
    })
}

fn text(synced: &Synced, output: Output) -> String {
    let names = |ids: &[String]| {
        let ids: Vec<String> = ids.iter().map(|id| short(id)).collect();
        ids.join(", ")
    };
    let lines = synced.asked.iter().map(|replica| {
        let mut line = match replica.asked.is_empty() {
            true => "had nobody to ask".to_owned(),
            false => format!("asked {}", names(&replica.asked)),
        };
        if !replica.isolated.is_empty() {
            let isolated = format!("isolated from {}", names(&replica.isolated));
            line.push_str(&format!(", {}", output.paint(Tone::Bad, &isolated)));
        }
        format!("  {}  {line}", short(&replica.replica))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_whom_is_told() {
        let replica = |replica: &str, asked: &[&str]| Asked {
            replica: replica.to_owned(),
            asked: asked.iter().map(|id| (*id).to_owned()).collect(),
            isolated: Vec::new(),
        };
        let mut synced = Synced {
            group: Group {
                key_expr: "a/**".to_owned(),
                strip_prefix: None,
            },
            asked: vec![
                replica("0123456789", &["abcdef0123"]),
                replica("abcdef0123", &[]),
            ],
            standing: Standing::Unknown,
        };
        let output = Output::new(true);
        assert_eq!(
            text(&synced, output),
            "  01234567  asked abcdef01\n  abcdef01  had nobody to ask"
        );
        assert_eq!(document(&synced)["equal"], false);
        synced.standing = Standing::Equal;
        assert_eq!(document(&synced)["equal"], true);
        // What is equal by chance is not kept so.
        synced.asked[1].isolated = vec!["fedcba9876".to_owned()];
        assert_eq!(
            text(&synced, output),
            "  01234567  asked abcdef01\n  abcdef01  had nobody to ask, isolated from fedcba98"
        );
        assert_eq!(document(&synced)["equal"], false);
    }
}
