//! `mstctl root`

use std::collections::BTreeMap;

use serde_json::{json, Value};
use zenoh_backend_mst::{replica::Span, sync::Group, sync::ReplicaId};

use super::Context;
use crate::{
    connection::Connection,
    exit::{Answer, Error},
    output::{short, time, Align, Field, Output, Table, Tone},
    replicas::{by_storage, storage, Replica},
    roots::{self, Standing},
};

/// The roots of the replicas of a storage.
struct Compared {
    group: Group,
    /// Replica, root, and the last cut that it is of.
    roots: Vec<(String, String, String)>,
    standing: Standing,
    is_replicated: bool,
}

pub(super) fn run(context: &Context) -> Result<Answer, Error> {
    let (connection, replicas) = context.all()?;
    let storages = by_storage(replicas).into_iter();
    let compared = storages.map(|(group, replicas)| compare(&connection, group, &replicas));
    let compared = compared.collect::<Result<Vec<_>, Error>>()?;
    let is_equal = compared
        .iter()
        .all(|storage| storage.standing == Standing::Equal);
    let storages: Value = compared.iter().map(document).collect();
    let document = json!({ "equal": is_equal, "storages": storages });
    context.output.either(&document, |output| {
        let storages = compared.iter().map(|storage| text(storage, output));
        storages.collect::<Vec<_>>().join("\n\n")
    })?;
    Ok(Answer::of(is_equal))
}

fn compare(connection: &Connection, group: Group, replicas: &[Replica]) -> Result<Compared, Error> {
    let is_replicated = replicas
        .iter()
        .any(|replica| replica.status.replication.is_some());
    let mut standing = Standing::Equal;
    let mut spans: BTreeMap<ReplicaId, Span> = BTreeMap::new();
    if is_replicated {
        let ids: Vec<ReplicaId> = replicas
            .iter()
            .map(|replica| replica.base.replica)
            .collect();
        let (heard, settled) = roots::settle(connection, &group, &ids, connection.timeout)?;
        standing = settled;
        spans = heard.latest().collect();
    } else if replicas
        .windows(2)
        .any(|two| two[0].status.root != two[1].status.root)
    {
        standing = Standing::Differ;
    }
    let roots = replicas.iter().map(|replica| {
        let status = &replica.status;
        // One that has said nothing just now is told by its status.
        let said = spans.get(&replica.base.replica);
        let (root, cut) = match said {
            Some(span) => (span.root.to_string(), time(span.to)),
            None => (status.root.clone(), status.cut.clone()),
        };
        (replica.base.replica.to_string(), root, cut)
    });
    Ok(Compared {
        roots: roots.collect(),
        group,
        standing,
        is_replicated,
    })
}

fn document(compared: &Compared) -> Value {
    let replicas = compared
        .roots
        .iter()
        .map(|(replica, root, cut)| json!({ "replica": replica, "root": root, "cut": cut }));
    json!({
        "key_expr": compared.group.key_expr,
        "strip_prefix": compared.group.strip_prefix,
        "replicated": compared.is_replicated,
        "equal": match compared.standing {
            Standing::Equal => Some(true),
            Standing::Differ => Some(false),
            Standing::Unknown => None,
        },
        "replicas": replicas.collect::<Vec<_>>(),
    })
}

fn text(compared: &Compared, output: Output) -> String {
    let mut table = Table::new(&[
        ("REPLICA", Align::Left),
        ("CUT", Align::Left),
        ("ROOT", Align::Left),
    ]);
    for (replica, root, cut) in &compared.roots {
        let fields = [short(replica), cut.clone(), root.clone()];
        table.row(fields.map(Field::from));
    }
    let (tone, verdict) = verdict(compared);
    format!(
        "{}  {}\n{}",
        output.paint(Tone::Strong, &storage(&compared.group)),
        output.paint(tone, &verdict),
        table.render(output)
    )
}

fn verdict(compared: &Compared) -> (Tone, String) {
    let count = compared.roots.len();
    match (compared.standing, count) {
        (Standing::Equal, 1) => (Tone::Plain, "one replica".to_owned()),
        (Standing::Equal, _) => (Tone::Good, format!("all {count} are equal")),
        (Standing::Differ, _) => (Tone::Warn, "they differ".to_owned()),
        (Standing::Unknown, _) => (
            Tone::Warn,
            "not known: there was no common cut; look again, or longer with --timeout".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(standing: Standing, count: usize) -> Compared {
        let root = |n: usize| (format!("{n:032x}"), "ab".repeat(32), "cut".to_owned());
        Compared {
            group: Group {
                key_expr: "a/**".to_owned(),
                strip_prefix: None,
            },
            roots: (0..count).map(root).collect(),
            standing,
            is_replicated: true,
        }
    }

    #[test]
    fn the_verdict_is_plain() {
        let said = |standing, count| verdict(&compared(standing, count)).1;
        assert_eq!(said(Standing::Equal, 1), "one replica");
        assert_eq!(said(Standing::Equal, 3), "all 3 are equal");
        assert_eq!(said(Standing::Differ, 2), "they differ");
        assert!(said(Standing::Unknown, 2).starts_with("not known"));
    }

    #[test]
    fn roots_are_shown_whole() {
        let text = text(&compared(Standing::Equal, 2), Output::new(true));
        assert!(
            text.starts_with("a/**  all 2 are equal\nREPLICA   CUT  ROOT\n"),
            "{text}"
        );
        assert!(text.contains(&"ab".repeat(32)), "{text}");
        let unknown = document(&compared(Standing::Unknown, 1));
        assert!(unknown["equal"].is_null());
    }
}
