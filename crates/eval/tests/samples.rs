//! Files as earlier versions of the program wrote them stay readable, and what is written now has the shape that its
//! version says. The record's samples are tested beside its reader.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use underdog_eval::advise::AdviseData;
use underdog_eval::compare::{AgainstAll, Claim, Comparisons};
use underdog_eval::mock::MockModel;
use underdog_eval::report::{CandidateResult, Command, Fingerprint, ReportData, TaskSummary, TrainSummary};
use underdog_eval::split::ReadOptions;
use underdog_eval::{EvalSettings, Evaluation, Split, Task, evaluate};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The task of version 1 on two rows of its own.
fn task(folder: &Path) -> Task {
    let row = |i: usize| {
        format!("{{\"input\":\"i{i}\",\"expected\":{{\"a\":\"x\",\"b\":\"y{i}\"}},\"page\":{i}}}\n")
    };
    let file = folder.join("rows.jsonl");
    std::fs::write(&file, (1..4).map(row).collect::<String>()).unwrap();
    let task = Task::load(&data("task.v1.toml")).unwrap();
    task.with_data(Split::Test, &file)
}

fn options() -> ReadOptions {
    ReadOptions { allow_leakage: true, ..ReadOptions::default() }
}

#[test]
fn a_task_of_version_1_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let task = task(folder.path());
    assert_eq!(
        (task.name.as_str(), task.description.as_str(), task.max_new_tokens),
        ("every field", "A task for tests.", 30)
    );
    let checks: Vec<&str> = task.harness.check_names().collect();
    assert_eq!(checks, ["text", "valid", "schema", "field.a", "field.b", "together"]);
    assert_eq!(task.harness.score(), "fields");
    let set = task.eval_set(Split::Test, &options()).unwrap();
    let messages = task.messages(&set.samples[1]).unwrap();
    assert_eq!(
        (messages[0].content.as_str(), messages[1].content.as_str()),
        ("Answer with JSON.", "Row 2: i2")
    );
    assert_eq!(task.recipe["lr"].as_float(), Some(1e-3));
    // Changes only together with HARNESS_VERSION: old and new scores must not be compared.
    assert_eq!(
        task.harness.fingerprint(),
        "1f16ee98fe27e6e94e163d0a8ca5d4682cc0126d0c7dab480926401c1d011fa1"
    );
}

fn measured(task: &Task, folder: &Path, name: &str, answer: &str) -> CandidateResult {
    let set = task.eval_set(Split::Test, &options()).unwrap();
    let settings = EvalSettings { record_path: folder.join(name), resume: false, limit: None, seed: 1 };
    let mut model = MockModel::constant(name, answer);
    let evaluation: Evaluation =
        evaluate(task, &set, &mut model, &settings, &mut |_| ControlFlow::Continue(())).unwrap();
    CandidateResult { role: name.into(), evaluation, bytes: Some(1) }
}

#[test]
fn an_advice_of_version_1_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(data("advise.v1.json"), folder.path().join("advise.json")).unwrap();
    let advice = AdviseData::read(folder.path()).unwrap().unwrap();
    let roles: Vec<&str> = advice.candidates.iter().map(|candidate| candidate.role.as_str()).collect();
    assert_eq!(roles, ["base", "constrained", "majority", "tuned"]);
    assert_eq!(advice.curves[0].points.iter().map(|point| point.rows).collect::<Vec<_>>(), [3, 6, 12]);
    assert!(advice.curves[0].law.is_some() && advice.curves[0].doubled.is_some());
    // What is written today has the same shape.
    let (old, new) = (std::fs::read(data("advise.v1.json")).unwrap(), serde_json::to_value(&advice).unwrap());
    assert_eq!(serde_json::from_slice::<Value>(&old).unwrap(), new);
    assert!(advice.html().unwrap().contains(&advice.headline));
}

/// A report with every part filled in.
fn report(folder: &Path) -> Value {
    let task = task(folder);
    let candidates = vec![
        measured(&task, folder, "base", "no"),
        measured(&task, folder, "tuned", r#"{"a": "x", "b": "y2"}"#),
    ];
    let mut report = ReportData::new(&task, candidates, 1).unwrap();
    report.train = Some(TrainSummary {
        method: "sft".into(),
        steps: 2,
        rows: 3,
        epochs: 1.0,
        rows_per_s: Some(1.5),
        flat_tokens: 60,
        tree_tokens: 40,
        seconds: 2.0,
        loss_first: Some(2.0),
        loss_last: Some(1.0),
        peak_rss_mib: Some(100),
        adapter: "adapter".into(),
    });
    report.loss_curve = vec![(1, 2.0), (2, 1.0)];
    report.commands =
        vec![Command { purpose: "Repeat this run".into(), command: "underdog run task".into() }];
    report.machine = Some("2 cores".into());
    report.notes = vec!["A note.".into()];
    report.write(folder).unwrap();
    serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap()
}

/// The paths of all fields, elements of arrays taken together.
fn fields(value: &Value, at: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| {
            all.insert(format!("{at}/{key}"));
            fields(inner, &format!("{at}/{key}"), all);
        }),
        Value::Array(items) => items.iter().for_each(|inner| fields(inner, &format!("{at}[]"), all)),
        _ => {}
    }
}

#[test]
fn a_report_has_the_shape_of_its_version_and_older_ones_stay_readable() {
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(data(name)).unwrap()).unwrap() };
    let latest = read("report.v3.json");
    let folder = tempfile::tempdir().unwrap();
    let new = report(folder.path());
    assert_eq!(new["version"], 3, "a new version gets a sample of its own here");
    if let Ok(file) = std::env::var("UNDERDOG_NEW_SAMPLE") {
        // How the sample of a new version is made; it is committed as it is.
        std::fs::write(file, serde_json::to_vec_pretty(&new).unwrap()).unwrap();
    }
    let shape = |value: &Value| {
        let mut all = BTreeSet::new();
        fields(value, "", &mut all);
        all
    };
    assert!(shape(&new).len() > 60, "the report is filled in");
    assert_eq!(shape(&new), shape(&latest), "another shape is another version");
    for old in [read("report.v1.json"), read("report.v2.json"), latest] {
        read_parts(&old);
    }
}

/// Reads the parts of a report of any version.
fn read_parts(old: &Value) {
    let part = |name: &str| old[name].clone();
    let read: TaskSummary = serde_json::from_value(part("task")).unwrap();
    assert_eq!(read.score, "fields");
    if old["version"].as_u64() < Some(3) {
        let comparison: Comparisons = serde_json::from_value(part("comparison")).unwrap();
        assert_eq!((comparison.score.n, comparison.score.candidate.as_str()), (3, "tuned"));
    } else {
        let all: AgainstAll = serde_json::from_value(part("comparisons")).unwrap();
        let score = all.with_strongest().and_then(|strongest| strongest.overall(&all.score)).unwrap();
        assert_eq!((score.n, score.candidate.as_str()), (3, "tuned"));
    }
    let claims: Vec<Claim> = serde_json::from_value(part("claims")).unwrap();
    assert!(!claims.is_empty());
    let train: TrainSummary = serde_json::from_value(part("train")).unwrap();
    assert_eq!(train.steps, 2);
    let _: Vec<Command> = serde_json::from_value(part("commands")).unwrap();
    let _: Vec<Fingerprint> = serde_json::from_value(part("fingerprints")).unwrap();
    let curve: Vec<(u64, f64)> = serde_json::from_value(part("loss_curve")).unwrap();
    assert_eq!(curve, [(1, 2.0), (2, 1.0)]);
}
