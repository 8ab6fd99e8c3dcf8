//! How answers are shown: as a table for people, or whole as JSON or YAML for programs.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::Failure;

/// A form of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns, the most telling fields
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// A column: its head, and the path of its field in a row, with dots between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column(pub(super) &'static str, pub(super) &'static str);

/// Writes answers.
pub(super) struct Printer {
    pub(super) format: Format,
    out: Box<dyn Write>,
}

impl Printer {
    pub(super) fn new(format: Format) -> Self {
        Self { format, out: Box::new(io::stdout()) }
    }

    /// Shows rows, each an object.
    pub(super) fn rows(&mut self, rows: &Value, columns: &[Column]) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => table(rows, columns),
            Format::Json | Format::Yaml => return self.whole(rows),
        };
        self.text(&text)
    }

    /// Shows one object, a line per field.
    pub(super) fn record(&mut self, record: &Value) -> Result<(), Failure> {
        if self.format != Format::Table {
            return self.whole(record);
        }
        let mut text = String::new();
        outline(record, 0, &mut text);
        self.text(&text)
    }

    /// Says that something was done; programs are told by the exit code.
    pub(super) fn done(&mut self, what: &str) -> Result<(), Failure> {
        if self.format == Format::Table { self.text(what) } else { Ok(()) }
    }

    /// Shows a text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{}", text.trim_end_matches('\n')).map_err(|error| gone(&error))
    }

    /// Shows bytes as they are, and a line's end.
    pub(super) fn line(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.out.write_all(bytes).and_then(|()| self.out.write_all(b"\n"));
        written.and_then(|()| self.out.flush()).map_err(|error| gone(&error))
    }

    fn whole(&mut self, value: &Value) -> Result<(), Failure> {
        let text = match self.format {
            Format::Yaml => serde_norway::to_string(value).map_err(|error| error.to_string()),
            Format::Json | Format::Table => {
                serde_json::to_string_pretty(value).map_err(|error| error.to_string())
            }
        };
        let hint = "report it as a defect of braid";
        self.text(&text.map_err(|error| Failure::new(error, hint))?)
    }
}

/// How far some long work is. Shown to people only.
pub(super) fn progress(what: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{pos}} {what}, {{per_sec}}"));
    let progress = ProgressBar::no_length();
    match style {
        Ok(style) => progress.with_style(style),
        Err(_) => progress,
    }
}

fn gone(error: &io::Error) -> Failure {
    Failure::new(format!("cannot write the answer: {error}"), "is the reader of the pipe gone?")
}

/// Tells an error on standard error. Nothing can be told when even that is gone.
pub(super) fn complain(message: &str, hint: &str) {
    let mut out = io::stderr().lock();
    let _told = writeln!(out, "error: {message}").and_then(|()| writeln!(out, "hint: {hint}"));
}

fn table(rows: &Value, columns: &[Column]) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let cells: Vec<Vec<String>> = std::iter::once(columns.iter().map(|c| c.0.to_owned()).collect())
        .chain(rows.iter().map(|row| columns.iter().map(|c| cell(at(row, c.1))).collect()))
        .collect();
    let width = |column: usize| {
        let widths = cells.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &cells {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn at<'a>(row: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(row, |value, field| value.get(field).unwrap_or(&Value::Null))
}

/// A value on one line, without what would move a terminal's cursor.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

fn outline(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let mut field = |name: &str, value: &Value| match value {
        Value::Object(_) | Value::Array(_) => {
            text.push_str(&format!("{indent}{name}:\n"));
            outline(value, depth + 1, text);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&format!("{indent}{name}: {}\n", cell(value)));
        }
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| field(name, value)),
        Value::Array(items) => items.iter().for_each(|item| field("-", item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&format!("{indent}{}\n", cell(value)));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    /// What a printer of a test wrote.
    #[derive(Clone, Default)]
    pub(in super::super) struct Said(Arc<Mutex<Vec<u8>>>);

    impl Said {
        pub(in super::super) fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Printer {
        pub(in super::super) fn into_memory() -> (Self, Said) {
            let said = Said::default();
            (Self { format: Format::Table, out: Box::new(said.clone()) }, said)
        }
    }

    #[test]
    fn a_table_shows_what_is_missing_and_escapes_what_moves_the_cursor() {
        let rows = json!([{"a": {"b": 1}, "c": "x\u{1b}[2J"}, {"c": [1, 2]}]);
        let (mut printer, said) = Printer::into_memory();
        printer.rows(&rows, &[Column("A", "a.b"), Column("C", "c")]).unwrap();
        assert_eq!(said.take(), "A  C\n1  x\\u{1b}[2J\n-  [1,2]\n");
    }

    #[test]
    fn json_and_yaml_are_the_answer_itself() {
        let record = json!({"a": [1, {"b": "x"}]});
        for format in [Format::Json, Format::Yaml] {
            let (mut printer, said) = Printer::into_memory();
            printer.format = format;
            printer.record(&record).unwrap();
            let read: Value = serde_norway::from_str(&said.take()).unwrap();
            assert_eq!(read, record, "{format:?}");
        }
    }

    #[test]
    fn a_record_is_an_outline() {
        let (mut printer, said) = Printer::into_memory();
        printer.record(&json!({"a": 1, "list": [{"b": "x"}, 2]})).unwrap();
        assert_eq!(said.take(), "a: 1\nlist:\n  -:\n    b: x\n  -: 2\n");
    }
}
