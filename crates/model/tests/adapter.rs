//! Adapter directories: what PEFT wrote gives PEFT's logits, what we write reads back as it was, and an adapter for another
//! base or a damaged one is refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use serde_json::Value;
use std::path::Path;
use underdog_eval::Kind;
use underdog_model::adapter::{self, Origin};
use underdog_model::checkpoint::Checkpoint;
use underdog_model::linear::{Precision, Use};
use underdog_model::lora::{Lora, LoraConfig, Module};
use underdog_model::transformer::{KvCache, Transformer, Workspace};
use underdog_model::tree::Batch;
use underdog_testkit::{assert_close, golden, hashed_values, read_json};

fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&golden(&format!("models/{name}"))).unwrap()
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

#[test]
fn an_adapter_made_by_peft_gives_the_logits_of_peft() {
    let base = checkpoint("tiny-llama");
    let model = Transformer::load(&base, Precision::F32).unwrap();
    let plain = read_json("logits/tiny-llama.json");
    for name in ["tiny-llama-peft", "tiny-llama-peft-qv"] {
        let lora =
            adapter::read(&golden(&format!("adapters/{name}")), base.config(), "any, as PEFT names none")
                .unwrap();
        let targets = if name.ends_with("qv") { vec![Module::Q, Module::V] } else { Module::ALL.to_vec() };
        assert_eq!(lora.config().targets, targets);
        let want = read_json(&format!("logits/{name}.json"));
        let ids: Vec<u32> = numbers(&want["ids"]).into_iter().map(|id| id as u32).collect();
        let positions = numbers(&want["positions"]);
        let mut batch = Batch::default();
        batch.push(&ids, 0, 0, vec![]);
        let lora = model.ready(&lora, Use::Forward);
        let mut cache = KvCache::new(base.config(), ids.len());
        let got = model.extend(Some(&lora), &batch, &mut cache, &positions, &mut Workspace::default());
        let rows = |golden: &Value| -> Vec<f32> {
            let flat = golden["logits"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
            flat.map(|v| v.as_f64().unwrap() as f32).collect()
        };
        assert_close(&format!("{name} logits"), &got, &rows(&want), 1e-4);
        assert!(underdog_testkit::relative_error(&rows(&plain), &rows(&want)) > 1e-2, "the adapter shows");
    }
}

/// A written adapter in a folder, with its origin.
fn written(folder: &Path, base: &Checkpoint) -> Lora {
    let config = LoraConfig { rank: 3, alpha: 7.5, targets: vec![Module::Q, Module::O, Module::Down] };
    let mut lora = Lora::zeros(base.config(), config);
    lora.values = hashed_values(4, 0, lora.values.len(), 0.3);
    let origin = Origin {
        version: adapter::VERSION,
        base: "tiny".into(),
        base_fingerprint: base.fingerprint(),
        shots: 3,
    };
    adapter::write(&lora, &origin, folder).unwrap();
    lora
}

#[test]
fn a_written_adapter_reads_back_bit_by_bit() {
    let (base, folder) = (checkpoint("tiny-llama"), tempfile::tempdir().unwrap());
    let path = folder.path().join("adapter");
    let lora = written(&path, &base);
    let read = adapter::read(&path, base.config(), &base.fingerprint()).unwrap();
    assert_eq!(read.config(), lora.config());
    assert!(read == lora, "values and places");
    assert_eq!(adapter::fingerprint(&read), adapter::fingerprint(&lora));
    assert_eq!(adapter::origin(&path).unwrap().unwrap().shots, 3);
    let error = adapter::write(
        &lora,
        &Origin { version: 1, base: "x".into(), base_fingerprint: "y".into(), shots: 0 },
        &path,
    )
    .unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary folder stays");
}

#[test]
fn an_adapter_for_another_base_is_refused_by_its_fingerprint_and_by_its_shapes() {
    let (base, other, folder) =
        (checkpoint("tiny-llama"), checkpoint("tiny-qwen3"), tempfile::tempdir().unwrap());
    let path = folder.path().join("adapter");
    written(&path, &base);
    assert_ne!(base.fingerprint(), other.fingerprint());
    let error = adapter::read(&path, base.config(), &other.fingerprint()).unwrap_err();
    assert_eq!(error.kind(), Kind::Model);
    assert!(
        error.to_string().contains("another base model") && error.to_string().contains(&base.fingerprint()),
        "{error}"
    );
    std::fs::remove_file(path.join("underdog.json")).unwrap();
    let error = adapter::read(&path, other.config(), &other.fingerprint()).unwrap_err();
    assert_eq!(error.kind(), Kind::Model);
    assert!(error.to_string().contains("does not fit this base model"), "{error}");
}

#[test]
fn what_is_not_supported_or_broken_is_named() {
    let (base, folder) = (checkpoint("tiny-llama"), tempfile::tempdir().unwrap());
    let path = folder.path().join("adapter");
    written(&path, &base);
    let config = std::fs::read_to_string(path.join("adapter_config.json")).unwrap();
    let read = || adapter::read(&path, base.config(), &base.fingerprint()).unwrap_err();
    for (from, to, want) in [
        ("\"use_dora\": false", "\"use_dora\": true", "`use_dora`"),
        ("\"use_dora\": false", "\"init_lora_weights\": \"pissa_niter_4\"", "`init_lora_weights`"),
        ("\"LORA\"", "\"PREFIX_TUNING\"", "`peft_type`"),
        ("\"r\": 3", "\"r\": 0", "`r`"),
        ("\"r\": 3", "\"r\": 4", "does not fit"),
        ("\"q_proj\"", "\"w_proj\"", "w_proj"),
        ("\"q_proj\",", "", "more, the first"),
        ("\"o_proj\"", "\"o_proj\", \"k_proj\"", "k_proj"),
    ] {
        assert!(config.contains(from), "{config}");
        std::fs::write(path.join("adapter_config.json"), config.replace(from, to)).unwrap();
        let error = read();
        assert_eq!(error.kind(), Kind::Model);
        assert!(error.to_string().contains(want), "{to}: {error}");
    }
    std::fs::write(path.join("adapter_config.json"), &config).unwrap();
    let weights = std::fs::read(path.join("adapter_model.safetensors")).unwrap();
    for cut in [0, 7, 100, weights.len() - 1] {
        std::fs::write(path.join("adapter_model.safetensors"), &weights[..cut]).unwrap();
        assert!(read().to_string().contains("broken"), "cut at {cut}");
    }
    std::fs::write(path.join("adapter_model.safetensors"), &weights).unwrap();
    let origin = std::fs::read_to_string(path.join("underdog.json")).unwrap();
    std::fs::write(path.join("underdog.json"), origin.replace("\"version\": 1", "\"version\": 2")).unwrap();
    assert!(read().to_string().contains("newer version"));
    let error = adapter::read(&folder.path().join("none"), base.config(), "x").unwrap_err();
    assert!(error.kind() == Kind::Model && error.to_string().contains("none"), "{error}");
}

/// The directory as version 1 wrote it.
#[test]
fn version_1_stays_readable() {
    let base = checkpoint("tiny-llama");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/adapter.v1");
    let lora = adapter::read(&path, base.config(), &base.fingerprint()).unwrap();
    assert_eq!((lora.config().rank, lora.config().targets.as_slice()), (1, &[Module::V][..]));
    assert!(lora.values.iter().any(|&v| v != 0.0));
    let origin: Origin = serde_json::from_slice(&std::fs::read(path.join("underdog.json")).unwrap()).unwrap();
    assert_eq!((origin.version, origin.base.as_str()), (1, "tiny-llama"));
}
