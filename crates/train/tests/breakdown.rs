//! A loss that is no number ends the run at once, and says where; what was learned before it is kept.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use underdog_eval::{Error, Kind};
use underdog_model::catalogue::Cache;
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::Precision;
use underdog_model::reference::Reference;
use underdog_testkit::golden;
use underdog_train::checkpoint::{self, State};
use underdog_train::data::Example;
use underdog_train::metrics;
use underdog_train::recipe::Recipe;
use underdog_train::trainer::{RunFiles, train};

/// A scale so large that products of the adapter leave the range of f32 once its second factor is not zero any more.
fn recipe() -> Recipe {
    Recipe { steps: Some(200), batch: 2, lr: 10.0, alpha: 1e18, clip: 0.0, warmup: 0.0, ..Recipe::default() }
}

fn files(folder: &Path, resume: bool) -> RunFiles {
    RunFiles { directory: folder.to_path_buf(), resume, harness_fingerprint: None }
}

/// Trains until it breaks down; gives the error and the number of the last good step.
fn broken(recipe: &Recipe, files: &RunFiles) -> (Error, usize) {
    let base = golden("models/tiny-llama").display().to_string();
    let reference = Reference { base, adapter: None };
    let model = LanguageModel::load(&reference, &Cache::at("."), Precision::F32).unwrap();
    let rows: Vec<Example> =
        (0..6).map(|i| Example::new(&format!("row-{i}"), vec![5 + i; 9], &[20 + i, 3])).collect();
    let mut done = 0;
    let result = train(&model, &rows, recipe, files, &AtomicBool::new(false), &mut |p| done = p.metrics.step);
    (result.unwrap_err(), done)
}

/// Names of all checkpoints, ascending.
fn checkpoints(files: &RunFiles) -> Vec<String> {
    let entries = std::fs::read_dir(files.checkpoints()).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_loss_that_is_no_number_stops_with_the_step_the_samples_and_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), false);
    let (error, done) = broken(&Recipe { save_every: 1, ..recipe() }, &files);
    assert_eq!(error.kind(), Kind::Data);
    let facts = error.facts();
    assert_eq!(facts.what, format!("training broke down at step {}", done + 1));
    let found = facts.found.as_deref().unwrap();
    let named = (0..6).filter(|i| found.contains(&format!("row-{i}"))).count();
    assert_eq!(named, 2, "the samples of the step: {found}");
    let good = files.checkpoints().join(format!("step-{done:06}"));
    assert_eq!(facts.place.as_deref(), Some(good.to_str().unwrap()));
    assert!((1..200).contains(&done), "the run broke down after {done} steps");
    // No line of metrics holds the broken loss.
    let lines = metrics::read_until(&files.metrics(), 200).unwrap();
    assert!(lines.len() == done && lines.iter().all(|m| m.loss.is_finite()));
    assert_eq!(checkpoints(&files).last(), Some(&format!("step-{done:06}")));
    assert!(!files.adapter().exists());
}

#[test]
fn the_state_before_the_broken_step_is_kept_where_no_checkpoint_was_due() {
    let folder = tempfile::tempdir().unwrap();
    let begun = files(folder.path(), false);
    let (error, done) = broken(&recipe(), &begun);
    assert!((1..recipe().save_every).contains(&done), "no checkpoint was due in {done} steps");
    assert_eq!(checkpoints(&begun), [format!("step-{done:06}")]);
    let good = begun.checkpoints().join(format!("step-{done:06}"));
    assert_eq!(error.facts().place.as_deref(), Some(good.to_str().unwrap()));
    assert!(error.facts().hint.as_deref().unwrap().contains("last good checkpoint"));
    let state: State = serde_json::from_slice(&std::fs::read(good.join("state.json")).unwrap()).unwrap();
    let (state, ..) = checkpoint::latest(&begun.checkpoints(), &state.run).unwrap().unwrap();
    assert_eq!(state.step, done, "it can be gone on from");
    let (again, _) = broken(&recipe(), &files(folder.path(), true));
    assert_eq!(again, error, "and going on breaks down at the same step");
}

#[test]
fn a_run_that_breaks_down_in_its_first_step_says_when_a_checkpoint_would_have_been_written() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), false);
    // No number of f32: infinity times the zeros of a fresh adapter.
    let (error, done) = broken(&Recipe { alpha: 1e39, ..recipe() }, &files);
    assert_eq!((done, error.facts().what.as_str()), (0, "training broke down at step 1"));
    assert_eq!(error.facts().place.as_deref(), Some(files.checkpoints().to_str().unwrap()));
    let hint = error.facts().hint.as_deref().unwrap();
    assert!(hint.contains("no good checkpoint was written yet") && hint.contains("after 25 steps"), "{hint}");
    assert!(checkpoints(&files).is_empty(), "nothing was learned");
}
