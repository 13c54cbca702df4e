//! Fast paths learn what f32 learns: 20 steps of the real model on short rows, in bf16 and with weights in their blocks, stay within
//! 1 % of the f32 loss, smoothed over five steps. `cargo xtask bench loss` does the same over 100 steps.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use serde_json::Value;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use underdog_eval::model::{Message, Role};
use underdog_model::catalogue::Cache;
use underdog_model::language_model::LanguageModel;
use underdog_model::linear::Precision;
use underdog_model::reference::Reference;
use underdog_train::data::{Learned, Row, tokenize};
use underdog_train::metrics;
use underdog_train::recipe::Recipe;
use underdog_train::trainer::{RunFiles, train};

#[path = "../../model/tests/common/mod.rs"]
mod common;

const STEPS: usize = 20;
const BATCH: usize = 2;
const WINDOW: usize = 5;

/// Different rows for all steps, from a built-in task, without its long list of intents.
fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tasks/banking77/train.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| value[key].as_str().unwrap().to_string();
        let messages = vec![Message { role: Role::User, content: text("input") }];
        Row { id: text("id"), messages, completion: text("expected") }
    };
    text.lines().take(STEPS * BATCH).map(row).collect()
}

/// The loss of every step, as means of [`WINDOW`] steps.
fn curve(base: &str, precision: Precision) -> Vec<f64> {
    let reference = Reference { base: base.into(), adapter: None };
    let model = LanguageModel::load(&reference, &Cache::at("."), precision).unwrap();
    let examples = tokenize(&model, &rows(), Learned::Last).unwrap();
    let recipe = Recipe { steps: Some(STEPS), batch: BATCH, save_every: 1000, ..Recipe::default() };
    let folder = tempfile::tempdir().unwrap();
    let files = RunFiles { directory: folder.path().into(), resume: false, harness_fingerprint: None };
    train(&model, &examples, &recipe, &files, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let losses: Vec<f64> =
        metrics::read_until(&files.metrics(), STEPS).unwrap().iter().map(|m| m.loss).collect();
    losses.windows(WINDOW).map(|w| w.iter().sum::<f64>() / WINDOW as f64).collect()
}

#[test]
fn the_loss_of_every_fast_path_stays_within_one_per_cent_of_f32() {
    let Some(path) = common::weights("smollm2-135m-instruct") else { return };
    let base = path.display().to_string();
    let want = curve(&base, Precision::F32);
    assert!(want.last() < want.first().map(|first| first * 0.9).as_ref(), "it learns: {want:?}");
    for precision in [Precision::Bf16, Precision::Native] {
        let got = curve(&base, precision);
        let far = got.iter().zip(&want).fold(0.0f64, |far, (a, b)| far.max((a / b - 1.0).abs()));
        eprintln!("{precision:?}: {:.3} % from f32 at most", 100.0 * far);
        assert!(far < 0.01, "{precision:?}: {got:?}, f32 {want:?}");
    }
}
