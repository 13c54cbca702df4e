//! The first 20 steps against PEFT: same rows, same order, same initial A and B, in f32.
//!
//! The tolerances are set by what each mistake would change (measured when the goldens were made, largest relative
//! difference of the losses): noise of f32 2e-7, another epsilon 3e-5, no weight decay 5e-5, another β₂ 4e-4, no clipping
//! 3e-3. So 1e-5 on the tiny model sees all of them; the real one has more noise, and 1e-4 sees most.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use serde_json::Value;
use std::path::Path;
use underdog_model::checkpoint::Checkpoint;
use underdog_model::linear::Precision;
use underdog_model::transformer::{Transformer, Workspace};
use underdog_testkit::{golden, read_json};
use underdog_train::data::Example;
use underdog_train::optimiser::{AdamW, clip};
use underdog_train::schedule::learning_rate;
use underdog_train::trainer::{StepSettings, accumulate};

#[path = "../../model/tests/common/mod.rs"]
mod common;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn examples(rows: &Value) -> Vec<Example> {
    let row = |row: &Value| {
        let ids: Vec<u32> = numbers(&row["ids"]).into_iter().map(|v| v as u32).collect();
        let mask = numbers(&row["mask"]);
        let start = mask.iter().position(|&m| m == 1.0).unwrap();
        assert!(mask[start..].iter().all(|&m| m == 1.0), "the loss is on the completion");
        Example::new("row", ids[..start].to_vec(), &ids[start..])
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

/// The largest relative difference of the 20 losses and gradient norms from the golden, with memory for `mib` of activations.
fn worst(path: &Path, golden: &Value, mib: usize) -> (f64, f64) {
    let model = Transformer::load(&Checkpoint::open(path).unwrap(), Precision::F32).unwrap();
    let mut lora = common::hashed_lora(&model, &golden["adapter_init"]);
    let examples = examples(&golden["rows"]);
    let (losses, norms, rates) =
        (numbers(&golden["losses"]), numbers(&golden["grad_norms"]), numbers(&golden["learning_rates"]));
    let decay = golden["adamw"]["weight_decay"].as_f64().unwrap();
    let peak = rates.iter().copied().fold(0.0, f64::max);
    let mut optimiser = AdamW::new(lora.values.len());
    let (settings, mut space) =
        (StepSettings { memory: mib << 20, dropout: None, prompt_weight: 0.0 }, Workspace::default());
    let (mut loss_error, mut norm_error) = (0.0f64, 0.0f64);
    for (step, rate) in rates.iter().enumerate() {
        assert!(
            (learning_rate(peak, 0.2, step, 20) - rate).abs() < 1e-9 * peak,
            "the schedule is the golden's"
        );
        let rows: Vec<&Example> =
            numbers(&golden["batches"][step]).into_iter().map(|i| &examples[i as usize]).collect();
        let mut gradients = vec![0.0; lora.values.len()];
        let outcome = accumulate(&model, &lora, &rows, settings, &mut gradients, &mut space);
        let norm = clip(&mut gradients, golden["max_grad_norm"].as_f64().unwrap());
        optimiser.step(&mut lora.values, &gradients, *rate, decay);
        loss_error = loss_error.max((outcome.loss / losses[step] - 1.0).abs());
        norm_error = norm_error.max((norm / norms[step] - 1.0).abs());
    }
    (loss_error, norm_error)
}

#[test]
fn the_tiny_model_learns_as_with_peft_whatever_the_micro_batches() {
    let golden_values = read_json("sft/tiny-llama.json");
    for mib in [64, 1] {
        let (loss, norm) = worst(&golden("models/tiny-llama"), &golden_values, mib);
        assert!(loss < 1e-5 && norm < 1e-4, "with {mib} MiB: losses differ by {loss}, norms by {norm}");
    }
}

#[test]
fn smollm2_learns_as_with_peft() {
    let Some(path) = common::weights("smollm2-135m-instruct") else { return };
    let (loss, norm) = worst(&path, &read_json("sft/smollm2.json"), 768);
    assert!(loss < 1e-4 && norm < 1e-3, "losses differ by {loss}, norms by {norm}");
}
