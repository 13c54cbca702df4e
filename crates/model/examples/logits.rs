//! Writes logits for `reference/check_adapter.py`, which loads the same adapter with PEFT and compares.
//!
//! `cargo run --release -p underdog-model --example logits -- MODEL.gguf|FOLDER ADAPTER IDS.json OUT.json`, where IDS.json holds
//! `{"ids": [...], "positions": [...]}`.

use serde_json::{Value, json};
use std::path::Path;
use underdog_model::linear::{Precision, Use};
use underdog_model::transformer::{KvCache, Transformer, Workspace};
use underdog_model::tree::Batch;
use underdog_model::{adapter, checkpoint::Checkpoint};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, ids, out] = arguments.as_slice() else {
        return Err("expected: MODEL ADAPTER IDS.json OUT.json".into());
    };
    let checkpoint = Checkpoint::open(Path::new(model))?;
    let lora = adapter::read(Path::new(folder), checkpoint.config(), &checkpoint.fingerprint())?;
    let transformer = Transformer::load(&checkpoint, Precision::F32)?;
    let case: Value = serde_json::from_slice(&std::fs::read(ids)?)?;
    let ids: Vec<u32> = serde_json::from_value(case["ids"].clone())?;
    let positions: Vec<usize> = serde_json::from_value(case["positions"].clone())?;
    let mut batch = Batch::default();
    batch.push(&ids, 0, 0, vec![]);
    let mut cache = KvCache::new(transformer.config(), ids.len());
    let lora = transformer.ready(&lora, Use::Forward);
    let logits = transformer.extend(Some(&lora), &batch, &mut cache, &positions, &mut Workspace::default());
    let rows: Vec<&[f32]> = logits.chunks_exact(transformer.config().vocab).collect();
    std::fs::write(out, serde_json::to_vec(&json!({"ids": ids, "positions": positions, "logits": rows}))?)?;
    Ok(())
}
