//! JSON as it comes from other programs: text with lone surrogate escapes is read, values are written in the one
//! form that completions use, hashes are over canonical text. Which fields a row must have is decided in `sample`.

use serde::Serialize;
use serde_json::{Value, ser::Formatter};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::io;

/// Parses one JSON value. Escapes of lone surrogates (`"\ud800"`), which other languages write and Rust strings cannot
/// hold, become U+FFFD; pairs (`"\ud83d\ude00"`) become the character they stand for.
///
/// # Errors
/// When the text is not exactly one JSON value; the message has line and column.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(&replace_lone_surrogates(text))
}

/// Replaces every `\uD8xx`–`\uDFxx` escape that is not part of a pair by `\uFFFD`; all other text stays as it is.
pub fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match unit(bytes, at) {
            Some(0xD800..=0xDBFF) if matches!(unit(bytes, at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => {
                out.push_str(&text[copied..at]);
                out.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            // A backslash takes the next character with it, so that `\\ud800` is not read as an escape.
            None => at += 2,
        }
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The UTF-16 unit of the escape `\uXXXX` at `at`, if there is one.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    if !escape.starts_with(b"\\u") || !escape[2..].iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(&escape[2..]).ok()?, 16).ok()
}

/// One line of JSON with `", "` and `": "` between the parts, characters unescaped and fields in the order of the data:
/// the form most training data has, because Python's `json` writes it (`ensure_ascii=False`).
pub fn spaced(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
    // A `Value` has string keys and the sink is memory, so nothing here can fail.
    value.serialize(&mut serializer).expect("a JSON value can always be written to memory");
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `value` with the keys of every object sorted, so that equal content has equal text.
pub fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(pairs.into_iter().map(|(key, inner)| (key.clone(), canonical(inner))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

/// sha256 of the canonical text of `value`, 64 lower-case hexadecimal digits.
pub fn fingerprint(value: &Value) -> String {
    hex(&Sha256::digest(canonical(value).to_string().as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lone_surrogates_become_replacement_characters_and_pairs_stay() {
        for (line, expected) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""\uDC00x""#, "\u{fffd}x"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\\ud800""#, "\\ud800"),
            (r#""\\\ud800""#, "\\\u{fffd}"),
            (r#""é\ud800é""#, "é\u{fffd}é"),
            (r#""\u0000""#, "\0"),
        ] {
            assert_eq!(parse(line).expect(line), Value::String(expected.into()), "{line}");
        }
        assert!(parse(r#""\ud80""#).is_err());
        assert!(parse(r#""\ud800"#).is_err());
    }

    #[test]
    fn spaced_keeps_field_order_and_characters() {
        let value = json!({"b": [1, "é\n\"", null, {}], "a": {"x": 1.5, "y": []}});
        assert_eq!(spaced(&value), r#"{"b": [1, "é\n\"", null, {}], "a": {"x": 1.5, "y": []}}"#);
    }

    #[test]
    fn the_fingerprint_ignores_key_order_and_sees_content() {
        let (a, b) = (json!({"x": 1, "y": [1, 2]}), json!({"y": [1, 2], "x": 1}));
        assert_eq!(fingerprint(&a), fingerprint(&b));
        assert_ne!(fingerprint(&a), fingerprint(&json!({"x": 1, "y": [2, 1]})));
        assert_eq!(fingerprint(&a).len(), 64);
    }
}
