//! The second half of a layer forward, from attention's output on: `x → x + out Wᵒ → x + mlp(norm x)`, with the norms that
//! Gemma has after both. Groups of rows are parallel, a block at a time.

use super::kept::{Activations, KeptMut, blocks, deal, inner_place, inner_width};
use super::layer::{Scope, keep_low};
use super::work::{Work, each_group, put_dropped};
use crate::lora::Module;
use std::ops::Range;
use underdog_tensor::activation;
use underdog_tensor::block::Format;
use underdog_tensor::math::add_scaled;
use underdog_tensor::norm;

/// Columns of gate and up that are computed at a time in the tile format.
const COLUMNS: usize = 512;

/// What the second half of a layer works on in one group.
struct Half<'a> {
    rows: Range<usize>,
    x: &'a mut [f32],
    out: &'a [f32],
    kept_out: KeptMut<'a>,
    o: KeptMut<'a>,
    middle: KeptMut<'a>,
    gate: KeptMut<'a>,
    up: KeptMut<'a>,
    down: KeptMut<'a>,
    low: [&'a mut [f32]; 4],
}

impl Scope<'_> {
    /// Runs the half on `x [T, C]` in place, with attention's output in `out [T, H·D]`; what the backward pass needs goes to `kept`.
    pub fn second_half(&self, x: &mut [f32], kept: &mut Activations, out: &[f32], work: &mut [Work]) {
        let groups = &self.groups;
        let (c, q) = (self.width, self.heads.heads * self.heads.head_size);
        let post = |present: bool| if present { c } else { 0 };
        let w = self.weights;
        let [_, _, _, low_o, low_gate, low_up, low_down] = &mut kept.low;
        let mut lows =
            [(Module::O, low_o), (Module::Gate, low_gate), (Module::Up, low_up), (Module::Down, low_down)]
                .map(|(module, low)| deal(low, groups, self.rank(module)));
        let xs = deal(x, groups, c).zip(kept.out.deal(groups, q));
        let posts = kept.o.deal(groups, post(w.attention_post_norm.is_some()));
        let posts = posts.zip(kept.down.deal(groups, post(w.mlp_post_norm.is_some())));
        let inner = inner_width(self.format, self.ffn);
        let inner = kept.gate.deal(groups, inner).zip(kept.up.deal(groups, inner));
        let middles = kept.middle.deal(groups, c);
        let parts = groups.iter().zip(xs).zip(posts).zip(inner).zip(middles);
        let tasks: Vec<Half<'_>> = parts
            .map(|((((rows, (x, kept_out)), (o, down)), (gate, up)), middle)| Half {
                rows: rows.clone(),
                x,
                out: &out[rows.start * q..rows.end * q],
                kept_out,
                o,
                middle,
                gate,
                up,
                down,
                low: lows.each_mut().map(|low| low.next().unwrap_or_default()),
            })
            .collect();
        each_group(tasks, work, |mut half, work| {
            for block in blocks(&half.rows) {
                self.attention_output(&mut half, &block, work);
                self.mlp(&mut half, &block, work);
            }
        });
    }

    /// `x += norm(out Wᵒ)` for a block.
    fn attention_output(&self, half: &mut Half<'_>, block: &Range<usize>, work: &mut Work) {
        let (n, at) = (block.len(), block.start - half.rows.start);
        let q = self.heads.heads * self.heads.head_size;
        let out = &half.out[at * q..(at + n) * q];
        half.kept_out.write(at * q, out);
        work.left.reset(n, q);
        match work.left.plain_mut().filter(|_| self.dropout(Module::O).is_none()) {
            Some(left) => left.copy_from_slice(out),
            None => {
                work.block.reset(self.format, n, q);
                out.chunks_exact(q).enumerate().for_each(|(i, row)| work.block.set_row(i, row));
                work.left.put_panels(0, &work.block);
            }
        }
        self.low_of_left(Module::O, block.start, half.low[0], at, work);
        work.a.reset(self.format, n, self.width);
        self.product(&mut work.a, Module::O, 0, &work.left, &work.low[Module::O.index()]);
        self.add(half.x, &mut half.o, at, self.weights.attention_post_norm.as_deref(), work);
        half.middle.write(at * self.width, &half.x[at * self.width..(at + n) * self.width]);
    }

    /// Adds the rows of `work.a` to those of `x` from row `at` on, through the norm where there is one.
    fn add(&self, x: &mut [f32], kept: &mut KeptMut<'_>, at: usize, norm: Option<&[f32]>, work: &mut Work) {
        let c = self.width;
        work.row.resize(c.max(work.row.len()), 0.0);
        work.row_2.resize(c, 0.0);
        for i in 0..work.a.shape().0 {
            let x = &mut x[(at + i) * c..][..c];
            match norm {
                None => work.a.row(i).for_each(|(start, piece)| {
                    add_scaled(&mut x[start..start + piece.len()], 1.0, piece);
                }),
                Some(weight) => {
                    let row = &mut work.row[..c];
                    work.a.copy_row(i, row);
                    kept.write((at + i) * c, row);
                    norm::row_forward(&mut work.row_2, row, weight, self.eps);
                    add_scaled(x, 1.0, &work.row_2);
                }
            }
        }
    }

    /// `x += norm(mlp(norm x))` for a block.
    fn mlp(&self, half: &mut Half<'_>, block: &Range<usize>, work: &mut Work) {
        let (n, at, c, f) = (block.len(), block.start - half.rows.start, self.width, self.ffn);
        let modules = [Module::Gate, Module::Up];
        self.normed_left(&half.x[at * c..], &self.weights.mlp_norm, n, work, &modules);
        self.low_of_left(Module::Gate, block.start, half.low[1], at, work);
        self.low_of_left(Module::Up, block.start, half.low[2], at, work);
        let dropout = self.dropout(Module::Down);
        work.inner.reset(n, f);
        if dropout.is_some() {
            work.dropped.reset(n, f);
        }
        for columns in self.columns() {
            self.gate_and_up(&columns, n, work);
            let place = inner_place(at, columns.start, n, (self.format, f));
            half.gate.write(place, work.a.flat());
            half.up.write(place, work.b.flat());
            if let Some(inner) = work.inner.plain_mut().filter(|_| dropout.is_none()) {
                activation::forward(self.gate, inner, work.a.flat(), work.b.flat());
                continue;
            }
            work.c.reset(self.format, n, columns.len());
            activation::forward(self.gate, work.c.flat_mut(), work.a.flat(), work.b.flat());
            work.inner.put_panels(columns.start, &work.c);
            if let Some(dropout) = dropout {
                put_dropped(&mut work.dropped, columns.start, &work.c, dropout, block.start);
            }
        }
        let low = &mut work.low[Module::Down.index()];
        self.low(Module::Down, low, if dropout.is_some() { &work.dropped } else { &work.inner }, n);
        if self.pair(Module::Down).is_some() {
            keep_low(low, half.low[3], at);
        }
        work.a.reset(self.format, n, c);
        self.product(&mut work.a, Module::Down, 0, &work.inner, &work.low[Module::Down.index()]);
        self.add(half.x, &mut half.down, at, self.weights.mlp_post_norm.as_deref(), work);
    }

    /// The columns of the MLP that are worked on together: few enough to stay in cache as tiles, all of them in f32.
    pub fn columns(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let ffn = self.ffn;
        let step = if self.format == Format::F32 { ffn } else { COLUMNS };
        (0..ffn).step_by(step).map(move |start| start..(start + step).min(ffn))
    }

    /// Gate into `work.a` and up into `work.b`, for some columns, from `work.left` and the low-rank products.
    pub fn gate_and_up(&self, columns: &Range<usize>, rows: usize, work: &mut Work) {
        let Work { left, low, a, b, .. } = work;
        [&mut *a, b].into_iter().for_each(|out| out.reset(self.format, rows, columns.len()));
        self.products([a, b], [Module::Gate, Module::Up], columns.start, left, low);
    }
}
