//! Embeddings against sentence-transformers: a tiny random encoder, and all-MiniLM-L6-v2 where it was pulled.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests may panic, and say what they measured")]

mod common;

use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use underdog_eval::Kind;
use underdog_eval::embedder::{Embedder, SharedEmbedder, similarity};
use underdog_eval::harness::{Harness, HarnessSpec};
use underdog_eval::sample::Sample;
use underdog_model::encoder::Encoder;
use underdog_testkit::{assert_close, golden, numbers, read_json};

/// Every vector within `tolerance` in each number, alone and in one batch.
fn agrees(encoder: &mut Encoder, expected: &Value, tolerance: f32) {
    let texts: Vec<&str> =
        expected["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let batch = encoder.embed(&texts).unwrap();
    let mut worst = 0.0f32;
    for (index, text) in texts.iter().enumerate() {
        let want = numbers(&expected["embeddings"][index]);
        assert_eq!(encoder.tokens(text).len() as u64, expected["tokens"][index], "{text:.40}");
        let alone = encoder.embed(&[text]).unwrap().remove(0);
        assert_close(text, &alone, &want, f64::from(tolerance));
        assert_close(text, &batch[index], &want, f64::from(tolerance));
        let apart = alone.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        worst = worst.max(apart);
        assert!(apart <= tolerance, "{text:.40}: {apart}");
        assert!((similarity(&alone, &alone) - 1.0).abs() < 1e-6);
    }
    println!("largest difference of a number: {worst:.1e}");
}

#[test]
fn the_tiny_encoder_agrees_with_sentence_transformers() {
    let mut encoder = Encoder::open(&golden("models/tiny-bert"), "tiny-bert").unwrap();
    agrees(&mut encoder, &read_json("embeddings/tiny-bert.json"), 2e-6);
    assert_eq!(encoder.identity().name, "tiny-bert");
    assert_eq!(encoder.embed(&[]).unwrap(), Vec::<Vec<f32>>::new());
}

#[test]
fn minilm_agrees_with_sentence_transformers() {
    let Some(path) = common::weights("all-minilm-l6-v2") else { return };
    let mut encoder = Encoder::open(&path, "all-minilm-l6-v2").unwrap();
    assert_eq!(encoder.dimension(), 384);
    agrees(&mut encoder, &read_json("embeddings/all-minilm-l6-v2.json"), 1e-5);
}

/// The check `similarity` on the rows of the scorers' goldens, against all references, and whether those of a share agree.
fn similarities_agree(encoder: Encoder, name: &str) {
    let golden = read_json("embeddings/similarity.json");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../eval/tests/data/scorers.json");
    let texts: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let check = json!({"kind": "similarity", "embedder": name, "references": "meta.references"});
    let named = |check_name: &str, at_least: Option<f64>| {
        let mut check = check.clone();
        check["name"] = json!(check_name);
        at_least.into_iter().for_each(|bound| check["at_least"] = json!(bound));
        check
    };
    let spec: HarnessSpec = serde_json::from_value(json!({
        "score": "mean",
        "check": [named("mean", None), named("close", Some(0.7))],
        "metric": [{"name": "mean", "checks": ["mean"]}, {"name": "share", "checks": ["close"]}],
    }))
    .unwrap();
    let harness = Harness::new(spec).unwrap();
    let encoder: SharedEmbedder = Arc::new(Mutex::new(encoder));
    harness.attach(name, &encoder);
    let (rows, want) = (texts["texts"].as_array().unwrap(), golden[name].as_array().unwrap());
    assert!(rows.len() >= 200 && rows.len() == want.len(), "the goldens were made from other rows");
    let mut worst = 0.0f64;
    for (row, want) in rows.iter().zip(want) {
        let meta = json!({"references": row["references"]}).as_object().unwrap().clone();
        let sample = Sample { id: "r".into(), input: "i".into(), expected: json!("none"), meta, line: 1 };
        let verdicts = harness.judge(&sample, row["answer"].as_str().unwrap());
        let (found, want) = (verdicts["mean"].number().unwrap(), want.as_f64().unwrap());
        worst = worst.max((found - want).abs());
        assert!((found - want).abs() <= 1e-6, "{found}, expected {want}: {row}");
        assert_eq!(verdicts["close"].number(), Some(f64::from(want >= 0.7)), "{row}");
    }
    println!("largest difference of a cosine: {worst:.1e}");
}

#[test]
fn similarities_agree_with_sentence_transformers() {
    similarities_agree(Encoder::open(&golden("models/tiny-bert"), "tiny-bert").unwrap(), "tiny-bert");
    let Some(path) = common::weights("all-minilm-l6-v2") else { return };
    similarities_agree(Encoder::open(&path, "all-minilm-l6-v2").unwrap(), "all-minilm-l6-v2");
}

#[test]
fn the_order_of_texts_and_their_neighbours_do_not_matter() {
    let encoder = Encoder::open(&golden("models/tiny-bert"), "tiny-bert").unwrap();
    let texts: Vec<String> =
        (0..200).map(|i| format!("card {} {}", i % 90, "word ".repeat(i % 13))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let all = encoder.vectors(&texts);
    for (text, vector) in texts.iter().zip(&all).step_by(17) {
        assert_close(text, vector, &encoder.vectors(&[text])[0], 1e-5);
    }
    assert_eq!(all, encoder.vectors(&texts), "the same texts give the same bits");
}

/// The tiny model with one of its settings files changed.
fn changed(file: &str, change: &dyn Fn(&mut Value)) -> underdog_eval::Error {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("models/tiny-bert"), folder.path());
    let path = folder.path().join(file);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
    Encoder::open(folder.path(), "x").unwrap_err()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.path().is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

#[test]
fn what_would_change_the_numbers_is_refused() {
    let refused = |file: &str, key: &str, value: Value, word: &str| {
        let error = changed(file, &|settings| settings[key] = value.clone());
        assert_eq!(error.kind(), Kind::Model);
        assert!(error.to_string().contains(word), "{error}");
    };
    refused("config.json", "hidden_act", json!("relu"), "relu");
    refused("config.json", "model_type", json!("llama"), "llama");
    refused("config.json", "position_embedding_type", json!("relative_key"), "relative_key");
    refused("config.json", "num_attention_heads", json!(5), "heads 5");
    refused("config.json", "num_hidden_layers", json!(3), "encoder.layer.2");
    refused("config.json", "hidden_size", json!(48), "wrong shape");
    refused("config.json", "vocab_size", json!(0), "sizes");
    refused("sentence_bert_config.json", "max_seq_length", json!(49), "49");
    refused("sentence_bert_config.json", "max_seq_length", json!(1), "2 to 48");
    refused("1_Pooling/config.json", "pooling_mode_cls_token", json!(true), "pools in another way");
    refused("1_Pooling/config.json", "pooling_mode_mean_tokens", json!(false), "pools in another way");
    let error = changed("modules.json", &|modules| modules[1]["type"] = json!("a.b.Dense"));
    assert!(error.to_string().contains("Dense"), "{error}");
}

#[test]
fn damaged_and_missing_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("models/tiny-bert"), folder.path());
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    for end in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&weights, &bytes[..end]).unwrap();
        assert_eq!(Encoder::open(folder.path(), "x").unwrap_err().kind(), Kind::Model, "cut at {end}");
    }
    std::fs::write(&weights, &bytes).unwrap();
    Encoder::open(folder.path(), "x").unwrap();
    std::fs::remove_file(folder.path().join("sentence_bert_config.json")).unwrap();
    let error = Encoder::open(folder.path(), "x").unwrap_err();
    assert!(error.to_string().contains("sentence_bert_config.json"), "{error}");
    assert!(Encoder::open(&weights, "x").unwrap_err().to_string().contains("a file"));
}
