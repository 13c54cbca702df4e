//! How fast outputs are judged: 100,000 samples by ten deterministic checks (exact, regex, number, length, contains, JSON
//! valid, JSON schema, field F1, token F1, ROUGE-L) on all threads, or another count as the first argument. Samples in
//! turn: a receipt as JSON (165 characters), a label, a sentence of 30 words, a sum with its steps; a third of the
//! outputs is right, a third damaged, a third of another kind. With a file name as the second argument the samples are
//! written there as rows of a task with the output in `meta.output`, for `pipeline_speed` and the same work by others.
//!
//!     cargo run --release -p underdog-eval --example judge_speed -- 100000
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]
#![allow(clippy::unwrap_used, reason = "an example may panic")]

use serde_json::{Value, json};
use std::time::Instant;
use underdog_eval::harness::{Harness, HarnessSpec};
use underdog_eval::random::Random;
use underdog_eval::sample::Sample;

const WORDS: [&str; 12] =
    ["the", "service", "may", "share", "data", "with", "others", "when", "you", "agree", "to", "terms"];

fn harness() -> Harness {
    let text = || json!({"type": "string"});
    let spec: HarnessSpec = serde_json::from_value(json!({
        "score": "mean",
        "check": [
            {"name": "exact", "kind": "exact", "normalise": ["case", "whitespace"]},
            {"name": "regex", "kind": "regex", "pattern": r"\d{2}/\d{2}/\d{4}"},
            {"name": "number", "kind": "number", "relative": 0.01},
            {"name": "length", "kind": "length", "unit": "words", "max": 60},
            {"name": "contains", "kind": "contains", "texts": ["total", "the"], "any": true},
            {"name": "valid", "kind": "json_valid"},
            {"name": "schema", "kind": "json_schema", "schema": {
                "type": "object", "required": ["company", "date", "address", "total"], "additionalProperties": false,
                "properties": {"company": text(), "date": text(), "address": text(), "total": text()},
            }},
            {"name": "fields", "kind": "field_f1", "fields": {
                "company": ["case", "whitespace"], "date": ["date"],
                "address": ["case", "whitespace", "punctuation_spacing"], "total": ["number"],
            }},
            {"name": "token_f1", "kind": "token_f1"},
            {"name": "rouge_l", "kind": "rouge"},
        ],
        "metric": [{"name": "mean", "checks": ["*"]}],
    }))
    .unwrap();
    Harness::new(spec).unwrap()
}

fn expected(i: usize, random: &mut Random) -> Value {
    let mut words = |n: usize| (0..n).map(|_| WORDS[random.below(WORDS.len())]).collect::<Vec<_>>().join(" ");
    match i % 4 {
        0 => json!({
            "company": format!("{} sdn bhd", words(2)),
            "date": format!("{:02}/{:02}/2018", i % 28 + 1, i % 12 + 1),
            "address": format!("no. {i}, jalan {}, {} shah alam, selangor", words(4), 40000 + i % 1000),
            "total": format!("{}.{:02}", i % 500, i % 100),
        }),
        1 => json!(format!("{}_{}", words(1), i % 77)),
        2 => json!(words(30)),
        _ => json!(format!("{} {} {}", i, words(12), i * 3)),
    }
}

fn output(i: usize, row: &Sample, other: &Sample, random: &mut Random) -> String {
    let right = row.expected_text();
    match i % 3 {
        0 => right,
        1 => {
            let mut words: Vec<&str> = right.split(' ').collect();
            let place = random.below(words.len());
            words[place] = "damage";
            words.join(" ")
        }
        _ => other.expected_text(),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let n = arguments.get(1).map_or(100_000, |text| text.parse().unwrap());
    let mut random = Random::new(1);
    let rows: Vec<Sample> = (0..n)
        .map(|i| {
            let expected = expected(i, &mut random);
            Sample { id: i.to_string(), input: "i".into(), expected, meta: Default::default(), line: i + 1 }
        })
        .collect();
    let outputs: Vec<String> =
        rows.iter().enumerate().map(|(i, row)| output(i, row, &rows[(i + 1) % n], &mut random)).collect();
    if let Some(path) = arguments.get(2) {
        let line = |(row, output): (&Sample, &String)| {
            let input = format!("sample {}", row.id);
            json!({"id": row.id, "input": input, "expected": row.expected, "meta": {"output": output}})
                .to_string()
                + "\n"
        };
        std::fs::write(path, rows.iter().zip(&outputs).map(line).collect::<String>()).unwrap();
    }
    let harness = harness();
    let pairs: Vec<(&Sample, &str)> = rows.iter().zip(outputs.iter().map(String::as_str)).collect();
    let started = Instant::now();
    let verdicts = harness.judge_all(&pairs);
    let seconds = started.elapsed().as_secs_f64();
    for name in harness.check_names() {
        let sum: f64 = verdicts.iter().filter_map(|found| found[name].number()).sum();
        println!("{name:>10} {:.4}", sum / n as f64);
    }
    println!("{n} samples, 10 checks: {seconds:.2} s, {:.0} samples/s", n as f64 / seconds);
}
