//! What the breakdown says of lists of labels and of single fields.

use super::super::{BASE, TUNED, labels};
use super::*;
use crate::mock::MockModel;
use crate::split::{EvalSet, ReadOptions, Split};
use crate::task::Task;
use crate::test_support::measure;
use serde_json::json;

/// Two candidates that give the same answer every time, on a task with these checks, metrics and expected answers.
fn constants(checks: &str, score: &str, expected: &[Value], answers: [&str; 2]) -> ReportData {
    let folder = tempfile::tempdir().unwrap();
    let start = crate::test_support::TASK.split("[[check]]").next().unwrap();
    let toml = start.replace("\"fields\"", &format!("\"{score}\"")) + checks;
    let row = |(i, expected): (usize, &Value)| {
        format!("{}\n", json!({"id": format!("r{i}"), "input": format!("input {i}"), "expected": expected}))
    };
    std::fs::write(folder.path().join("task.toml"), toml).unwrap();
    std::fs::write(
        folder.path().join("test.jsonl"),
        expected.iter().enumerate().map(row).collect::<String>(),
    )
    .unwrap();
    let task = Task::load(folder.path()).unwrap();
    let set: EvalSet = task.eval_set(Split::Test, &ReadOptions::default()).unwrap();
    let candidates = [BASE, TUNED].into_iter().zip(answers).map(|(role, answer)| {
        let mut model = MockModel::constant(role, answer);
        let evaluation = measure(&task, &set, &mut model, &folder.path().join(role));
        CandidateResult { role: role.into(), evaluation, bytes: None }
    });
    ReportData::new(&task, candidates.collect(), 1).unwrap()
}

/// A check of lists of labels and its metric.
const SETS: &str = r#"
    [[check]]
    name = "set"
    kind = "labels"
    [[metric]]
    name = "exact_set"
    checks = ["set"]"#;

#[test]
fn lists_of_labels_become_a_table_by_label_with_the_made_up_ones_in_one_row() {
    let expected: Vec<_> = (0..80).map(|i| json!(["common", format!("l{}", i % 40)])).collect();
    let data = constants(SETS, "exact_set", &expected, ["no", r#"["common", "l12", "<b>", "so"]"#]);
    assert!(confusions(&data).is_empty());
    let tables = serde_json::to_value(labels::tables(&data)).unwrap();
    let rows = tables[0]["rows"].as_array().unwrap();
    let row = |label: &str, counts: [usize; 4], f1: &str, interval: &str| {
        let [expected, right, missed, superfluous] = counts;
        json!({"label": label, "expected": expected, "right": right, "missed": missed,
            "superfluous": superfluous, "f1": f1, "interval": interval})
    };
    // Wilson's intervals of 80 of 80, 0 of 2 and 2 of 80 as shares s of the samples in which the label is at all: 2 s / (1 + s).
    assert_eq!(rows[0], row("common", [80, 80, 0, 0], "100.0 %", "97.7 to 100.0"), "the most frequent first");
    assert_eq!(rows[1], row("l0", [2, 0, 2, 0], "0.0 %", "0.0 to 79.3"));
    // 2 · 2 / (2 · 2 + 78)
    assert!(rows.contains(&row("l12", [2, 2, 0, 78], "4.9 %", "1.4 to 15.9")), "{rows:?}");
    assert_eq!(rows[30..], [row("(labels that no sample expects)", [0, 0, 0, 160], "0.0 %", "")]);
    assert_eq!(tables[0]["note"], "The 30 most frequent of 41 labels.");
    let html = data.html().unwrap();
    assert!(html.contains("<h3>Labels of tuned <code>set</code></h3>"));
    assert!(html.contains("<td data-label=\"superfluous\">160</td>"));
}

#[test]
fn the_f1_of_a_label_with_many_samples_has_an_interval() {
    let expected: Vec<_> = (0..80).map(|i| json!([if i % 3 == 1 { "b" } else { "a" }])).collect();
    let data = constants(SETS, "exact_set", &expected, ["no", r#"["a"]"#]);
    let tables = serde_json::to_value(labels::tables(&data)).unwrap();
    // 53 of 80 expect it and all answers name it: 2 · 53 / (2 · 53 + 27), Wilson's 55.4 to 75.7 for 53 of 80.
    let row = &tables[0]["rows"][0];
    assert_eq!(
        (&row["label"], &row["f1"], &row["interval"]),
        (&json!("a"), &json!("79.7 %"), &json!("71.3 to 86.1"))
    );
    let mut grouped = data.clone();
    for candidate in &mut grouped.candidates {
        for (i, sample) in candidate.evaluation.samples.iter_mut().enumerate() {
            sample.meta = json!({ "group": i % 3 }).as_object().unwrap().clone();
        }
    }
    let tables = serde_json::to_value(labels::tables(&grouped)).unwrap();
    assert_ne!(tables[0]["rows"][0]["interval"], json!("71.3 to 86.1"), "groups are redrawn whole");
}

#[test]
fn a_field_that_a_check_looks_at_alone_gets_its_rows_and_the_confusions_of_its_labels() {
    let checks = r#"
        [[check]]
        name = "section"
        kind = "one_of"
        field = "section"
        labels = ["A", "B", "C"]
        [[check]]
        name = "like"
        kind = "rouge"
        field = "note"
        variant = "l"
        [[check]]
        name = "copies"
        kind = "number"
        field = "copies"
        [[metric]]
        name = "sections"
        checks = ["section"]"#;
    let row =
        |i: usize| json!({"section": (["A", "B", "C"][i % 3]), "note": format!("note {i}"), "copies": i % 2});
    let expected: Vec<_> = (0..12).map(row).collect();
    let answer = r#"{"section": "A", "note": "note", "copies": 1}"#;
    let data = constants(checks, "sections", &expected, ["no", answer]);
    let confusions = serde_json::to_value(confusions(&data)).unwrap();
    let asked: Vec<_> = confusions.as_array().unwrap().iter().map(|c| c["field"].clone()).collect();
    assert_eq!(asked, ["section", "copies"], "the notes are no labels");
    assert_eq!(confusions[0]["pairs"], json!([["B", "A", 4], ["C", "A", 4]]));
    assert_eq!(confusions[1]["pairs"], json!([["0", "1", 6]]), "from the answer itself");
    let views = serde_json::to_value(fields(&data)).unwrap();
    let row = |view: &Value| (view["name"].clone(), view["check"].clone(), view["cells"][1]["value"].clone());
    assert_eq!(row(&views[0]), ("section".into(), Value::Null, "33.3 %".into()));
    // Precision 1, recall a half.
    assert_eq!(row(&views[1]), ("note".into(), "like".into(), "66.7 %".into()));
    let html = data.html().unwrap();
    assert!(
        html.contains("Confusions of tuned in <code>section</code>")
            && html.contains("note <code>like</code>")
    );
}
