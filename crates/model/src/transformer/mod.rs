//! The transformer: one decoder, driven by [`Config`], for every family. Flow: `mod` (embed, layers, head) → `layer`
//! (one layer forward) → `backward` (one layer backward) → `linear` and the kernels of `underdog-tensor`. `kept` is what one
//! leaves for the other, `work` the scratch of both.
//!
//! It takes rows ([`Batch`], [`Forest`]) and gives log-probabilities or logits; what they are good for is the business of
//! `train` and of `generate`.

mod backward;
mod kept;
mod layer;
mod work;

use crate::checkpoint::{Checkpoint, LayerTensor, Tensor};
use crate::config::{Activation, Config};
use crate::linear::{Linear, Precision, ReadyLora, Use};
use crate::lora::{Lora, Module};
use crate::tree::{Batch, Forest};
use kept::{Activations, Widths};
use layer::{Attended, Scope};
use work::Work;
use underdog_eval::Result;
use underdog_tensor::activation::Gate;
use underdog_tensor::attention::Heads;
use underdog_tensor::cross_entropy::{self, Head, Score, Target};
use underdog_tensor::dropout::Dropout;
use underdog_tensor::{norm, rope::Angles};

/// A model's weights, ready to run: matrices in the precision asked for, everything else in f32.
#[derive(Debug)]
pub struct Transformer {
    config: Config,
    precision: Precision,
    /// `[V, C]`; `None` where the head is the embedding too.
    embedding: Option<Vec<f32>>,
    final_norm: Vec<f32>,
    /// Hidden states to logits.
    head: Linear,
    layers: Vec<LayerWeights>,
    /// Inverse frequencies, one list for each of the configuration's ropes.
    frequencies: Vec<Vec<f32>>,
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
    fn load(checkpoint: &Checkpoint, index: usize, precision: Precision) -> Result<Self> {
        let config = checkpoint.config();
        let vector = |which| checkpoint.load(Tensor::Layer(index, which));
        let some = |present: bool, which| present.then(|| vector(which)).transpose();
        let linear = |which, module: Module| {
            let (input, output) = module.shape(config);
            Ok(Linear::new(vector(which)?, input, output, precision))
        };
        Ok(LayerWeights {
            attention_norm: vector(LayerTensor::AttentionNorm)?,
            q: linear(LayerTensor::Q, Module::Q)?,
            k: linear(LayerTensor::K, Module::K)?,
            v: linear(LayerTensor::V, Module::V)?,
            o: linear(LayerTensor::O, Module::O)?,
            q_norm: some(config.qk_norm, LayerTensor::QNorm)?,
            k_norm: some(config.qk_norm, LayerTensor::KNorm)?,
            attention_post_norm: some(config.post_norms, LayerTensor::AttentionPostNorm)?,
            mlp_norm: vector(LayerTensor::MlpNorm)?,
            gate: linear(LayerTensor::Gate, Module::Gate)?,
            up: linear(LayerTensor::Up, Module::Up)?,
            down: linear(LayerTensor::Down, Module::Down)?,
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

/// Memory that passes use again: made once, handed to every forward and backward pass. A backward pass goes with the forward
/// pass before it.
#[derive(Debug, Default)]
pub struct Workspace {
    layers: Vec<Activations>,
    attended: Attended,
    work: Vec<Work>,
    x: Vec<f32>,
}

/// The record of a forward pass, whose activations lie in the workspace.
#[derive(Debug)]
pub struct Tape {
    batch: Batch,
    angles: Vec<Angles>,
    /// Rows that carry a target, in order, and their final hidden states `[N, C]` before the last norm.
    rows: Vec<usize>,
    hidden: Vec<f32>,
    targets: Vec<Target>,
    options: StepOptions,
}

impl Workspace {
    fn prepare(&mut self, model: &Transformer) {
        let format = model.precision.format();
        let same = self.layers.len() == model.layers.len() && self.work.first().is_some_and(|w| w.format == format);
        if !same {
            self.layers = model.layers.iter().map(|_| Activations::new(format)).collect();
            self.work = (0..kept::GROUPS).map(|_| Work::new(format)).collect();
        }
    }
}

impl Transformer {
    /// Reads and dequantises all weights.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape or of an unknown type.
    pub fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = checkpoint.config().clone();
        let embedding = (!config.tied).then(|| checkpoint.load(Tensor::Embedding)).transpose()?;
        let head = checkpoint.load(Tensor::Head)?;
        let layer = |i| LayerWeights::load(checkpoint, i, precision);
        Ok(Transformer {
            precision,
            embedding,
            final_norm: checkpoint.load(Tensor::FinalNorm)?,
            head: Linear::new(head, config.width, config.vocab, precision),
            layers: (0..config.layers.len()).map(layer).collect::<Result<_>>()?,
            frequencies: config.ropes.iter().map(|r| r.frequencies(config.head_size)).collect(),
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn heads(&self, layer: usize) -> Heads {
        let Config { heads, kv_heads, head_size, attention_scale, .. } = self.config;
        let (window, format) = (self.config.layers[layer].window, self.precision.format());
        Heads { heads, kv_heads, head_size, scale: attention_scale, window, format }
    }

    fn gate(&self) -> Gate {
        match self.config.activation {
            Activation::Silu => Gate::Silu,
            Activation::GeluTanh => Gate::GeluTanh,
        }
    }

    /// Scaled embeddings `[T, C]` into `x`.
    ///
    /// # Panics
    /// When a token id is not below V.
    fn embed(&self, tokens: &[u32], x: &mut Vec<f32>) {
        let c = self.config.width;
        x.clear();
        x.resize(tokens.len() * c, 0.0);
        for (row, &token) in x.chunks_exact_mut(c).zip(tokens) {
            match &self.embedding {
                Some(embedding) => row.copy_from_slice(&embedding[token as usize * c..][..c]),
                None => self.head.row(token as usize, row),
            }
        }
        if self.config.embedding_scale != 1.0 {
            x.iter_mut().for_each(|v| *v *= self.config.embedding_scale);
        }
    }

    fn angles(&self, positions: &[usize]) -> Vec<Angles> {
        self.frequencies.iter().map(|f| Angles::new(positions, f)).collect()
    }

    fn scope<'a>(
        &'a self,
        index: usize,
        batch: &'a Batch,
        angles: &'a [Angles],
        lora: Option<&'a ReadyLora>,
        dropout: Option<Dropout>,
    ) -> Scope<'a> {
        let (groups, threads) = Scope::deal(batch.tokens.len());
        Scope {
            weights: &self.layers[index],
            pairs: lora.map(|lora| lora.layer(index)),
            dropout,
            angles: &angles[self.config.layers[index].rope],
            runs: &batch.runs,
            heads: self.heads(index),
            gate: self.gate(),
            eps: self.config.norm_eps,
            format: self.precision.format(),
            width: self.config.width,
            ffn: self.config.ffn,
            threads,
            groups,
        }
    }

    /// An adapter in the form that passes take.
    pub fn ready(&self, lora: &Lora, purpose: Use) -> ReadyLora {
        ReadyLora::new(lora, self.layers.len(), self.precision, purpose)
    }

    /// The number format of products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes that a step keeps for one token, with an adapter of this rank on all products.
    pub fn bytes_per_token(&self, keep: Keep, rank: usize) -> usize {
        self.widths(keep, [rank; 7]).bytes(self.precision.format()) * self.layers.len()
    }

    fn widths(&self, keep: Keep, rank: [usize; 7]) -> Widths {
        let Config { width, heads, kv_heads, head_size, post_norms, ffn, .. } = self.config;
        let (q, kv) = (heads * head_size, kv_heads * head_size);
        let post = if post_norms { width } else { 0 };
        let ffn = if keep == Keep::All { ffn } else { 0 };
        Widths { width, q, kv, heads, post, ffn, rank }
    }

    /// One [`Score`] for each of the forest's targets, and the tape for [`Transformer::backward`].
    pub fn forward(
        &self,
        lora: Option<&ReadyLora>,
        forest: &Forest,
        options: StepOptions,
        space: &mut Workspace,
    ) -> (Vec<Score>, Tape) {
        let batch = forest.batch();
        let angles = self.angles(&batch.positions);
        self.embed(&batch.tokens, &mut space.x);
        space.prepare(self);
        let Workspace { layers, attended, work, x } = space;
        for (index, kept) in layers.iter_mut().enumerate() {
            let scope = self.scope(index, &batch, &angles, lora, options.dropout);
            kept.resize(batch.tokens.len(), &self.widths(options.keep, Module::ALL.map(|m| scope.rank(m))));
            scope.forward(x, kept, None, attended, work);
        }
        let rows = target_rows(forest);
        let place = |t: &Target| Target { row: rows.partition_point(|&r| r < t.row), token: t.token };
        let targets: Vec<Target> = forest.targets().iter().map(place).collect();
        let hidden = gather(x, &rows, self.config.width);
        let scores = cross_entropy::forward(&self.head, &self.normed(&hidden), &targets);
        (scores, Tape { batch, angles, rows, hidden, targets, options })
    }

    /// Adds the gradient of the adapter to `gradients` (laid out as [`Lora::values`]) for `d[i] = ∂L/∂log_prob` of the
    /// forest's target `i`. `lora` is ready for training and `space` as the forward pass left it.
    pub fn backward(
        &self,
        lora: &ReadyLora,
        tape: Tape,
        d: &[f32],
        gradients: &mut [f32],
        space: &mut Workspace,
    ) {
        let c = self.config.width;
        let Tape { batch, angles, rows, hidden, targets, options } = tape;
        let dnormed = cross_entropy::backward(&self.head, &self.normed(&hidden), &targets, d);
        let mut dhidden = vec![0.0; hidden.len()];
        norm::backward(&mut dhidden, &hidden, &self.final_norm, self.config.norm_eps, &dnormed);
        let Workspace { layers, attended, work, x: dx } = space;
        dx.clear();
        dx.resize(batch.tokens.len() * c, 0.0);
        for (row, values) in rows.iter().zip(dhidden.chunks_exact(c)) {
            dx[row * c..(row + 1) * c].copy_from_slice(values);
        }
        for (index, kept) in layers.iter().enumerate().rev() {
            let scope = self.scope(index, &batch, &angles, Some(lora), options.dropout);
            scope.backward(kept, dx, gradients, attended, work);
        }
    }

    /// Runs new rows on top of a cache, stores their keys and values in it, and gives the logits `[want, V]` of the rows
    /// named in `want`.
    pub fn extend(
        &self,
        lora: Option<&ReadyLora>,
        batch: &Batch,
        cache: &mut KvCache,
        want: &[usize],
        space: &mut Workspace,
    ) -> Vec<f32> {
        let angles = self.angles(&batch.positions);
        self.embed(&batch.tokens, &mut space.x);
        space.prepare(self);
        let Workspace { attended, work, x, .. } = space;
        let mut nothing = Activations::new(self.precision.format());
        for index in 0..self.layers.len() {
            let (keys, values) = &mut cache.layers[index];
            let store = layer::Store { keys, values, slots: &batch.slots };
            self.scope(index, batch, &angles, lora, None).forward(x, &mut nothing, Some(store), attended, work);
        }
        self.head.logits(&self.normed(&gather(x, want, self.config.width)))
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
