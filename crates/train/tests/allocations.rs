//! A training step allocates next to nothing once its memory is there: factors, activations, attention's tiles, the head's
//! blocks and the packed adapter are used again. What is left grows with the number of rows, not with their width: the forest, the
//! plan of attention, lists of rows and of tasks.
//!
//! In f32 the products belong to a library with memory of its own, so this is about bf16 on tiles, and about weights in blocks
//! that become such tiles.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic and say what they measured"
)]

use underdog_model::checkpoint::Checkpoint;
use underdog_model::linear::Precision;
use underdog_model::lora::{Lora, LoraConfig, Module};
use underdog_model::transformer::{Transformer, Workspace};
use underdog_testkit::allocations::{self, Counting};
use underdog_testkit::{golden, hashed_values};
use underdog_train::data::Example;
use underdog_train::trainer::{StepSettings, accumulate};

#[path = "../../model/tests/common/mod.rs"]
mod common;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated by the third step over rows that share most of their prompt, and the tokens of the step.
fn third_step(model: &Transformer, memory: usize) -> (u64, usize) {
    let config = LoraConfig { rank: 8, alpha: 16.0, targets: Module::ALL.to_vec() };
    let mut lora = Lora::zeros(model.config(), config);
    lora.values = hashed_values(3, 0, lora.values.len(), 0.05);
    let row = |i: u32| {
        let prompt: Vec<u32> = (0..200).chain((0..20).map(|j| 10 + i * 7 + j)).map(|t| t % 300).collect();
        Example::new("row", prompt, &[1 + i, 2, 3])
    };
    let examples: Vec<Example> = (0..16).map(row).collect();
    let rows: Vec<&Example> = examples.iter().collect();
    let (mut space, mut gradients) = (Workspace::default(), vec![0.0; lora.values.len()]);
    let settings = StepSettings { memory, dropout: None, prompt_weight: 0.0 };
    let mut last = (0, 0);
    for _ in 0..3 {
        let before = allocations::bytes();
        let outcome = accumulate(model, &lora, &rows, settings, &mut gradients, &mut space);
        last = (allocations::bytes() - before, outcome.tree_tokens);
    }
    last
}

#[test]
fn a_step_after_the_first_allocates_no_activations() {
    if !underdog_tensor::cpu::has_wide_words() {
        println!("this machine has no AVX-512: attention in f32 takes its sums anew each time");
        return;
    }
    let path = common::weights("smollm2-135m-instruct").unwrap_or_else(|| golden("models/tiny-llama"));
    let checkpoint = Checkpoint::open(&path).unwrap();
    let steps = [(Precision::Bf16, 1 << 30), (Precision::Bf16, 60 << 20), (Precision::Native, 1 << 30)];
    for (precision, memory) in steps {
        let model = Transformer::load(&checkpoint, precision).unwrap();
        let layers = model.config().layers.len();
        let (bytes, tokens) = third_step(&model, memory);
        // Lists of rows take a few dozen bytes for each row and head in a layer's attentions, tasks some kilobytes. One array of
        // activations a layer would be four times the bound.
        let bound = layers * (tokens * 600 + 100_000) + tokens * 2_000;
        let what = format!("{}, {tokens} tokens, {layers} layers", precision.name());
        println!("{what}: {bytes} bytes, at most {bound}");
        assert!(bytes < bound as u64, "{what}: {bytes} bytes, not {bound}");
    }
}
