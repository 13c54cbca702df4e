//! One layer backward. Base weights are frozen: gradients go to the input and to the adapter's pairs only (`adapter_gradients`). As
//! in `layer`, groups of rows are parallel between attentions; every group sums the gradients of its blocks, and the groups are
//! added in order.

use super::adapter_gradients::{Source, Which};
use super::kept::{Activations, Kept, blocks, deal, inner_place};
use super::layer::{Attended, Scope};
use super::work::{Work, drop_panels, each_group};
use crate::lora::Module;
use rayon::prelude::*;
use std::ops::Range;
use underdog_tensor::activation;
use underdog_tensor::attention::{self, Gradients, Heads, Saved};
use underdog_tensor::norm;
use underdog_tensor::rope::Turn;

impl Scope<'_> {
    /// Turns `dx` from `∂L/∂(layer output) [T, C]` into `∂L/∂x`; adapter gradients are added to `gradients`.
    pub fn backward(
        &self,
        kept: &Activations,
        dx: &mut [f32],
        gradients: &mut [f32],
        attended: &mut Attended,
        work: &mut [Work],
    ) {
        let mut dout = std::mem::take(&mut attended.out);
        dout.resize(dx.len() / self.width * self.heads.heads * self.heads.head_size, 0.0);
        self.second_half_backward(kept, dx, &mut dout, work);
        self.add_sums(&[Module::O, Module::Gate, Module::Up, Module::Down], gradients, work);
        self.attention_backward(kept, &dout, attended);
        attended.out = dout;
        self.projections_backward(kept, &attended.gradients, dx, work);
        self.add_sums(&[Module::Q, Module::K, Module::V], gradients, work);
    }

    fn second_half_backward(&self, kept: &Activations, dx: &mut [f32], dout: &mut [f32], work: &mut [Work]) {
        let q = self.heads.heads * self.heads.head_size;
        let dxs = deal(dx, &self.groups, self.width);
        let douts = deal(dout, &self.groups, q);
        let tasks = dxs.zip(douts).zip(&self.groups).collect();
        each_group(tasks, work, |((dx, dout), group), work| {
            work.summed = [false; 7];
            for block in blocks(group) {
                let at = block.start - group.start;
                self.mlp_backward(kept, &mut dx[at * self.width..], &block, work);
                self.attention_output_backward(kept, &dx[at * self.width..], &block, work);
                for i in 0..block.len() {
                    work.a.copy_row(i, &mut dout[(at + i) * q..][..q]);
                }
            }
        });
    }

    /// Gradient at a product's output, through the norm after it where there is one, into `work.block` and `work.left`.
    fn through_norm(
        &self,
        dy: &[f32],
        kept: &Kept,
        norm: Option<&[f32]>,
        block: &Range<usize>,
        work: &mut Work,
    ) {
        let (n, c) = (block.len(), self.width);
        work.block.reset(self.format, n, c);
        work.row.resize(c.max(work.row.len()), 0.0);
        work.row_2.resize(c, 0.0);
        for i in 0..n {
            let dy = &dy[i * c..][..c];
            match norm {
                None => work.block.set_row(i, dy),
                Some(weight) => {
                    let seen = &mut work.row[..c];
                    kept.read((block.start + i) * c, seen);
                    work.row_2.fill(0.0);
                    norm::row_backward(&mut work.row_2, seen, weight, self.eps, dy);
                    work.block.set_row(i, &work.row_2);
                }
            }
        }
        work.left.reset(n, c);
        work.left.put_panels(0, &work.block);
    }

    /// `∂L/∂middle` in place of `dy`, for a block.
    fn mlp_backward(&self, kept: &Activations, dy: &mut [f32], block: &Range<usize>, work: &mut Work) {
        let (n, c, f, w) = (block.len(), self.width, self.ffn, self.weights);
        let adapted = |module| self.pair(module).is_some();
        for module in [Module::Gate, Module::Up, Module::Down] {
            self.load_low(kept, module, block, work);
        }
        // The input of gate and up is needed again: for their gradients, and where they are computed again.
        let mut middle = std::mem::take(&mut work.row_3);
        middle.resize(n * c, 0.0);
        kept.middle.read(block.start * c, &mut middle);
        let inner_kept = !kept.gate.is_empty();
        if !inner_kept {
            self.normed(&middle, &w.mlp_norm, n, work);
            std::mem::swap(&mut work.left, &mut work.dropped);
        }
        self.through_norm(dy, &kept.down, w.mlp_post_norm.as_deref(), block, work);
        let Work { left, dlow, .. } = work;
        self.dlow(Module::Down, &mut dlow[Module::Down.index()], left, n);
        if adapted(Module::Down) {
            work.right.reset(n, c);
            work.right.put_panels(0, &work.block);
            self.sum(work, Module::Down, Which::B, Source::First);
        }
        for (module, right) in [
            (Module::Down, &mut work.right),
            (Module::Gate, &mut work.right_2),
            (Module::Up, &mut work.right_3),
        ] {
            if adapted(module) {
                right.reset(n, f);
            }
        }
        work.inner.reset(n, f);
        work.inner_2.reset(n, f);
        for columns in self.columns() {
            if inner_kept {
                let place = inner_place(block.start, columns.start, n, (self.format, f));
                for (kept, to) in [(&kept.gate, &mut work.a), (&kept.up, &mut work.b)] {
                    to.reset(self.format, n, columns.len());
                    kept.read(place, to.flat_mut());
                }
            } else {
                std::mem::swap(&mut work.left, &mut work.dropped);
                self.gate_and_up(&columns, n, work);
                std::mem::swap(&mut work.left, &mut work.dropped);
            }
            let Work { a, b, c, d, left, dlow, inner, inner_2, right, right_2, right_3, .. } = work;
            c.reset(self.format, n, columns.len());
            self.input_gradient(c, columns.start, &[(Module::Down, left)], dlow, (d, block.start));
            activation::backward(self.gate, a.flat_mut(), b.flat_mut(), c.flat_mut());
            // Now: a = gated, b = ∂L/∂up, c = ∂L/∂gate.
            inner.put_panels(columns.start, c);
            inner_2.put_panels(columns.start, b);
            if adapted(Module::Down) {
                if let Some(dropout) = self.dropout(Module::Down) {
                    drop_panels(a, columns.start, dropout, block.start);
                }
                right.put_panels(columns.start, a);
            }
            if adapted(Module::Gate) {
                right_2.put_panels(columns.start, c);
            }
            if adapted(Module::Up) {
                right_3.put_panels(columns.start, b);
            }
        }
        self.sum(work, Module::Down, Which::A, Source::First);
        work.summed[Module::Down.index()] = true;
        self.sum(work, Module::Gate, Which::B, Source::Second);
        self.sum(work, Module::Up, Which::B, Source::Third);
        let Work { inner, inner_2, dlow, a, b, .. } = work;
        self.dlow(Module::Gate, &mut dlow[Module::Gate.index()], inner, n);
        self.dlow(Module::Up, &mut dlow[Module::Up.index()], inner_2, n);
        a.reset(self.format, n, c);
        self.input_gradient(a, 0, &[(Module::Gate, inner), (Module::Up, inner_2)], dlow, (b, block.start));
        self.normed(&middle, &w.mlp_norm, n, work);
        self.sum_inputs(&[Module::Gate, Module::Up], block.start, work);
        self.norm_backward(dy, &middle, &w.mlp_norm, work);
        work.row_3 = middle;
    }

    /// Adds the gradient in `work.a` to `dx`, through the norm of `x`.
    fn norm_backward(&self, dx: &mut [f32], x: &[f32], weight: &[f32], work: &mut Work) {
        let c = self.width;
        work.row.resize(c.max(work.row.len()), 0.0);
        for i in 0..work.a.shape().0 {
            let row = &mut work.row[..c];
            work.a.copy_row(i, row);
            norm::row_backward(&mut dx[i * c..][..c], &x[i * c..][..c], weight, self.eps, row);
        }
    }

    /// The gradient of attention's output into `work.a`, for a block.
    fn attention_output_backward(
        &self,
        kept: &Activations,
        dy: &[f32],
        block: &Range<usize>,
        work: &mut Work,
    ) {
        let (n, c, q) = (block.len(), self.width, self.heads.heads * self.heads.head_size);
        self.load_low(kept, Module::O, block, work);
        self.through_norm(dy, &kept.o, self.weights.attention_post_norm.as_deref(), block, work);
        let Work { left, dlow, .. } = work;
        self.dlow(Module::O, &mut dlow[Module::O.index()], left, n);
        if self.pair(Module::O).is_some() {
            work.right.reset(n, c);
            work.right.put_panels(0, &work.block);
            self.sum(work, Module::O, Which::B, Source::First);
            work.block.reset(self.format, n, q);
            work.row.resize(q.max(work.row.len()), 0.0);
            for i in 0..n {
                let row = &mut work.row[..q];
                kept.out.read((block.start + i) * q, row);
                work.block.set_row(i, row);
            }
            self.sum_inputs(&[Module::O], block.start, work);
        }
        let Work { a, b, left, dlow, .. } = work;
        a.reset(self.format, n, q);
        self.input_gradient(a, 0, &[(Module::O, left)], dlow, (b, block.start));
    }

    fn attention_backward(&self, kept: &Activations, dout: &[f32], attended: &mut Attended) {
        let Heads { heads, kv_heads, head_size, .. } = self.heads;
        let Attended { q, k, v, seen, gradients, space, .. } = attended;
        let w = self.weights;
        let parts = [
            (&kept.q, &mut *q, heads, Some(w.q_norm.as_deref())),
            (&kept.k, &mut *k, kv_heads, Some(w.k_norm.as_deref())),
            (&kept.v, &mut *v, kv_heads, None),
        ];
        for (kept, to, heads, turn) in parts {
            let width = heads * head_size;
            let rows = kept.len() / width;
            to.resize(rows * width, 0.0);
            to.par_chunks_mut(32 * width).enumerate().for_each(|(chunk, to)| {
                let normed = turn.flatten().is_some();
                let mut scratch = if normed { vec![0.0; width] } else { Vec::new() };
                kept.read(chunk * 32 * width, to);
                for (i, row) in to.chunks_exact_mut(width).enumerate() {
                    if let Some(norm) = turn {
                        self.turn(row, chunk * 32 + i, norm, &mut scratch);
                    }
                }
            });
        }
        seen.resize(dout.len(), 0.0);
        kept.out.read(0, seen);
        let saved = Saved { q, k, v, out: seen, lse: &kept.lse };
        attention::backward_in(space, gradients, dout, saved, self.runs, self.heads);
    }

    fn projections_backward(&self, kept: &Activations, d: &Gradients, dx: &mut [f32], work: &mut [Work]) {
        let dxs = deal(dx, &self.groups, self.width);
        let tasks = dxs.zip(&self.groups).collect();
        each_group(tasks, work, |(dx, group), work| {
            work.summed = [false; 7];
            for block in blocks(group) {
                let at = block.start - group.start;
                self.project_backward(kept, d, &mut dx[at * self.width..], &block, work);
            }
        });
    }

    fn project_backward(
        &self,
        kept: &Activations,
        d: &Gradients,
        dx: &mut [f32],
        block: &Range<usize>,
        work: &mut Work,
    ) {
        let Heads { heads, kv_heads, head_size, .. } = self.heads;
        let (n, c, w) = (block.len(), self.width, self.weights);
        let parts = [
            (Module::Q, heads, &d.dq, &kept.q, Some(w.q_norm.as_deref())),
            (Module::K, kv_heads, &d.dk, &kept.k, Some(w.k_norm.as_deref())),
            (Module::V, kv_heads, &d.dv, &kept.v, None),
        ];
        for (index, (module, heads, d, raw, turn)) in parts.into_iter().enumerate() {
            let width = heads * head_size;
            self.load_low(kept, module, block, work);
            work.block.reset(self.format, n, width);
            work.row.resize(width.max(work.row.len()), 0.0);
            for i in 0..n {
                let row = &mut work.row[..width];
                row.copy_from_slice(&d[(block.start + i) * width..][..width]);
                if let Some(norm) = turn {
                    self.unturn(row, block.start + i, norm, raw, &mut work.row_2);
                }
                work.block.set_row(i, row);
            }
            let Work { left, inner, inner_2, dlow, block: dy, .. } = work;
            let rows = [left, inner, inner_2].into_iter().nth(index).expect("three of them");
            rows.reset(n, width);
            rows.put_panels(0, dy);
            self.dlow(module, &mut dlow[module.index()], rows, n);
            if self.pair(module).is_some() {
                work.right.reset(n, width);
                work.right.put_panels(0, &work.block);
                self.sum(work, module, Which::B, Source::First);
            }
        }
        let Work { a, b, left, inner, inner_2, dlow, .. } = work;
        a.reset(self.format, n, c);
        let parts = [(Module::Q, &*left), (Module::K, &*inner), (Module::V, &*inner_2)];
        self.input_gradient(a, 0, &parts, dlow, (b, block.start));
        let mut x = std::mem::take(&mut work.row_3);
        x.resize(n * c, 0.0);
        kept.x.read(block.start * c, &mut x);
        self.normed(&x, &w.attention_norm, n, work);
        self.sum_inputs(&[Module::Q, Module::K, Module::V], block.start, work);
        self.norm_backward(dx, &x, &w.attention_norm, work);
        work.row_3 = x;
    }

    /// The gradient of raw queries or keys of a row from that of the turned ones.
    fn unturn(&self, d: &mut [f32], row: usize, norm: Option<&[f32]>, raw: &Kept, scratch: &mut Vec<f32>) {
        self.angles.rotate(d, row, Turn::Backward);
        let Some(weight) = norm else { return };
        let (size, n) = (self.heads.head_size, d.len());
        scratch.resize(2 * n, 0.0);
        let (raws, turned) = scratch.split_at_mut(n);
        raw.read(row * n, raws);
        turned[..n].copy_from_slice(d);
        d.fill(0.0);
        for ((d, raw), turned) in
            d.chunks_exact_mut(size).zip(raws.chunks_exact(size)).zip(turned.chunks_exact(size))
        {
            norm::row_backward(d, raw, weight, self.eps, turned);
        }
    }
}
