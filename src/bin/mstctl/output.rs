//! What is written to standard output: text for people, or JSON.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::HumanCount;
use serde_json::Value;
use zenoh::time::NTP64;

use crate::exit::Error;

/// Digits of an identity or a hash that tell it from others well enough.
const SHORT: usize = 8;

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether JSON is wanted.
    pub(crate) json: bool,
    color: bool,
}

impl Output {
    /// In colour where that is seen, and nobody has said not to.
    pub(crate) fn new(json: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json,
            color: !no_color && is_terminal(),
        }
    }

    /// Writes text and ends the line.
    pub(crate) fn text(self, text: impl AsRef<str>) -> Result<(), Error> {
        let text = text.as_ref();
        let mut bytes = text.as_bytes().to_vec();
        if !text.ends_with('\n') {
            bytes.push(b'\n');
        }
        write(&bytes)
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Error> {
        write(bytes)
    }

    /// Bytes that are no text are not for a terminal.
    pub(crate) fn refuse_terminal(self) -> Result<(), Error> {
        match is_terminal() {
            false => Ok(()),
            true => Err(Error::Usage(
                "standard output is a terminal, and this is not text: give a file in place of \
                 `-`, or a pipe"
                    .to_owned(),
            )),
        }
    }

    /// The one JSON document of a command.
    pub(crate) fn document(self, value: &Value) -> Result<(), Error> {
        self.text(format!("{value:#}"))
    }

    /// One of many: a line of JSON.
    pub(crate) fn line(self, value: &Value) -> Result<(), Error> {
        self.text(value.to_string())
    }

    /// One or the other, as is wanted.
    pub(crate) fn either(
        self,
        json: &Value,
        text: impl FnOnce(Self) -> String,
    ) -> Result<(), Error> {
        match self.json {
            true => self.document(json),
            false => self.text(text(self)),
        }
    }

    /// The text in a colour, if there are colours.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        match (self.color, tone.code()) {
            (true, Some(code)) => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(Error::Output)
}

/// For the user, beside the output.
pub(crate) fn note(text: &str) {
    // If that cannot be written, there is nowhere left to say so.
    let _ = writeln!(io::stderr(), "{text}");
}

/// What a colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Not as it should be, but it may pass.
    Warn,
    /// Wrong.
    Bad,
    /// A headline.
    Strong,
    /// Of less importance.
    Dim,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
            Self::Strong => Some("1"),
            Self::Dim => Some("2"),
        }
    }

    /// Of a relation between replicas, as the status calls it.
    pub(crate) fn of_relation(relation: &str) -> Self {
        match relation {
            "equal" => Self::Good,
            "isolated" => Self::Bad,
            "divergent" => Self::Warn,
            _ => Self::Plain,
        }
    }
}

/// On which side a column is even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A field of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    text: String,
    tone: Tone,
}

impl Field {
    /// A text in a tone.
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        let text = text.into();
        Self { text, tone }
    }
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Rows in columns that are as wide as they have to be.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Field>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, a field for each column.
    pub(crate) fn row(&mut self, fields: impl IntoIterator<Item = Field>) {
        self.rows.push(fields.into_iter().collect());
    }

    /// The lines, without the end of the last one.
    pub(crate) fn render(&self, output: Output) -> String {
        let width = |place: usize| {
            let fields = self.rows.iter().filter_map(|row| row.get(place));
            let widths = fields.map(|field| field.text.chars().count());
            let head = self.columns.get(place).map_or(0, |(head, _)| head.len());
            widths.fold(head, usize::max)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let heads = self.columns.iter();
        let heads: Vec<Field> = heads
            .map(|(head, _)| Field::new(*head, Tone::Dim))
            .collect();
        let rows = std::iter::once(&heads).chain(&self.rows);
        let lines: Vec<String> = rows.map(|row| self.line(row, &widths, output)).collect();
        lines.join("\n")
    }

    fn line(&self, row: &[Field], widths: &[usize], output: Output) -> String {
        let mut line = String::new();
        // Spaces are written when something comes after them.
        let mut owed = 0;
        let columns = self.columns.iter().zip(widths).zip(row).enumerate();
        for (place, (((_, align), width), field)) in columns {
            let pad = width.saturating_sub(field.text.chars().count());
            owed += if place > 0 { 2 } else { 0 };
            if *align == Align::Right {
                owed += pad;
            }
            if !field.text.is_empty() {
                line.extend(std::iter::repeat_n(' ', owed));
                owed = 0;
                line.push_str(&output.paint(field.tone, &field.text));
            }
            if *align == Align::Left {
                owed += pad;
            }
        }
        line
    }
}

/// So many of something: what one is called, and several.
pub(crate) fn counted(number: u64, one: &str, several: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {several}", HumanCount(number)),
    }
}

/// The beginning of an identity or of a hash.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(SHORT).collect()
}

/// Text of others, such as keys, that cannot command the terminal.
pub(crate) fn safe(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    });
    escaped.collect()
}

/// As [`safe`], but lines and tabs stay.
pub(crate) fn safe_lines(text: &str) -> String {
    let lines = text.split('\n');
    let lines = lines.map(|line| line.split('\t').map(safe).collect::<Vec<_>>().join("\t"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A time, NTP64, in UTC.
pub(crate) fn time(ntp64: u64) -> String {
    NTP64(ntp64).to_string_rfc3339_lossy()
}

/// A JSON value of unknown form, in one line: fields with their names, lists with
/// commas, text without quotes.
pub(crate) fn plain(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => safe(text),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => list(items.iter().map(plain).collect()),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let fields = fields
                .map(|(name, value)| format!("{} {}", safe(&name.replace('_', " ")), plain(value)));
            list(fields.collect())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: Output = Output {
        json: false,
        color: false,
    };
    const COLOR: Output = Output {
        json: false,
        color: true,
    };

    fn table() -> Table {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("CELLS", Align::Right),
            ("STATE", Align::Left),
        ]);
        table.row(["a".into(), "7".into(), Field::new("equal", Tone::Good)]);
        table.row(["a name".into(), "1,234,567".into(), "é".into()]);
        table.row(["b".into(), "1".into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_even_and_lines_have_no_tails() {
        let expected = "\
NAME        CELLS  STATE
a               7  equal
a name  1,234,567  é
b               1";
        assert_eq!(table().render(PLAIN), expected);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let text = table().render(COLOR);
        assert!(text.contains("7  \x1b[32mequal\x1b[0m\n"), "{text:?}");
    }

    #[test]
    fn an_empty_table_has_its_heads() {
        let table = Table::new(&[("A", Align::Left), ("B", Align::Right)]);
        assert_eq!(table.render(PLAIN), "A  B");
    }

    #[test]
    fn text_of_others_commands_no_terminal() {
        assert_eq!(safe("a\x1b[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(safe_lines("a\tb\n\x1bc"), "a\tb\n\\u{1b}c");
        assert_eq!(safe("é/ü"), "é/ü");
    }

    #[test]
    fn unknown_json_is_readable() {
        let value = json!({ "state": "idle", "at": null, "next_run": [1, true], "of": {} });
        assert_eq!(plain(&value), "next run 1, true, of , state idle");
        assert_eq!(plain(&json!([])), "none");
    }

    #[test]
    fn one_is_not_several() {
        let told = [0, 1, 1234].map(|number| counted(number, "key", "keys"));
        assert_eq!(told, ["0 keys", "1 key", "1,234 keys"]);
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(short("0123456789abcdef"), "01234567");
    }
}
