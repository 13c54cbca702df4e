//! A tiny model of the goldens as a GGUF file with its matrices in blocks, so that what is said of weights in blocks
//! can be tested without real ones.

#[path = "../formats/builder.rs"]
#[allow(dead_code, reason = "the tests of the formats use the rest")]
mod builder;

use builder::{Part, Parts, meta_f32, meta_text, meta_u32, part};
use std::path::PathBuf;
use tempfile::TempDir;
use underdog_model::checkpoint::Checkpoint;
use underdog_model::config::{Architecture, Config, LayerTensor, Tensor};
use underdog_model::gguf::{TensorType, quantize};
use underdog_testkit::golden;

/// The code of Q4_1 in a file.
const Q4_1: u32 = 3;

/// Writes the tiny model with every matrix whose rows are whole blocks of 32 as Q4_1, and the rest in f32. The file
/// goes with the folder.
pub fn write(name: &str) -> (TempDir, PathBuf) {
    let model = Checkpoint::open(&golden(&format!("models/{name}"))).unwrap();
    let config = model.config();
    let tensors = config.tensors().into_iter().map(|tensor| stored(&model, tensor)).collect();
    let (folder, path) = Parts { version: 3, metadata: metadata(config), tensors, counts: None }.write();
    // The file cannot say how attention is scaled: the reader takes the head size.
    let read = Checkpoint::open(&path).unwrap().config().clone();
    assert_eq!(Config { attention_scale: config.attention_scale, ..read }, *config, "the same model");
    (folder, path)
}

fn stored(model: &Checkpoint, tensor: Tensor) -> Part {
    let (config, mut numbers) = (model.config(), model.load(tensor).unwrap());
    let shape: Vec<u64> = config.shape(tensor).iter().map(|&axis| axis as u64).collect();
    let heads = match tensor {
        Tensor::Layer(_, LayerTensor::Q) => config.heads,
        Tensor::Layer(_, LayerTensor::K) => config.kv_heads,
        _ => 0,
    };
    if config.architecture == Architecture::Llama && heads > 0 {
        numbers = side_by_side(&numbers, heads, shape[1] as usize);
    }
    let mut part = part(&file_name(tensor), &shape, &numbers);
    if shape.len() == 2 && shape[1].is_multiple_of(32) {
        part.code = Q4_1;
        part.bytes = quantize(TensorType::Q4_1, &numbers).unwrap();
    }
    part
}

/// Rows of `[heads·D, columns]` with the two numbers that rotate together side by side, as Llama's files have them.
fn side_by_side(numbers: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let half = numbers.len() / heads / columns / 2;
    let row = |row: usize| &numbers[row * columns..(row + 1) * columns];
    let of_head = |head: usize| (0..2 * half).map(move |i| 2 * half * head + i / 2 + i % 2 * half);
    (0..heads).flat_map(of_head).flat_map(row).copied().collect()
}

fn metadata(config: &Config) -> Vec<(String, Vec<u8>)> {
    let architecture = config.architecture.name();
    let key = |name: &str| format!("{architecture}.{name}");
    let window = config.layers.iter().find_map(|layer| layer.window);
    let mut all = vec![("general.architecture".to_owned(), meta_text(architecture))];
    let sizes = [
        ("block_count", config.layers.len()),
        ("context_length", config.context),
        ("embedding_length", config.width),
        ("feed_forward_length", config.ffn),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_size),
    ];
    let window = window.map(|window| ("attention.sliding_window", window));
    all.extend(sizes.into_iter().chain(window).map(|(name, size)| (key(name), meta_u32(size as u32))));
    all.push((key("attention.layer_norm_rms_epsilon"), meta_f32(config.norm_eps)));
    let bases = ["rope.freq_base", "rope.freq_base_swa"].into_iter().zip(&config.ropes);
    all.extend(bases.map(|(name, rope)| (key(name), meta_f32(rope.theta))));
    all
}

fn file_name(tensor: Tensor) -> String {
    let (layer, part) = match tensor {
        Tensor::Embedding => return "token_embd.weight".to_owned(),
        Tensor::FinalNorm => return "output_norm.weight".to_owned(),
        Tensor::Head => return "output.weight".to_owned(),
        Tensor::Layer(layer, part) => (layer, part),
    };
    let part = match part {
        LayerTensor::AttentionNorm => "attn_norm",
        LayerTensor::Q => "attn_q",
        LayerTensor::K => "attn_k",
        LayerTensor::V => "attn_v",
        LayerTensor::O => "attn_output",
        LayerTensor::QNorm => "attn_q_norm",
        LayerTensor::KNorm => "attn_k_norm",
        LayerTensor::AttentionPostNorm => "post_attention_norm",
        LayerTensor::MlpNorm => "ffn_norm",
        LayerTensor::Gate => "ffn_gate",
        LayerTensor::Up => "ffn_up",
        LayerTensor::Down => "ffn_down",
        LayerTensor::MlpPostNorm => "post_ffw_norm",
    };
    format!("blk.{layer}.{part}.weight")
}
