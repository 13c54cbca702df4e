//! The page and the JSON: what must be on them, that nothing given can become markup, and an invented example that is
//! written under the target folder to be looked at.

use super::*;
use crate::mock::MockModel;
use crate::split::{EvalSet, ReadOptions, Split};
use crate::test_support::{measure, mock, task};

fn candidate(role: &str, evaluation: Evaluation) -> CandidateResult {
    CandidateResult { role: role.into(), evaluation, bytes: None }
}

/// What the page's script reads.
fn payload(html: &str) -> serde_json::Value {
    let start = html.split("id=\"data\">").nth(1).unwrap();
    serde_json::from_str(start.split("</script>").next().unwrap()).unwrap()
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
    let payload = payload(&html);
    assert_eq!(payload["samples"].as_array().unwrap().len(), 40);
    assert_eq!(
        (&payload["roles"][1], &payload["subject"], &payload["against"]),
        (&"tuned".into(), &1.into(), &0.into())
    );
    let first = &payload["samples"][0];
    assert_eq!(
        (&first["answers"][1]["s"], &first["answers"][1]["m"]),
        (&0.0.into(), &"ww".into()),
        "failing first"
    );
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
    assert!(!html.contains("against it"));
    let twice = vec![candidate("a", only.clone()), candidate("a", only)];
    assert!(ReportData::new(&task, twice, 1).unwrap_err().to_string().contains("same name"));
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
    assert_eq!(html.matches("<script>").count(), 2, "only the page's own");
    assert_eq!(html.matches("</script>").count(), 3, "with the samples");
    let payload = payload(&html);
    assert_eq!(payload["samples"].as_array().unwrap().len(), 2);
    let shown = |sample: &serde_json::Value| sample["id"] == HOSTILE && sample["answers"][0]["o"] == HOSTILE;
    assert!(payload["samples"].as_array().unwrap().iter().any(shown), "whole and as text");
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
    assert_eq!(json["version"], 3);
    assert_eq!(json["comparisons"]["baselines"][0]["comparisons"][0]["n"], 10);
    assert_eq!(json["candidates"][1]["evaluation"]["score"], 0.8);
    assert!(json["claims"][0]["sentence"].is_string());
    assert_eq!(std::fs::read_to_string(out.join("report.html")).unwrap(), data.html().unwrap());
}

#[test]
fn the_headline_names_the_strongest_of_all_and_the_test_against_it_whoever_wins() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 60);
    let with = |role: &str, right: usize| {
        let mut mock = mock(&task, &set, |i| i < right);
        candidate(role, measure(&task, &set, &mut mock, &folder.path().join(role)))
    };
    let candidates = || vec![with("base", 3), with("tuned", 40), with("majority", 1), with("linear", 58)];
    let data = ReportData::new(&task, candidates(), 1).unwrap();
    assert_eq!((data.subject, data.strongest()), (1, Some(3)));
    let all = data.comparisons.as_ref().unwrap();
    assert_eq!((all.baselines.len(), all.strongest), (3, 2));
    let lost = all.with_strongest().unwrap().overall("fields").unwrap();
    assert!(lost.p_holm.is_some(), "picked for its score: corrected where that is what tells them apart");
    let html = data.html().unwrap();
    assert!(html.contains("<h1>The tuned model is worse than the linear model at fields.</h1>"), "{html}");
    assert!(html.contains(
        "The strongest baseline is linear, which has the highest score of the 3 measured besides."
    ));
    assert!(
        html.contains("The tuned model is better than the base model at fields"),
        "the untrained model too"
    );
    // The other way round: the tuned one wins, and that test stands alone.
    let folder = tempfile::tempdir().unwrap();
    let measured = |role: &str, right: usize| {
        let mut mock = mock(&task, &set, |i| i < right);
        candidate(role, measure(&task, &set, &mut mock, &folder.path().join(role)))
    };
    let won = vec![measured("base", 3), measured("tuned", 58), measured("linear", 20)];
    let data = ReportData::new(&task, won, 1).unwrap();
    let all = data.comparisons.as_ref().unwrap();
    assert_eq!(all.with_strongest().unwrap().overall("fields").unwrap().p_holm, None);
    assert!(all.baselines[0].overall("fields").unwrap().p_holm.is_some());
    assert!(
        data.html().unwrap().contains("<h1>The tuned model is better than the linear model at fields.</h1>")
    );
}

#[test]
fn labels_become_a_matrix_slices_a_table_and_large_reports_stay_small() {
    let folder = tempfile::tempdir().unwrap();
    let text = "words of a message that is not short ".repeat(60);
    let rows: String = (0..5000)
        .map(|i| {
            let label = ["refund", "delivery", "other <b>"][i % 3];
            let meta = ["easy", "hard"][i % 2];
            let row = serde_json::json!({"id": format!("r{i}"), "input": format!("{i} {text}"), "expected": label, "tier": meta});
            format!("{row}\n")
        })
        .collect();
    let toml =
        crate::test_support::TASK.split("[[check]]").next().unwrap().replace("\"fields\"", "\"right\"");
    let toml = toml
        + "[[check]]\nname = \"right\"\nkind = \"exact\"\n[[metric]]\nname = \"right\"\nchecks = [\"right\"]\n";
    std::fs::write(folder.path().join("task.toml"), toml).unwrap();
    std::fs::write(folder.path().join("test.jsonl"), rows).unwrap();
    let task = Task::load(folder.path()).unwrap();
    let set: EvalSet = task.eval_set(Split::Test, &ReadOptions::default()).unwrap();
    let all_refund = measure(&task, &set, &mut MockModel::constant("m", "refund"), &folder.path().join("a"));
    let none = measure(&task, &set, &mut MockModel::constant("n", "no idea"), &folder.path().join("b"));
    let data =
        ReportData::new(&task, vec![candidate("base", none), candidate("tuned", all_refund)], 1).unwrap();
    let confusions = serde_json::to_value(breakdown::confusions(&data)).unwrap();
    let confusion = &confusions[0];
    assert_eq!((confusions.as_array().unwrap().len(), &confusion["field"]), (1, &serde_json::Value::Null));
    assert_eq!(
        confusion["given"],
        serde_json::json!(["delivery", "other <b>", "refund", "(another answer)"])
    );
    assert_eq!(
        (&confusion["rows"][0]["cells"][2]["count"], &confusion["rows"][2]["cells"][2]["right"]),
        (&1667.into(), &true.into())
    );
    let html = data.html().unwrap();
    assert!(html.len() < 15_000_000, "{}", html.len());
    let payload = payload(&html);
    assert!(
        payload["samples"].as_array().unwrap().len() == 5000 && payload["bound"].as_u64().unwrap() < 4000
    );
    assert!(html.contains("other &lt;b&gt;") && !html.contains("other <b>"));
    assert!(html.contains("Where it holds") && html.contains(">hard</th>"));
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
        peak_rss_mib: Some(1893),
        adapter: "runs/1/adapter".into(),
    });
    data.commands =
        vec![Command { purpose: "All of it".into(), command: "underdog run tasks/invoices --seed 1".into() }];
    data.machine = Some("2 cores, 8 GiB; invented numbers for looking at this page".into());
    let html = data.html().unwrap();
    assert_eq!(payload(&html)["samples"].as_array().unwrap().len(), 100);
    assert!(html.contains("class=\"scatter\"") && html.contains("<h3>Fields</h3>"));
    assert!(html.contains("class=\"curve\"") && html.contains("28 min 38 s"));
    if let Ok(target) = std::env::var("UNDERDOG_EXAMPLE_REPORT") {
        data.write(Path::new(&target)).unwrap();
    }
}
