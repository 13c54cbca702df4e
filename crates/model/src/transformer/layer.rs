//! One layer forward: `x → x + attention(norm x) → x + mlp(norm x)`; what follows attention is in `second_half`.
//! Training and decoding run this same code; they differ in where keys and values lie.
//!
//! Between one attention and the next, rows do not meet: groups of rows go through products, norms and gates in parallel, a
//! block at a time.

use super::LayerWeights;
use super::kept::{Activations, GROUPS, KeptMut, blocks, deal, groups, split};
use super::work::{Low, Unpacked, Work, each_group, put_dropped};
use crate::linear::LayerPairs;
use crate::lora::Module;
use std::ops::Range;
use underdog_tensor::activation::Gate;
use underdog_tensor::attention::{self, Gradients, Heads, Run};
use underdog_tensor::block::Format;
use underdog_tensor::cached::Cached;
use underdog_tensor::dropout::Dropout;
use underdog_tensor::norm;
use underdog_tensor::pool::{Pool, Team};
use underdog_tensor::rope::{Angles, Turn};

/// Rows of a group from which on its products are better off on one thread, when rows are decoded.
const DECODED: usize = 64;

/// Everything a layer needs besides its input.
pub struct Scope<'a> {
    pub weights: &'a LayerWeights,
    /// Weights that many rows meet in another form than they lie in.
    pub unpacked: Option<&'a Unpacked>,
    pub pairs: Option<&'a LayerPairs>,
    pub dropout: Option<Dropout>,
    pub angles: &'a Angles,
    pub runs: &'a [Run],
    pub heads: Heads,
    pub gate: Gate,
    pub eps: f32,
    pub format: Format,
    pub width: usize,
    pub ffn: usize,
    /// Of a product: one where groups of rows are parallel already.
    pub team: Team<'a>,
    pub groups: Vec<Range<usize>>,
    /// For rows that are decoded one by one.
    pub pool: &'a Pool,
}

/// Where a decoding batch keeps keys and values: row `i` of the batch at `slots[i]`.
pub struct Store<'a> {
    pub keys: &'a mut Cached,
    pub values: &'a mut Cached,
    pub slots: &'a [usize],
}

/// Queries and keys as attention sees them, values, and attention's output: `[T, H·D]` or `[T, G·D]`.
#[derive(Debug, Default)]
pub struct Attended {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub out: Vec<f32>,
    /// The output as it was kept, and gradients, for the backward pass.
    pub seen: Vec<f32>,
    pub gradients: Gradients,
    pub space: attention::Space,
}

/// Queries, keys or values of a group: which product gives them and where they go.
struct Projection<'a> {
    module: Module,
    heads: usize,
    norm: Option<&'a [f32]>,
    /// As attention sees them.
    to: &'a mut [f32],
    /// Before norm and rope.
    kept: KeptMut<'a>,
    low: &'a mut [f32],
}

impl<'a> Scope<'a> {
    /// How the rows of a batch that is decoded or read in are dealt out: one group a thread, so that each weight is read once a
    /// thread, unless that leaves a group few rows.
    pub fn deal_decoding(rows: usize, pool: &'a Pool) -> (Vec<Range<usize>>, Team<'a>) {
        let parts = pool.threads().min(GROUPS);
        if parts < 2 || rows < parts * DECODED {
            (split(0..rows, 1).collect(), Team::All(pool))
        } else {
            (split(0..rows, parts).collect(), Team::One)
        }
    }

    /// How the rows of a batch are dealt out. A batch of few rows is one group, whose products are parallel themselves.
    pub fn deal(rows: usize, pool: &'a Pool) -> (Vec<Range<usize>>, Team<'a>) {
        let groups = groups(rows);
        let team = if groups.len() > 1 { Team::One } else { Team::All(pool) };
        (groups, team)
    }

    /// Runs the layer on `x [T, C]` in place; what its backward pass needs goes to `kept`. With a `store`, keys and values go
    /// there and attention reads from there.
    pub fn forward(
        &self,
        x: &mut [f32],
        kept: &mut Activations,
        store: Option<Store<'_>>,
        attended: &mut Attended,
        work: &mut [Work],
    ) {
        self.projections(x, kept, attended, work);
        self.attend(attended, kept, store);
        self.second_half(x, kept, &attended.out, work);
    }

    fn projections(&self, x: &[f32], kept: &mut Activations, attended: &mut Attended, work: &mut [Work]) {
        let Heads { heads, kv_heads, head_size, .. } = self.heads;
        let (rows, w) = (x.len() / self.width, self.weights);
        let (q, kv) = (heads * head_size, kv_heads * head_size);
        attended.q.resize(rows * q, 0.0);
        attended.k.resize(rows * kv, 0.0);
        attended.v.resize(rows * kv, 0.0);
        let [low_q, low_k, low_v, ..] = &mut kept.low;
        let (norm_q, norm_k) = (w.q_norm.as_deref(), w.k_norm.as_deref());
        let parts = [
            (Module::Q, heads, norm_q, &mut attended.q, &mut kept.q, low_q),
            (Module::K, kv_heads, norm_k, &mut attended.k, &mut kept.k, low_k),
            (Module::V, kv_heads, None, &mut attended.v, &mut kept.v, low_v),
        ];
        let mut parts = parts.map(|(module, heads, norm, to, raw, low)| {
            let tos = deal(to, &self.groups, heads * head_size);
            let raws = raw.deal(&self.groups, heads * head_size);
            let lows = deal(low, &self.groups, self.rank(module));
            let part = move |((to, kept), low)| Projection { module, heads, norm, to, kept, low };
            tos.zip(raws).zip(lows).map(part)
        });
        let inputs = kept.x.deal(&self.groups, self.width);
        let of_group = |(group, input)| {
            let projections = parts.each_mut().map(|part| part.next().expect("a part for every group"));
            ((projections, input), group)
        };
        let tasks = self.groups.iter().zip(inputs).map(of_group).collect();
        each_group(tasks, work, |((mut projections, mut input), group), work| {
            for block in blocks(group) {
                let local = block.start - group.start..block.end - group.start;
                input.write(local.start * self.width, &x[block.start * self.width..block.end * self.width]);
                let modules = [Module::Q, Module::K, Module::V];
                let x = &x[block.start * self.width..];
                self.normed_left(x, &w.attention_norm, block.len(), work, &modules);
                for part in &mut projections {
                    self.low_of_left(part.module, block.start, part.low, local.start, work);
                }
                let Work { left, low, a, b, c, .. } = work;
                let mut outs = [a, b, c];
                for (out, part) in outs.iter_mut().zip(&projections) {
                    out.reset(self.format, block.len(), part.heads * self.heads.head_size);
                }
                self.products(outs, modules, 0, left, low);
                for (i, part) in projections.iter_mut().enumerate() {
                    self.place(part, i, block.clone(), local.start, work);
                }
            }
        });
    }

    pub fn rank(&self, module: Module) -> usize {
        self.pair(module).map_or(0, |pair| pair.rank)
    }

    /// Norms `rows` rows of `x` into `work.left`, and into `work.block` where dropout of one of `modules` reads it.
    pub fn normed_left(&self, x: &[f32], weight: &[f32], rows: usize, work: &mut Work, modules: &[Module]) {
        let c = self.width;
        work.left.reset(rows, c);
        let dropped = modules.iter().any(|&module| self.dropout(module).is_some());
        match work.left.plain_mut().filter(|_| !dropped) {
            Some(left) => {
                let rows = left.chunks_exact_mut(c).zip(x.chunks_exact(c));
                rows.for_each(|(to, x)| norm::row_forward(to, x, weight, self.eps));
            }
            None => self.normed(x, weight, rows, work),
        }
    }

    /// Norms `rows` rows of `x` into `work.block` and `work.left`.
    pub fn normed(&self, x: &[f32], weight: &[f32], rows: usize, work: &mut Work) {
        let c = self.width;
        work.row.resize(c, 0.0);
        work.block.reset(self.format, rows, c);
        for (i, x) in x.chunks_exact(c).take(rows).enumerate() {
            norm::row_forward(&mut work.row, x, weight, self.eps);
            work.block.set_row(i, &work.row);
        }
        work.left.reset(rows, c);
        work.left.put_panels(0, &work.block);
    }

    /// The low-rank product of what `work.left` holds, or with the module's dropout `work.block`; kept as f32 from row `at` on.
    pub fn low_of_left(&self, module: Module, first: usize, kept: &mut [f32], at: usize, work: &mut Work) {
        if self.pair(module).is_none() {
            return;
        }
        let (rows, k) = work.left.shape();
        let low = &mut work.low[module.index()];
        match self.dropout(module) {
            None => self.low(module, low, &work.left, rows),
            Some(dropout) => {
                work.dropped.reset(rows, k);
                put_dropped(&mut work.dropped, 0, &work.block, dropout, first);
                self.low(module, low, &work.dropped, rows);
            }
        }
        keep_low(low, kept, at);
    }

    /// Puts a block of queries, keys or values, the `index`-th of the three, where attention reads them.
    fn place(
        &self,
        part: &mut Projection<'_>,
        index: usize,
        block: Range<usize>,
        at: usize,
        work: &mut Work,
    ) {
        let width = part.heads * self.heads.head_size;
        let Work { a, b, c, row, .. } = work;
        let from = [&*a, b, c][index];
        row.resize(width.max(self.width), 0.0);
        for i in 0..block.len() {
            let to = &mut part.to[(at + i) * width..][..width];
            from.copy_row(i, to);
            part.kept.write_back((at + i) * width, to);
            if part.module != Module::V {
                self.turn(to, block.start + i, part.norm, row);
            }
        }
    }

    /// Raw queries or keys of row `row`, as attention sees them: normed per head where the family does so, then turned.
    pub fn turn(&self, values: &mut [f32], row: usize, norm: Option<&[f32]>, scratch: &mut [f32]) {
        if let Some(weight) = norm {
            let scratch = &mut scratch[..values.len()];
            scratch.copy_from_slice(values);
            let size = self.heads.head_size;
            for (to, from) in values.chunks_exact_mut(size).zip(scratch.chunks_exact(size)) {
                norm::row_forward(to, from, weight, self.eps);
            }
        }
        self.angles.rotate(values, row, Turn::Forward);
    }

    fn attend(&self, attended: &mut Attended, kept: &mut Activations, store: Option<Store<'_>>) {
        let Attended { q, k, v, out, space, .. } = attended;
        let Heads { heads, kv_heads, head_size, .. } = self.heads;
        let (rows, width) = (q.len() / (heads * head_size), kv_heads * head_size);
        out.resize(q.len(), 0.0);
        match store {
            None => {
                kept.lse.resize(rows * heads, 0.0);
                attention::forward_in(space, (out, &mut kept.lse), q, (k, v), self.runs, self.heads);
            }
            Some(store) => {
                for (row, &slot) in store.slots.iter().enumerate() {
                    store.keys.put(slot, &k[row * width..(row + 1) * width]);
                    store.values.put(slot, &v[row * width..(row + 1) * width]);
                }
                let cache = (store.keys.view(), store.values.view());
                attention::forward_cached((space, self.pool), out, q, cache, self.runs, self.heads);
            }
        }
    }
}

/// Copies a block's low-rank product to the rows of `kept` from `at` on, where it is kept.
pub fn keep_low(low: &Low, kept: &mut [f32], at: usize) {
    let (rows, rank) = low.panels.shape();
    if !kept.is_empty() {
        (0..rows).for_each(|i| low.panels.copy_row(i, &mut kept[(at + i) * rank..][..rank]));
    }
}
