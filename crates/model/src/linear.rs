//! A frozen linear weight and the pair of an adapter on top of it, in the forms that products want: the only place where a
//! number format of weights is decided. Other formats for weights go here and nowhere else.

use crate::lora::{Lora, Module};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};
use underdog_eval::{Error, Kind, Result};
use underdog_tensor::amx::{self, Packed};
use underdog_tensor::block::{Factor, Format, Right};
use underdog_tensor::cross_entropy::{Head, argmax};
use underdog_tensor::matmul::{Into, Mat, MatMut, Threads, matmul};
use underdog_tensor::pool::Pool;
use underdog_tensor::quantised::{self, Matrix, Product, activation::Rounded, panels};

/// Up to so many rows meet weights in blocks as 8-bit integers; more meet them dequantised.
pub const FEW_ROWS: usize = 32;

/// The number format in which frozen weights are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// Both factors of every product are rounded to bf16, products are exact and sums are f32; what a training step keeps is
    /// rounded too. The adapter's values, its gradient and the residual stream stay f32. Needs AMX.
    Bf16,
    /// Weights stay in the blocks that the file has. Few rows, as in decoding, are rounded to 8-bit integers per 32 values; many
    /// rows meet weights that are dequantised a layer at a time, in bf16 where the CPU has AMX and in f32 elsewhere. Weights
    /// that are not in blocks are f32.
    Native,
}

impl Precision {
    /// Parses `f32`, `bf16`, `native` or `auto`, which is bf16 where the CPU has AMX and f32 elsewhere.
    ///
    /// # Errors
    /// Any other text, or `bf16` on a CPU without AMX.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Precision::F32),
            "native" => Ok(Precision::Native),
            "auto" if !amx::available() => Ok(Precision::F32),
            "auto" => Ok(Precision::Bf16),
            "bf16" if amx::available() => Ok(Precision::Bf16),
            "bf16" => Err(Error::new(Kind::Usage, "precision bf16 needs a CPU with AMX")
                .found("a CPU or a kernel without it")
                .hint("use auto or f32")),
            other => Err(Error::new(Kind::Usage, "precision")
                .expected("auto, f32, bf16 or native")
                .found(format!("`{other}`"))),
        }
    }

    /// The name it is parsed from.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Native => "native",
        }
    }

    /// The format of the factors of a product of many rows.
    pub fn format(self) -> Format {
        match self {
            Precision::F32 => Format::F32,
            Precision::Bf16 => Format::Bf16,
            Precision::Native if amx::available() => Format::Bf16,
            Precision::Native => Format::F32,
        }
    }
}

/// A frozen weight `[output, input]` in the form that its products want.
#[derive(Debug)]
enum Weight {
    /// Row-major, as Hugging Face has it.
    F32(Vec<f32>),
    /// Packed for `x Wᵀ`, and for `dy W` once training asks for it.
    Bf16 { forward: Packed, backward: OnceLock<Packed> },
    /// In the blocks of the file.
    Blocks { matrix: Arc<Matrix>, pool: Arc<Pool> },
}

/// A frozen weight and its shape.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    input: usize,
    output: usize,
}

impl Linear {
    /// From a row-major weight `[output, input]`.
    ///
    /// # Panics
    /// When `weight` has another size.
    pub fn new(weight: Vec<f32>, input: usize, output: usize, precision: Precision) -> Self {
        let view = Mat::new(&weight, output, input);
        let weight = match precision {
            Precision::Bf16 => Weight::Bf16 { forward: Packed::pack(view.t()), backward: OnceLock::new() },
            Precision::F32 | Precision::Native => Weight::F32(weight),
        };
        Linear { weight, input, output }
    }

    /// From a weight that stays in its blocks; products of few rows run on `pool`.
    pub fn blocks(matrix: Arc<Matrix>, pool: Arc<Pool>) -> Self {
        let (output, input) = matrix.shape();
        Linear { weight: Weight::Blocks { matrix, pool }, input, output }
    }

    /// `(input, output)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.input, self.output)
    }

    /// Bytes that a product reads of the weight.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Weight::F32(weight) => weight.len() * 4,
            Weight::Bf16 { .. } => self.input * self.output * 2,
            Weight::Blocks { matrix, .. } => matrix.bytes(),
        }
    }

    /// Wᵀ `[input, output]`, for `y = x Wᵀ`.
    pub fn forward(&self) -> Factor<'_> {
        match &self.weight {
            Weight::F32(weight) => Factor::F32(Mat::new(weight, self.output, self.input).t()),
            Weight::Bf16 { forward, .. } => Factor::Bf16(forward),
            Weight::Blocks { matrix, pool } => Factor::Blocks(matrix, pool),
        }
    }

    /// W `[output, input]`, for `dx = dy W`.
    ///
    /// # Panics
    /// For a weight in blocks, which only [`Linear::unpacked`] gives.
    pub fn backward(&self) -> Factor<'_> {
        match &self.weight {
            Weight::F32(weight) => Factor::F32(Mat::new(weight, self.output, self.input)),
            Weight::Bf16 { forward, backward } => Factor::Bf16(backward.get_or_init(|| forward.transposed())),
            Weight::Blocks { .. } => unreachable!("many rows meet weights that are unpacked"),
        }
    }

    /// What many rows meet in one layer of one pass where the weight lies otherwise: in blocks, or in another format. `None`
    /// where the weight is ready as it is.
    pub fn unpacked(&self, format: Format, way: Way) -> Option<Right> {
        let values = match &self.weight {
            Weight::F32(_) if format == Format::F32 => return None,
            Weight::Bf16 { .. } => return None,
            Weight::F32(weight) => weight.clone(),
            Weight::Blocks { matrix, .. } => {
                let mut values = vec![0.0; self.input * self.output];
                let rows = quantised::GROUP * 4;
                values.par_chunks_mut(rows * self.input).enumerate().for_each(|(part, to)| {
                    matrix.rows(part * rows..part * rows + to.len() / self.input, to);
                });
                values
            }
        };
        Some(match way {
            Way::Forward => Right::of_transposed(format, values, self.input, self.output, 1.0),
            Way::Backward => Right::plain(format, &values, self.output, self.input, 1.0),
        })
    }

    /// Row `index` of the weight, `[input]`: the embedding of a token, where the head is the embedding too.
    pub fn row(&self, index: usize, to: &mut [f32]) {
        match &self.weight {
            Weight::F32(weight) => to.copy_from_slice(&weight[index * self.input..][..self.input]),
            Weight::Bf16 { forward, .. } => {
                to.iter_mut().enumerate().for_each(|(i, to)| *to = forward.get(i, index));
            }
            Weight::Blocks { matrix, .. } => matrix.rows(index..index + 1, to),
        }
    }

    /// `c (+)= x · factor` on all threads, with `x [T, k]` and `c [T, n]` row-major.
    fn product(c: &mut [f32], into: Into, x: &[f32], factor: Factor<'_>, (k, n): (usize, usize)) {
        let rows = x.len() / k;
        let x = Mat::new(x, rows, k);
        match factor {
            Factor::F32(b) => matmul(MatMut::new(c, rows, n), into, 1.0, x, b, Threads::All),
            Factor::Bf16(b) => amx::matmul(c, into, x, b),
            Factor::Blocks(..) => unreachable!("weights in blocks have their own products"),
        }
    }
}

/// Rows whose logits are in memory at once, about, where only the best token is wanted.
const BEST_ROWS: usize = 64;

impl Linear {
    /// The output with the largest value for each row of `x [N, input]`, the first of equals.
    pub fn best(&self, x: &[f32]) -> Vec<u32> {
        let rows = x.len() / self.input;
        if let (Weight::Bf16 { forward, .. }, true) = (&self.weight, rows > 0) {
            return amx::best(Mat::new(x, rows, self.input), forward);
        }
        // Parts of equal size: a small one would take another way through weights in blocks.
        let part = rows.div_ceil(rows.div_ceil(BEST_ROWS).max(1)).max(1);
        let best = |part| {
            let logits = self.logits(part);
            logits.chunks_exact(self.output).map(|row| argmax(row) as u32).collect::<Vec<_>>()
        };
        x.chunks(part * self.input).flat_map(best).collect()
    }
}

/// A linear product can be the output head.
impl Head for Linear {
    fn width(&self) -> usize {
        self.input
    }

    fn vocab(&self) -> usize {
        self.output
    }

    fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        let rows = hidden.len() / self.input;
        let mut y = vec![0.0; rows * self.output];
        match &self.weight {
            Weight::Blocks { matrix, pool } if rows <= FEW_ROWS => {
                let x = Rounded::new(hidden, self.input);
                quantised::products(pool, &x, &mut [Product { weight: matrix, y: &mut y }]);
            }
            Weight::Blocks { matrix, .. } => panels::product(matrix, hidden, &mut y),
            _ => Self::product(&mut y, Into::Set, hidden, self.forward(), (self.input, self.output)),
        }
        y
    }

    fn backward(&self, dhidden: &mut [f32], dlogits: &[f32]) {
        match &self.weight {
            Weight::Blocks { matrix, .. } => panels::product_backward(matrix, dhidden, dlogits),
            _ => {
                Self::product(dhidden, Into::Add, dlogits, Linear::backward(self), (self.output, self.input))
            }
        }
    }
}

/// Which way rows go through a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From input to output.
    Forward,
    /// Gradients, from output to input.
    Backward,
}

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
        let ready = |format| {
            let layer = |layer| Module::ALL.map(|module| ready_pair(lora, layer, module, format, purpose));
            (format, (0..layers).into_par_iter().map(layer).collect())
        };
        ReadyLora { formats: formats.into_iter().map(ready).collect() }
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

fn ready_pair(lora: &Lora, layer: usize, module: Module, format: Format, purpose: Use) -> Option<ReadyPair> {
    let pair = lora.pair(layer, module)?;
    let (rank, scale) = (lora.config().rank, pair.scale);
    let (input, output) = (pair.a.len() / rank, pair.b.len() / rank);
    let back = (purpose == Use::Training).then(|| {
        (Right::plain(format, pair.b, output, rank, scale), Right::plain(format, pair.a, rank, input, 1.0))
    });
    Some(ReadyPair {
        down: Right::of_transposed(format, pair.a.to_vec(), input, rank, scale),
        up: Right::of_transposed(format, pair.b.to_vec(), rank, output, 1.0),
        back,
        rank,
        start: pair.start,
    })
}
