//! The page and the JSON: what must be on them, that nothing given can become markup, and an invented example that is
//! written under the target folder to be looked at.

use super::*;
use crate::mock::MockModel;
use crate::split::{EvalSet, ReadOptions, Split};
use crate::test_support::{measure, mock, task};

fn candidate(role: &str, evaluation: Evaluation) -> CandidateResult {
    CandidateResult { role: role.into(), evaluation }
}

fn two_candidates(folder: &Path, n: usize) -> ReportData {
    let (task, set) = task(folder, n);
    let base = measure(&task, &set, &mut mock(&task, &set, |i| i % 10 == 0), &folder.join("base.jsonl"));
    let tuned = measure(&task, &set, &mut mock(&task, &set, |i| i % 5 != 0), &folder.join("tuned.jsonl"));
    ReportData::new(&task, vec![candidate("base", base), candidate("tuned", tuned)], 1).unwrap()
}

#[test]
fn the_claim_the_numbers_and_every_sample_are_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let data = two_candidates(folder.path(), 40);
    let html = data.html().unwrap();
    assert!(data.claims[0].supported());
    assert!(html.contains("<h1>The tuned model is better than the base model at fields.</h1>"), "{html}");
    assert!(html.contains("80.0 % against 10.0 %, +70.0 points"));
    assert_eq!(html.matches("<article").count(), 40);
    let first = html.split("<article").nth(1).unwrap();
    assert!(first.contains("data-state=\"wrong\""), "failing samples come first");
    for print in &data.fingerprints {
        assert!(html.contains(&print.value), "{}", print.name);
    }
    assert!(!html.contains("Training"), "no training, no words about it");
}

#[test]
fn an_unsupported_claim_is_shown_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 4);
    let base = measure(&task, &set, &mut mock(&task, &set, |_| false), &folder.path().join("a"));
    let tuned = measure(&task, &set, &mut mock(&task, &set, |i| i == 0), &folder.path().join("b"));
    let data = ReportData::new(&task, vec![candidate("base", base), candidate("tuned", tuned)], 1).unwrap();
    let html = data.html().unwrap();
    assert!(html.contains("class=\"claim open\"") && html.contains("Nothing may be claimed about which"));
    assert!(!html.contains("better than"));
}

#[test]
fn one_candidate_gets_a_page_without_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 1);
    let only = measure(&task, &set, &mut mock(&task, &set, |_| true), &folder.path().join("a"));
    let data = ReportData::new(&task, vec![candidate("base", only.clone())], 1).unwrap();
    let html = data.html().unwrap();
    assert!(
        html.contains("The base model reaches 100.0 % at fields.") && html.contains("not enough samples"),
        "{html}"
    );
    assert!(!html.contains("Difference in points"));
    let three = vec![candidate("a", only.clone()), candidate("b", only.clone()), candidate("c", only)];
    assert!(ReportData::new(&task, three, 1).is_err());
    assert!(ReportData::new(&task, vec![], 1).is_err());
}

const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></div></style></article>&amp;\u{0}\u{1b}[31m\u{202e}evil";

#[test]
fn markup_in_inputs_answers_ids_and_commands_is_shown_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let row = serde_json::json!({"id": HOSTILE, "input": HOSTILE, "expected": {"a": HOSTILE, "b": HOSTILE}});
    let text = HOSTILE.replace("evil", "field");
    let second = serde_json::json!({"id": "x", "input": "in", "expected": {(text.as_str()): "v"}});
    std::fs::write(folder.path().join("task.toml"), crate::test_support::TASK).unwrap();
    std::fs::write(folder.path().join("test.jsonl"), format!("{row}\n{second}\n")).unwrap();
    let task = Task::load(folder.path()).unwrap();
    let set: EvalSet = task.eval_set(Split::Test, &ReadOptions::default()).unwrap();
    let object = serde_json::json!({"a": HOSTILE}).to_string();
    let base = measure(&task, &set, &mut MockModel::constant(HOSTILE, HOSTILE), &folder.path().join("a"));
    let tuned = measure(&task, &set, &mut MockModel::constant("t", &object), &folder.path().join("b"));
    let mut data =
        ReportData::new(&task, vec![candidate("base", base), candidate("tuned", tuned)], 1).unwrap();
    data.task.description = HOSTILE.into();
    data.notes.push(HOSTILE.into());
    data.commands.push(Command { purpose: HOSTILE.into(), command: HOSTILE.into() });
    data.machine = Some(HOSTILE.into());
    let html = data.html().unwrap();
    assert_eq!(html.matches("<script>").count(), 1, "only the page's own");
    assert_eq!(html.matches("</article>").count(), 2);
    for markup in ["<img", "alert(1)</script>", "onerror=alert(2)>", "\u{1b}", "\u{0}"] {
        assert!(!html.contains(markup), "{markup}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)") && html.contains('\u{2400}'));
}

#[test]
fn the_page_loads_nothing_and_long_texts_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 2);
    let long = "long ".repeat(2_000_000);
    let base = measure(&task, &set, &mut MockModel::constant("long", &long), &folder.path().join("a"));
    let data = ReportData::new(&task, vec![candidate("base", base)], 1).unwrap();
    let html = data.html().unwrap();
    assert!(html.len() < 200_000, "{}", html.len());
    assert!(html.contains("9996000 more characters in the record"));
    for outside in ["http://", "https://", "src=", "@import", "url(", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn both_files_are_written_and_the_json_has_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let data = two_candidates(folder.path(), 10);
    let out = folder.path().join("report");
    data.write(&out).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(json["version"], 2);
    assert_eq!(json["comparison"]["score"]["n"], 10);
    assert_eq!(json["candidates"][1]["evaluation"]["score"], 0.8);
    assert!(json["claims"][0]["sentence"].is_string());
    assert_eq!(std::fs::read_to_string(out.join("report.html")).unwrap(), data.html().unwrap());
}

#[test]
fn durations_and_counts_are_readable() {
    let text = |seconds| html::duration(seconds);
    assert_eq!(
        (text(3.08), text(59.4), text(725.0), text(3725.0)),
        ("3.1 s".into(), "59 s".into(), "12 min 05 s".into(), "1 h 02 min".into())
    );
    assert_eq!((html::grouped(7), html::grouped(1_234_567)), ("7".into(), "1\u{202f}234\u{202f}567".into()));
}

/// Invented answers to the real receipts: a base model that talks, a tuned one that is mostly right.
fn invented(expected: &serde_json::Value, i: usize) -> (String, String) {
    let mut tuned = expected.clone();
    match i % 7 {
        1 => tuned["total"] = "0.00".into(),
        3 => tuned["address"] = tuned["address"].as_str().unwrap().replace("JALAN", "JLN").into(),
        5 => tuned["company"] = tuned["company"].as_str().unwrap().to_lowercase().into(),
        _ => {}
    }
    let mut tuned = crate::json::spaced(&tuned);
    if i % 31 == 30 {
        tuned.truncate(tuned.len() / 2);
    }
    let base = match i % 5 {
        0 => crate::json::spaced(
            &serde_json::json!({"company": expected["company"], "date": "unknown", "total": 12}),
        ),
        1 => "Here is the receipt: {company: \"…\"}\n\nLet me know if you need <b>anything</b> else!"
            .to_owned(),
        _ => "The receipt is from a company in Malaysia. The total is printed at the bottom of the receipt."
            .to_owned(),
    };
    (base, tuned)
}

#[test]
fn an_invented_report_of_the_receipts_is_written_to_be_looked_at() {
    let task = Task::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tasks/invoices")).unwrap();
    let set = task.eval_set(Split::Test, &ReadOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut base, mut tuned) = (
        MockModel::table("smollm2-135m-instruct", Default::default()),
        MockModel::table("smollm2-135m-instruct+runs/1/adapter", Default::default()),
    );
    for (i, sample) in set.samples.iter().enumerate() {
        let (b, t) = invented(&sample.expected, i);
        base = base.answering(&sample.input_text(), &b);
        tuned = tuned.answering(&sample.input_text(), &t);
    }
    let mut base = measure(&task, &set, &mut base, &folder.path().join("base.jsonl"));
    let mut tuned = measure(&task, &set, &mut tuned, &folder.path().join("tuned.jsonl"));
    (base.seconds, base.rows_per_s, base.peak_rss_mib) = (412.0, Some(0.24), Some(1180.0));
    (tuned.seconds, tuned.rows_per_s, tuned.peak_rss_mib) = (188.0, Some(0.53), Some(1204.0));
    let mut data =
        ReportData::new(&task, vec![candidate("base", base), candidate("tuned", tuned)], 1).unwrap();
    let mut random = crate::random::Random::new(1);
    data.loss_curve = (1..=66)
        .map(|step| (step, 1.9 * (-(step as f64) / 14.0).exp() + 0.12 + random.below(100) as f64 / 1400.0))
        .collect();
    data.train = Some(TrainSummary {
        method: "sft".into(),
        steps: 66,
        rows: 355,
        epochs: 3.0,
        rows_per_s: Some(0.62),
        flat_tokens: 731_204,
        tree_tokens: 655_310,
        seconds: 1718.0,
        loss_first: Some(1.96),
        loss_last: Some(0.17),
        peak_rss_mib: Some(1893.0),
        adapter: "runs/1/adapter".into(),
    });
    data.commands =
        vec![Command { purpose: "All of it".into(), command: "underdog run tasks/invoices --seed 1".into() }];
    data.machine = Some("2 cores, 8 GiB; invented numbers for looking at this page".into());
    let html = data.html().unwrap();
    assert_eq!(html.matches("<article").count(), 100);
    assert!(html.contains("class=\"curve\"") && html.contains("28 min 38 s"));
    if let Ok(target) = std::env::var("UNDERDOG_EXAMPLE_REPORT") {
        data.write(Path::new(&target)).unwrap();
    }
}
