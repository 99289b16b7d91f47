//! The text format of OpenMetrics 1.0.
//!
//! One call writes a family, with its metadata and all of its series. So no family comes
//! twice, or is torn apart, as long as no two calls use one name; a test reads the text
//! with a strict parser.

use std::fmt::Write as _;

use super::histogram::Snapshot;

/// The content type: the encoding of a reply, which Zenoh's REST plugin passes on as
/// `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The units. The name of a family ends in that of its unit.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// The value of a series.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<bool> for Number {
    fn from(is_true: bool) -> Self {
        Self::Whole(is_true.into())
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// Writes the value of a label, or a help text.
fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            char => out.push(char),
        }
    }
}

/// Writes labels, separated by commas, after existing ones: these end in a quote, and
/// nothing else does.
fn write_labels(labels: &[(&str, &str)], out: &mut String) {
    for (name, value) in labels {
        if out.ends_with('"') {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape(value, out);
        out.push('"');
    }
}

/// The index of `current` among `states`; 0 if it is none of them, since one has to hold.
pub(super) fn place(states: &[&str], current: &str) -> usize {
    let mut states = states.iter();
    states.position(|state| *state == current).unwrap_or(0)
}

/// Writes families one after the other.
pub(super) struct Writer {
    text: String,
    /// The labels of every series, as text.
    common: String,
}

impl Writer {
    /// A writer that gives all series these labels.
    pub(super) fn new(common: &[(&str, &str)]) -> Self {
        let mut labels = String::new();
        write_labels(common, &mut labels);
        Self {
            text: String::new(),
            common: labels,
        }
    }

    /// Constant texts; the series is named `NAME_info`.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, "info", help);
        self.sample(name, "_info", labels, true);
    }

    /// A gauge: a number that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.family(name, "gauge", help);
        self.sample(name, "", &[], value);
    }

    /// One such number for each value of a label.
    pub(super) fn gauges<'a, N: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        series: impl IntoIterator<Item = (&'a str, N)>,
    ) {
        self.family(name, "gauge", help);
        for (text, value) in series {
            self.sample(name, "", &[(label, text)], value);
        }
    }

    /// A counter: a number that only grows; the series is named `NAME_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, "_total", &[], value);
    }

    /// One such number for each value of a label.
    pub(super) fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        series: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.family(name, "counter", help);
        for (text, value) in series {
            self.sample(name, "_total", &[(label, text)], value);
        }
    }

    /// A histogram of durations.
    pub(super) fn histogram(&mut self, name: &str, help: &str, snapshot: &Snapshot) {
        self.family(name, "histogram", help);
        for (bound, count) in snapshot.cumulative() {
            self.sample(name, "_bucket", &[("le", bound)], count);
        }
        self.sample(name, "_count", &[], snapshot.count());
        self.sample(name, "_sum", &[], snapshot.sum().as_secs_f64());
    }

    /// A state set: exactly one of `states` holds, see [`place`].
    pub(super) fn state(&mut self, name: &str, help: &str, states: &[&str], current: &str) {
        self.family(name, "stateset", help);
        self.states(name, &[], states, current);
    }

    /// The same for each value of a label.
    pub(super) fn states_of<'a>(
        &mut self,
        name: &str,
        help: &str,
        states: &[&str],
        label: &str,
        series: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        self.family(name, "stateset", help);
        for (text, current) in series {
            self.states(name, &[(label, text)], states, current);
        }
    }

    /// The text.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }

    fn states(&mut self, name: &str, labels: &[(&str, &str)], states: &[&str], current: &str) {
        let current = place(states, current);
        for (place, state) in states.iter().enumerate() {
            // The format demands a label with the name of the family.
            let labels = [labels, &[(name, state)]].concat();
            self.sample(name, "", &labels, place == current);
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        let unit = name.rsplit('_').next().unwrap_or_default();
        if UNITS.contains(&unit) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = write!(self.text, "# HELP {name} ");
        escape(help, &mut self.text);
        self.text.push('\n');
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl Into<Number>,
    ) {
        let text = &mut self.text;
        text.push_str(name);
        text.push_str(suffix);
        text.push('{');
        text.push_str(&self.common);
        write_labels(labels, text);
        text.push_str("} ");
        let _ = match value.into() {
            Number::Whole(number) => write!(text, "{number}"),
            // "inf" alone is not in the format.
            Number::Real(number) if number.is_infinite() => {
                write!(text, "{}Inf", if number > 0.0 { '+' } else { '-' })
            }
            // With a point or an exponent, as the format demands of real numbers.
            Number::Real(number) => write!(text, "{number:?}"),
        };
        text.push('\n');
    }
}
