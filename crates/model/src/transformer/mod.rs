//! The transformer: one decoder, driven by [`Config`], for every family. Flow: `mod` (embed, layers, head) → `layer` and
//! `second_half` (one layer forward) → `backward` and `adapter_gradients` (one layer backward) → `linear` and the kernels of
//! `underdog-tensor`. `kept` is what one leaves for the other, `work` the scratch of both.
//!
//! It takes rows ([`Batch`], [`Forest`]) and gives log-probabilities or logits; what they are good for is the business of
//! `train` and of `generate`.

mod adapter_gradients;
mod backward;
mod cache;
mod extend;
mod kept;
mod layer;
mod memory;
mod second_half;
mod weights;
mod work;

use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::{Activation, Config};
use crate::linear::{Linear, Precision, ReadyLora, Use};
use crate::lora::{Lora, LoraConfig, Module};
use crate::tree::{Batch, Forest};
pub use cache::KvCache;
use kept::Activations;
use layer::{Attended, Scope};
pub use memory::StepSize;
use rayon::prelude::*;
use std::sync::Arc;
use underdog_eval::Result;
use underdog_tensor::activation::Gate;
use underdog_tensor::attention::Heads;
use underdog_tensor::block::Format;
use underdog_tensor::cross_entropy::{self, Score, Target};
use underdog_tensor::dropout::Dropout;
use underdog_tensor::pool::Pool;
use underdog_tensor::{norm, rope::Angles};
use weights::{LayerWeights, Loading};
use work::{Unpacked, Work};

/// A model's weights, ready to run: matrices in the precision asked for, everything else in f32.
#[derive(Debug)]
pub struct Transformer {
    config: Config,
    precision: Precision,
    /// `[V, C]`; `None` where the head is the embedding too.
    embedding: Option<Linear>,
    final_norm: Vec<f32>,
    /// Hidden states to logits.
    head: Linear,
    layers: Vec<LayerWeights>,
    /// Inverse frequencies, one list for each of the configuration's ropes.
    frequencies: Vec<Vec<f32>>,
    /// For rows that are decoded one by one.
    pool: Arc<Pool>,
}

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All products but those that a norm follows: `train`'s plan says how many bytes a token takes. Norms and other
    /// elementwise work are done again.
    All,
    /// All but gate and up: about half the memory, an eighth more time.
    WithoutMlp,
    /// What goes into each layer: a tenth of the memory; every layer is computed again, a third more time.
    Inputs,
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
    unpacked: Unpacked,
    /// An adapter that was made ready, what it looks like, and how many values it has.
    ready: Option<(LoraConfig, usize, ReadyLora)>,
    x: Vec<f32>,
    /// The activations of a layer that is computed again, and what went into it.
    again: Option<Activations>,
    input: Vec<f32>,
    /// Of the head.
    head: cross_entropy::Space,
    hidden: Vec<f32>,
    normed: Vec<f32>,
    expected: Vec<f32>,
    dhidden: Vec<f32>,
    times: LayerTimes,
}

/// Seconds that rows on top of a cache spent in layers, since the workspace was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerTimes {
    /// In layers that see a window.
    pub windowed: f64,
    /// In layers that see everything.
    pub whole: f64,
}

impl Workspace {
    /// Where the time of reading prompts and decoding went.
    pub fn layer_times(&self) -> LayerTimes {
        self.times
    }
}

/// The record of a forward pass, whose activations lie in the workspace.
#[derive(Debug)]
pub struct Tape {
    batch: Batch,
    angles: Vec<Angles>,
    /// Rows that carry a target, in order.
    rows: Vec<usize>,
    targets: Vec<Target>,
    options: StepOptions,
}

/// What all layers of a pass share.
struct Pass<'a> {
    batch: &'a Batch,
    angles: Vec<Angles>,
    format: Format,
}

impl Workspace {
    /// Keeps the memory of an adapter that was made ready for training, for the next step of the same model.
    pub fn give_back(&mut self, lora: &Lora, ready: ReadyLora) {
        self.ready = Some((lora.config().clone(), lora.values.len(), ready));
    }

    fn prepare(&mut self, model: &Transformer, format: Format) {
        let same =
            self.layers.len() == model.layers.len() && self.work.first().is_some_and(|w| w.format == format);
        if !same {
            self.layers = model.layers.iter().map(|_| Activations::new(format)).collect();
            self.work = (0..kept::GROUPS).map(|_| Work::new(format)).collect();
            self.again = None;
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
        let loading = Loading { precision, pool: Arc::new(Pool::new(rayon::current_num_threads())) };
        let layer = |i| LayerWeights::load(checkpoint, i, &loading);
        // Layers side by side, since much of a tensor's way is on one thread.
        let layers = || (0..config.layers.len()).into_par_iter().map(layer).collect::<Result<Vec<_>>>();
        let (head, layers) = rayon::join(|| loading.head(checkpoint), layers);
        // Rows of the embedding are copied, never multiplied: there is nothing to pack them for.
        let plain = if precision == Precision::Native { precision } else { Precision::F32 };
        let embeddings = Loading { precision: plain, pool: loading.pool.clone() };
        let embedding =
            (!config.tied).then(|| embeddings.linear(checkpoint, Tensor::Embedding)).transpose()?;
        Ok(Transformer {
            precision,
            embedding,
            final_norm: checkpoint.load(Tensor::FinalNorm)?,
            head: head?,
            layers: layers?,
            frequencies: config.ropes.iter().map(|r| r.frequencies(config.head_size)).collect(),
            pool: loading.pool,
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The format of the products of many rows.
    pub fn format(&self) -> Format {
        self.precision.format()
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
            self.embedding.as_ref().unwrap_or(&self.head).row(token as usize, row);
        }
        if self.config.embedding_scale != 1.0 {
            x.iter_mut().for_each(|v| *v *= self.config.embedding_scale);
        }
    }

    fn pass<'a>(&self, batch: &'a Batch, format: Format) -> Pass<'a> {
        let angles = self.frequencies.iter().map(|f| Angles::new(&batch.positions, f)).collect();
        Pass { batch, angles, format }
    }

    /// A layer of a pass, with no dropout and nothing unpacked yet.
    fn scope<'a>(&'a self, index: usize, pass: &'a Pass<'_>, lora: Option<&'a ReadyLora>) -> Scope<'a> {
        let (groups, team) = Scope::deal(pass.batch.tokens.len(), &self.pool);
        Scope {
            weights: &self.layers[index],
            unpacked: None,
            pairs: lora.map(|lora| lora.layer(index, pass.format)),
            dropout: None,
            angles: &pass.angles[self.config.layers[index].rope],
            runs: &pass.batch.runs,
            heads: self.heads(index),
            gate: self.gate(),
            eps: self.config.norm_eps,
            format: pass.format,
            width: self.config.width,
            ffn: self.config.ffn,
            team,
            groups,
            pool: &self.pool,
        }
    }

    /// As [`Transformer::ready`], for training, in the memory of the last one of the same adapter that was given back to `space` with
    /// [`Workspace::give_back`].
    pub fn ready_in(&self, lora: &Lora, space: &mut Workspace) -> ReadyLora {
        match space.ready.take() {
            Some((config, values, mut ready)) if config == *lora.config() && values == lora.values.len() => {
                ready.set(lora);
                ready
            }
            _ => self.ready(lora, Use::Training),
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

    /// One [`Score`] for each of the forest's targets, and the tape for [`Transformer::backward`].
    pub fn forward(
        &self,
        lora: Option<&ReadyLora>,
        forest: &Forest,
        options: StepOptions,
        space: &mut Workspace,
    ) -> (Vec<Score>, Tape) {
        let batch = forest.batch();
        let pass = self.pass(&batch, self.precision.format());
        self.embed(&batch.tokens, &mut space.x);
        space.prepare(self, pass.format);
        let Workspace { layers, attended, work, unpacked, x, head, hidden, normed, expected, .. } = space;
        for (index, kept) in layers.iter_mut().enumerate() {
            unpacked.forward(&self.layers[index], pass.format);
            let unpacked = Some(&*unpacked);
            let scope = Scope { dropout: options.dropout, unpacked, ..self.scope(index, &pass, lora) };
            kept.resize(batch.tokens.len(), &self.widths(options.keep, Module::ALL.map(|m| scope.rank(m))));
            scope.forward(x, kept, None, attended, work);
        }
        let angles = pass.angles;
        let rows = target_rows(forest);
        let place = |t: &Target| Target { row: rows.partition_point(|&r| r < t.row), token: t.token };
        let targets: Vec<Target> = forest.targets().iter().map(place).collect();
        gather(x, &rows, self.config.width, hidden);
        normed.resize(hidden.len(), 0.0);
        norm::forward(normed, hidden, &self.final_norm, self.config.norm_eps);
        let expected = lora.is_some().then_some(expected);
        let scores = cross_entropy::forward(&self.head, normed, &targets, expected, head);
        (scores, Tape { batch, angles, rows, targets, options })
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
        let Tape { batch, angles, rows, targets, options } = tape;
        let Workspace {
            layers,
            attended,
            work,
            unpacked,
            x: dx,
            hidden,
            normed: dnormed,
            expected,
            dhidden,
            again: again_kept,
            input,
            ..
        } = space;
        let again_kept = again_kept.get_or_insert_with(|| Activations::new(self.precision.format()));
        cross_entropy::backward(&self.head, expected, &targets, d, dnormed);
        dhidden.clear();
        dhidden.resize(hidden.len(), 0.0);
        norm::backward(dhidden, hidden, &self.final_norm, self.config.norm_eps, dnormed);
        dx.clear();
        dx.resize(batch.tokens.len() * c, 0.0);
        for (row, values) in rows.iter().zip(dhidden.chunks_exact(c)) {
            dx[row * c..(row + 1) * c].copy_from_slice(values);
        }
        let pass = Pass { batch: &batch, angles, format: self.precision.format() };
        for (index, kept) in layers.iter().enumerate().rev() {
            let again: &[Module] = match options.keep {
                Keep::All => &[],
                Keep::WithoutMlp => &[Module::Gate, Module::Up],
                Keep::Inputs => &Module::ALL,
            };
            unpacked.backward(&self.layers[index], pass.format, again);
            let unpacked = Some(&*unpacked);
            let scope = Scope { dropout: options.dropout, unpacked, ..self.scope(index, &pass, Some(lora)) };
            if options.keep == Keep::Inputs {
                input.resize(batch.tokens.len() * c, 0.0);
                kept.x.read(0, input);
                again_kept
                    .resize(batch.tokens.len(), &self.widths(Keep::All, Module::ALL.map(|m| scope.rank(m))));
                scope.forward(input, again_kept, None, attended, work);
                scope.backward(again_kept, dx, gradients, attended, work);
            } else {
                scope.backward(kept, dx, gradients, attended, work);
            }
        }
    }
}

/// Rows that carry a target, each once.
fn target_rows(forest: &Forest) -> Vec<usize> {
    let mut rows: Vec<usize> = forest.targets().iter().map(|t| t.row).collect();
    rows.dedup();
    rows
}

fn gather(x: &[f32], rows: &[usize], width: usize, to: &mut Vec<f32>) {
    to.clear();
    rows.iter().for_each(|r| to.extend_from_slice(&x[r * width..(r + 1) * width]));
}
