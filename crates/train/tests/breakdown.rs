//! A loss that is no number ends the run at once, and says where.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::sync::atomic::AtomicBool;
use underdog_eval::Kind;
use underdog_model::catalogue::Cache;
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::Precision;
use underdog_model::reference::Reference;
use underdog_testkit::golden;
use underdog_train::checkpoint;
use underdog_train::data::Example;
use underdog_train::metrics;
use underdog_train::recipe::Recipe;
use underdog_train::trainer::{RunFiles, train};

#[test]
fn a_loss_that_is_no_number_stops_with_the_step_the_samples_and_the_last_good_checkpoint() {
    let base = golden("models/tiny-llama").display().to_string();
    let model =
        LanguageModel::load(&Reference { base, adapter: None }, &Cache::at("."), Precision::F32).unwrap();
    let rows: Vec<Example> =
        (0..6).map(|i| Example::new(&format!("row-{i}"), vec![5 + i; 9], &[20 + i, 3])).collect();
    // A scale so large that products of the adapter leave the range of f32 once its second factor is not zero any more.
    let recipe = Recipe {
        steps: Some(200),
        batch: 2,
        lr: 10.0,
        alpha: 1e18,
        clip: 0.0,
        warmup: 0.0,
        save_every: 1,
        ..Recipe::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let files = RunFiles { directory: folder.path().to_path_buf(), resume: false };
    let mut done = 0;
    let error =
        train(&model, &rows, &recipe, &files, &AtomicBool::new(false), &mut |p| done = p.metrics.step)
            .unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    let facts = error.facts();
    assert_eq!(facts.what, format!("training broke down at step {}", done + 1));
    let found = facts.found.as_deref().unwrap();
    let named = (0..6).filter(|i| found.contains(&format!("row-{i}"))).count();
    assert_eq!(named, 2, "the samples of the step: {found}");
    assert_eq!(facts.place.as_deref(), Some(files.checkpoints().display().to_string().as_str()));
    assert!((1..200).contains(&done), "the run broke down after {done} steps");
    // The state before that step is there, whole and finite, and no line of metrics holds the broken loss.
    let lines = metrics::read_until(&files.metrics(), 200).unwrap();
    assert!(lines.len() == done && lines.iter().all(|m| m.loss.is_finite()));
    let newest =
        std::fs::read_dir(files.checkpoints()).unwrap().map(|e| e.unwrap().file_name()).max().unwrap();
    assert_eq!(newest.to_str().unwrap(), format!("step-{done:06}"));
    assert!(checkpoint::exist(&files.checkpoints()).unwrap());
    assert!(!files.adapter().exists());
}
