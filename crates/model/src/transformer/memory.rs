//! How much memory training takes, before it is taken: what a plan says to a limit. Sizes follow from shapes alone and are
//! rounded up where a buffer's size depends on more than that; a test holds them against the peak of a real step.

use super::kept::{BLOCK, GROUPS};
use super::{LayerWeights, Transformer};
use crate::linear::Precision;
use crate::lora::Module;
use underdog_tensor::block::Format;
use underdog_tensor::cross_entropy;

/// Rows of a group's scratch that are as wide as the layer, and those that are as wide as a slice of the MLP.
const NARROW: usize = 10;
/// See [`NARROW`].
const WIDE: usize = 5;
/// What the allocator keeps of matrices that come and go; measured with weights in blocks.
const KEPT_BY_ALLOCATOR: usize = 64 << 20;

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

    /// Bytes that a step takes beside weights, adapter and what [`Transformer::bytes_per_token`] counts.
    pub fn scratch_bytes(&self, size: StepSize) -> usize {
        let c = &self.config;
        // Final hidden states, normed ones, expected rows of the head and gradients of all three.
        let head = 6 * size.targets * c.width;
        let groups = GROUPS.min(size.tokens.div_ceil(BLOCK).max(1));
        let work = groups * BLOCK.min(size.tokens) * (NARROW * c.width + WIDE * c.ffn);
        4 * (head + work) + cross_entropy::scratch_bytes(c.width) + self.unpacked_bytes()
    }

    /// What weights take for a moment: a layer of them unpacked or transposed, and where they lie in blocks one matrix on its way.
    fn unpacked_bytes(&self) -> usize {
        let values = |l: &LayerWeights, m| {
            let (input, output) = l.linear(m).shape();
            input * output
        };
        let all = |l| Module::ALL.iter().map(|&m| values(l, m)).sum::<usize>();
        let largest = |l| Module::ALL.iter().map(|&m| values(l, m)).max().unwrap_or(0);
        let layer = self.layers.iter().map(all).max().unwrap_or(0);
        let matrix = self.layers.iter().map(largest).max().unwrap_or(0);
        match (self.precision, self.precision.format()) {
            (Precision::F32, _) => 4 * layer,
            (Precision::Bf16, _) => 2 * layer,
            (Precision::Native, Format::F32) => 8 * layer + 8 * matrix + KEPT_BY_ALLOCATOR,
            (Precision::Native, Format::Bf16) => 4 * layer + 8 * matrix + KEPT_BY_ALLOCATOR,
        }
    }
}
