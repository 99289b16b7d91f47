//! What is written, and what is said of it elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{collection::btree_map, option, prelude::*, sample::select};
use serde_json::Value;

use super::{
    openmetrics::Writer,
    strict::{Family, read},
    *,
};
use crate::sync::Relation;

const GOLDEN: &str = include_str!("golden.txt");
const DASHBOARD: &str = include_str!("../../config/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../config/alerts.yml");
const SCRAPES: &str = include_str!("../../config/prometheus.yml");
const DOCS: &str = include_str!("../../docs/metrics.md");

/// A storage of which everything is known.
fn sample() -> StorageMetrics {
    let durations = |micros: &[u64]| {
        let histogram = Histogram::new();
        let durations = micros.iter().map(|micros| Duration::from_micros(*micros));
        durations.for_each(|duration| histogram.observe(duration));
        histogram.snapshot()
    };
    let peer = |is_present, relation, last_equal| PeerMetrics {
        is_present,
        relation,
        last_equal,
        clock_offset: last_equal.map(|_| -0.25),
        refused_cells: 3,
    };
    StorageMetrics {
        storage: "demo".to_owned(),
        replica: "0123456789abcdef0123456789abcdef".to_owned(),
        key_expr: "demo/**".to_owned(),
        group: "demo%2f%2a%2a".to_owned(),
        version: "0.1.0".to_owned(),
        root: [0x5a; 32],
        keys: 1000,
        cells: 1200,
        tombstones: 50,
        disk_bytes: 67_108_864,
        now: 1_700_000_000.5,
        cut: 1_700_000_000.0,
        queues: QueueMetrics {
            uncommitted: 3,
            uncommitted_bytes: 900,
            unsettled: 2,
        },
        is_failed: false,
        quarantined_cells: 1,
        operations: OperationMetrics {
            puts: 5000,
            deletes: 60,
            merged: 700,
            gets: 8000,
            outdated: 9,
            refused: 4,
            stamped_by_routers: 5,
            dropped: 6,
            commits: 100,
            committed_cells: 5700,
        },
        dropped: [8, 9, 10, 11],
        lifetimes: LifetimeMetrics {
            cells: 400,
            held: 2.5,
            expired: 320,
            dead: 8,
            ttl_without_lifetime: 3,
        },
        collection: CollectionMetrics {
            floor: 1_700_000_000.5,
            held: 3.5,
            tombstones: 91,
            rules: 2,
            refused_late: 12,
        },
        changes: ChangeMetrics {
            published: 70,
            dropped: 7,
        },
        put_durations: durations(&[1, 3, 3, 4, 20, 1500]),
        get_durations: durations(&[2, 30, 11_000_000]),
        replication: Some(ReplicationMetrics {
            peers: BTreeMap::from([
                ("a".repeat(32), peer(true, "equal", Some(1_699_999_990.25))),
                ("b".repeat(32), peer(true, "isolated", None)),
                ("c".repeat(32), peer(false, "behind", Some(1_699_990_000.0))),
            ]),
            pulls: PullMetrics {
                started: 12,
                completed: 10,
                failed: 2,
                deltas: 7,
                round_trips: 40,
                sent_bytes: 12_345,
                received_bytes: 234_567,
                cells: 720,
                useless_cells: 20,
            },
            served: ServedMetrics {
                digest_queries: 30,
                entries_queries: 11,
                sent_bytes: 345_678,
                damaged_cells: 1,
            },
            announcements: AnnouncementMetrics {
                sent: 300,
                received: 600,
            },
            rejected: RejectionMetrics {
                malformed: 1,
                key_expr: 2,
                digest: 3,
                clock: 4,
                too_large: 5,
                strategy: 6,
            },
        }),
        scrub: Some(ScrubMetrics {
            state: "running",
            progress: 0.25,
            checked_cells: 12_300,
            damaged_cells: 2,
            repaired_cells: 1,
            last_completed: Some(1_699_900_000.0),
        }),
    }
}

#[test]
fn all_of_it() {
    let text = sample().to_openmetrics();
    for (line, golden) in text.lines().zip(GOLDEN.lines()) {
        assert_eq!(line, golden);
    }
    assert_eq!(text.len(), GOLDEN.len());
    read(GOLDEN);
}

#[test]
fn what_there_is_not_is_left_out() {
    let text = StorageMetrics::default().to_openmetrics();
    let families = read(&text);
    let parts = [
        "_peer",
        "_pull",
        "_served",
        "_announcements",
        "_rejections",
        "_scrub",
    ];
    for family in families {
        assert!(
            !parts.iter().any(|part| family.name.contains(part)),
            "{}",
            family.name
        );
        let labels = &family.samples[0].labels;
        assert_eq!(
            (labels["storage"].as_str(), labels["replica"].as_str()),
            ("", "")
        );
    }
}

#[test]
fn relations_are_those_of_replication() {
    let relations = [
        Relation::Unknown,
        Relation::Equal,
        Relation::Behind,
        Relation::Divergent,
        Relation::Isolated,
    ];
    assert_eq!(relations.map(Relation::name), RELATIONS);
}

/// Zenoh takes an encoding apart; REST passes on what it puts together again.
#[cfg(feature = "plugin")]
#[test]
fn the_content_type_is_an_encoding() {
    let encoding = zenoh::bytes::Encoding::from(CONTENT_TYPE);
    assert_eq!(encoding.to_string(), CONTENT_TYPE);
    let known = zenoh::bytes::Encoding::APPLICATION_OPENMETRICS_TEXT;
    assert_eq!(encoding.id(), known.id());
}

fn peers() -> impl Strategy<Value = BTreeMap<String, PeerMetrics>> {
    let relation = prop_oneof![select(&RELATIONS[..]), Just("something else")];
    let seconds = || option::of(any::<f64>());
    let peer = (any::<bool>(), relation, seconds(), seconds(), any::<u64>());
    let peer = peer.prop_map(
        |(is_present, relation, last_equal, clock_offset, refused_cells)| PeerMetrics {
            is_present,
            relation,
            last_equal,
            clock_offset,
            refused_cells,
        },
    );
    btree_map(any::<String>(), peer, 0..5)
}

fn metrics() -> impl Strategy<Value = StorageMetrics> {
    let texts = (any::<String>(), any::<String>(), any::<String>());
    let numbers = (any::<u64>(), any::<f64>(), any::<f64>(), any::<[u8; 32]>());
    let replication = option::of(peers().prop_map(|peers| ReplicationMetrics {
        peers,
        ..ReplicationMetrics::default()
    }));
    let scrub = (
        select(&["off", "paused", "?"][..]),
        any::<f64>(),
        option::of(any::<f64>()),
    );
    let scrub = option::of(
        scrub.prop_map(|(state, progress, last_completed)| ScrubMetrics {
            state,
            progress,
            last_completed,
            ..ScrubMetrics::default()
        }),
    );
    let durations = prop::collection::vec(any::<u32>(), 0..20).prop_map(|nanos| {
        let histogram = Histogram::new();
        let durations = nanos
            .iter()
            .map(|nanos| Duration::from_nanos(u64::from(*nanos) * 10));
        durations.for_each(|duration| histogram.observe(duration));
        histogram.snapshot()
    });
    (texts, numbers, replication, scrub, durations).prop_map(
        |(texts, numbers, replication, scrub, put_durations)| StorageMetrics {
            storage: texts.0,
            replica: texts.1,
            key_expr: texts.2,
            keys: numbers.0,
            now: numbers.1,
            cut: numbers.2,
            root: numbers.3,
            replication,
            scrub,
            put_durations,
            ..StorageMetrics::default()
        },
    )
}

/// The families by their names.
fn by_name(families: Vec<Family>) -> BTreeMap<String, Family> {
    let families = families.into_iter();
    families
        .map(|family| (family.name.clone(), family))
        .collect()
}

proptest! {
    #[test]
    fn any_numbers_and_texts_are_written_correctly(metrics in metrics()) {
        let families = by_name(read(&metrics.to_openmetrics()));
        for sample in families.values().flat_map(|family| &family.samples) {
            prop_assert_eq!(&sample.labels["storage"], &metrics.storage);
            prop_assert_eq!(&sample.labels["replica"], &metrics.replica);
        }
        let only = |name: &str| &families[name].samples[0];
        prop_assert_eq!(&only("zenoh_mst_storage").labels["key_expr"], &metrics.key_expr);
        prop_assert_eq!(only("zenoh_mst_keys").value, metrics.keys as f64);
        let lag = only("zenoh_mst_cut_lag_seconds").value;
        prop_assert_eq!(lag.to_bits(), (metrics.now - metrics.cut).to_bits());
        let root = format!("{:013x}", only("zenoh_mst_root_number").value as u64);
        prop_assert_eq!(&root, &crate::hex::encode(&metrics.root)[..13]);
        let Some(replication) = metrics.replication else { return Ok(()) };
        let peers = &replication.peers;
        let present = peers.values().filter(|peer| peer.is_present).count();
        let samples = &families["zenoh_mst_peers"].samples;
        let total: f64 = samples.iter().map(|sample| sample.value).sum();
        prop_assert_eq!(total, present as f64);
        for sample in &families["zenoh_mst_peer_present"].samples {
            prop_assert_eq!(sample.value == 1.0, peers[&sample.labels["peer"]].is_present);
        }
    }

    #[test]
    fn texts_are_read_back(
        texts in prop::collection::vec("[a\\\\\"\n{},= \r\u{0}é]{0,8}", 2..4),
        common in any::<bool>(),
    ) {
        let labels: Vec<_> = ["a", "b", "c"].into_iter().zip(texts.iter().map(String::as_str)).collect();
        let (first, second) = labels.split_at(if common { 1 } else { 0 });
        let mut writer = Writer::new(first);
        let help = format!("Help: {}", texts.concat());
        writer.info("name", &help, second);
        let families = read(&writer.finish());
        prop_assert_eq!(&families[0].help, &help);
        let read_back: Vec<_> = families[0].samples[0].labels.values().collect();
        prop_assert_eq!(read_back, texts.iter().collect::<Vec<_>>());
    }
}

/// The names of metrics in a text, and what follows each.
fn names(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let all = text.match_indices("zenoh_mst_").map(|(start, _)| {
        let rest = &text[start..];
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
        rest.split_at(end)
    });
    // The prefix alone is no name.
    all.filter(|(name, _)| !name.ends_with('_'))
}

/// The values that each label has.
fn label_values(families: &[Family]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sample in families.iter().flat_map(|family| &family.samples) {
        for (label, value) in &sample.labels {
            values.entry(label).or_default().insert(value);
        }
    }
    values
}

/// Of labels whose values are fixed, those that a query asks for.
fn asked_values<'a>(query: &'a str, label: &str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for operator in ["=", "!=", "=~", "!~"] {
        let start = format!("{label}{operator}\"");
        for (place, _) in query.match_indices(&start) {
            let value = query[place + start.len()..].split('"').next();
            values.extend(value.unwrap_or_default().split('|'));
        }
    }
    values
}

#[test]
fn dashboard_and_alerts_ask_for_what_there_is() {
    let families = read(GOLDEN);
    let samples = families.iter().flat_map(|family| &family.samples);
    let known: BTreeSet<_> = samples.map(|sample| sample.name.as_str()).collect();
    let values = label_values(&families);
    for text in [DASHBOARD, ALERTS, SCRAPES] {
        for (name, _) in names(text) {
            assert!(known.contains(name), "{name} is not a series");
        }
        let text = text.replace("\\\"", "\"");
        for label in [
            "relation",
            "reason",
            "kind",
            "zenoh_mst_peer_relation",
            "zenoh_mst_scrub_state",
        ] {
            for value in asked_values(&text, label) {
                assert!(values[label].contains(value), "{label} is never {value}");
            }
        }
    }
    assert!(names(DASHBOARD).count() > 50 && names(ALERTS).count() > 10);
}

/// The panels of the dashboard, those of folded rows among them.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().unwrap();
    let inner = panels.iter().filter_map(|panel| panel["panels"].as_array());
    panels.iter().chain(inner.flatten()).collect()
}

#[test]
fn the_dashboard_is_in_order() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = panels(&dashboard);
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let grid = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for (x, y) in (0..grid("w")).flat_map(|x| (0..grid("h")).map(move |y| (x, y))) {
            let place = (grid("x") + x, grid("y") + y);
            assert!(
                place.0 < 24 && taken.insert(place),
                "{title} is over another"
            );
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            assert!(names(query).count() > 0, "{title}: {query}");
            for (name, rest) in names(query) {
                // The label of a state set has the name of the metric.
                let is_label = rest.starts_with(['=', '!', ')', ',', '}']);
                let is_filtered = rest.starts_with("{storage=~\"$storage\"");
                assert!(is_label || is_filtered, "{title}: {name}{rest}");
            }
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<_> = variables.iter().map(|variable| &variable["name"]).collect();
    assert_eq!(variables, ["datasource", "storage", "replica", "instance"]);
}

/// Name, type, unit and own labels of each metric in the tables of the docs.
fn documented() -> BTreeMap<&'static str, [&'static str; 3]> {
    let rows = DOCS
        .lines()
        .filter_map(|line| line.strip_prefix("| `zenoh_mst_"));
    let mut documented = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [name, kind, unit, labels, ..] = cells[..] else {
            panic!("{row} has too few cells")
        };
        let name = name.strip_suffix('`').unwrap();
        assert_eq!(
            documented.insert(name, [kind, unit, labels]),
            None,
            "{name}"
        );
    }
    documented
}

#[test]
fn all_metrics_are_documented() {
    let families = read(GOLDEN);
    let mut documented = documented();
    for family in &families {
        let name = match family.kind.as_str() {
            "counter" => format!("{}_total", family.name),
            "info" => format!("{}_info", family.name),
            _ => family.name.clone(),
        };
        let name = name.strip_prefix("zenoh_mst_").unwrap();
        let [kind, unit, labels] = documented.remove(name).expect(name);
        assert_eq!(kind, family.kind, "{name}");
        assert_eq!(unit, family.unit.as_deref().unwrap_or_default(), "{name}");
        let own = family.samples[0].labels.keys().map(String::as_str);
        let own = own.filter(|label| !["storage", "replica", "le", &family.name].contains(label));
        let own: BTreeSet<_> = own.map(|label| format!("`{label}`")).collect();
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        assert_eq!(
            labels.map(str::to_owned).collect::<BTreeSet<_>>(),
            own,
            "{name}"
        );
    }
    assert!(documented.is_empty(), "not metrics: {documented:?}");
    let known = families.iter().flat_map(|family| {
        let samples = family.samples.iter().map(|sample| sample.name.as_str());
        samples.chain([family.name.as_str()])
    });
    let known: BTreeSet<_> = known.collect();
    for (name, _) in names(DOCS) {
        assert!(known.contains(name), "{name} is no metric");
    }
}
