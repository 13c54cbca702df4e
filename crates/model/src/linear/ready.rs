//! An adapter in the forms that products want, packed for a pass.

use super::Precision;
use crate::lora::{Lora, Module, Pair};
use rayon::prelude::*;
use underdog_tensor::block::{Format, Right};
use underdog_tensor::matmul::Mat;

/// What an adapter is made ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Forward passes only.
    Forward,
    /// Forward and backward passes.
    Training,
}

/// The pair of one product in the forms that products want.
#[derive(Debug)]
pub struct ReadyPair {
    /// scale · Aᵀ `[input, rank]`: rows to low rank.
    pub down: Right,
    /// Bᵀ `[rank, output]`: low rank to the product's output.
    pub up: Right,
    /// scale · B `[output, rank]` and A `[rank, input]`, for the way back.
    pub back: Option<(Right, Right)>,
    /// Rank of the pair.
    pub rank: usize,
    /// First value of A in the adapter's flat vector.
    pub start: usize,
}

/// The pairs of one layer, in the order of [`Module::ALL`].
pub type LayerPairs = [Option<ReadyPair>; 7];

/// An adapter's values, packed for a pass: made once for each step or for each adapter that is used.
#[derive(Debug)]
pub struct ReadyLora {
    /// One list of layers for each format that passes may take.
    formats: Vec<(Format, Vec<LayerPairs>)>,
}

impl ReadyLora {
    /// Packs all pairs of `lora`, for a model of `layers` layers.
    pub fn new(lora: &Lora, layers: usize, precision: Precision, purpose: Use) -> Self {
        let mut formats = vec![precision.format()];
        if precision == Precision::Native && purpose == Use::Forward {
            // Few rows go another way than many.
            formats.push(Format::F32);
            formats.dedup();
        }
        let empty = |format| {
            let layer = |layer| Module::ALL.map(|module| empty_pair(lora, layer, module, format, purpose));
            (format, (0..layers).map(layer).collect())
        };
        let mut ready = ReadyLora { formats: formats.into_iter().map(empty).collect() };
        ready.set(lora);
        ready
    }

    /// Packs other values of the same adapter, or of one that looks like it, in place of those that were there.
    ///
    /// # Panics
    /// When `lora` lacks a pair.
    pub fn set(&mut self, lora: &Lora) {
        for (_, layers) in &mut self.formats {
            layers.par_iter_mut().enumerate().for_each(|(layer, pairs)| {
                for (module, pair) in Module::ALL.into_iter().zip(pairs) {
                    if let Some(pair) = pair {
                        pair.set(lora.pair(layer, module).expect("adapters that look alike"));
                    }
                }
            });
        }
    }

    /// The pairs of a layer in a format.
    ///
    /// # Panics
    /// When the adapter is not ready for it.
    pub fn layer(&self, index: usize, format: Format) -> &LayerPairs {
        let found = self.formats.iter().find(|(of, _)| *of == format);
        &found.expect("an adapter is made ready for the formats of its model").1[index]
    }
}

impl ReadyPair {
    fn set(&mut self, pair: Pair<'_>) {
        let rank = self.rank;
        let (input, output) = (pair.a.len() / rank, pair.b.len() / rank);
        let (a, b) = (Mat::new(pair.a, rank, input), Mat::new(pair.b, output, rank));
        self.down.set(a.t(), pair.scale);
        self.up.set(b.t(), 1.0);
        if let Some((up, down)) = &mut self.back {
            up.set(b, pair.scale);
            down.set(a, 1.0);
        }
    }
}

/// A pair without values.
fn empty_pair(lora: &Lora, layer: usize, module: Module, format: Format, purpose: Use) -> Option<ReadyPair> {
    let start = lora.pair(layer, module)?.start;
    let new = || Right::new(format);
    let back = (purpose == Use::Training).then(|| (new(), new()));
    Some(ReadyPair { down: new(), up: new(), back, rank: lora.config().rank, start })
}
