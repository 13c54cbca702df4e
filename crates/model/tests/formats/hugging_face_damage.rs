//! Hugging Face directories that are wrong: each gets an error that names the thing, none a panic.

use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use underdog_eval::{Error, Kind};
use underdog_model::checkpoint::Checkpoint;

use super::hugging_face::{copy, read, sharded, write};

fn refused(folder: &Path) -> Error {
    let error = Checkpoint::open(folder).unwrap_err();
    assert_eq!(error.kind(), Kind::Model, "{error}");
    assert!(error.facts().place.is_some(), "{error}");
    error
}

#[test]
fn every_truncation_is_refused() {
    let folder = copy("tiny-qwen3", |_| {});
    let path = folder.path().join("model.safetensors");
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    // Every byte near the header's ends and the file's; some between.
    let header = 8 + u64::from_le_bytes(std::fs::read(&path).unwrap()[..8].try_into().unwrap());
    for shorter in (0..length).rev().filter(|at| *at < 32 || at % 997 == 0 || header.abs_diff(*at) < 32) {
        file.set_len(shorter).unwrap();
        refused(folder.path());
    }
    file.set_len(length).unwrap();
    refused(folder.path());
}

#[test]
fn no_flipped_bit_in_the_header_makes_a_panic() {
    let folder = copy("tiny-qwen3", |_| {});
    let path = folder.path().join("model.safetensors");
    let stored = read(&path);
    let bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(stored.len() > 10);
    let mut opened = 0;
    for at in 0..header {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&path, &flipped).unwrap();
        match Checkpoint::open(folder.path()) {
            Ok(checkpoint) => {
                opened += 1;
                checkpoint.config().tensors().into_iter().for_each(|tensor| drop(checkpoint.load(tensor)));
            }
            Err(error) => assert_eq!(error.kind(), Kind::Model, "byte {at}: {error}"),
        }
    }
    assert!(opened < header / 2, "{opened} of {header} were accepted");
}

#[test]
fn headers_that_overflow_are_refused() {
    let whole = json!({"dtype": "I8", "shape": [u64::MAX / 16], "data_offsets": [0, u64::MAX / 16]});
    let far = json!({"dtype": "F32", "shape": [2], "data_offsets": [u64::MAX - 7, u64::MAX]});
    let backwards = json!({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]});
    for entry in [whole, far, backwards] {
        let folder = copy("tiny-qwen3", |_| {});
        let header = json!({"model.norm.weight": entry}).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        let error = refused(folder.path());
        assert_eq!(error.facts().what, "the safetensors file is damaged or cut off");
        assert!(error.to_string().contains("'model.norm.weight' ends outside"), "{error}");
    }
    for length in [u64::MAX, u64::MAX - 7, 1 << 40] {
        let folder = copy("tiny-qwen3", |_| {});
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        assert!(refused(folder.path()).to_string().contains("header that is longer than the file"));
    }
}

#[test]
fn settings_that_cannot_be_are_named() {
    let cases: [(&str, Value, &str); 18] = [
        ("model_type", json!("mistral"), "'mistral'"),
        ("model_type", Value::Null, "no architecture"),
        ("hidden_size", json!(-4), "-4"),
        ("hidden_size", json!(0), "0"),
        ("hidden_size", json!(1u64 << 62), "4611686018427387904"),
        ("num_hidden_layers", json!(1_000_000_000), "1000000000"),
        ("num_attention_heads", json!(5), "5"),
        ("head_dim", json!(15), "15"),
        ("rms_norm_eps", json!("tiny"), "\"tiny\""),
        ("rms_norm_eps", json!(0.0), "0"),
        ("hidden_act", json!("relu"), "relu"),
        ("attention_bias", json!(true), "true"),
        ("quantization_config", json!({"bits": 4}), "{\"bits\":4}"),
        ("rope_parameters", json!({"rope_type": "yarn", "factor": 2.0}), "'yarn'"),
        ("rope_parameters", json!({"rope_type": "linear", "factor": 0.0}), "0"),
        ("rope_parameters", json!({"rope_type": "default", "partial_rotary_factor": 0.5}), "0.5"),
        ("rope_parameters", json!(7), "7"),
        ("layer_types", json!(["full_attention"]), "1 entries"),
    ];
    for (key, value, found) in cases {
        let folder = copy("tiny-qwen3", |config| config[key] = value);
        let error = refused(folder.path());
        assert!(error.facts().expected.is_some(), "{key}: {error}");
        assert_eq!(error.facts().found.as_deref(), Some(found), "{key}: {error}");
    }
}

#[test]
fn missing_and_foreign_parts_are_named() {
    let folder = copy("tiny-qwen3", |_| {});
    let path = folder.path().join("model.safetensors");
    let whole = read(&path);
    let mut tensors = whole.clone();
    let (shape, numbers) = tensors.remove("model.layers.1.mlp.up_proj.weight").unwrap();
    write(&path, &tensors, Dtype::F32);
    let error = refused(folder.path());
    assert_eq!(error.facts().what, "tensor 'model.layers.1.mlp.up_proj.weight' is missing");
    let turned = shape.iter().rev().copied().collect();
    tensors.insert("model.layers.1.mlp.up_proj.weight".to_owned(), (turned, numbers));
    write(&path, &tensors, Dtype::F32);
    let error = refused(folder.path());
    assert_eq!(error.facts().expected, Some(format!("{shape:?}")));
    let mut tensors = whole.clone();
    tensors.insert("model.layers.0.self_attn.q_proj.bias".to_owned(), (vec![1], vec![0.0]));
    write(&path, &tensors, Dtype::F32);
    assert_eq!(
        refused(folder.path()).facts().found.as_deref(),
        Some("'model.layers.0.self_attn.q_proj.bias'")
    );
    write(&path, &whole, Dtype::I32);
    assert_eq!(refused(folder.path()).facts().found.as_deref(), Some("I32"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refused(folder.path()).facts().what, "the model directory has no weights");
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert_eq!(refused(folder.path()).facts().what, "a file of the model directory is missing");
}

#[test]
fn an_untied_model_without_a_head_is_refused() {
    let folder = copy("tiny-llama", |config| config["tie_word_embeddings"] = json!(false));
    assert_eq!(refused(folder.path()).facts().what, "tensor 'lm_head.weight' is missing");
    let folder = copy("tiny-llama", |config| config["tie_word_embeddings"] = Value::Null);
    assert!(
        Checkpoint::open(folder.path()).unwrap().config().tied,
        "where it is not stated the weights decide"
    );
}

#[test]
fn lists_of_shards_that_lie_are_refused() {
    let change = |from: &str, to: &str| {
        let folder = sharded();
        let path = folder.path().join("model.safetensors.index.json");
        let index = std::fs::read_to_string(&path).unwrap();
        assert!(index.contains(from));
        std::fs::write(&path, index.replacen(from, to, 1)).unwrap();
        refused(folder.path()).to_string()
    };
    let outside = change("model-00001-of-00002.safetensors", "../model-00001-of-00002.safetensors");
    assert!(outside.contains("outside the directory"), "{outside}");
    let absent = change("model-00001-of-00002.safetensors", "model-00009-of-00002.safetensors");
    assert!(absent.contains("does not exist") && absent.contains("00009"), "{absent}");
    let swapped = change("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    assert!(swapped.contains("is missing") && swapped.contains("shard"), "{swapped}");
    let broken = change("weight_map", "weights");
    assert!(broken.contains("the list of shards is damaged"), "{broken}");
}
