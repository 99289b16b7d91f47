//! `mstctl root`

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zenoh_backend_mst::{replica::Span, sync::Group, sync::ReplicaId};

use super::Context;
use crate::{
    args::Root,
    connection::Connection,
    exit::{Answer, Error},
    output::{Align, Field, Output, Table, Tone, short, time},
    overview::{Storage, overview},
    replicas::{Replica, by_storage, storage},
    roots::{self, Standing},
};

/// The roots of the replicas of a storage.
struct Compared {
    group: Group,
    /// Replica, root, and the last cut that it is of.
    roots: Vec<(String, String, String)>,
    standing: Standing,
    is_replicated: bool,
    missing: Missing,
    /// How many replicas there have to be, if somebody says so.
    expected: Option<u32>,
}

/// The replicas of a storage of which equal roots say nothing.
#[derive(Debug, Default)]
struct Missing {
    /// Others know them, and they do not answer.
    absent: Vec<String>,
    /// They are there, and exchange no data with one that answers.
    isolated: Vec<String>,
    /// They are not replicated, beside others that are.
    single: Vec<String>,
}

impl Missing {
    fn of(storage: &Storage) -> Self {
        let answer = storage.rows.iter().filter_map(|row| {
            let status = row.status.as_ref()?;
            Some((&row.replica, &status.replication))
        });
        let is_mixed = storage.rows.len() > 1;
        let mut missing = Self::default();
        for (replica, replication) in answer {
            match replication {
                None if is_mixed => missing.single.push(replica.clone()),
                None => {}
                Some(replication) => {
                    let isolated = replication.peers.iter();
                    let isolated = isolated
                        .filter(|peer| peer.present && peer.relation == "isolated")
                        .map(|peer| peer.replica.clone());
                    missing.isolated.extend(isolated);
                }
            }
        }
        missing.isolated.sort();
        missing.isolated.dedup();
        let absent = storage.rows.iter().filter(|row| !row.is_present());
        missing.absent = absent.map(|row| row.replica.clone()).collect();
        missing
    }
}

impl Compared {
    /// Whether all that there have to be hold the same.
    fn is_equal(&self) -> bool {
        let Missing {
            absent,
            isolated,
            single,
        } = &self.missing;
        let is_whole = match self.expected {
            Some(expected) => self.roots.len() == expected as usize,
            None => absent.is_empty(),
        };
        self.standing == Standing::Equal && is_whole && isolated.is_empty() && single.is_empty()
    }
}

pub(super) fn run(context: &Context, args: &Root) -> Result<Answer, Error> {
    let connection = context.connect()?;
    let all = connection.replicas()?;
    let replicas = context.choice().all(all.clone())?;
    let overview = overview(&replicas, &all);
    let storages = by_storage(replicas).into_iter();
    let compared = storages.map(|(group, replicas)| {
        let storage = overview.iter().find(|storage| storage.group == group);
        let missing = storage.map(Missing::of).unwrap_or_default();
        let compared = compare(&connection, group, &replicas)?;
        Ok(Compared {
            missing,
            expected: args.expect,
            ..compared
        })
    });
    let compared = compared.collect::<Result<Vec<_>, Error>>()?;
    let is_equal = compared.iter().all(Compared::is_equal);
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
    // One that is not replicated announces nothing, and is told of apart.
    let announcing = replicas
        .iter()
        .filter(|replica| replica.status.replication.is_some());
    let mut standing = Standing::Equal;
    let mut spans: BTreeMap<ReplicaId, Span> = BTreeMap::new();
    if is_replicated {
        let ids: Vec<ReplicaId> = announcing.map(|replica| replica.base.replica).collect();
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
        missing: Missing::default(),
        expected: None,
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
        "absent": compared.missing.absent,
        "isolated": compared.missing.isolated,
        "single": compared.missing.single,
        "expected": compared.expected,
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
    let (tone, mut verdict) = standing(compared);
    let Missing {
        absent,
        isolated,
        single,
    } = &compared.missing;
    for (what, replicas) in [
        ("absent", absent),
        ("ISOLATED", isolated),
        ("not replicated", single),
    ] {
        if !replicas.is_empty() {
            let names: Vec<String> = replicas.iter().map(|replica| short(replica)).collect();
            verdict.push_str(&format!("; {what}: {}", names.join(", ")));
        }
    }
    let count = compared.roots.len();
    if let Some(expected) = compared.expected.filter(|wanted| *wanted as usize != count) {
        verdict.push_str(&format!("; {count} answer, expected {expected}"));
    }
    match compared.is_equal() {
        true => (tone, verdict),
        false => (Tone::Warn, verdict),
    }
}

fn standing(compared: &Compared) -> (Tone, String) {
    let count = compared.roots.len();
    match (compared.standing, count) {
        (Standing::Equal, 1) if !compared.is_replicated => {
            (Tone::Plain, "one replica, not replicated".to_owned())
        }
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
            missing: Missing::default(),
            expected: None,
        }
    }

    #[test]
    fn who_is_missing_is_said_and_is_a_no() {
        let with = |expected, absent: usize, isolated: usize, single: usize| {
            let ids = |count: usize| (0..count).map(|n| format!("{n:032x}")).collect();
            let compared = Compared {
                missing: Missing {
                    absent: ids(absent),
                    isolated: ids(isolated),
                    single: ids(single),
                },
                expected,
                ..compared(Standing::Equal, 2)
            };
            (compared.is_equal(), verdict(&compared).1)
        };
        assert!(with(None, 0, 0, 0).0);
        let (is_equal, said) = with(None, 1, 0, 0);
        assert!(!is_equal && said.contains("absent: 00000000"), "{said}");
        let (is_equal, said) = with(None, 0, 1, 0);
        assert!(!is_equal && said.contains("ISOLATED: "), "{said}");
        let (is_equal, said) = with(None, 0, 0, 1);
        assert!(!is_equal && said.contains("not replicated: "), "{said}");
        // The number that is expected says whether the absent are missed.
        assert!(with(Some(2), 1, 0, 0).0);
        assert!(!with(Some(2), 0, 1, 0).0);
        let (is_equal, said) = with(Some(3), 0, 0, 0);
        assert!(!is_equal && said.contains("2 answer, expected 3"), "{said}");
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
