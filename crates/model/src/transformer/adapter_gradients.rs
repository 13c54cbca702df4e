//! What the backward pass of a layer does about the adapter: the gradients that its pairs pass on to a product's input, and those
//! of the pairs themselves, summed block by block in each group and group by group into the adapter's.

use super::kept::Activations;
use super::layer::Scope;
use super::work::{Low, Work, drop_panels};
use crate::linear::Way;
use crate::lora::Module;
use rayon::prelude::*;
use std::ops::Range;
use underdog_tensor::block::{Factor, Panels, Right, Rows};
use underdog_tensor::matmul::Into;
use underdog_tensor::pool::Team;

/// Which half of a pair.
#[derive(Clone, Copy)]
pub enum Which {
    /// From the input to low rank.
    A,
    /// From low rank to the output.
    B,
}

/// Which of a group's right factors.
#[derive(Clone, Copy)]
pub enum Source {
    /// `work.right`.
    First,
    /// `work.right_2`.
    Second,
    /// `work.right_3`.
    Third,
}

impl Scope<'_> {
    /// The kept low-rank product of a block, as left factor and as it is.
    pub fn load_low(&self, kept: &Activations, module: Module, block: &Range<usize>, work: &mut Work) {
        let rank = self.rank(module);
        if rank == 0 {
            return;
        }
        let low = &mut work.low[module.index()];
        low.panels.reset(self.format, block.len(), rank);
        for (i, row) in block.clone().enumerate() {
            low.panels.set_row(i, &kept.low[module.index()][row * rank..][..rank]);
        }
        low.fill();
    }

    /// `dlow = scale · dy B` of a block, for dy as a left factor.
    pub fn dlow(&self, module: Module, dlow: &mut Low, dy: &Rows, rows: usize) {
        if let Some((up, _)) = self.back(module) {
            dlow.set(self.format, &[(dy, up.factor())], (rows, self.rank(module)), Team::One);
        }
    }

    fn back(&self, module: Module) -> Option<(&Right, &Right)> {
        self.pair(module)?.back.as_ref().map(|(up, down)| (up, down))
    }

    /// `out = Σ dy W + drop(dlow A)` over `parts`, each a module and its dy as a left factor, for the columns of `out` from
    /// `column` on. `first` is the block's first row.
    pub fn input_gradient(
        &self,
        out: &mut Panels,
        column: usize,
        parts: &[(Module, &Rows)],
        dlow: &[Low],
        (extra, first): (&mut Panels, usize),
    ) {
        let mut terms: Vec<(&Rows, Factor<'_>)> =
            parts.iter().map(|(module, dy)| (*dy, self.weight(*module, Way::Backward))).collect();
        let mut masked = Vec::new();
        for (module, _) in parts {
            let Some((_, down)) = self.back(*module) else { continue };
            let term = (&dlow[module.index()].rows, down.factor());
            match self.dropout(*module) {
                None => terms.push(term),
                Some(dropout) => masked.push((term, dropout)),
            }
        }
        out.product(Into::Set, column, &terms, Team::One);
        for (term, dropout) in masked {
            let (rows, n) = out.shape();
            extra.reset(self.format, rows, n);
            extra.product(Into::Set, column, &[term], Team::One);
            drop_panels(extra, column, dropout, first);
            for (to, from) in out.flat_mut().iter_mut().zip(extra.flat()) {
                *to += from;
            }
        }
    }

    /// Adds a block's part of `dA = dlowᵀ x` (`b` of them: `dBᵀ = lowᵀ dy`) to the group's sums.
    pub fn sum(&self, work: &mut Work, module: Module, which: Which, from: Source) {
        let Some(pair) = self.pair(module) else { return };
        let Work { across, low, dlow, sums, right, right_2, right_3, summed, .. } = work;
        let right = match from {
            Source::First => right,
            Source::Second => right_2,
            Source::Third => right_3,
        };
        let (left, sum) = match which {
            Which::A => (&dlow[module.index()], &mut sums[module.index()].0),
            Which::B => (&low[module.index()], &mut sums[module.index()].1),
        };
        across.load_transposed(&left.panels);
        let into = if summed[module.index()] { Into::Add } else { Into::Set };
        sum.reset(self.format, pair.rank, right.shape().1);
        sum.product(into, 0, &[(across, right.factor())], Team::One);
    }

    /// The gradients of A of modules that share the input in `work.block`.
    pub fn sum_inputs(&self, modules: &[Module], first: usize, work: &mut Work) {
        let mut filled = false;
        for &module in modules.iter().filter(|module| self.pair(**module).is_some()) {
            let (rows, k) = work.block.shape();
            if let Some(dropout) = self.dropout(module) {
                work.c.reset(self.format, rows, k);
                work.c.flat_mut().copy_from_slice(work.block.flat());
                drop_panels(&mut work.c, 0, dropout, first);
                work.right.reset(rows, k);
                work.right.put_panels(0, &work.c);
            } else if !filled {
                work.right.reset(rows, k);
                work.right.put_panels(0, &work.block);
                filled = true;
            }
            self.sum(work, module, Which::A, Source::First);
            work.summed[module.index()] = true;
        }
    }

    /// Adds the groups' sums for `modules` to the adapter's gradient, group by group.
    pub fn add_sums(&self, modules: &[Module], gradients: &mut [f32], work: &[Work]) {
        let mut rest = gradients;
        let mut taken = 0;
        let mut parts = Vec::with_capacity(modules.len());
        for &module in modules {
            let Some(pair) = self.pair(module) else { continue };
            let (input, output) = self.weights.linear(module).shape();
            // Pairs of a layer lie in the order of their modules.
            let (part, after) =
                std::mem::take(&mut rest)[pair.start - taken..].split_at_mut(pair.rank * (input + output));
            (rest, taken) = (after, pair.start + part.len());
            parts.push((module, pair, part));
        }
        parts.into_par_iter().with_max_len(1).for_each(|(module, pair, part)| {
            let (input, output) = self.weights.linear(module).shape();
            let (da, db) = part.split_at_mut(pair.rank * input);
            let mut row = vec![0.0; input.max(output)];
            for work in &work[..self.groups.len()] {
                let (a, b) = &work.sums[module.index()];
                for r in 0..pair.rank {
                    a.copy_row(r, &mut row);
                    da[r * input..(r + 1) * input].iter_mut().zip(&row).for_each(|(d, v)| *d += v);
                    b.copy_row(r, &mut row);
                    (0..output).for_each(|o| db[o * pair.rank + r] += row[o]);
                }
            }
        });
    }
}
