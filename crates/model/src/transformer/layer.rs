//! One layer forward: `x → x + attention(norm x) → x + mlp(norm x)`, with the norms after attention and MLP that Gemma has.
//! Training and decoding run this same code; they differ in where keys and values lie.

use super::{Keep, LayerWeights};
use crate::lora::{Lora, Module, Pair};
use underdog_tensor::activation::{self, Gate};
use underdog_tensor::attention::{self, Heads, Run};
use underdog_tensor::attention_rows;
use underdog_tensor::dropout::Dropout;
use underdog_tensor::math::add_scaled;
use underdog_tensor::norm;
use underdog_tensor::pool::Pool;
use underdog_tensor::rope::{Angles, Turn, rotate};

/// Everything a layer needs besides its input.
pub(super) struct Scope<'a> {
    pub weights: &'a LayerWeights,
    pub index: usize,
    pub lora: Option<&'a Lora>,
    pub dropout: Option<Dropout>,
    pub angles: &'a Angles,
    pub runs: &'a [Run],
    pub heads: Heads,
    pub gate: Gate,
    pub eps: f32,
    /// Threads for single rows, where the weights are quantised.
    pub pool: Option<&'a Pool>,
}

/// Where a decoding batch keeps keys and values: `[slots, G·D]`, row `i` of the batch at `slots[i]`.
pub(super) struct Store<'a> {
    pub keys: &'a mut [f32],
    pub values: &'a mut [f32],
    pub slots: &'a [usize],
}

/// What one layer keeps for its backward pass. `T` rows.
#[derive(Debug)]
pub(super) struct Activations {
    /// The layer's input `[T, C]`.
    pub x: Vec<f32>,
    /// Queries before their norm and rope `[T, H·D]`.
    pub q: Vec<f32>,
    /// Keys before their norm and rope `[T, G·D]`.
    pub k: Vec<f32>,
    /// Values `[T, G·D]`.
    pub v: Vec<f32>,
    /// Attention output `[T, H·D]`.
    pub out: Vec<f32>,
    /// Log-sum-exp of the scores `[T, H]`.
    pub lse: Vec<f32>,
    /// What the norm after attention saw `[T, C]`, where there is one.
    pub o: Option<Vec<f32>>,
    /// The input of the MLP half `[T, C]`.
    pub middle: Vec<f32>,
    /// The MLP's inner values, unless they are computed again.
    pub mlp: Option<Mlp>,
}

/// The inner values of the MLP.
#[derive(Debug)]
pub(super) struct Mlp {
    /// `[T, F]`.
    pub gate: Vec<f32>,
    /// `[T, F]`.
    pub up: Vec<f32>,
}

impl Scope<'_> {
    pub fn pair(&self, module: Module) -> Option<Pair<'_>> {
        self.lora.and_then(|lora| lora.pair(self.index, module, self.dropout))
    }

    pub fn linear(&self, module: Module, x: &[f32]) -> Vec<f32> {
        self.weights.linear(module).forward(x, self.pair(module))
    }

    pub fn norm(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        norm::forward(&mut y, x, weight, self.eps);
        y
    }

    /// Queries or keys as attention sees them: normed per head where the family does so, then turned.
    pub fn turned(&self, raw: &[f32], heads: usize, weight: Option<&Vec<f32>>) -> Vec<f32> {
        let mut turned = weight.map_or_else(|| raw.to_vec(), |w| self.norm(raw, w));
        rotate(&mut turned, heads, self.angles, Turn::Forward);
        turned
    }

    pub fn mlp(&self, normed: &[f32]) -> Mlp {
        Mlp { gate: self.linear(Module::Gate, normed), up: self.linear(Module::Up, normed) }
    }

    pub fn gated(&self, mlp: &Mlp) -> Vec<f32> {
        let mut a = vec![0.0; mlp.gate.len()];
        activation::forward(self.gate, &mut a, &mlp.gate, &mlp.up);
        a
    }

    /// The layer's output `[T, C]` and what its backward pass needs. With a `store`, keys and values go there and attention
    /// reads from there.
    pub fn forward(&self, x: Vec<f32>, store: Option<Store<'_>>, keep: Keep) -> (Vec<f32>, Activations) {
        let w = self.weights;
        let normed = self.norm(&x, &w.attention_norm);
        let (q, k) = (self.linear(Module::Q, &normed), self.linear(Module::K, &normed));
        let v = self.linear(Module::V, &normed);
        let (out, lse) = self.attend(&q, &k, &v, store);
        let o = self.linear(Module::O, &out);
        let mut middle = x.clone();
        let o = add_through(&mut middle, o, w.attention_post_norm.as_deref(), |o, norm| self.norm(o, norm));
        let mlp = self.mlp(&self.norm(&middle, &w.mlp_norm));
        let down = self.linear(Module::Down, &self.gated(&mlp));
        let mut y = middle.clone();
        add_through(&mut y, down, w.mlp_post_norm.as_deref(), |m, norm| self.norm(m, norm));
        let mlp = (keep == Keep::All).then_some(mlp);
        (y, Activations { x, q, k, v, out, lse, o, middle, mlp })
    }

    fn attend(&self, q: &[f32], k: &[f32], v: &[f32], store: Option<Store<'_>>) -> (Vec<f32>, Vec<f32>) {
        let Heads { heads, kv_heads, .. } = self.heads;
        let turned_q = self.turned(q, heads, self.weights.q_norm.as_ref());
        let turned_k = self.turned(k, kv_heads, self.weights.k_norm.as_ref());
        let rows = q.len() / (heads * self.heads.head_size);
        let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; rows * heads]);
        match store {
            None => attention::forward(&mut out, &mut lse, &turned_q, &turned_k, v, self.runs, self.heads),
            Some(store) => {
                let width = kv_heads * self.heads.head_size;
                for (row, &slot) in store.slots.iter().enumerate() {
                    let (from, to) = (row * width..(row + 1) * width, slot * width..(slot + 1) * width);
                    store.keys[to.clone()].copy_from_slice(&turned_k[from.clone()]);
                    store.values[to].copy_from_slice(&v[from]);
                }
                if let Some(pool) = self.pool.filter(|_| self.runs.iter().all(|run| run.len == 1)) {
                    let cache = (&*store.keys, &*store.values);
                    attention_rows::forward(pool, &mut out, &turned_q, cache, self.runs, self.heads);
                    return (out, lse);
                }
                attention::forward(
                    &mut out,
                    &mut lse,
                    &turned_q,
                    store.keys,
                    store.values,
                    self.runs,
                    self.heads,
                );
            }
        }
        (out, lse)
    }
}

/// `to += norm(x)` or `to += x`; gives `x` back where a norm saw it.
fn add_through(
    to: &mut [f32],
    x: Vec<f32>,
    weight: Option<&[f32]>,
    norm: impl Fn(&[f32], &[f32]) -> Vec<f32>,
) -> Option<Vec<f32>> {
    match weight {
        None => {
            add_scaled(to, 1.0, &x);
            None
        }
        Some(weight) => {
            add_scaled(to, 1.0, &norm(&x, weight));
            Some(x)
        }
    }
}
