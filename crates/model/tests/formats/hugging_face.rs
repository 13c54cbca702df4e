//! Hugging Face directories that are right.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use serde_json::{Value, json};
use tempfile::TempDir;
use underdog_model::checkpoint::{Checkpoint, LayerTensor, Tensor};
use underdog_model::config::{Activation, Architecture, Layer, RopeScaling};

use super::{floats, goldens};

pub const FAMILIES: [&str; 3] = ["tiny-llama", "tiny-qwen3", "tiny-gemma3"];

/// A copy of a tiny model, its `config.json` changed.
pub fn copy(family: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let from = goldens().join("models").join(family);
    let folder = tempfile::tempdir().unwrap();
    let mut config = json_of(&from.join("config.json"));
    change(&mut config);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(from.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    folder
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The tensors of a file, as shape and numbers.
pub fn read(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), floats(view.data())))).collect()
}

/// Writes tensors in a type.
pub fn write(path: &Path, tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>, dtype: Dtype) {
    let bytes: Vec<_> = tensors
        .iter()
        .map(|(name, (shape, numbers))| {
            let bytes: Vec<u8> = match dtype {
                Dtype::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
                Dtype::F16 => numbers.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
                Dtype::BF16 => numbers.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
                _ => numbers.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(),
            };
            (name, shape, bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

#[test]
fn the_tiny_models_open_with_their_settings() {
    for family in FAMILIES {
        let path = goldens().join("models").join(family);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let config = checkpoint.config();
        let stated = json_of(&path.join("config.json"));
        let size = |key: &str| stated[key].as_u64().unwrap() as usize;
        assert_eq!(config.width, size("hidden_size"));
        assert_eq!(config.heads, size("num_attention_heads"));
        assert_eq!(config.kv_heads, size("num_key_value_heads"));
        assert_eq!(config.head_size, size("head_dim"));
        assert_eq!(config.ffn, size("intermediate_size"));
        assert_eq!(config.vocab, size("vocab_size"));
        assert_eq!(config.layers.len(), size("num_hidden_layers"));
        assert_eq!(config.tied, stated["tie_word_embeddings"].as_bool().unwrap());
        assert_eq!(config.qk_norm, family != "tiny-llama");
        assert!(checkpoint.gguf().is_none());
        for tensor in config.tensors() {
            let count: usize = config.shape(tensor).iter().product();
            assert_eq!(checkpoint.load(tensor).unwrap().len(), count);
        }
        assert_eq!(checkpoint.summary().format, "safetensors");
    }
}

#[test]
fn gemma_has_its_layers_scales_and_norms() {
    let path = goldens().join("models/tiny-gemma3");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let config = checkpoint.config();
    assert_eq!(config.architecture, Architecture::Gemma3);
    let (local, global) = (Layer { window: Some(8), rope: 1 }, Layer { window: None, rope: 0 });
    assert_eq!(config.layers, [local, local, local, local, local, global, local]);
    assert_eq!(config.ropes.iter().map(|rope| rope.theta).collect::<Vec<_>>(), [1_000_000.0, 10_000.0]);
    assert_eq!(config.embedding_scale, 32f32.sqrt());
    assert_eq!(config.attention_scale, 24f64.powf(-0.5) as f32);
    assert_eq!(config.activation, Activation::GeluTanh);
    let stored = read(&path.join("model.safetensors"));
    for (tensor, name, added) in [
        (Tensor::FinalNorm, "model.norm", 1.0),
        (Tensor::Layer(2, LayerTensor::MlpNorm), "model.layers.2.pre_feedforward_layernorm", 1.0),
        (Tensor::Layer(2, LayerTensor::AttentionPostNorm), "model.layers.2.post_attention_layernorm", 1.0),
        (Tensor::Layer(2, LayerTensor::KNorm), "model.layers.2.self_attn.k_norm", 1.0),
        (Tensor::Layer(2, LayerTensor::Q), "model.layers.2.self_attn.q_proj", 0.0),
        (Tensor::Embedding, "model.embed_tokens", 0.0),
    ] {
        let expected: Vec<f32> = stored[&format!("{name}.weight")].1.iter().map(|x| x + added).collect();
        assert_eq!(checkpoint.load(tensor).unwrap(), expected, "{name}");
    }
}

#[test]
fn the_norms_of_the_others_are_as_stored() {
    let path = goldens().join("models/tiny-qwen3");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let stored = read(&path.join("model.safetensors"));
    let norm = &stored["model.layers.1.post_attention_layernorm.weight"].1;
    assert_eq!(checkpoint.load(Tensor::Layer(1, LayerTensor::MlpNorm)).unwrap(), *norm);
    assert_eq!(checkpoint.load(Tensor::Head).unwrap(), stored["lm_head.weight"].1);
}

#[test]
fn the_older_spelling_gives_the_same_model() {
    for family in FAMILIES {
        let older = json_of(&goldens().join("models").join(family).join("config-v4.json"));
        assert!(older.get("rope_parameters").is_none());
        let folder = copy(family, |config| *config = older);
        let newer = Checkpoint::open(&goldens().join("models").join(family)).unwrap();
        assert_eq!(Checkpoint::open(folder.path()).unwrap().config(), newer.config(), "{family}");
    }
}

#[test]
fn half_floats_are_widened() {
    let folder = copy("tiny-qwen3", |_| {});
    let file = folder.path().join("model.safetensors");
    let stored = read(&file);
    let embedding = &stored["model.embed_tokens.weight"].1;
    write(&file, &stored, Dtype::F16);
    let found = Checkpoint::open(folder.path()).unwrap().load(Tensor::Embedding).unwrap();
    assert!(found.iter().zip(embedding).all(|(a, b)| *a == half::f16::from_f32(*b).to_f32()));
    write(&file, &stored, Dtype::BF16);
    let found = Checkpoint::open(folder.path()).unwrap().load(Tensor::Embedding).unwrap();
    assert!(found.iter().zip(embedding).all(|(a, b)| *a == half::bf16::from_f32(*b).to_f32()));
    assert_ne!(found, *embedding);
}

/// A tiny model in two shards, and the list of them.
pub fn sharded() -> TempDir {
    let folder = copy("tiny-qwen3", |_| {});
    let file = folder.path().join("model.safetensors");
    let mut first = read(&file);
    let second = first.split_off("model.layers.1");
    std::fs::remove_file(&file).unwrap();
    let mut map = serde_json::Map::new();
    for (number, tensors) in [(1, &first), (2, &second)] {
        let name = format!("model-0000{number}-of-00002.safetensors");
        write(&folder.path().join(&name), tensors, Dtype::F32);
        map.extend(tensors.keys().map(|tensor| (tensor.clone(), json!(name))));
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    folder
}

#[test]
fn shards_give_the_same_model() {
    let whole = Checkpoint::open(&goldens().join("models/tiny-qwen3")).unwrap();
    let folder = sharded();
    let parts = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(parts.config(), whole.config());
    for tensor in whole.config().tensors() {
        assert_eq!(parts.load(tensor).unwrap(), whole.load(tensor).unwrap(), "{tensor:?}");
    }
}

#[test]
fn the_fingerprint_follows_weights_and_settings() {
    let whole = Checkpoint::open(copy("tiny-llama", |_| {}).path()).unwrap().fingerprint();
    assert_eq!(Checkpoint::open(copy("tiny-llama", |_| {}).path()).unwrap().fingerprint(), whole);
    let folder = copy("tiny-llama", |config| config["rms_norm_eps"] = json!(1e-4));
    assert_ne!(Checkpoint::open(folder.path()).unwrap().fingerprint(), whole);
    let folder = copy("tiny-llama", |_| {});
    let file = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert_ne!(Checkpoint::open(folder.path()).unwrap().fingerprint(), whole);
}

#[test]
fn rope_scalings_are_read_in_both_spellings() {
    let llama3 = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256});
    let expected = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 256,
    };
    let mut newer = llama3.clone();
    newer["rope_theta"] = json!(500_000.0);
    let folder = copy("tiny-llama", |config| config["rope_parameters"] = newer);
    let rope = Checkpoint::open(folder.path()).unwrap().config().ropes[0].clone();
    assert_eq!((rope.theta, rope.scaling), (500_000.0, expected.clone()));
    let folder = copy("tiny-llama", |config| {
        config.as_object_mut().unwrap().remove("rope_parameters");
        config["rope_theta"] = json!(500_000);
        config["rope_scaling"] = llama3;
    });
    let rope = Checkpoint::open(folder.path()).unwrap().config().ropes[0].clone();
    assert_eq!((rope.theta, rope.scaling), (500_000.0, expected));
    // Gemma's older spelling scales the global layers only.
    let folder = copy("tiny-gemma3", |config| {
        config.as_object_mut().unwrap().remove("rope_parameters");
        config["rope_scaling"] = json!({"type": "linear", "factor": 8.0});
    });
    let scalings: Vec<_> = Checkpoint::open(folder.path()).unwrap().config().ropes.clone();
    assert_eq!(scalings[0].scaling, RopeScaling::Linear { factor: 8.0 });
    assert_eq!(scalings[1].scaling, RopeScaling::None);
}
