//! Hostile data files: every accepted oddity and every refusal, with its line.

use super::*;
use proptest::prelude::*;

fn read(bytes: &[u8], skip: bool) -> Result<ReadRows> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, bytes).unwrap();
    read_jsonl(&path, skip)
}

fn samples(text: &str) -> Vec<Sample> {
    read(text.as_bytes(), false).unwrap().samples
}

#[test]
fn rows_with_bom_crlf_blank_lines_and_no_end_of_line_are_read() {
    let rows = samples(
        "\u{feff}{\"input\":\"a\",\"expected\":\"b\"}\r\n\r\n  \n{\"input\":\"c\",\"expected\":{\"k\":1}}",
    );
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].id.as_str(), rows[1].id.as_str()), ("line-1", "line-4"));
    assert_eq!(rows[1].expected_text(), "{\"k\": 1}");
}

#[test]
fn surrogates_nul_and_long_text_survive() {
    let long = "x".repeat(100_000);
    let text = format!(
        "{}\n{}\n{{\"input\":\"{long}\",\"expected\":\"\\u0000\"}}",
        r#"{"input":"\ud800","expected":"\ud83d\ude00"}"#, r#"{"input":"a\r\nb","expected":"é"}"#
    );
    let rows = samples(&text);
    assert_eq!(rows[0].input_text(), "\u{fffd}");
    assert_eq!(rows[0].expected_text(), "😀");
    assert_eq!(rows[1].input_text(), "a\r\nb");
    assert_eq!((rows[2].input_text().len(), rows[2].expected_text().as_str()), (100_000, "\0"));
}

#[test]
fn other_fields_go_to_meta_and_numeric_ids_become_text() {
    let rows = samples(
        r#"{"id": 7, "input": "a", "expected": "b", "source": "x", "meta": {"tier": 2, "source": "y"}}"#,
    );
    assert_eq!(rows[0].id, "7");
    assert_eq!(rows[0].meta["tier"], 2);
    assert_eq!(rows[0].meta["source"], "y", "the meta object goes before a field of the same name");
}

#[test]
fn broken_rows_are_named_by_line_or_kept_apart_and_counted() {
    let good = r#"{"id":"a","input":"i","expected":"e"}"#;
    for (bad, part) in [
        ("{\"input\": ", "broken"),
        ("[1]", "not an object"),
        ("{\"input\":\"x\"}", "`expected` is missing"),
        ("{\"expected\":\"x\"}", "`input` is missing"),
        ("{\"input\":\"x\",\"expected\":null}", "`expected` is null"),
        ("{\"id\":\"a\",\"input\":\"x\",\"expected\":\"y\"}", "occurs twice"),
        ("{\"id\":[],\"input\":\"x\",\"expected\":\"y\"}", "`id`"),
        ("{\"input\":\"x\",\"expected\":\"y\",\"meta\":3}", "`meta`"),
        ("{\"input\":\"x\",\"expected\":\"y\"} trailing", "broken"),
    ] {
        let text = format!("{good}\n{bad}\n");
        let error = read(text.as_bytes(), false).expect_err(bad);
        assert!(error.to_string().contains(part), "{bad}: {error}");
        assert!(error.to_string().contains("rows.jsonl:2"), "{error}");
        assert_eq!(error.kind(), Kind::Data);
        let rows = read(text.as_bytes(), true).expect(bad);
        assert_eq!((rows.samples.len(), rows.skipped.len()), (1, 1), "{bad}");
        assert!(rows.skipped[0].to_string().contains("rows.jsonl:2"));
    }
    let error = read(b"{\"input\":\"a\",\"expected\":\"b\"}\n\xff\xfe\n", false).unwrap_err();
    assert!(error.to_string().contains("UTF-8") && error.to_string().contains(":2"), "{error}");
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let text = format!("{{\"input\":{}1{},\"expected\":\"x\"}}", "[".repeat(5000), "]".repeat(5000));
    assert!(read(text.as_bytes(), false).unwrap_err().to_string().contains("broken"));
}

#[test]
fn empty_files_are_refused() {
    assert!(read(b"", false).unwrap_err().to_string().contains("no samples"));
    assert!(read(b"\n \n", false).unwrap_err().to_string().contains("no samples"));
    assert!(read(b"x\ny\n", true).unwrap_err().to_string().contains("2 rows, none of which can be used"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes, true);
    }

    #[test]
    fn any_text_survives_writing_and_reading(input in any::<String>(), expected in any::<String>()) {
        let row = serde_json::json!({"input": input, "expected": expected}).to_string();
        let rows = samples(&row);
        prop_assert_eq!(rows[0].input_text(), input);
        prop_assert_eq!(rows[0].expected_text(), expected);
    }
}
