//! Scorers and numbers of the corpus against rouge-score, sacrebleu, scikit-learn and scipy, on rows of real data with
//! damaged answers (`reference/scorers_goldens.py`), and what hostile answers get. All through the harness, as a task
//! file would have it.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use underdog_eval::embedder::{Embedder, SharedEmbedder};
use underdog_eval::harness::{Harness, HarnessSpec, Verdicts};
use underdog_eval::mock::MockModel;
use underdog_eval::model::Identity;
use underdog_eval::random::Random;
use underdog_eval::report::{CandidateResult, ReportData};
use underdog_eval::sample::Sample;
use underdog_eval::split::{EvalSet, ReadOptions};
use underdog_eval::{EvalSettings, Evaluation, Split, Task, evaluate};

const TOLERANCE: f64 = 1e-6;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scorers.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn harness(check: Value, metric: Value) -> Harness {
    let score = metric[0]["name"].clone();
    let spec: HarnessSpec =
        serde_json::from_value(json!({"score": score, "check": check, "metric": metric})).unwrap();
    Harness::new(spec).unwrap()
}

fn sample(expected: Value, meta: Value) -> Sample {
    let meta = meta.as_object().cloned().unwrap_or_default();
    Sample { id: "r".into(), input: "i".into(), expected, meta, line: 1 }
}

fn measured(harness: &Harness, verdicts: &[Verdicts], metric: &str) -> f64 {
    let metric = harness.metrics().iter().find(|found| found.name == metric).unwrap();
    metric.measure(&verdicts.iter().collect::<Vec<_>>(), None, 1).value.unwrap()
}

fn close(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= TOLERANCE, "{what}: found {found}, expected {expected}");
}

/// The scorers of texts, against all references or the first one only.
fn texts(references: bool) -> Harness {
    let mut checks = json!([
        {"name": "rouge1", "kind": "rouge", "variant": "1"},
        {"name": "rouge2", "kind": "rouge", "variant": "2"},
        {"name": "rougel", "kind": "rouge"},
        {"name": "bleu", "kind": "bleu"},
        {"name": "chrf", "kind": "chrf"},
        {"name": "token_f1", "kind": "token_f1"},
        {"name": "edit_distance", "kind": "edit_distance"},
    ]);
    for check in checks.as_array_mut().unwrap().iter_mut().filter(|_| references) {
        check["references"] = json!("meta.references");
    }
    let metrics = json!([
        {"name": "bleu", "checks": ["bleu"], "aggregate": "bleu"},
        {"name": "chrf", "checks": ["chrf"], "aggregate": "chrf"},
    ]);
    harness(checks, metrics)
}

#[test]
fn scorers_of_texts_agree_row_by_row_and_over_the_corpus() {
    let golden = golden();
    let rows = golden["texts"].as_array().unwrap();
    assert!(rows.len() >= 200);
    for (name, all) in [("first", false), ("several", true)] {
        let harness = texts(all);
        let mut verdicts = Vec::new();
        for row in rows {
            let row_sample = sample(row["references"][0].clone(), json!({"references": row["references"]}));
            let answer = row["answer"].as_str().unwrap();
            let found = harness.judge(&row_sample, answer);
            if all {
                let number = |check: &str| found[check].number().unwrap();
                let what = |check: &str| format!("{check} of {answer:?} against {}", row["references"]);
                for (i, check) in ["rouge1", "rouge2", "rougel"].into_iter().enumerate() {
                    close(number(check), &row["rouge"][i], &what(check));
                }
                for check in ["bleu", "chrf", "token_f1", "edit_distance"] {
                    close(number(check), &row[check], &what(check));
                }
            }
            verdicts.push(found);
        }
        for metric in ["bleu", "chrf"] {
            let expected = &golden["corpus"][name][metric];
            close(measured(&harness, &verdicts, metric), expected, &format!("corpus {metric}, {name}"));
        }
    }
}

#[test]
fn f1_of_labels_agrees() {
    let golden = golden();
    let metrics = json!([
        {"name": "micro_f1", "checks": ["label"], "aggregate": "micro_f1"},
        {"name": "macro_f1", "checks": ["label"], "aggregate": "macro_f1"},
        {"name": "exact", "checks": ["label"]},
    ]);
    for (name, compared) in [
        ("classification", &["micro_f1", "macro_f1"][..]),
        ("multi_label", &["micro_f1", "macro_f1", "exact"][..]),
    ] {
        for (number, case) in golden[name].as_array().unwrap().iter().enumerate() {
            let check = match case.get("labels") {
                Some(labels) => json!([{"name": "label", "kind": "one_of", "labels": labels}]),
                None => json!([{"name": "label", "kind": "labels"}]),
            };
            let harness = harness(check, metrics.clone());
            let pairs = case["found"].as_array().unwrap().iter().zip(case["expected"].as_array().unwrap());
            let verdicts: Vec<Verdicts> = pairs
                .map(|(found, expected)| {
                    let answer = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                    harness.judge(&sample(expected.clone(), json!({})), &answer)
                })
                .collect();
            for metric in compared {
                close(
                    measured(&harness, &verdicts, metric),
                    &case[*metric],
                    &format!("{name} {number} {metric}"),
                );
            }
        }
    }
}

#[test]
fn agreement_and_correlation_agree() {
    let golden = golden();
    let names = ["quadratic_kappa", "pearson", "spearman", "kendall"];
    let metric = |name: &&str| json!({"name": name, "checks": ["number"], "aggregate": name});
    let metrics: Vec<Value> = names.iter().map(metric).collect();
    let harness = harness(json!([{"name": "number", "kind": "number"}]), json!(metrics));
    for (number, case) in golden["numbers"].as_array().unwrap().iter().enumerate() {
        let pairs = case["found"].as_array().unwrap().iter().zip(case["expected"].as_array().unwrap());
        let judge = |(found, expected): (&Value, &Value)| {
            harness.judge(&sample(expected.clone(), json!({})), &format!("It is {found}."))
        };
        let verdicts: Vec<Verdicts> = pairs.map(judge).collect();
        for name in names {
            close(measured(&harness, &verdicts, name), &case[name], &format!("{number} {name}"));
        }
    }
}

/// One check of every kind.
fn every_kind() -> Harness {
    let checks = json!([
        {"name": "exact", "kind": "exact"},
        {"name": "valid", "kind": "json_valid"},
        {"name": "schema", "kind": "json_schema", "schema": {"type": "object"}},
        {"name": "field", "kind": "field_exact", "fields": ["a"]},
        {"name": "fields", "kind": "all_fields", "fields": ["a"]},
        {"name": "regex", "kind": "regex", "pattern": "(a|b)*c$"},
        {"name": "contains", "kind": "contains", "texts": ["x"], "normalise": ["case", "whitespace", "punctuation", "number", "date"]},
        {"name": "one_of", "kind": "one_of", "labels": ["x", "y"]},
        {"name": "ordinal", "kind": "ordinal", "labels": ["x", "y"]},
        {"name": "labels", "kind": "labels"},
        {"name": "choice", "kind": "choice", "options": 4},
        {"name": "number", "kind": "number"},
        {"name": "length", "kind": "length", "unit": "sentences", "min": 1},
        {"name": "forbidden", "kind": "forbidden", "words": ["y"]},
        {"name": "facts", "kind": "facts", "from": "expected"},
        {"name": "field_f1", "kind": "field_f1", "fields": {"a": ["date"]}},
        {"name": "objects_f1", "kind": "objects_f1", "keys": {"a": ["number"]}},
        {"name": "edit_distance", "kind": "edit_distance"},
        {"name": "token_f1", "kind": "token_f1"},
        {"name": "rouge", "kind": "rouge"},
        {"name": "bleu", "kind": "bleu"},
        {"name": "chrf", "kind": "chrf"},
        {"name": "given", "kind": "given", "from": "meta.human"},
        {"name": "similarity", "kind": "similarity", "embedder": "letters"},
    ]);
    let harness = harness(checks, json!([{"name": "all", "checks": ["*"]}]));
    harness.attach("letters", &(Arc::new(Mutex::new(Letters)) as SharedEmbedder));
    harness
}

/// Texts as how often each byte is in them.
struct Letters;

impl Embedder for Letters {
    fn identity(&self) -> Identity {
        Identity { name: "letters".into(), fingerprint: "1".into() }
    }

    fn embed(&mut self, texts: &[&str]) -> underdog_eval::Result<Vec<Vec<f32>>> {
        let vector = |text: &&str| {
            // One of each, so that an empty text has a direction too.
            let mut counts = vec![1.0f32; 256];
            text.bytes().for_each(|byte| counts[usize::from(byte)] += 1.0);
            let length = counts.iter().map(|count| f64::from(*count).powi(2)).sum::<f64>().sqrt();
            counts.into_iter().map(|count| (f64::from(count) / length) as f32).collect()
        };
        Ok(texts.iter().map(vector).collect())
    }
}

/// A task file with every kind of check, conditions, weights and numbers of the corpus, measured and reported.
#[test]
fn a_task_with_every_kind_is_measured_compared_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..24).map(|i| {
        let (label, tier) = [("x", "hard"), ("y", "easy")][i % 2];
        let meta = json!({"tier": tier, "references": [label], "facts": {"name": label}, "human": i});
        json!({"input": format!("input {i}"), "expected": label, "meta": meta}).to_string() + "\n"
    });
    let file = folder.path().join("rows.jsonl");
    std::fs::write(&file, rows.collect::<String>()).unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/task.v1.scorers.toml");
    let task = Task::load(&data).unwrap().with_data(Split::Test, &file);
    // Changes only together with HARNESS_VERSION: old and new scores must not be compared.
    assert_eq!(task.harness.fingerprint(), FINGERPRINT);
    // The rows lack most places that the checks ask for, for which `eval_set` refuses them.
    assert!(task.eval_set(Split::Test, &ReadOptions::default()).unwrap_err().to_string().contains("`step`"));
    let set = EvalSet::from(task.test(&ReadOptions::default()).unwrap());
    let measure = |name: &str, answer: &str| {
        let settings =
            EvalSettings { record_path: folder.path().join(name), resume: false, limit: None, seed: 1 };
        let mut model = MockModel::constant(name, answer);
        let evaluation =
            evaluate(&task, &set, &mut model, &settings, &mut |_| ControlFlow::Continue(())).unwrap();
        let again = Evaluation::from_record(&settings.record_path).unwrap();
        assert_eq!(
            (&again.metrics, again.score),
            (&evaluation.metrics, evaluation.score),
            "a record is enough"
        );
        CandidateResult { role: name.into(), evaluation, bytes: None }
    };
    let (base, tuned) = (measure("base", "<script>alert(1)</script>"), measure("tuned", "x"));
    assert_eq!(base.evaluation.score, Some(0.0));
    // Accuracy 1/2 three times, macro F1 (2/3 + 0) / 2 once.
    assert!((tuned.evaluation.score.unwrap() - (1.5 + 1.0 / 3.0) / 4.0).abs() < 1e-12);
    let hard = &tuned.evaluation.metrics["hard"];
    assert_eq!((hard.value, hard.n, hard.not_asked), (Some(1.0), 12, 12));
    assert_eq!(tuned.evaluation.metrics["with_people"].value, None, "all answers equal");
    let report = ReportData::new(&task, vec![base, tuned], 1).unwrap();
    assert!(report.claims[0].supported(), "{:?}", report.claims);
    let html = report.html().unwrap();
    assert!(!html.contains("<script>alert") && html.contains(r"\u003cscript\u003ealert"));
}

const FINGERPRINT: &str = "29463c7e58682f85b823c0f3caaf9aae2b75bdc10449b7b34c9a89b1fc87e671";

#[test]
fn hostile_answers_and_rows_get_verdicts_that_can_be_written() {
    let harness = every_kind();
    let broken = String::from_utf8_lossy(b"\xff\xfe{\"a\": \xc3}\x80").into_owned();
    let answers = [
        "",
        " ",
        "\0",
        "<script>alert(1)</script><b>&amp;",
        &broken,
        "\u{202e}\u{feff}\u{300}",
        "NaN",
        "1e999",
        "-0",
        "{\"a\": 1e999}",
        "[[[[",
        "{\"a\": {\"a\": [null]}}",
        "[{\"a\": []}, null, 5]",
        "None, none",
        "[\"none\"]",
        "((((",
        "%s{{ input }}",
        "A)B)C",
        "2018-02-30",
        "…。!?",
    ];
    for expected in
        [json!("x"), json!(5), json!({"a": null}), json!([]), json!(true), json!({"a": "2018-1-1"})]
    {
        let row = sample(expected.clone(), json!({"human": "high"}));
        for answer in answers {
            let verdicts = harness.judge(&row, answer);
            let text = serde_json::to_string(&verdicts).unwrap();
            let back: Verdicts = serde_json::from_str(&text).unwrap();
            assert_eq!(back, verdicts, "{answer:?} for {expected}");
            for (name, verdict) in &verdicts {
                assert!(
                    verdict.number().is_none_or(|number| (0.0..=1.0).contains(&number)),
                    "{name}: {verdict:?}"
                );
                assert!(verdict.number().is_some() || verdict.reason().is_some(), "{name}: {verdict:?}");
            }
        }
        let unanswered = harness.judge_missing(&row, "too long");
        assert!(
            unanswered.values().all(|verdict| verdict.number().is_none_or(|number| number == 0.0)),
            "{unanswered:?}"
        );
    }
}

#[test]
fn ten_megabytes_take_seconds() {
    let harness = every_kind();
    let started = Instant::now();
    for (text, expected) in
        [("lorem, ipsum. ", json!("lorem ipsum")), ("[", json!("x")), ("{\"a\":1},", json!([]))]
    {
        let long = text.repeat(10_000_000 / text.len());
        let verdicts = harness.judge(&sample(expected, json!({})), &long);
        assert!(verdicts["rouge"].number().is_some());
    }
    // Nothing in it comes twice: what counts parts of a text must not keep each of them.
    let mut random = Random::new(1);
    let long: String = (0..10_000_000).map(|_| char::from(b'!' + random.below(94) as u8)).collect();
    let verdicts = harness.judge(&sample(json!("lorem ipsum"), json!({})), &long);
    assert!(verdicts["chrf"].number().is_some_and(|number| number < 0.1), "{:?}", verdicts["chrf"]);
    let long = "a b c d e ".repeat(1_000_000);
    let verdicts = harness.judge(&sample(json!(long), json!({})), &(long.clone() + "f"));
    for check in ["rouge", "edit_distance"] {
        assert!(verdicts[check].reason().unwrap().contains("too long"), "{check}: {:?}", verdicts[check]);
    }
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}
