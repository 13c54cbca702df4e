//! Metrics of verdicts: means, numbers of the corpus, weights, and what is missing or was not asked.

use super::*;
use crate::harness::{Harness, HarnessSpec};
use crate::sample::Sample;
use serde_json::{Value, json};

fn harness(score: Value, check: Value, metric: Value) -> Harness {
    let spec: HarnessSpec =
        serde_json::from_value(json!({"score": score, "check": check, "metric": metric})).unwrap();
    Harness::new(spec).unwrap()
}

fn sample(expected: Value, meta: Value) -> Sample {
    let meta = meta.as_object().cloned().unwrap_or_default();
    Sample { id: "r".into(), input: "i".into(), expected, meta, line: 1 }
}

fn measured(harness: &Harness, verdicts: &[Verdicts], name: &str) -> Estimate {
    let metric = harness.metrics().iter().find(|metric| metric.name == name).unwrap();
    metric.measure(&verdicts.iter().collect::<Vec<_>>(), None, 1)
}

fn labels() -> Harness {
    harness(
        json!({"metrics": {"accuracy": 3, "macro": 1}}),
        json!([{"name": "label", "kind": "one_of", "labels": ["a", "b"]}]),
        json!([
            {"name": "accuracy", "checks": ["label"]},
            {"name": "macro", "checks": ["label"], "aggregate": "macro_f1"},
            {"name": "micro", "checks": ["label"], "aggregate": "micro_f1"},
        ]),
    )
}

#[test]
fn rates_means_and_numbers_of_the_corpus_get_their_intervals() {
    let harness = labels();
    let judge = |expected: &str, answer: &str| harness.judge(&sample(json!(expected), json!({})), answer);
    let mut verdicts: Vec<Verdicts> = (0..20).map(|_| judge("a", "a")).collect();
    verdicts.extend((0..20).map(|i| judge("b", if i < 5 { "b" } else { "?" })));
    assert_eq!(measured(&harness, &verdicts, "accuracy"), statistics::rate(25, 40));
    let macro_f1 = measured(&harness, &verdicts, "macro");
    assert!((macro_f1.value.unwrap() - (1.0 + 10.0 / 25.0) / 2.0).abs() < 1e-12);
    assert!(macro_f1.low.unwrap() < 0.7 && macro_f1.high.unwrap() > 0.7);
    assert_eq!((macro_f1.n, macro_f1.missing, macro_f1.not_asked), (40, 0, 0));
    let score = measured(&harness, &verdicts, "score");
    assert!((score.value.unwrap() - (3.0 * 25.0 / 40.0 + 0.7) / 4.0).abs() < 1e-12);
    assert!(score.low.is_some() && harness.score() == "score");
    assert_eq!(measured(&harness, &[], "macro").value, None);
    assert_eq!(measured(&harness, &[], "score").value, None);
    let one = measured(&harness, &verdicts[..1], "macro");
    assert_eq!((one.value, one.low, one.n), (Some(1.0), None, 1));
    assert!(one.reason.unwrap().contains("not enough"));
}

#[test]
fn a_sample_without_an_answer_lowers_the_numbers_of_the_corpus() {
    let harness = labels();
    let row = sample(json!("a"), json!({}));
    let verdicts = [harness.judge(&row, "a"), harness.judge_missing(&row, "too long")];
    assert_eq!(measured(&harness, &verdicts, "micro").value, Some(2.0 / 3.0));
    assert_eq!(measured(&harness, &verdicts, "accuracy").value, Some(0.5));
    assert_eq!(verdicts[1]["label"].reason(), Some("no answer: too long"));
}

#[test]
fn numbers_of_the_row_and_cosines_are_not_written_as_shares() {
    let harness = harness(
        json!("marks"),
        json!([
            {"name": "human", "kind": "given", "from": "meta.human"},
            {"name": "meaning", "kind": "similarity"},
            {"name": "close", "kind": "similarity", "at_least": 0.7},
        ]),
        json!([
            {"name": "marks", "checks": ["human"]},
            {"name": "meaning", "checks": ["meaning", "close"]},
            {"name": "close", "checks": ["close"]},
            {"name": "all", "checks": ["human", "close"], "aggregate": "all"},
        ]),
    );
    let units: Vec<Unit> = harness.metrics().iter().map(Metric::unit).collect();
    assert_eq!(units, [Unit::Number, Unit::Number, Unit::Share, Unit::Share]);
    let marks: Vec<Verdicts> =
        [3, 5].map(|mark| harness.judge(&sample(json!("x"), json!({"human": mark})), "x")).into();
    let mean = measured(&harness, &marks, "marks");
    assert_eq!((mean.value, mean.unit), (Some(4.0), Unit::Number));
}

#[test]
fn what_was_not_asked_and_what_is_missing_are_counted_apart() {
    let harness = harness(
        json!("all"),
        json!([
            {"name": "json", "kind": "json_valid"},
            {"name": "hard", "kind": "exact", "when": {"tier": ["hard", "harder"]}},
            {"name": "f1", "kind": "token_f1", "references": "meta.references"},
        ]),
        json!([
            {"name": "all", "checks": ["json", "hard"], "aggregate": "all"},
            {"name": "hard", "checks": ["hard"]},
            {"name": "f1", "checks": ["f1"]},
        ]),
    );
    let judge = |meta: Value, answer: &str| harness.judge(&sample(json!("5"), meta), answer);
    let verdicts = [
        judge(json!({"tier": "hard", "references": ["5"]}), "5"),
        judge(json!({"tier": "easy"}), "6"),
        judge(json!({}), "5"),
        harness.judge_missing(&sample(json!("5"), json!({"tier": "easy", "references": ["x"]})), "late"),
    ];
    let all = measured(&harness, &verdicts, "all");
    assert_eq!((all.value, all.n, all.missing, all.not_asked), (Some(0.75), 4, 0, 0));
    let hard = measured(&harness, &verdicts, "hard");
    assert_eq!((hard.value, hard.n, hard.missing, hard.not_asked), (Some(1.0), 1, 0, 3));
    let f1 = measured(&harness, &verdicts, "f1");
    assert_eq!((f1.value, f1.n, f1.missing, f1.not_asked), (Some(0.5), 2, 2, 0));
    let text = serde_json::to_value(&f1).unwrap();
    assert_eq!(text["missing"], json!(2));
    assert_eq!(text.get("not_asked"), None);
}

#[test]
fn the_numbers_of_two_checks_are_correlated() {
    let harness = harness(
        json!("agreement"),
        json!([
            {"name": "f1", "kind": "token_f1"},
            {"name": "human", "kind": "given", "from": "meta.human"},
        ]),
        json!([{"name": "agreement", "checks": ["f1", "human"], "aggregate": "spearman"}]),
    );
    let judge = |answer: &str, meta: Value| harness.judge(&sample(json!("w x y z"), meta), answer);
    let verdicts = [
        judge("w x y z", json!({"human": 5})),
        judge("w x y", json!({"human": 4})),
        judge("w", json!({"human": 1})),
        judge("w", json!({})),
    ];
    let agreement = measured(&harness, &verdicts, "agreement");
    assert!((agreement.value.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!((agreement.n, agreement.missing), (3, 1));
}

#[test]
fn aggregates_that_the_checks_cannot_give_are_refused() {
    for (kind, aggregate, word) in [
        (json!({"kind": "exact"}), "macro_f1", "one_of"),
        (json!({"kind": "field_f1", "fields": {"a": []}}), "macro_f1", "labels"),
        (json!({"kind": "token_f1"}), "bleu", "kind bleu"),
        (json!({"kind": "bleu"}), "chrf", "kind chrf"),
        (json!({"kind": "rouge"}), "pearson", "two checks"),
        (json!({"kind": "choice", "options": 4}), "quadratic_kappa", "ordinal"),
    ] {
        let mut check = kind;
        check["name"] = json!("c");
        let spec = json!({"score": "m", "check": [check], "metric": [{"name": "m", "checks": ["c"], "aggregate": aggregate}]});
        let error = Harness::new(serde_json::from_value(spec).unwrap()).unwrap_err().to_string();
        assert!(error.contains("`m`") && error.contains(word), "{error}");
    }
}

#[test]
fn all_threads_give_the_verdicts_of_one() {
    let harness = labels();
    let rows: Vec<Sample> = (0..100).map(|i| sample(json!(["a", "b"][i % 2]), json!({}))).collect();
    let outputs: Vec<(&Sample, &str)> =
        rows.iter().enumerate().map(|(i, row)| (row, ["a", "b", "c"][i % 3])).collect();
    let one: Vec<Verdicts> = outputs.iter().map(|(row, text)| harness.judge(row, text)).collect();
    assert_eq!(harness.judge_all(&outputs), one);
}
