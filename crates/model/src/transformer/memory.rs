//! How large a model is, and how much memory training takes before it is taken: what a plan says to a limit. Sizes follow from
//! shapes alone and are rounded up where a buffer's size depends on more than that; a test holds them against the peak of a
//! real step.

use super::kept::{BLOCK, GROUPS, Widths};
use super::{Keep, LayerWeights, Transformer};
use crate::config::Config;
use crate::linear::{Linear, Precision};
use crate::lora::Module;
use underdog_tensor::block::Format;
use underdog_tensor::cross_entropy;

/// Rows of a group's scratch that are as wide as the layer, and those that are as wide as a slice of the MLP.
const NARROW: usize = 10;
/// See [`NARROW`].
const WIDE: usize = 5;

/// Which rows a step computes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSize {
    /// Rows of the largest part.
    pub tokens: usize,
    /// Rows of it that carry a target.
    pub targets: usize,
}

impl Transformer {
    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        self.embedding.as_ref().map_or(0, |e| e.bytes()) + self.head.row_bytes() + self.matrix_bytes()
    }

    /// Bytes of all matrices that a token passes, the head among them and the embedding not: what decoding one token reads,
    /// beside the cache.
    pub fn matrix_bytes(&self) -> usize {
        let layer = |l: &LayerWeights| Module::ALL.iter().map(|&m| l.linear(m).bytes()).sum::<usize>();
        self.head.bytes() + self.layers.iter().map(layer).sum::<usize>()
    }

    /// Numbers in the matrices that a token passes in the layers, and in the head: a multiplication and an addition each.
    pub fn weights_per_token(&self) -> (usize, usize) {
        let count = |linear: &Linear| linear.shape().0 * linear.shape().1;
        let layer = |l: &LayerWeights| Module::ALL.iter().map(|&m| count(l.linear(m))).sum::<usize>();
        (self.layers.iter().map(layer).sum(), count(&self.head))
    }

    /// Bytes that a step holds for one token, with an adapter of this rank on all products: what is kept in all layers, and
    /// what the layer at work takes.
    pub fn bytes_per_token(&self, keep: Keep, rank: usize) -> usize {
        let Config { width, heads, kv_heads, head_size, .. } = self.config;
        let format = self.precision.format();
        let kept = self.widths(keep, [rank; 7]).bytes(format) * self.layers.len();
        let (q, kv) = (heads * head_size, kv_heads * head_size);
        // The residual stream and its gradient, attention's rows and their gradients, keys and values as tiles and as sums.
        let passing = 4 * (2 * width + 4 * q + 12 * kv);
        let again = if keep == Keep::Inputs { self.widths(Keep::All, [rank; 7]).bytes(format) } else { 0 };
        kept + passing + again
    }

    /// What a forward pass keeps of a token in each layer, as wide as it is.
    pub(super) fn widths(&self, keep: Keep, rank: [usize; 7]) -> Widths {
        let Config { width, heads, kv_heads, head_size, post_norms, ffn, .. } = self.config;
        if keep == Keep::Inputs {
            return Widths { x: width, heads, ..Widths::default() };
        }
        let (q, kv) = (heads * head_size, kv_heads * head_size);
        let post = if post_norms { width } else { 0 };
        let ffn = if keep == Keep::All { ffn } else { 0 };
        Widths { x: width, middle: width, q, kv, heads, post, ffn, rank }
    }

    /// Bytes that a step takes beside weights, adapter and what [`Transformer::bytes_per_token`] counts.
    pub fn scratch_bytes(&self, size: StepSize) -> usize {
        let c = &self.config;
        // Final hidden states, normed ones, expected rows of the head and gradients of all three.
        let head = 6 * size.targets * c.width;
        let groups = GROUPS.min(size.tokens.div_ceil(BLOCK).max(1));
        let work = groups * BLOCK.min(size.tokens) * (NARROW * c.width + WIDE * c.ffn);
        4 * (head + work) + cross_entropy::scratch_bytes(c.width) + self.unpacked_bytes()
    }

    /// What weights take for a moment: a layer of them transposed, and where they lie in blocks unpacked both ways.
    fn unpacked_bytes(&self) -> usize {
        let values = |l: &LayerWeights, m| {
            let (input, output) = l.linear(m).shape();
            input * output
        };
        let all = |l| Module::ALL.iter().map(|&m| values(l, m)).sum::<usize>();
        let layer = self.layers.iter().map(all).max().unwrap_or(0);
        match (self.precision, self.precision.format()) {
            (Precision::F32, _) => 4 * layer,
            (Precision::Bf16, _) => 2 * layer,
            (Precision::Native, Format::F32) => 8 * layer,
            (Precision::Native, Format::Bf16) => 4 * layer,
        }
    }
}
