//! A frozen linear weight and the pair of an adapter on top of it (`ready`), in the forms that products want: the only place where
//! a number format of weights is decided. Other formats for weights go here and nowhere else. The weight as the output head is
//! in `head`.

mod head;
mod ready;

use rayon::prelude::*;
pub use ready::{LayerPairs, ReadyLora, ReadyPair, Use};
use std::sync::Arc;
use underdog_eval::{Error, Kind, Result};
use underdog_tensor::block::{Factor, Format, Right};
use underdog_tensor::matmul::{Mat, Threads};
use underdog_tensor::pool::Pool;
use underdog_tensor::quantised::{self, Matrix};
use underdog_tensor::tiles::{self, Packed};

/// Up to so many rows meet weights in blocks as 8-bit integers on any CPU.
const FEW_ROWS: usize = 32;

/// Whether so many rows meet weights in blocks as they are. Many do where the CPU multiplies 8-bit integers faster than anything
/// else it has: on vectors, unless there are tiles.
pub fn meets_blocks(rows: usize) -> bool {
    rows <= FEW_ROWS || (quantised::Path::best() != quantised::Path::Portable && !tiles::amx_available())
}

/// The number format in which frozen weights are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// Both factors of every product are rounded to bf16, products are exact and sums are f32; what a training step keeps is
    /// rounded too. The adapter's values, its gradient and the residual stream stay f32. Tiles of AMX
    /// multiply it fastest.
    Bf16,
    /// Weights stay in the blocks that the file has. Rows that are read or decoded are rounded to 8-bit integers per 32 values,
    /// many rows only where that is fastest ([`meets_blocks`]); else, and in training, they meet weights that are dequantised a
    /// layer at a time, in the format that `auto` stands for. Weights that are not in blocks are f32.
    Native,
}

impl Precision {
    /// Parses `f32`, `bf16`, `native` or `auto`, which is bf16 where that is faster ([`tiles::accelerated`]) and f32 elsewhere.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Precision::F32),
            "native" => Ok(Precision::Native),
            "auto" if tiles::accelerated() => Ok(Precision::Bf16),
            "auto" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
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
            Precision::Native if tiles::accelerated() => Format::Bf16,
            Precision::Native => Format::F32,
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

/// A frozen weight `[output, input]` in the form that its products want.
#[derive(Debug)]
enum Weight {
    /// Row-major, as Hugging Face has it: for a head, whose rows are embeddings.
    F32(Vec<f32>),
    /// Turned to `[input, output]`: `gemm` multiplies rows with it as it lies, where it would pack the other for every product.
    /// The way back turns a layer's weights at a time.
    Turned(Vec<f32>),
    /// Packed for `x Wᵀ`; the way back transposes the tiles of a layer at a time. `rows` are the same before they were
    /// rounded, for a head whose rows are embeddings.
    Bf16 { packed: Packed, rows: Option<Matrix> },
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
            Precision::Bf16 => Weight::Bf16 { packed: Packed::pack(view.t()), rows: None },
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

    /// With `exact` rows for [`Linear::row`], where the weight is in bf16.
    pub fn with_rows(self, exact: Matrix) -> Self {
        match self.weight {
            Weight::Bf16 { packed, .. } => {
                Linear { weight: Weight::Bf16 { packed, rows: Some(exact) }, ..self }
            }
            weight => Linear { weight, ..self },
        }
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
            Weight::Bf16 { .. } => self.input * self.output * 2,
            Weight::Blocks { matrix, .. } => matrix.bytes(),
        }
    }

    /// Bytes of the exact rows beside the weight; no product reads them.
    pub fn row_bytes(&self) -> usize {
        match &self.weight {
            Weight::Bf16 { rows: Some(exact), .. } => exact.bytes(),
            _ => 0,
        }
    }

    /// Wᵀ `[input, output]`, for `y = x Wᵀ`.
    pub fn forward(&self) -> Factor<'_> {
        match &self.weight {
            Weight::F32(weight) => Factor::F32(Mat::new(weight, self.output, self.input).t()),
            Weight::Turned(weight) => Factor::F32(Mat::new(weight, self.input, self.output)),
            Weight::Bf16 { packed, .. } => Factor::Bf16(packed),
            Weight::Blocks { matrix, .. } => Factor::Blocks(matrix),
        }
    }

    /// Puts what many rows meet in one layer of one pass into `to`, where the weight lies otherwise: in blocks, in another format, or
    /// the other way round. Says whether it did; where not, the weight is ready as it is.
    ///
    /// # Panics
    /// For a weight in f32 that was not [`Linear::turned`].
    pub fn unpack(&self, format: Format, way: Way, to: &mut Right) -> bool {
        let values = match &self.weight {
            Weight::Bf16 { .. } if way == Way::Forward => return false,
            Weight::Bf16 { packed, .. } => {
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
            Weight::F32(_) => unreachable!("the weights of layers are turned"),
            Weight::Blocks { matrix, .. } => {
                self.unpack_blocks(matrix, format, way, to);
                return true;
            }
        };
        *to = match way {
            Way::Forward => Right::of_transposed(format, values, self.input, self.output, 1.0),
            Way::Backward => Right::plain(format, &values, self.output, self.input, 1.0),
        };
        true
    }

    /// Blocks of the file into what they mean, in the memory that `to` has already.
    fn unpack_blocks(&self, matrix: &Matrix, format: Format, way: Way, to: &mut Right) {
        if to.format() != format {
            *to = Right::new(format);
        }
        match to {
            Right::Bf16(packed) if way == Way::Forward => matrix.tiles(0..self.output, packed, Threads::All),
            Right::Bf16(packed) => matrix.transposed_tiles(packed, Threads::All),
            Right::F32 { values, k, n, transposed } => {
                *transposed = way == Way::Forward;
                (*k, *n) = if *transposed { self.shape() } else { (self.output, self.input) };
                values.resize(self.input * self.output, 0.0);
                matrix.rows_in_parallel(0..self.output, values);
            }
        }
    }

    /// Row `index` of the weight, `[input]`: the embedding of a token, where the head is the embedding too. As the file means
    /// it where that is known ([`Linear::with_rows`]), else as it is multiplied.
    pub fn row(&self, index: usize, to: &mut [f32]) {
        match &self.weight {
            Weight::F32(weight) => to.copy_from_slice(&weight[index * self.input..][..self.input]),
            Weight::Turned(weight) => {
                to.iter_mut()
                    .zip(weight[index..].iter().step_by(self.output))
                    .for_each(|(to, from)| *to = *from);
            }
            Weight::Bf16 { rows: Some(exact), .. } => exact.rows(index..index + 1, to),
            Weight::Bf16 { packed, rows: None } => packed.column(index, to),
            Weight::Blocks { matrix, .. } => matrix.rows(index..index + 1, to),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use underdog_testkit::hashed_values;

    #[test]
    fn rows_of_a_rounded_head_are_as_the_file_means_them() {
        let (input, output) = (64, 8);
        let blocks: Vec<u8> = (0..input * output / 32)
            .flat_map(|i| [vec![0x55, 0x2d], (0..32).map(|j| (i * 37 + j * 11) as u8).collect()].concat())
            .collect();
        let matrix = || Matrix::new(quantised::Format::Q8_0, &blocks, output, input).unwrap();
        let mut values = vec![0.0; input * output];
        matrix().rows(0..output, &mut values);
        let rounded = Linear::new(values.clone(), input, output, Precision::Bf16);
        let (mut row, mut exact) = (vec![0.0; input], vec![0.0; input]);
        rounded.row(5, &mut row);
        let head = rounded.with_rows(matrix());
        head.row(5, &mut exact);
        assert_eq!(exact, values[5 * input..6 * input]);
        assert!(row != exact && row.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0));
        assert_eq!((head.bytes(), head.row_bytes()), (2 * input * output, matrix().bytes()));
    }

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
