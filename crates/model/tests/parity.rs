//! The transformer against transformers and PEFT: logits and adapter gradients of the tiny models, whose files are part of
//! the repository, and of the catalogue's real weights where they are in the cache.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use serde_json::Value;
use std::path::Path;
use underdog_model::checkpoint::Checkpoint;
use underdog_model::linear::{Precision, Use};
use underdog_model::lora::{Lora, Module};
use underdog_model::transformer::{Keep, KvCache, StepOptions, Transformer, Workspace};
use underdog_model::tree::{Batch, Forest, Sequence, SequenceTarget};
use underdog_testkit::{assert_close, golden, read_json, relative_error};

fn load(path: &Path) -> Transformer {
    Transformer::load(&Checkpoint::open(path).unwrap(), Precision::F32).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    ids(value).into_iter().map(|v| v as usize).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// Logits of some positions of one sequence: all rows in one batch, or the last rows one at a time on top of a cache.
fn logits(model: &Transformer, lora: Option<&Lora>, ids: &[u32], positions: &[usize]) -> Vec<f32> {
    let mut cache = KvCache::new(model.config(), ids.len());
    let mut batch = Batch::default();
    batch.push(ids, 0, 0, vec![]);
    let ready = lora.map(|lora| model.ready(lora, Use::Forward));
    model.extend(ready.as_ref(), &batch, &mut cache, positions, &mut Workspace::default())
}

/// Compares one case of a golden: logits at some vocabulary entries within 1e-4, and the log-probability of each next token.
fn compare_case(name: &str, model: &Transformer, lora: Option<&Lora>, case: &Value) {
    let (ids, positions) = (ids(&case["ids"]), indices(&case["positions"]));
    let got = logits(model, lora, &ids, &positions);
    let v = model.config().vocab;
    let columns = case.get("vocabulary").map_or_else(|| (0..v).collect(), indices);
    for (i, (position, want)) in positions.iter().zip(case["logits"].as_array().unwrap()).enumerate() {
        let row: Vec<f32> = columns.iter().map(|c| got[i * v + c]).collect();
        assert_close(&format!("{name} logits at {position}"), &row, &floats(want), 1e-4);
    }
    let inside: Vec<usize> = positions.iter().copied().filter(|p| p + 1 < ids.len()).collect();
    let targets = inside.iter().map(|&p| SequenceTarget { position: p, token: ids[p + 1] }).collect();
    let forest = Forest::merge(&[Sequence { tokens: ids, targets }]);
    let options = StepOptions { keep: Keep::WithoutMlp, dropout: None };
    let ready = lora.map(|lora| model.ready(lora, Use::Forward));
    let (scores, _) = model.forward(ready.as_ref(), &forest, options, &mut Workspace::default());
    let want = case["next_log_prob"].as_array().unwrap();
    for (place, score) in scores.iter().enumerate() {
        let want = want[place].as_f64().unwrap();
        assert!(
            (score.log_prob as f64 - want).abs() < 2e-4,
            "{name} log-prob {place}: {} but {want}",
            score.log_prob
        );
    }
}

#[test]
fn tiny_models_of_every_family_give_the_logits_of_transformers() {
    for name in ["tiny-llama", "tiny-qwen3", "tiny-gemma3"] {
        let model = load(&golden(&format!("models/{name}")));
        compare_case(name, &model, None, &read_json(&format!("logits/{name}.json")));
    }
}

fn real_weights(name: &str) {
    let Some(path) = common::weights(name) else { return };
    let model = load(&path);
    for case in read_json(&format!("logits/{name}.json"))["cases"].as_array().unwrap() {
        compare_case(&format!("{name} {}", case["name"]), &model, None, case);
    }
}

#[test]
fn smollm2_gives_the_logits_of_transformers() {
    real_weights("smollm2-135m-instruct");
}

#[test]
fn gemma_gives_the_logits_of_transformers_past_its_window_too() {
    real_weights("gemma-3-270m");
}

/// The rows of a batch as sequences whose targets are the masked tokens.
fn sequences(rows: &Value, batch: &[usize]) -> Vec<Sequence> {
    let row = |&i: &usize| {
        let (tokens, mask) = (ids(&rows[i]["ids"]), ids(&rows[i]["mask"]));
        let masked = (1..tokens.len()).filter(|&p| mask[p] == 1);
        let targets = masked.map(|p| SequenceTarget { position: p - 1, token: tokens[p] }).collect();
        Sequence { tokens, targets }
    };
    batch.iter().map(row).collect()
}

fn gradients_follow_peft(name: &str, model: &Transformer) {
    let want = read_json(&format!("sft/{name}.json"));
    let lora = common::hashed_lora(model, &want["adapter_init"]);
    let batch = want
        .get("batches")
        .map_or_else(|| (0..want["rows"].as_array().unwrap().len()).collect(), |b| indices(&b[0]));
    let forest = Forest::merge(&sequences(&want["rows"], &batch));
    let (ready, mut space) = (model.ready(&lora, Use::Training), Workspace::default());
    for keep in [Keep::All, Keep::WithoutMlp, Keep::Inputs] {
        let options = StepOptions { keep, dropout: None };
        let (scores, tape) = model.forward(Some(&ready), &forest, options, &mut space);
        let weight = 1.0 / scores.len() as f32;
        let loss = -scores.iter().map(|s| s.log_prob as f64).sum::<f64>() / scores.len() as f64;
        let golden = want["step_0"]["loss"].as_f64().unwrap();
        assert!((loss - golden).abs() < 1e-4 * golden, "{name}: loss {loss} but {golden}");
        let mut gradients = vec![0.0; lora.values.len()];
        model.backward(&ready, tape, &vec![-weight; scores.len()], &mut gradients, &mut space);
        compare_gradients(name, &lora, &gradients, &want["step_0"]["gradients"]);
    }
}

fn compare_gradients(name: &str, lora: &Lora, gradients: &[f32], want: &Value) {
    let mut of = lora.clone();
    of.values = gradients.to_vec();
    let mut seen = 0;
    for place in of.places() {
        let part = if matches!(place.module, Module::Gate | Module::Up | Module::Down) {
            "mlp"
        } else {
            "self_attn"
        };
        let stem =
            format!("base_model.model.model.layers.{}.{part}.{}", place.layer, place.module.peft_name());
        let (a, b) = of.split(place);
        for (which, got) in [("lora_A", a), ("lora_B", b)] {
            let want = &want[&format!("{stem}.{which}.weight")];
            let norm = got.iter().map(|&g| (g as f64).powi(2)).sum::<f64>().sqrt();
            let golden = want["norm"].as_f64().unwrap();
            assert!(
                (norm - golden).abs() <= 1e-3 * golden,
                "{name} {stem} {which}: norm {norm} but {golden}"
            );
            let Some(values) = want.get("values").map(floats) else { continue };
            let picked: Vec<f32> = want
                .get("at")
                .map_or_else(|| got.to_vec(), |at| indices(at).iter().map(|&i| got[i]).collect());
            let error = relative_error(&picked, &values);
            assert!(error < 1e-3, "{name} {stem} {which}: relative error {error}");
            seen += 1;
        }
    }
    assert!(seen >= 3 * lora.places().len() / 7, "{name}: only {seen} tensors compared value by value");
}

#[test]
fn tiny_models_of_every_family_give_the_gradients_of_peft() {
    for name in ["tiny-llama", "tiny-qwen3", "tiny-gemma3"] {
        gradients_follow_peft(name, &load(&golden(&format!("models/{name}"))));
    }
}

#[test]
fn smollm2_gives_the_gradients_of_peft() {
    if let Some(path) = common::weights("smollm2-135m-instruct") {
        gradients_follow_peft("smollm2", &load(&path));
    }
}

#[test]
fn decoding_token_by_token_gives_the_logits_of_the_whole_prompt() {
    for name in ["tiny-llama", "tiny-qwen3", "tiny-gemma3"] {
        let model = load(&golden(&format!("models/{name}")));
        let ids = ids(&read_json(&format!("logits/{name}.json"))["ids"]);
        let positions: Vec<usize> = (0..ids.len()).collect();
        let want = logits(&model, None, &ids, &positions);
        let mut cache = KvCache::new(model.config(), ids.len());
        let v = model.config().vocab;
        for (i, &id) in ids.iter().enumerate() {
            let past = underdog_tensor::attention::Span { slot: 0, len: i, position: 0 };
            let mut batch = Batch::default();
            batch.push(&[id], i, i, if i == 0 { vec![] } else { vec![past] });
            let got = model.extend(None, &batch, &mut cache, &[0], &mut Workspace::default());
            assert_close(&format!("{name} step {i}"), &got, &want[i * v..(i + 1) * v], 1e-5);
        }
    }
}
