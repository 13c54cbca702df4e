//! The transformer: one decoder, driven by [`Config`], for every family. Flow: `mod` (embed, layers, head) → `layer`
//! (one layer forward) → `backward` (one layer backward) → `linear` and the kernels of `underdog-tensor`.
//!
//! It takes rows ([`Batch`], [`Forest`]) and gives log-probabilities or logits; what they are good for is the business of
//! `train` and of `generate`.

mod backward;
mod layer;

use crate::checkpoint::{Checkpoint, LayerTensor, Tensor};
use crate::config::{Activation, Config};
use crate::linear::{Linear, Precision};
use crate::lora::{Lora, Module};
use crate::tree::{Batch, Forest};
use layer::{Activations, Scope};
use std::sync::Arc;
use underdog_eval::Result;
use underdog_tensor::activation::Gate;
use underdog_tensor::attention::Heads;
use underdog_tensor::cross_entropy::{self, Score, Target};
use underdog_tensor::dropout::Dropout;
use underdog_tensor::pool::Pool;
use underdog_tensor::quantised::Matrix;
use underdog_tensor::{norm, rope::Angles};

/// A model's weights, ready to run: matrices in the precision asked for, everything else in f32.
#[derive(Debug)]
pub struct Transformer {
    config: Config,
    embedding: Embedding,
    final_norm: Vec<f32>,
    /// Hidden states to logits; the embedding again where they are tied.
    head: Linear,
    layers: Vec<LayerWeights>,
    /// Inverse frequencies, one list for each of the configuration's ropes.
    frequencies: Vec<Vec<f32>>,
    /// Threads for decoding on quantised weights.
    pool: Option<Arc<Pool>>,
}

/// Where the rows of the embedding come from.
#[derive(Debug)]
enum Embedding {
    F32(Vec<f32>),
    /// In the blocks of the file; where it is tied, the head holds the same.
    Blocks(Arc<Matrix>),
}

/// Reads a matrix `[output, input]` in the precision asked for; with a pool it stays in its blocks where it has any.
fn linear(
    checkpoint: &Checkpoint,
    tensor: Tensor,
    precision: Precision,
    pool: Option<&Arc<Pool>>,
) -> Result<Linear> {
    if let Some(pool) = pool
        && let Some(matrix) = checkpoint.load_blocks(tensor)?
    {
        return Ok(Linear::blocks(Arc::new(matrix), pool.clone()));
    }
    let shape = checkpoint.config().shape(tensor);
    Ok(Linear::new(checkpoint.load(tensor)?, shape[1], shape[0], precision))
}

/// The weights of one layer. Norms that a family does not have are `None`.
#[derive(Debug)]
struct LayerWeights {
    attention_norm: Vec<f32>,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    q_norm: Option<Vec<f32>>,
    k_norm: Option<Vec<f32>>,
    attention_post_norm: Option<Vec<f32>>,
    mlp_norm: Vec<f32>,
    gate: Linear,
    up: Linear,
    down: Linear,
    mlp_post_norm: Option<Vec<f32>>,
}

impl LayerWeights {
    fn load(
        checkpoint: &Checkpoint,
        index: usize,
        precision: Precision,
        pool: Option<&Arc<Pool>>,
    ) -> Result<Self> {
        let config = checkpoint.config();
        let vector = |which| checkpoint.load(Tensor::Layer(index, which));
        let some = |present: bool, which| present.then(|| vector(which)).transpose();
        let linear = |which| linear(checkpoint, Tensor::Layer(index, which), precision, pool);
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

    fn linear(&self, module: Module) -> &Linear {
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

/// Keys and values of earlier rows, for decoding: `slots` places of G·D values in every layer.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    slots: usize,
}

impl KvCache {
    /// Room for `slots` tokens.
    pub fn new(config: &Config, slots: usize) -> Self {
        let size = slots * config.kv_heads * config.head_size;
        KvCache { layers: config.layers.iter().map(|_| (vec![0.0; size], vec![0.0; size])).collect(), slots }
    }

    /// How many tokens it holds.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Bytes of the keys and values of one token in all layers.
    pub fn bytes_per_slot(&self) -> usize {
        self.layers.iter().map(|(k, v)| (k.len() + v.len()) * 4).sum::<usize>() / self.slots.max(1)
    }
}

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All products but those that a norm follows: `train`'s plan says how many bytes a token takes. Norms and other
    /// elementwise work are done again.
    All,
    /// All but gate and up: about half the memory, a quarter more arithmetic.
    WithoutMlp,
}

/// How a training step runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// What is kept for the backward pass.
    pub keep: Keep,
    /// Dropout on the adapter's input, with the key of this step.
    pub dropout: Option<Dropout>,
}

/// The record of a forward pass.
#[derive(Debug)]
pub struct Tape {
    batch: Batch,
    angles: Vec<Angles>,
    layers: Vec<Activations>,
    /// Rows that carry a target, in order, and their final hidden states `[N, C]` before the last norm.
    rows: Vec<usize>,
    hidden: Vec<f32>,
    targets: Vec<Target>,
    options: StepOptions,
}

impl Transformer {
    /// Reads and dequantises all weights.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape or of an unknown type.
    pub fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = checkpoint.config().clone();
        let pool =
            (precision == Precision::Native).then(|| Arc::new(Pool::new(rayon::current_num_threads())));
        let blocks = pool.as_ref().map(|_| checkpoint.load_blocks(Tensor::Embedding)).transpose()?.flatten();
        let embedding = match blocks {
            Some(matrix) => Embedding::Blocks(Arc::new(matrix)),
            None => Embedding::F32(checkpoint.load(Tensor::Embedding)?),
        };
        let head = match (&embedding, &pool) {
            (Embedding::Blocks(matrix), Some(pool)) if config.tied => {
                Linear::blocks(matrix.clone(), pool.clone())
            }
            (Embedding::F32(numbers), _) if config.tied => {
                Linear::new(numbers.clone(), config.width, config.vocab, precision)
            }
            _ => linear(checkpoint, Tensor::Head, precision, pool.as_ref())?,
        };
        let layer = |i| LayerWeights::load(checkpoint, i, precision, pool.as_ref());
        Ok(Transformer {
            embedding,
            final_norm: checkpoint.load(Tensor::FinalNorm)?,
            head,
            layers: (0..config.layers.len()).map(layer).collect::<Result<_>>()?,
            frequencies: config.ropes.iter().map(|r| r.frequencies(config.head_size)).collect(),
            config,
            pool,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of all matrices that a token passes, the head among them and the embedding not: what decoding one token reads,
    /// beside the cache.
    pub fn matrix_bytes(&self) -> usize {
        let layer = |l: &LayerWeights| Module::ALL.iter().map(|&m| l.linear(m).bytes()).sum::<usize>();
        self.head.bytes() + self.layers.iter().map(layer).sum::<usize>()
    }

    fn heads(&self, layer: usize) -> Heads {
        let Config { heads, kv_heads, head_size, attention_scale, .. } = self.config;
        Heads { heads, kv_heads, head_size, scale: attention_scale, window: self.config.layers[layer].window }
    }

    fn gate(&self) -> Gate {
        match self.config.activation {
            Activation::Silu => Gate::Silu,
            Activation::GeluTanh => Gate::GeluTanh,
        }
    }

    /// Scaled embeddings `[T, C]`.
    ///
    /// # Panics
    /// When a token id is not below V.
    fn embed(&self, tokens: &[u32]) -> Vec<f32> {
        let c = self.config.width;
        let mut x = vec![0.0; tokens.len() * c];
        for (x, &token) in x.chunks_exact_mut(c).zip(tokens) {
            let token = token as usize;
            match &self.embedding {
                Embedding::F32(numbers) => x.copy_from_slice(&numbers[token * c..(token + 1) * c]),
                Embedding::Blocks(matrix) => matrix.rows(token..token + 1, x),
            }
        }
        if self.config.embedding_scale != 1.0 {
            x.iter_mut().for_each(|v| *v *= self.config.embedding_scale);
        }
        x
    }

    fn angles(&self, positions: &[usize]) -> Vec<Angles> {
        self.frequencies.iter().map(|f| Angles::new(positions, f)).collect()
    }

    fn scope<'a>(
        &'a self,
        index: usize,
        batch: &'a Batch,
        angles: &'a [Angles],
        lora: Option<&'a Lora>,
        dropout: Option<Dropout>,
    ) -> Scope<'a> {
        Scope {
            weights: &self.layers[index],
            index,
            lora,
            dropout,
            angles: &angles[self.config.layers[index].rope],
            runs: &batch.runs,
            heads: self.heads(index),
            gate: self.gate(),
            eps: self.config.norm_eps,
            pool: self.pool.as_deref(),
        }
    }

    /// One [`Score`] for each of the forest's targets, and the tape for [`Transformer::backward`].
    pub fn forward(&self, lora: Option<&Lora>, forest: &Forest, options: StepOptions) -> (Vec<Score>, Tape) {
        let batch = forest.batch();
        let angles = self.angles(&batch.positions);
        let mut x = self.embed(&batch.tokens);
        let mut layers = Vec::with_capacity(self.layers.len());
        for index in 0..self.layers.len() {
            let scope = self.scope(index, &batch, &angles, lora, options.dropout);
            let (next, activations) = scope.forward(x, None, options.keep);
            layers.push(activations);
            x = next;
        }
        let rows = target_rows(forest);
        let place = |t: &Target| Target { row: rows.partition_point(|&r| r < t.row), token: t.token };
        let targets: Vec<Target> = forest.targets().iter().map(place).collect();
        let hidden = gather(&x, &rows, self.config.width);
        let scores = cross_entropy::forward(&self.head, &self.normed(&hidden), &targets);
        (scores, Tape { batch, angles, layers, rows, hidden, targets, options })
    }

    /// Adds the gradient of the adapter to `gradients` (laid out as [`Lora::values`]) for `d[i] = ∂L/∂log_prob` of the
    /// forest's target `i`.
    pub fn backward(&self, lora: &Lora, tape: Tape, d: &[f32], gradients: &mut [f32]) {
        let c = self.config.width;
        let Tape { batch, angles, mut layers, rows, hidden, targets, options } = tape;
        let dnormed = cross_entropy::backward(&self.head, &self.normed(&hidden), &targets, d);
        let mut dhidden = vec![0.0; hidden.len()];
        norm::backward(&mut dhidden, &hidden, &self.final_norm, self.config.norm_eps, &dnormed);
        let mut dx = vec![0.0; batch.tokens.len() * c];
        for (row, values) in rows.iter().zip(dhidden.chunks_exact(c)) {
            dx[row * c..(row + 1) * c].copy_from_slice(values);
        }
        for index in (0..self.layers.len()).rev() {
            let scope = self.scope(index, &batch, &angles, Some(lora), options.dropout);
            let activations = layers.pop().expect("one set of activations a layer");
            dx = scope.backward(activations, dx, gradients);
        }
    }

    /// Runs new rows on top of a cache, stores their keys and values in it, and gives the logits `[want, V]` of the rows
    /// named in `want`.
    pub fn extend(
        &self,
        lora: Option<&Lora>,
        batch: &Batch,
        cache: &mut KvCache,
        want: &[usize],
    ) -> Vec<f32> {
        let angles = self.angles(&batch.positions);
        let mut x = self.embed(&batch.tokens);
        for index in 0..self.layers.len() {
            let (keys, values) = &mut cache.layers[index];
            let store = layer::Store { keys, values, slots: &batch.slots };
            x = self.scope(index, batch, &angles, lora, None).forward(x, Some(store), Keep::WithoutMlp).0;
        }
        self.head.product(&self.normed(&gather(&x, want, self.config.width)))
    }

    fn normed(&self, hidden: &[f32]) -> Vec<f32> {
        let mut normed = vec![0.0; hidden.len()];
        norm::forward(&mut normed, hidden, &self.final_norm, self.config.norm_eps);
        normed
    }
}

/// Rows that carry a target, each once.
fn target_rows(forest: &Forest) -> Vec<usize> {
    let mut rows: Vec<usize> = forest.targets().iter().map(|t| t.row).collect();
    rows.dedup();
    rows
}

fn gather(x: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
    rows.iter().flat_map(|r| &x[r * width..(r + 1) * width]).copied().collect()
}
