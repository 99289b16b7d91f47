//! A strict reader of the text format, for tests: what it takes is correct by
//! OpenMetrics 1.0, and by what Prometheus makes of it.

use std::collections::{BTreeMap, BTreeSet};

pub(super) type Labels = BTreeMap<String, String>;

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) value: f64,
}

#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) unit: Option<String>,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

/// All families, in their order; panics at the first mistake.
#[track_caller]
pub(super) fn read(text: &str) -> Vec<Family> {
    let body = text.strip_suffix("# EOF\n").expect("the end is missing");
    let mut families: Vec<Family> = Vec::new();
    for line in body.split_inclusive('\n') {
        let line = line.strip_suffix('\n').expect("a line does not end");
        match line.strip_prefix("# ") {
            Some(metadata) => read_metadata(metadata, &mut families),
            None => {
                let family = families.last_mut().expect("a sample without a type");
                family.samples.push(read_sample(line));
            }
        }
    }
    families.iter().for_each(check_family);
    check_names(&families);
    families
}

fn read_metadata(line: &str, families: &mut Vec<Family>) {
    let (keyword, rest) = line.split_once(' ').expect("metadata of nothing");
    let (name, text) = rest.split_once(' ').expect("metadata without a text");
    if keyword == "TYPE" {
        families.push(Family {
            name: name.to_owned(),
            kind: text.to_owned(),
            unit: None,
            help: String::new(),
            samples: Vec::new(),
        });
        return;
    }
    let family = families.last_mut().expect("metadata before the type");
    assert_eq!(family.name, name, "metadata of another family: {line}");
    assert!(
        family.samples.is_empty() && family.help.is_empty(),
        "{line}"
    );
    match keyword {
        "UNIT" => assert_eq!(family.unit.replace(text.to_owned()), None, "{line}"),
        "HELP" => family.help = unescape(text),
        _ => panic!("not in the format: {line}"),
    }
}

fn is_name(text: &str) -> bool {
    let is_first = |char: char| char.is_ascii_alphabetic();
    let is_next = |char: char| char.is_ascii_alphanumeric() || char == '_';
    text.starts_with(is_first) && text.chars().all(is_next)
}

/// The text of which this is the escaped form; the three escapes, and no others.
pub(super) fn unescape(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::new();
    while let Some(char) = chars.next() {
        assert!(char != '"' && char != '\n', "not escaped: {text}");
        out.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(char @ ('\\' | '"')) => char,
                escaped => panic!("{escaped:?} is not to be escaped: {text}"),
            },
            char => char,
        });
    }
    out
}

/// Where the value ends that `text` begins with, which was opened by a quote.
fn closing_quote(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().find(|(_, char)| {
        let is_end = *char == '"' && !is_escaped;
        is_escaped = *char == '\\' && !is_escaped;
        is_end
    });
    end.expect("a value does not end").0
}

fn read_sample(line: &str) -> Sample {
    let (name, mut rest) = line.split_once('{').expect("no labels");
    let mut labels = Labels::new();
    while !rest.starts_with('}') {
        let (label, value) = rest.split_once("=\"").expect("not a label");
        assert!(is_name(label), "not a name of a label: {line}");
        let (value, after) = value.split_at(closing_quote(value));
        let previous = labels.insert(label.to_owned(), unescape(value));
        assert_eq!(previous, None, "a label comes twice: {line}");
        rest = &after[1..];
        if let Some(next) = rest.strip_prefix(',') {
            assert!(!next.starts_with('}'), "a comma too much: {line}");
            rest = next;
        }
    }
    let value = rest.strip_prefix("} ").expect("no space before the value");
    Sample {
        name: name.to_owned(),
        labels,
        value: read_number(value),
    }
}

fn read_number(text: &str) -> f64 {
    let is_numeric = |char: char| char.is_ascii_digit() || "+-.e".contains(char);
    let is_known = ["+Inf", "-Inf", "NaN"].contains(&text);
    assert!(is_known || text.chars().all(is_numeric), "{text}");
    text.parse().expect("not a number")
}

/// The suffixes of the samples of a family.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_count", "_sum"],
        "gauge" | "stateset" => &[""],
        _ => panic!("not a type: {kind}"),
    }
}

fn check_family(family: &Family) {
    let Family { name, kind, .. } = family;
    assert!(is_name(name), "not a name: {name}");
    assert!(!family.help.is_empty(), "no help for {name}");
    if let Some(unit) = &family.unit {
        assert!(name.ends_with(&format!("_{unit}")), "{name} is of {unit}");
        assert!(!["info", "stateset"].contains(&kind.as_str()), "{name}");
    }
    let is_unit = |unit: &str| family.unit.as_deref() == Some(unit);
    for unit in ["seconds", "bytes", "ratio"] {
        assert_eq!(name.ends_with(&format!("_{unit}")), is_unit(unit), "{name}");
    }
    let mut series = BTreeSet::new();
    for sample in &family.samples {
        let suffix = sample.name.strip_prefix(name.as_str());
        assert!(
            suffix.is_some_and(|suffix| suffixes(kind).contains(&suffix)),
            "{} in the family {name}, {kind}",
            sample.name
        );
        assert!(
            series.insert((&sample.name, &sample.labels)),
            "{sample:?} comes twice"
        );
        let is_count = sample.value >= 0.0 && sample.value.fract() == 0.0;
        match kind.as_str() {
            "counter" => assert!(is_count, "{sample:?}"),
            "info" => assert!(sample.value == 1.0, "{sample:?}"),
            _ => {}
        }
    }
    match kind.as_str() {
        "stateset" => check_states(family),
        "histogram" => check_histogram(family),
        _ => {}
    }
}

/// The samples by their labels but for one, those of one metric together.
fn metrics<'a>(family: &'a Family, label: &str) -> Vec<(Labels, Vec<&'a Sample>)> {
    let mut metrics: Vec<(Labels, Vec<&Sample>)> = Vec::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.remove(label);
        match metrics.last_mut() {
            Some((last, samples)) if *last == labels => samples.push(sample),
            _ => metrics.push((labels, vec![sample])),
        }
    }
    let distinct: BTreeSet<_> = metrics.iter().map(|(labels, _)| labels).collect();
    assert_eq!(
        distinct.len(),
        metrics.len(),
        "{} is interleaved",
        family.name
    );
    metrics
}

fn check_states(family: &Family) {
    let mut all_states = BTreeSet::new();
    for (labels, samples) in metrics(family, &family.name) {
        let states: Vec<_> = samples
            .iter()
            .map(|sample| &sample.labels[&family.name])
            .collect();
        all_states.insert(states);
        let is_true = |sample: &&&Sample| {
            assert!([0.0, 1.0].contains(&sample.value), "{sample:?}");
            sample.value == 1.0
        };
        assert_eq!(samples.iter().filter(is_true).count(), 1, "{labels:?}");
    }
    assert!(all_states.len() <= 1, "{} has not all states", family.name);
}

fn check_histogram(family: &Family) {
    for (labels, samples) in metrics(family, "le") {
        let (rest, buckets): (Vec<&Sample>, Vec<&Sample>) = samples
            .into_iter()
            .partition(|sample| !sample.labels.contains_key("le"));
        let bounds: Vec<_> = buckets.iter().map(|bucket| &bucket.labels["le"]).collect();
        assert_eq!(
            bounds.last().map(|bound| bound.as_str()),
            Some("+Inf"),
            "{labels:?}"
        );
        let bounds: Vec<_> = bounds.iter().map(|bound| read_number(bound)).collect();
        assert!(
            bounds.windows(2).all(|pair| pair[0] < pair[1]),
            "{bounds:?}"
        );
        let is_ascending = |pair: &[&Sample]| pair[0].value <= pair[1].value;
        assert!(buckets.windows(2).all(is_ascending), "{buckets:?}");
        let [count, sum] = rest[..] else {
            panic!("{} has a sum and a count", family.name)
        };
        assert!(count.name.ends_with("_count") && sum.name.ends_with("_sum"));
        assert!(buckets.last().is_some_and(|last| last.value == count.value));
        assert!(sum.value >= 0.0);
    }
}

/// Also by the names that their samples may have, families do not meet.
fn check_names(families: &[Family]) {
    let mut names = BTreeSet::new();
    for family in families {
        let suffixes = [
            "", "_total", "_created", "_info", "_bucket", "_count", "_sum",
        ];
        let possible = match family.kind.as_str() {
            "gauge" | "stateset" => &suffixes[..1],
            _ => &suffixes[..],
        };
        for suffix in possible {
            let name = format!("{}{suffix}", family.name);
            assert!(names.insert(name.clone()), "{name} is two things");
        }
    }
}

#[test]
fn what_is_wrong_is_found() {
    let good = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds b\n\
                a_seconds_total{c=\"d\\\\\\\"\\n\"} 1\n# EOF\n";
    let families = read(good);
    assert_eq!(families[0].samples[0].labels["c"], "d\\\"\n");
    let again = good.replace("# EOF\n", "") + good;
    let twice = good.replace("# EOF", "a_seconds_total{c=\"d\\\\\\\"\\n\"} 1\n# EOF");
    let wrong = [
        good.replace("# EOF\n", ""),
        good.replace("# EOF", "#EOF"),
        good.replace("_total", ""),
        good.replace(" 1\n", " -1\n"),
        good.replace(" 1\n", " inf\n"),
        good.replace(" 1\n", " \n"),
        good.replace("} 1", "}1"),
        good.replace("\"}", "\",}"),
        good.replace("\\n", "\\t"),
        good.replace("\\\"", "\""),
        good.replace("# UNIT a_seconds seconds\n", ""),
        good.replace("a_seconds seconds", "a_seconds bytes"),
        good.replace("HELP", "HINT"),
        good.replace("counter", "summary"),
        again,
        twice,
    ];
    for text in wrong {
        let result = std::panic::catch_unwind(|| read(&text));
        assert!(result.is_err(), "{text}");
    }
}
