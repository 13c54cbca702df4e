//! A run that is cut off at any step and resumed gives the bytes of the undisturbed run.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use underdog_eval::Kind;
use underdog_eval::model::{Message, Role};
use underdog_eval::report::TrainSummary;
use underdog_model::catalogue::Cache;
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::Precision;
use underdog_model::reference::Reference;
use underdog_testkit::golden;
use underdog_train::checkpoint::{self, State, latest};
use underdog_train::data::{Example, Learned, Row, tokenize};
use underdog_train::metrics;
use underdog_train::recipe::Recipe;
use underdog_train::trainer::{RunFiles, train};

fn model() -> LanguageModel {
    let path = golden("models/tiny-llama");
    LanguageModel::load(
        &Reference { base: path.display().to_string(), adapter: None },
        &Cache::at("."),
        Precision::F32,
    )
    .unwrap()
}

fn rows(model: &LanguageModel) -> Vec<Example> {
    let row = |i: usize| Row {
        id: format!("row-{i}"),
        messages: vec![Message { role: Role::User, content: format!("number {i} of a list") }],
        completion: format!("answer {}", i % 3),
    };
    tokenize(model, &(0..10).map(row).collect::<Vec<_>>(), Learned::Last).unwrap()
}

fn recipe() -> Recipe {
    Recipe { steps: Some(9), batch: 3, save_every: 2, rank: 2, dropout: 0.1, ..Recipe::default() }
}

/// Trains in `directory`, stopping after `stop_after` steps of this session.
fn run(directory: &Path, resume: bool, stop_after: usize) -> underdog_eval::Result<f64> {
    sitting(directory, resume, stop_after).map(|summary| summary.loss_last.unwrap())
}

fn sitting(directory: &Path, resume: bool, stop_after: usize) -> underdog_eval::Result<TrainSummary> {
    let model = model();
    let files = RunFiles { directory: directory.to_path_buf(), resume, harness_fingerprint: None };
    let (stop, mut steps) = (AtomicBool::new(false), 0);
    let result = train(&model, &rows(&model), &recipe(), &files, &stop, &mut |_| {
        steps += 1;
        stop.store(steps >= stop_after, Ordering::Relaxed);
    });
    result.map(|(_, summary)| summary)
}

fn adapter(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("adapter/adapter_model.safetensors")).unwrap()
}

#[test]
fn a_resumed_run_gives_the_bytes_of_the_undisturbed_one() {
    let whole = tempfile::tempdir().unwrap();
    let loss = run(whole.path(), false, usize::MAX).unwrap();
    let again = tempfile::tempdir().unwrap();
    assert_eq!(run(again.path(), false, usize::MAX).unwrap(), loss);
    assert_eq!(adapter(again.path()), adapter(whole.path()), "the same run gives the same bytes");
    for stop_after in [1, 2, 5, 8] {
        let cut = tempfile::tempdir().unwrap();
        let error = run(cut.path(), false, stop_after).unwrap_err();
        assert_eq!(error.kind(), Kind::Stopped, "{error}");
        assert!(!cut.path().join("adapter").exists());
        assert_eq!(run(cut.path(), true, usize::MAX).unwrap(), loss);
        assert_eq!(adapter(cut.path()), adapter(whole.path()), "stopped after {stop_after}");
        let metrics = std::fs::read_to_string(cut.path().join("metrics.jsonl")).unwrap();
        assert_eq!(metrics.lines().count(), 9);
    }
}

#[test]
fn the_seconds_of_a_resumed_run_are_those_of_all_its_steps() {
    let cut = tempfile::tempdir().unwrap();
    run(cut.path(), false, 5).unwrap_err();
    // Long ago and slow: what the first sitting took must be in the sum.
    let path = cut.path().join("metrics.jsonl");
    let mut lines = metrics::read_until(&path, 5).unwrap();
    lines.iter_mut().for_each(|line| line.seconds = 100.0);
    metrics::rewrite(&path, &lines).unwrap();
    let summary = sitting(cut.path(), true, usize::MAX).unwrap();
    let all: f64 = metrics::read_until(&path, 9).unwrap().iter().map(|line| line.seconds).sum();
    assert!(summary.seconds > 500.0 && summary.seconds == all, "{} of {all}", summary.seconds);
    assert_eq!(summary.rows_per_s, Some(27.0 / all));
    let again = sitting(cut.path(), true, usize::MAX).unwrap();
    assert_eq!(
        (again.seconds, again.rows_per_s),
        (summary.seconds, summary.rows_per_s),
        "nothing was computed"
    );
}

#[test]
fn what_a_kill_leaves_behind_does_not_count() {
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), false, usize::MAX).unwrap();
    let cut = tempfile::tempdir().unwrap();
    run(cut.path(), false, 5).unwrap_err();
    // As if killed one step later while writing: an unfinished checkpoint, a metrics line too many and half of another.
    let unfinished = cut.path().join("checkpoints/.step-000006.1.partial");
    std::fs::create_dir_all(&unfinished).unwrap();
    let metrics = cut.path().join("metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).unwrap();
    let extra = text.lines().last().unwrap().replace("\"step\":5", "\"step\":6");
    std::fs::write(&metrics, format!("{text}{extra}\n{{\"step\":7,\"lo")).unwrap();
    run(cut.path(), true, usize::MAX).unwrap();
    assert!(!unfinished.exists(), "it is removed");
    assert_eq!(adapter(cut.path()), adapter(whole.path()));
    let steps = std::fs::read_to_string(&metrics).unwrap().lines().count();
    assert_eq!(steps, 9);
}

#[test]
fn a_checkpoint_names_the_harness_of_its_sitting_which_a_resume_may_change() {
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), false, usize::MAX).unwrap();
    let cut = tempfile::tempdir().unwrap();
    let model = model();
    let named = |step: usize| {
        let path = cut.path().join(format!("checkpoints/step-{step:06}/state.json"));
        serde_json::from_slice::<State>(&std::fs::read(path).unwrap()).unwrap().harness_fingerprint
    };
    let sitting = |harness: &str, resume: bool, stop: bool| {
        let harness_fingerprint = Some(harness.to_string());
        let files = RunFiles { directory: cut.path().to_path_buf(), resume, harness_fingerprint };
        train(&model, &rows(&model), &recipe(), &files, &AtomicBool::new(stop), &mut |_| {}).map(|_| ())
    };
    assert_eq!(sitting("first", false, true).unwrap_err().kind(), Kind::Stopped);
    assert_eq!(named(1).as_deref(), Some("first"));
    sitting("second", true, false).unwrap();
    assert_eq!(named(9).as_deref(), Some("second"));
    assert_eq!(adapter(cut.path()), adapter(whole.path()), "training does not depend on it");
}

#[test]
fn another_recipe_does_not_resume_it() {
    let cut = tempfile::tempdir().unwrap();
    run(cut.path(), false, 5).unwrap_err();
    let model = model();
    let files = RunFiles { directory: cut.path().to_path_buf(), resume: true, harness_fingerprint: None };
    let other = Recipe { lr: 1.0, ..recipe() };
    let error =
        train(&model, &rows(&model), &other, &files, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("another run"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_samples() {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), false, 5).unwrap_err();
    let checkpoints = directory.path().join("checkpoints");
    let text = std::fs::read(checkpoints.join("step-000005/state.json")).unwrap();
    let state: State = serde_json::from_slice(&text).unwrap();
    let (_, mut values, optimiser) = latest(&checkpoints, &state.run).unwrap().unwrap();
    values.fill(f32::MAX);
    checkpoint::write(&checkpoints, &State { step: 6, ..state }, &values, &optimiser).unwrap();
    let error = run(directory.path(), true, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.to_string().contains("step 7") && error.to_string().contains("row-"), "{error}");
    assert!(!directory.path().join("adapter").exists());
}
