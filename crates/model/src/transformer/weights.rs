//! The weights of a layer, loaded in the precision asked for. What is done with them is `layer` and `backward`.

use crate::checkpoint::{Checkpoint, LayerTensor, Tensor};
use crate::linear::{Linear, Precision};
use crate::lora::Module;
use std::sync::Arc;
use underdog_eval::Result;
use underdog_tensor::pool::Pool;

/// How weights are loaded.
pub struct Loading {
    pub precision: Precision,
    pub pool: Arc<Pool>,
}

impl Loading {
    /// A matrix `[output, input]` in the precision asked for: in its blocks where that is asked for and it has any.
    pub fn linear(&self, checkpoint: &Checkpoint, tensor: Tensor) -> Result<Linear> {
        if self.precision == Precision::Native
            && let Some(matrix) = checkpoint.load_blocks(tensor)?
        {
            return Ok(Linear::blocks(Arc::new(matrix), self.pool.clone()));
        }
        let shape = checkpoint.config().shape(tensor);
        Ok(Linear::new(checkpoint.load(tensor)?, shape[1], shape[0], self.precision))
    }

    /// The output head. Where it is the embedding too, and bf16 would round what the file's blocks say, its rows are taken
    /// from the blocks: rounded rows go wrong by the same amount in every step, and training adds that up.
    pub fn head(&self, checkpoint: &Checkpoint) -> Result<Linear> {
        let head = self.linear(checkpoint, Tensor::Head)?;
        if self.precision != Precision::Bf16 || !checkpoint.config().tied {
            return Ok(head);
        }
        Ok(match checkpoint.load_blocks(Tensor::Head)? {
            Some(rows) => head.with_rows(rows),
            None => head,
        })
    }
}

/// The weights of one layer. Norms that a family does not have are `None`.
#[derive(Debug)]
pub struct LayerWeights {
    pub attention_norm: Vec<f32>,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    pub q_norm: Option<Vec<f32>>,
    pub k_norm: Option<Vec<f32>>,
    pub attention_post_norm: Option<Vec<f32>>,
    pub mlp_norm: Vec<f32>,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
    pub mlp_post_norm: Option<Vec<f32>>,
}

impl LayerWeights {
    pub fn load(checkpoint: &Checkpoint, index: usize, loading: &Loading) -> Result<Self> {
        let config = checkpoint.config();
        let vector = |which| checkpoint.load(Tensor::Layer(index, which));
        let some = |present: bool, which| present.then(|| vector(which)).transpose();
        let linear = |which| Ok(loading.linear(checkpoint, Tensor::Layer(index, which))?.turned());
        Ok(LayerWeights {
            attention_norm: vector(LayerTensor::AttentionNorm)?,
            q: linear(LayerTensor::Q)?,
            k: linear(LayerTensor::K)?,
            v: linear(LayerTensor::V)?,
            o: linear(LayerTensor::O)?,
            q_norm: some(config.qk_norm, LayerTensor::QNorm)?,
            k_norm: some(config.qk_norm, LayerTensor::KNorm)?,
            attention_post_norm: some(config.post_norms, LayerTensor::AttentionPostNorm)?,
            mlp_norm: vector(LayerTensor::MlpNorm)?,
            gate: linear(LayerTensor::Gate)?,
            up: linear(LayerTensor::Up)?,
            down: linear(LayerTensor::Down)?,
            mlp_post_norm: some(config.post_norms, LayerTensor::MlpPostNorm)?,
        })
    }

    pub fn linear(&self, module: Module) -> &Linear {
        match module {
            Module::Q => &self.q,
            Module::K => &self.k,
            Module::V => &self.v,
            Module::O => &self.o,
            Module::Gate => &self.gate,
            Module::Up => &self.up,
            Module::Down => &self.down,
        }
    }
}
