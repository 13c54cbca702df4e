//! What GGUF files call the tensors, and the order of rows in Llama's queries and keys.

use crate::config::{Architecture, Config, LayerTensor, Tensor};

/// The name in the file of a tensor.
pub(crate) fn tensor_name(tensor: Tensor) -> String {
    match tensor {
        Tensor::Embedding => "token_embd.weight".to_owned(),
        Tensor::FinalNorm => "output_norm.weight".to_owned(),
        Tensor::Head => "output.weight".to_owned(),
        Tensor::Layer(layer, tensor) => {
            let part = match tensor {
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
    }
}

/// Whether a tensor that the transformer does not ask for may be in the file without changing what the model is.
/// The rope factors are read with the settings.
pub(crate) fn is_superfluous(name: &str) -> bool {
    name == "rope_freqs.weight"
}

/// Whether the rows of a tensor are permuted in the file, and over how many heads.
///
/// Files of the Llama family hold the two numbers that rotate together side by side; everywhere else they are
/// half a head apart.
pub(crate) fn is_permuted(config: &Config, tensor: Tensor) -> Option<usize> {
    match (config.architecture, tensor) {
        (Architecture::Llama, Tensor::Layer(_, LayerTensor::Q)) => Some(config.heads),
        (Architecture::Llama, Tensor::Layer(_, LayerTensor::K)) => Some(config.kv_heads),
        _ => None,
    }
}

/// Puts the rows of `[heads·D, in]` where the rotating pairs are half a head apart: row `2j + p` of a head in the
/// file is row `p·D/2 + j`.
pub(crate) fn unpermute(numbers: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let half = numbers.len() / (heads * columns) / 2;
    let mut out = Vec::with_capacity(numbers.len());
    for head in numbers.chunks_exact(2 * half * columns) {
        for part in 0..2 {
            for j in 0..half {
                out.extend_from_slice(&head[(2 * j + part) * columns..][..columns]);
            }
        }
    }
    out
}
