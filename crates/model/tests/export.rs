//! An exported file is read again and says what the model with its adapter says, on real weights.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use underdog_model::checkpoint::Checkpoint;
use underdog_model::export::{Quantization, distance, export};
use underdog_model::generate::Prompt;
use underdog_model::linear::Precision;
use underdog_model::lora::{Lora, LoraConfig, Module};
use underdog_model::transformer::Transformer;
use underdog_testkit::{hashed_values, read_json};

#[test]
fn an_exported_file_says_what_the_model_and_its_adapter_say() {
    let Some(path) = common::weights("smollm2-135m-instruct") else { return };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let model = Transformer::load(&checkpoint, Precision::F32).unwrap();
    let config = LoraConfig { rank: 2, alpha: 4.0, targets: vec![Module::Q, Module::Down] };
    let mut lora = Lora::zeros(model.config(), config);
    let count = lora.values.len();
    lora.values = hashed_values(21, 0, count, 0.25);
    let golden = read_json("logits/smollm2-135m-instruct.json");
    let ids = golden["cases"][0]["ids"].as_array().unwrap();
    let tokens = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let prompts = [Prompt { tokens, max_new: 8 }];
    let base = distance((&model, Some(&lora)), &model, &prompts, &[]).unwrap();
    assert!(base.mean_divergence > 0.02, "the adapter changes what is said: {base:?}");
    let folder = tempfile::tempdir().unwrap();
    for (name, bound, fallbacks) in [("f16", 1e-5, 0), ("q8_0", 1e-2, 0), ("q6_k", 2e-2, 181)] {
        let file = folder.path().join(format!("{name}.gguf"));
        let done = export(&checkpoint, Some(&lora), Quantization::parse(name).unwrap(), &file).unwrap();
        assert_eq!((done.merged, done.fallbacks.values().sum::<usize>()), (60, fallbacks), "{name}");
        let exported = Checkpoint::open(&file).unwrap();
        assert_eq!(exported.config(), checkpoint.config());
        let gguf = (exported.gguf().unwrap(), checkpoint.gguf().unwrap());
        let key = "tokenizer.ggml.tokens";
        assert_eq!(gguf.0.metadata_strings(key).unwrap(), gguf.1.metadata_strings(key).unwrap());
        let exported = Transformer::load(&exported, Precision::F32).unwrap();
        let found = distance((&model, Some(&lora)), &exported, &prompts, &[]).unwrap();
        assert_eq!(found.tokens, 8);
        assert!((-1e-7..bound).contains(&found.mean_divergence), "{name}: {found:?}");
    }
}
