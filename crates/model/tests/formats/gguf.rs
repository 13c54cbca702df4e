//! GGUF files that are right.

use underdog_model::checkpoint::{Checkpoint, LayerTensor, Tensor};
use underdog_model::config::{Activation, Architecture, Layer, Rope, RopeScaling};

use super::builder::{Parts, meta_f32, meta_text, meta_u32, part, ramp, tiny};

fn open(parts: &Parts) -> Checkpoint {
    let (_folder, path) = parts.write();
    Checkpoint::open(&path).unwrap()
}

#[test]
fn a_llama_file_opens_with_its_settings() {
    let (_folder, path) = tiny("llama").write();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let config = checkpoint.config();
    assert_eq!(config.architecture, Architecture::Llama);
    let sizes = [config.width, config.heads, config.kv_heads, config.head_size, config.ffn, config.vocab];
    assert_eq!(sizes, [8, 2, 1, 4, 4, 3]);
    assert_eq!((config.context, config.norm_eps, config.activation), (64, 1e-5, Activation::Silu));
    assert_eq!((config.qk_norm, config.post_norms, config.tied), (false, false, true));
    assert_eq!((config.embedding_scale, config.attention_scale), (1.0, 0.5));
    assert_eq!(config.ropes, [Rope { theta: 5000.0, scaling: RopeScaling::None }]);
    assert_eq!(config.layers, [Layer { window: None, rope: 0 }]);
    assert_eq!(checkpoint.path(), path);
    assert_eq!(config.tensors().len(), 2 + 9);
    assert_eq!(config.parameters(), 24 + 3 * 8 + 2 * 64 + 5 * 32);
}

#[test]
fn metadata_is_read_by_type() {
    let checkpoint = open(&tiny("llama"));
    let gguf = checkpoint.gguf().unwrap();
    assert_eq!(gguf.metadata_strings("tokenizer.ggml.tokens").unwrap(), ["a", "b", "ü"]);
    assert_eq!(gguf.metadata_i32s("tokenizer.ggml.token_type").unwrap(), [1, 3, 6]);
    assert_eq!(gguf.metadata_f32s("tokenizer.ggml.scores").unwrap(), [0.0, -1.0, -2.5]);
    assert_eq!(gguf.metadata_bool("tokenizer.ggml.add_bos_token"), Some(true));
    assert_eq!(gguf.metadata_u64("llama.block_count"), Some(1));
    assert_eq!(gguf.metadata_f32("llama.rope.freq_base"), Some(5000.0));
    assert_eq!(gguf.metadata_str("general.architecture"), Some("llama"));
    assert_eq!(gguf.metadata_str("llama.block_count"), None, "another type is not converted");
    assert_eq!(gguf.metadata_keys().count(), 13);
}

#[test]
fn rows_of_queries_and_keys_are_unpermuted() {
    // What converters do to a Llama weight: rows [head, half, j] become [head, j, half].
    let permuted = |rows: &[f32], heads: usize| {
        let (columns, half) = (8, rows.len() / 8 / heads / 2);
        let row = |r: usize| rows[r * columns..(r + 1) * columns].to_vec();
        let mut out = Vec::new();
        for head in 0..heads {
            for j in 0..half {
                out.extend(row(head * 2 * half + j));
                out.extend(row(head * 2 * half + half + j));
            }
        }
        out
    };
    let (q, k) = (ramp(64, 0.0), ramp(32, 50.0));
    let mut parts = tiny("llama");
    *parts.tensor("blk.0.attn_q.weight") = part("blk.0.attn_q.weight", &[8, 8], &permuted(&q, 2));
    *parts.tensor("blk.0.attn_k.weight") = part("blk.0.attn_k.weight", &[4, 8], &permuted(&k, 1));
    assert_ne!(permuted(&q, 2), q);
    let checkpoint = open(&parts);
    assert_eq!(checkpoint.load(Tensor::Layer(0, LayerTensor::Q)).unwrap(), q);
    assert_eq!(checkpoint.load(Tensor::Layer(0, LayerTensor::K)).unwrap(), k);
    assert_eq!(checkpoint.load(Tensor::Layer(0, LayerTensor::V)).unwrap(), ramp(32, 500.0));
}

#[test]
fn qwen_and_gemma_rows_stay_as_they_are() {
    for name in ["qwen3", "gemma3"] {
        let checkpoint = open(&tiny(name));
        assert_eq!(checkpoint.load(Tensor::Layer(0, LayerTensor::Q)).unwrap(), ramp(64, 300.0), "{name}");
        assert_eq!(checkpoint.load(Tensor::Layer(0, LayerTensor::QNorm)).unwrap(), ramp(4, 1100.0), "{name}");
    }
    // The files of Gemma hold the norms with their + 1 already.
    assert_eq!(open(&tiny("gemma3")).load(Tensor::FinalNorm).unwrap(), ramp(8, 100.0));
}

#[test]
fn a_tied_head_is_the_embedding_and_another_is_not() {
    let mut parts = tiny("llama");
    assert_eq!(open(&parts).load(Tensor::Head).unwrap(), ramp(24, 0.0));
    parts.tensors.push(part("output.weight", &[3, 8], &ramp(24, 7.0)));
    let checkpoint = open(&parts);
    assert!(!checkpoint.config().tied);
    assert_eq!(checkpoint.load(Tensor::Head).unwrap(), ramp(24, 7.0));
}

#[test]
fn gemma_gets_what_its_files_leave_out() {
    let mut parts = tiny("gemma3");
    let local = Layer { window: Some(16), rope: 1 };
    parts.set("gemma3.block_count", meta_u32(7));
    let layer = parts.tensors.clone().into_iter().filter(|part| part.name.starts_with("blk.0."));
    for i in 1..7 {
        let copies = layer.clone().map(|mut part| {
            part.name = part.name.replace("blk.0.", &format!("blk.{i}."));
            part
        });
        parts.tensors.extend(copies);
    }
    let checkpoint = open(&parts);
    let config = checkpoint.config();
    let global = Layer { window: None, rope: 0 };
    assert_eq!(config.layers, [local, local, local, local, local, global, local]);
    let thetas: Vec<f32> = config.ropes.iter().map(|rope| rope.theta).collect();
    assert_eq!(thetas, [5000.0, 10_000.0]);
    assert_eq!((config.qk_norm, config.post_norms), (true, true));
    assert_eq!(config.activation, Activation::GeluTanh);
    assert_eq!((config.embedding_scale, config.attention_scale), (8f32.sqrt(), 0.5));
}

#[test]
fn rope_scaling_is_read_from_settings_or_factors() {
    let mut parts = tiny("llama");
    parts.set("llama.rope.scaling.type", meta_text("linear"));
    parts.set("llama.rope.scaling.factor", meta_f32(4.0));
    assert_eq!(open(&parts).config().ropes[0].scaling, RopeScaling::Linear { factor: 4.0 });
    let mut parts = tiny("llama");
    parts.tensors.push(part("rope_freqs.weight", &[2], &[1.0, 8.0]));
    let rope = open(&parts).config().ropes[0].clone();
    assert_eq!(rope.scaling, RopeScaling::Factors(vec![1.0, 8.0]));
    let plain = Rope { scaling: RopeScaling::None, ..rope.clone() }.frequencies(4);
    assert_eq!(rope.frequencies(4), [plain[0], plain[1] / 8.0]);
}

#[test]
fn the_fingerprint_follows_the_contents() {
    let whole = open(&tiny("llama")).fingerprint();
    assert_eq!(whole.len(), 16);
    assert_eq!(open(&tiny("llama")).fingerprint(), whole, "another path, the same bytes");
    let mut parts = tiny("llama");
    parts.tensor("blk.0.ffn_up.weight").bytes[17] ^= 1;
    let weights = open(&parts).fingerprint();
    let mut parts = tiny("llama");
    parts.set("llama.rope.freq_base", meta_f32(5001.0));
    let settings = open(&parts).fingerprint();
    assert!(weights != whole && settings != whole && weights != settings);
}

#[test]
fn the_fingerprint_samples_large_tensors() {
    // 64000 bytes: only the first, the middle and the last 4096 are covered.
    let changed = |at: Option<usize>| {
        let mut parts = tiny("llama");
        *parts.tensor("token_embd.weight") = part("token_embd.weight", &[2000, 8], &ramp(16_000, 0.0));
        if let Some(at) = at {
            parts.tensor("token_embd.weight").bytes[at] ^= 1;
        }
        open(&parts).fingerprint()
    };
    let whole = changed(None);
    for at in [0, 4095, 32_000, 63_999] {
        assert_ne!(changed(Some(at)), whole, "byte {at}");
    }
    assert_eq!(changed(Some(10_000)), whole, "the documented blind spot");
}

#[test]
fn the_summary_counts_tensors_by_type() {
    let mut parts = tiny("llama");
    // 24 numbers in half floats: zeros.
    let embedding = parts.tensor("token_embd.weight");
    (embedding.code, embedding.bytes) = (1, vec![0; 48]);
    let summary = open(&parts).summary();
    let types: Vec<_> = summary.types.iter().map(|t| (t.name, t.tensors, t.parameters, t.bytes)).collect();
    assert_eq!(types, [("F32", 10, 312, 1248), ("F16", 1, 24, 48)]);
    assert_eq!((summary.format, summary.architecture, summary.parameters), ("gguf", "llama", 336));
    assert_eq!(summary.bytes, parts.bytes().len() as u64);
}

#[test]
fn version_2_is_the_same() {
    let mut parts = tiny("llama");
    parts.version = 2;
    assert_eq!(open(&parts).config(), open(&tiny("llama")).config());
}
