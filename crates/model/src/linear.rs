//! A frozen linear weight and the pair of an adapter on top of it, in the forms that products want: the only place where a
//! number format of weights is decided. Other formats for weights go here and nowhere else.

use crate::lora::{Lora, Module, Pair};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use underdog_eval::{Error, Kind, Result};
use underdog_tensor::amx::{self, Packed};
use underdog_tensor::block::{Factor, Format, Right};
use underdog_tensor::cross_entropy::{self, Head, Piece, argmax};
use underdog_tensor::matmul::{Into, Mat, MatMut, Threads, matmul};
use underdog_tensor::pool::{Pool, Team};
use underdog_tensor::quantised::{self, Matrix, Product, activation::Rounded, panels};

/// Up to so many rows meet weights in blocks as 8-bit integers on any CPU.
const FEW_ROWS: usize = 32;

/// Whether so many rows meet weights in blocks as they are. Many do where the CPU multiplies 8-bit integers faster than anything
/// else it has.
pub fn meets_blocks(rows: usize) -> bool {
    rows <= FEW_ROWS || (quantised::Path::best() == quantised::Path::Avx512Vnni && !amx::available())
}

/// The number format in which frozen weights are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// Both factors of every product are rounded to bf16, products are exact and sums are f32; what a training step keeps is
    /// rounded too. The adapter's values, its gradient and the residual stream stay f32. Needs AMX.
    Bf16,
    /// Weights stay in the blocks that the file has. Rows that are read or decoded are rounded to 8-bit integers per 32 values,
    /// many rows only where that is fastest ([`meets_blocks`]); else, and in training, they meet weights that are dequantised a
    /// layer at a time, in bf16 where the CPU has AMX and in f32 elsewhere. Weights that are not in blocks are f32.
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
    /// Row-major, as Hugging Face has it: for a head, whose rows are embeddings.
    F32(Vec<f32>),
    /// Turned to `[input, output]`: `gemm` multiplies rows with it as it lies, where it would pack the other for every product.
    /// The way back turns a layer's weights at a time.
    Turned(Vec<f32>),
    /// Packed for `x Wᵀ`; the way back transposes the tiles of a layer at a time.
    Bf16(Packed),
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
            Precision::Bf16 => Weight::Bf16(Packed::pack(view.t())),
            Precision::F32 | Precision::Native => Weight::F32(weight),
        };
        Linear { weight, input, output }
    }

    /// Turned for rows that go forward, where it is in f32: for the weights of layers.
    pub fn turned(self) -> Self {
        let Weight::F32(values) = self.weight else { return self };
        let weight = Weight::Turned(turned(&values, self.output, self.input));
        Linear { weight, ..self }
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
            Weight::F32(weight) | Weight::Turned(weight) => weight.len() * 4,
            Weight::Bf16(_) => self.input * self.output * 2,
            Weight::Blocks { matrix, .. } => matrix.bytes(),
        }
    }

    /// Wᵀ `[input, output]`, for `y = x Wᵀ`.
    pub fn forward(&self) -> Factor<'_> {
        match &self.weight {
            Weight::F32(weight) => Factor::F32(Mat::new(weight, self.output, self.input).t()),
            Weight::Turned(weight) => Factor::F32(Mat::new(weight, self.input, self.output)),
            Weight::Bf16(packed) => Factor::Bf16(packed),
            Weight::Blocks { matrix, .. } => Factor::Blocks(matrix),
        }
    }

    /// W `[output, input]`, for `dx = dy W`.
    ///
    /// # Panics
    /// For a weight that lies otherwise: [`Linear::unpack`] gives it.
    pub fn backward(&self) -> Factor<'_> {
        match &self.weight {
            Weight::F32(weight) => Factor::F32(Mat::new(weight, self.output, self.input)),
            Weight::Turned(_) | Weight::Bf16(_) | Weight::Blocks { .. } => {
                unreachable!("many rows meet weights that are unpacked")
            }
        }
    }

    /// Puts what many rows meet in one layer of one pass into `to`, where the weight lies otherwise: in blocks, in another format, or
    /// the other way round. Says whether it did; where not, the weight is ready as it is.
    pub fn unpack(&self, format: Format, way: Way, to: &mut Right) -> bool {
        let values = match &self.weight {
            Weight::F32(_) if format == Format::F32 => return false,
            Weight::Bf16(_) if way == Way::Forward => return false,
            Weight::Bf16(packed) => {
                if !matches!(to, Right::Bf16(_)) {
                    *to = Right::new(Format::Bf16);
                }
                if let Right::Bf16(to) = to {
                    packed.transpose_into(0..self.output, to, Threads::All);
                }
                return true;
            }
            Weight::Turned(_) if format == Format::F32 && way == Way::Forward => return false,
            Weight::Turned(weight) => {
                if let (Right::F32 { .. }, Way::Backward) = (&*to, way) {
                    to.reset(self.output, self.input);
                    if let Right::F32 { values, .. } = to {
                        turn(weight, self.input, self.output, values);
                    }
                    return true;
                }
                turned(weight, self.input, self.output)
            }
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
        *to = match way {
            Way::Forward => Right::of_transposed(format, values, self.input, self.output, 1.0),
            Way::Backward => Right::plain(format, &values, self.output, self.input, 1.0),
        };
        true
    }

    /// Row `index` of the weight, `[input]`: the embedding of a token, where the head is the embedding too.
    pub fn row(&self, index: usize, to: &mut [f32]) {
        match &self.weight {
            Weight::F32(weight) => to.copy_from_slice(&weight[index * self.input..][..self.input]),
            Weight::Turned(weight) => {
                to.iter_mut()
                    .zip(weight[index..].iter().step_by(self.output))
                    .for_each(|(to, from)| *to = *from);
            }
            Weight::Bf16(packed) => packed.column(index, to),
            Weight::Blocks { matrix, .. } => matrix.rows(index..index + 1, to),
        }
    }

    /// `hidden Wᵀ [T, output]` on all threads, row-major, with `hidden [T, input]`: the logits of rows that are decoded.
    pub fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        let rows = hidden.len() / self.input;
        let mut y = vec![0.0; rows * self.output];
        let x = Mat::new(hidden, rows, self.input);
        match &self.weight {
            Weight::Blocks { matrix, pool } if meets_blocks(rows) => {
                let x = Rounded::new(hidden, self.input);
                quantised::products(Team::All(pool), &x, &mut [Product { weight: matrix, y: &mut y }]);
            }
            Weight::Blocks { matrix, .. } => panels::product(matrix, hidden, &mut y),
            Weight::F32(_) | Weight::Turned(_) => {
                let Factor::F32(weight) = self.forward() else { unreachable!("a weight in f32") };
                matmul(MatMut::new(&mut y, rows, self.output), Into::Set, 1.0, x, weight, Threads::All);
            }
            Weight::Bf16(packed) => amx::matmul(&mut y, Into::Set, x, packed),
        }
        y
    }
}

/// The transpose of `from [rows, columns]`.
fn turned(from: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut to = vec![0.0; from.len()];
    turn(from, rows, columns, &mut to);
    to
}

/// The same to `to [columns, rows]`, a square of values at a time, so that lines of the cache are read whole.
fn turn(from: &[f32], rows: usize, columns: usize, to: &mut [f32]) {
    const SIDE: usize = 16;
    assert!(from.len() == rows * columns && to.len() == from.len(), "a matrix to be turned");
    to.par_chunks_mut(SIDE * rows).enumerate().for_each(|(stripe, to)| {
        for first in (0..rows).step_by(SIDE) {
            for (j, to) in to.chunks_exact_mut(rows).enumerate() {
                for i in first..rows.min(first + SIDE) {
                    to[i] = from[i * columns + stripe * SIDE + j];
                }
            }
        }
    });
}

/// Rows whose logits are in memory at once, about, where only the best token is wanted.
const BEST_ROWS: usize = 64;

impl Linear {
    /// The output with the largest value for each row of `x [N, input]`, the first of equals.
    pub fn best(&self, x: &[f32]) -> Vec<u32> {
        let rows = x.len() / self.input;
        if let (Weight::Bf16(packed), true) = (&self.weight, rows > 0) {
            return amx::best(Mat::new(x, rows, self.input), packed);
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

    fn format(&self) -> Format {
        match &self.weight {
            Weight::F32(_) | Weight::Turned(_) => Format::F32,
            Weight::Bf16(_) => Format::Bf16,
            Weight::Blocks { .. } if amx::available() => Format::Bf16,
            Weight::Blocks { .. } => Format::F32,
        }
    }

    fn piece<'a>(&'a self, range: Range<usize>, unpacked: &'a mut cross_entropy::Unpacked) -> Piece<'a> {
        let (rows, width) = (range.len(), self.input);
        let cross_entropy::Unpacked { values, forward, backward } = unpacked;
        match &self.weight {
            Weight::Turned(_) => unreachable!("the weights of layers are turned, a head is not"),
            Weight::F32(weight) => Piece {
                forward: (self.forward(), range.start),
                backward: Factor::F32(Mat::new(&weight[range.start * width..range.end * width], rows, width)),
            },
            Weight::Bf16(packed) => {
                if let Right::Bf16(backward) = backward {
                    packed.transpose_into(range.clone(), backward, Threads::One);
                }
                Piece { forward: (Factor::Bf16(packed), range.start), backward: backward.factor() }
            }
            Weight::Blocks { matrix, .. } => {
                values.resize(rows * width, 0.0);
                matrix.rows(range, values);
                let format = Head::format(self);
                *forward = Right::of_transposed(format, std::mem::take(values), width, rows, 1.0);
                *backward = match &*forward {
                    Right::F32 { values, .. } => Right::plain(format, values, rows, width, 1.0),
                    Right::Bf16(packed) => {
                        let mut back = Packed::default();
                        packed.transpose_into(0..rows, &mut back, Threads::One);
                        Right::Bf16(back)
                    }
                };
                Piece { forward: (forward.factor(), 0), backward: backward.factor() }
            }
        }
    }

    fn row(&self, token: usize, to: &mut [f32]) {
        Linear::row(self, token, to);
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

#[cfg(test)]
mod tests {
    use super::*;
    use underdog_testkit::hashed_values;

    #[test]
    fn a_turned_weight_is_the_same_weight() {
        let (input, output) = (35, 21);
        let values = hashed_values(3, 0, input * output, 1.0);
        let plain = Linear::new(values.clone(), input, output, Precision::F32);
        let turned = Linear::new(values.clone(), input, output, Precision::F32).turned();
        let x = hashed_values(3, 1, 3 * input, 1.0);
        let (want, got) = (plain.logits(&x), turned.logits(&x));
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?}");
        let (mut row, mut back) = (vec![0.0; input], Right::new(Format::F32));
        turned.row(20, &mut row);
        assert_eq!(row, values[20 * input..]);
        assert!(!turned.unpack(Format::F32, Way::Forward, &mut back));
        assert!(turned.unpack(Format::F32, Way::Backward, &mut back));
        assert!(matches!(&back, Right::F32 { values: found, transposed: false, .. } if *found == values));
    }
}
