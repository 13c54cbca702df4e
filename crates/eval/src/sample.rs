//! Rows of a data file: JSON Lines → [`Sample`]s, with file and line for everything that is wrong. Which split a row
//! belongs to, and that splits do not overlap, is decided in `split`.

use crate::check::shorten;
use crate::{Error, Kind, Result, json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;

/// One row of a task: what is asked and what a right answer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Unique within its file. Rows without an `id` are named after their line: `line-12`.
    pub id: String,
    /// What the templates read as `input`; a string in most tasks.
    pub input: Value,
    /// The right answer; a string or any other JSON value, never null.
    pub expected: Value,
    /// The row's `meta` object and every other field of the row.
    pub meta: Map<String, Value>,
    /// Line in its file, from 1.
    pub line: usize,
}

impl Sample {
    /// The input as text: a string as it is, anything else as one line of JSON.
    pub fn input_text(&self) -> String {
        text_of(&self.input)
    }

    /// The expected answer as text: a string as it is, anything else as one line of JSON with `", "` and `": "`.
    pub fn expected_text(&self) -> String {
        text_of(&self.expected)
    }
}

/// A string as it is, anything else as one line of JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => json::spaced(other),
    }
}

/// The rows of one file, and what was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadRows {
    /// The good rows in file order.
    pub samples: Vec<Sample>,
    /// What was wrong with each row that was left out under `skip_bad_rows`, in file order.
    pub skipped: Vec<Error>,
}

/// Reads a JSON Lines file. Blank lines, a byte order mark and CRLF line ends are accepted; rows without an `id` are
/// named after their line. With `skip_bad_rows` a row that cannot be used is left out and listed instead of an error.
///
/// # Errors
/// When the file cannot be read; at the first line that is not UTF-8, not a JSON object, lacks `input` or `expected`
/// or repeats an id (unless skipped); when no row is left.
pub fn read_jsonl(path: &Path, skip_bad_rows: bool) -> Result<ReadRows> {
    let bytes = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Kind::Data, "the data file does not exist").at(path.display().to_string())
        }
        std::io::ErrorKind::IsADirectory => Error::new(Kind::Data, "cannot read the data file")
            .expected("a file of JSON Lines")
            .found("a folder")
            .at(path.display().to_string()),
        _ => Error::io("cannot read the data file", path, &source),
    })?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut rows = ReadRows::default();
    let mut first_line_of_id: HashMap<String, usize> = HashMap::new();
    for (index, raw) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        if raw.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = format!("{}:{}", path.display(), index + 1);
        let row = parse_row(raw, index + 1).and_then(|sample| match first_line_of_id.get(&sample.id) {
            None => Ok(sample),
            Some(first) => Err(Error::new(Kind::Data, format!("the id `{}` occurs twice", sample.id))
                .expected("an id of its own for every row")
                .found(format!("the same id on line {first}"))),
        });
        match row {
            Ok(sample) => {
                first_line_of_id.insert(sample.id.clone(), sample.line);
                rows.samples.push(sample);
            }
            Err(error) if skip_bad_rows => rows.skipped.push(error.at(place)),
            Err(error) => {
                return Err(error.at(place).hint(
                    "mend the row, or leave such rows out and have them counted with --skip-bad-rows",
                ));
            }
        }
    }
    if rows.samples.is_empty() {
        let found = match rows.skipped.len() {
            0 => "an empty file".to_string(),
            skipped => format!("{skipped} rows, none of which can be used"),
        };
        return Err(Error::new(Kind::Data, "the split has no samples")
            .expected("at least one row")
            .found(found)
            .at(path.display().to_string()));
    }
    Ok(rows)
}

/// Characters of a line that is no object which a message shows.
const SHOWN: usize = 60;

fn parse_row(raw: &[u8], line: usize) -> Result<Sample> {
    let text = std::str::from_utf8(raw)
        .map_err(|error| Error::new(Kind::Data, "the row is not UTF-8 text").found(error.to_string()))?;
    let value = json::parse(text).map_err(|error| {
        let found = match text.trim_start().starts_with('{') {
            true => without_line(&error),
            // A table or a list over several lines: what its first line says helps more than what the parser missed.
            false => format!("`{}`", shorten(text.trim(), SHOWN)),
        };
        Error::new(Kind::Data, "the row is broken")
            .expected("one JSON object a line, such as {\"input\": \"…\", \"expected\": \"…\"}")
            .found(found)
    })?;
    let Value::Object(mut fields) = value else {
        return Err(Error::new(Kind::Data, "the row is not an object")
            .expected("an object with `input` and `expected`")
            .found(kind_of(&value)));
    };
    let input = take(&mut fields, "input")?;
    let expected = take(&mut fields, "expected")?;
    let id = match fields.shift_remove("id") {
        None | Some(Value::Null) => format!("line-{line}"),
        Some(Value::String(id)) if !id.is_empty() => id,
        Some(Value::Number(id)) => id.to_string(),
        Some(other) => {
            return Err(Error::new(Kind::Data, "the field `id` cannot be used")
                .expected("a string that is not empty, or a number")
                .found(kind_of(&other)));
        }
    };
    let mut meta = match fields.shift_remove("meta") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(meta)) => meta,
        Some(other) => {
            return Err(Error::new(Kind::Data, "the field `meta` cannot be used")
                .expected("an object")
                .found(kind_of(&other)));
        }
    };
    for (name, value) in fields {
        meta.entry(name).or_insert(value);
    }
    Ok(Sample { id, input, expected, meta, line })
}

fn take(fields: &mut Map<String, Value>, name: &str) -> Result<Value> {
    match fields.shift_remove(name) {
        Some(Value::Null) => {
            Err(Error::new(Kind::Data, format!("the field `{name}` is null")).expected("a value"))
        }
        Some(value) => Ok(value),
        None => {
            let names: Vec<_> = fields.keys().take(12).map(|key| format!("`{key}`")).collect();
            let found = if names.is_empty() { "no other fields".into() } else { names.join(", ") };
            Err(Error::new(Kind::Data, format!("the field `{name}` is missing"))
                .expected("`input` and `expected`")
                .found(found))
        }
    }
}

/// serde_json counts lines within the row; the place of the error already has the line of the file.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

/// What a JSON value is, in words for messages.
pub(crate) fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "true or false".into(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.is_empty() => "an empty string".into(),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
