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
    unpermute_rows(numbers, heads, columns)
}

/// The same for rows of `width` items of any kind, as the bytes of quantised rows.
pub(crate) fn unpermute_rows<T: Copy>(items: &[T], heads: usize, width: usize) -> Vec<T> {
    let half = items.len() / (heads * width) / 2;
    let mut out = Vec::with_capacity(items.len());
    for head in items.chunks_exact(2 * half * width) {
        for part in 0..2 {
            for j in 0..half {
                out.extend_from_slice(&head[(2 * j + part) * width..][..width]);
            }
        }
    }
    out
}

/// Back to the order of the file, see [`unpermute`].
pub(crate) fn permute_rows<T: Copy>(items: &[T], heads: usize, width: usize) -> Vec<T> {
    let half = items.len() / (heads * width) / 2;
    let mut out = Vec::with_capacity(items.len());
    for head in items.chunks_exact(2 * half * width) {
        for j in 0..half {
            for part in 0..2 {
                out.extend_from_slice(&head[(part * half + j) * width..][..width]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permuting_undoes_unpermuting() {
        let rows: Vec<u8> = (0..2 * 6 * 3).collect();
        let moved = unpermute_rows(&rows, 2, 3);
        assert_eq!(moved[..9], [0, 1, 2, 6, 7, 8, 12, 13, 14]);
        assert_eq!(permute_rows(&moved, 2, 3), rows);
    }
}
