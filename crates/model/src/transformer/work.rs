//! The scratch of one group of rows, and the steps that forward and backward share: filling factors, low-rank products and
//! dropout. Buffers grow once and are used again by every block, layer and step.

use super::LayerWeights;
use super::layer::Scope;
use crate::linear::{ReadyPair, Way};
use crate::lora::Module;
use rayon::prelude::*;
use underdog_tensor::block::{Factor, Format, Panels, Right, Rows, products_in_blocks};
use underdog_tensor::dropout::Dropout;
use underdog_tensor::matmul::Into;
use underdog_tensor::pool::Team;

/// Weights of one layer in the form that the rows of one pass meet, where they lie otherwise, in the order of [`Module::ALL`].
/// Buffers are used again from layer to layer.
#[derive(Debug, Default)]
pub struct Unpacked {
    forward: [Option<Right>; 7],
    backward: [Option<Right>; 7],
    /// Which of them hold the layer's weight: others are ready as they lie.
    is_forward: [bool; 7],
    is_backward: [bool; 7],
}

impl Unpacked {
    /// What a forward pass needs.
    pub fn forward(&mut self, weights: &LayerWeights, format: Format) {
        for module in Module::ALL {
            self.one(weights, format, module, Way::Forward);
        }
    }

    /// What a backward pass needs; some modules may be computed again.
    pub fn backward(&mut self, weights: &LayerWeights, format: Format, again: &[Module]) {
        again.iter().for_each(|&module| self.one(weights, format, module, Way::Forward));
        Module::ALL.into_iter().for_each(|module| self.one(weights, format, module, Way::Backward));
    }

    fn one(&mut self, weights: &LayerWeights, format: Format, module: Module, way: Way) {
        let i = module.index();
        let (to, is) = match way {
            Way::Forward => (&mut self.forward[i], &mut self.is_forward[i]),
            Way::Backward => (&mut self.backward[i], &mut self.is_backward[i]),
        };
        *is = weights.linear(module).unpack(format, way, to.get_or_insert_with(|| Right::new(format)));
    }

    /// The module's weight, where it was unpacked.
    fn get(&self, module: Module, way: Way) -> Option<&Right> {
        let i = module.index();
        match way {
            Way::Forward => self.forward[i].as_ref().filter(|_| self.is_forward[i]),
            Way::Backward => self.backward[i].as_ref().filter(|_| self.is_backward[i]),
        }
    }
}

/// A low-rank result `[R, rank]`: as it is, and as a left factor.
#[derive(Debug)]
pub struct Low {
    pub panels: Panels,
    pub rows: Rows,
}

/// Scratch of one group.
#[derive(Debug)]
pub struct Work {
    pub format: Format,
    /// Left factor of the products at hand, and a second and a third one.
    pub left: Rows,
    pub inner: Rows,
    pub inner_2: Rows,
    /// A left factor with dropout.
    pub dropped: Rows,
    /// Right factors of an adapter's gradient.
    pub right: Right,
    pub right_2: Right,
    pub right_3: Right,
    /// Results of products.
    pub block: Panels,
    pub a: Panels,
    pub b: Panels,
    pub c: Panels,
    pub d: Panels,
    /// Low-rank results, one a module.
    pub low: Vec<Low>,
    /// Their gradients.
    pub dlow: Vec<Low>,
    /// The transpose of a low-rank result.
    pub across: Rows,
    /// Single rows.
    pub row: Vec<f32>,
    pub row_2: Vec<f32>,
    pub row_3: Vec<f32>,
    /// Gradients of A and Bᵀ of this layer, one pair a module, summed over the group's blocks.
    pub sums: Vec<(Panels, Panels)>,
    /// Whether a block has added to `sums` yet.
    pub summed: [bool; 7],
}

impl Work {
    pub fn new(format: Format) -> Self {
        let low = || Low { panels: Panels::default(), rows: Rows::new(format) };
        let (rows, right) = (|| Rows::new(format), || Right::new(format));
        Work {
            format,
            left: rows(),
            inner: rows(),
            inner_2: rows(),
            dropped: rows(),
            right: right(),
            right_2: right(),
            right_3: right(),
            block: Panels::default(),
            a: Panels::default(),
            b: Panels::default(),
            c: Panels::default(),
            d: Panels::default(),
            low: Module::ALL.map(|_| low()).into(),
            dlow: Module::ALL.map(|_| low()).into(),
            across: rows(),
            row: Vec::new(),
            row_2: Vec::new(),
            row_3: Vec::new(),
            sums: Module::ALL.map(|_| Default::default()).into(),
            summed: [false; 7],
        }
    }
}

impl Low {
    /// `x · factor`.
    pub fn set(
        &mut self,
        format: Format,
        terms: &[(&Rows, Factor<'_>)],
        shape: (usize, usize),
        team: Team<'_>,
    ) {
        self.panels.reset(format, shape.0, shape.1);
        self.panels.product(Into::Set, 0, terms, team);
        self.fill();
    }

    /// The left factor from the panels.
    pub fn fill(&mut self) {
        let (rows, rank) = self.panels.shape();
        self.rows.reset(rows, rank);
        self.rows.put_panels(0, &self.panels);
    }
}

/// Puts `panels`, with the mask of `dropout` on them, into `to` from column `start` on. `first` is the block's first row.
pub fn put_dropped(to: &mut Rows, start: usize, panels: &Panels, dropout: Dropout, first: usize) {
    let mut piece = Vec::new();
    for i in 0..panels.shape().0 {
        for (column, values) in panels.row(i) {
            piece.clear();
            piece.extend_from_slice(values);
            dropout.apply(first + i, start + column, &mut piece);
            to.put(i, start + column, &piece);
        }
    }
}

/// Puts the mask of `dropout` on `panels`, whose first column is `start`.
pub fn drop_panels(panels: &mut Panels, start: usize, dropout: Dropout, first: usize) {
    let (rows, n) = panels.shape();
    let mut row = vec![0.0; n];
    for i in 0..rows {
        panels.copy_row(i, &mut row);
        dropout.apply(first + i, start, &mut row);
        panels.set_row(i, &row);
    }
}

/// Runs `task` on every group with its scratch: on this thread where there is one group, whose products are parallel themselves.
pub fn each_group<T: Send>(tasks: Vec<T>, work: &mut [Work], task: impl Fn(T, &mut Work) + Sync) {
    if tasks.len() == 1 {
        tasks.into_iter().zip(work).for_each(|(t, work)| task(t, work));
    } else {
        tasks.into_par_iter().zip(work).with_max_len(1).for_each(|(t, work)| task(t, work));
    }
}

impl Scope<'_> {
    pub fn pair(&self, module: Module) -> Option<&ReadyPair> {
        self.pairs.and_then(|pairs| pairs[module.index()].as_ref())
    }

    /// A weight for the way at hand.
    pub fn weight(&self, module: Module, way: Way) -> Factor<'_> {
        match (self.unpacked.and_then(|unpacked| unpacked.get(module, way)), way) {
            (Some(unpacked), _) => unpacked.factor(),
            (None, Way::Forward) => self.weights.linear(module).forward(),
            (None, Way::Backward) => unreachable!("the way back meets weights that are unpacked"),
        }
    }

    /// The mask on the input of a module's pair.
    pub fn dropout(&self, module: Module) -> Option<Dropout> {
        let start = self.pair(module)?.start as u64;
        self.dropout.map(|dropout| dropout.for_part(start))
    }

    /// `scale · x Aᵀ` of a block of `rows` rows, where the module is adapted. `x` has dropout on it where there is any.
    pub fn low(&self, module: Module, low: &mut Low, x: &Rows, rows: usize) {
        if let Some(pair) = self.pair(module) {
            low.set(self.format, &[(x, pair.down.factor())], (rows, pair.rank), self.team);
        }
    }

    /// `out = x Wᵀ + low Bᵀ` for the columns of `out` from `column` on.
    pub fn product(&self, out: &mut Panels, module: Module, column: usize, x: &Rows, low: &Low) {
        let weight = (x, self.weight(module, Way::Forward));
        match self.pair(module) {
            None => out.product(Into::Set, column, &[weight], self.team),
            Some(pair) => {
                out.product(Into::Set, column, &[weight, (&low.rows, pair.up.factor())], self.team);
            }
        }
    }

    /// The same for several modules that share their input; `low` is that of all modules. Weights in blocks are read in
    /// one go of the team.
    pub fn products<const N: usize>(
        &self,
        mut outs: [&mut Panels; N],
        modules: [Module; N],
        column: usize,
        x: &Rows,
        low: &[Low],
    ) {
        let weights = modules.map(|module| self.weight(module, Way::Forward));
        if !products_in_blocks(x, &mut outs, weights, self.team) {
            for (out, module) in outs.into_iter().zip(modules) {
                self.product(out, module, column, x, &low[module.index()]);
            }
            return;
        }
        for (out, module) in outs.into_iter().zip(modules) {
            if let Some(pair) = self.pair(module) {
                out.product(Into::Add, column, &[(&low[module.index()].rows, pair.up.factor())], self.team);
            }
        }
    }
}
