//! Logistic regression with an L2 penalty, multinomial or one for each label, in f64. It gives the probabilities that
//! scikit-learn's `LogisticRegression` gives; which penalty is used is chosen in `linear`.
//!
//! The loss is the mean over the rows of the negative log-probability, plus `|W|² / (2 c n)`; the intercept is free. Features
//! are centred first: that changes the intercept only, and makes the problem much easier to minimise.

use super::minimise::{Stop, minimise};
use rayon::prelude::*;

/// Rows that are worked on together, a multiple of [`TILE`].
const BLOCK: usize = 64;
/// Blocks that one task sums up. Fixed, so that sums do not depend on the number of threads.
const BLOCKS_A_TASK: usize = 4;
/// Width of the tiles of a product.
const TILE: usize = 4;

/// What the right answers of rows are.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// One class of `count` for each row.
    Classes {
        /// Class of each row, below `count`.
        of_row: Vec<usize>,
        /// Number of classes, at least 2.
        count: usize,
    },
    /// Any number of `count` labels for each row.
    Labels {
        /// Labels of each row, each below `count`.
        of_row: Vec<Vec<usize>>,
        /// Number of labels, at least 1.
        count: usize,
    },
}

impl Targets {
    fn columns(&self) -> usize {
        match self {
            // Two classes are one question, as scikit-learn has it: the penalty would be another one else.
            Targets::Classes { count: 2, .. } => 1,
            Targets::Classes { count, .. } | Targets::Labels { count, .. } => *count,
        }
    }

    fn link(&self) -> Link {
        match self {
            Targets::Classes { count: 2, .. } => Link::TwoClasses,
            Targets::Classes { .. } => Link::Softmax,
            Targets::Labels { .. } => Link::Labels,
        }
    }

    /// 1 where a column is right for a row.
    fn mark(&self, row: usize, marks: &mut [f64]) {
        match self {
            Targets::Classes { of_row, count: 2 } => marks[0] = of_row[row] as f64,
            Targets::Classes { of_row, .. } => marks[of_row[row]] = 1.0,
            Targets::Labels { of_row, .. } => of_row[row].iter().for_each(|&label| marks[label] = 1.0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Softmax,
    TwoClasses,
    Labels,
}

/// A fitted regression.
#[derive(Clone, Debug)]
pub struct Logistic {
    link: Link,
    columns: usize,
    shape: Shape,
    /// `[features, columns]`, both padded; the row after the last feature is the intercept.
    weights: Vec<f64>,
    mean: Vec<f64>,
}

/// Padded sizes of the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    features: usize,
    columns: usize,
}

fn padded(size: usize) -> usize {
    size.next_multiple_of(TILE)
}

/// Rows in the layout of the products, to be fitted several times.
pub struct Data {
    rows: usize,
    width: usize,
    features: usize,
    mean: Vec<f64>,
    /// Each block as `[BLOCK, features]`, the intercept's 1 after the features; rows that fill the last block are 0.
    blocks: Vec<Vec<f64>>,
    /// Each block as `[features, BLOCK]`.
    transposed: Vec<Vec<f64>>,
}

impl Data {
    /// From rows of one width.
    ///
    /// # Panics
    /// When there is no row, or widths differ.
    pub fn new(rows: &[Vec<f32>]) -> Data {
        let width = rows[0].len();
        let mut mean = vec![0.0; width];
        for row in rows {
            assert_eq!(row.len(), width, "rows have one width");
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x));
        }
        mean.iter_mut().for_each(|mean| *mean /= rows.len() as f64);
        let mut data = Data::centred(rows, &mean);
        data.mean = mean;
        data
    }

    fn centred(rows: &[Vec<f32>], mean: &[f64]) -> Data {
        let width = mean.len();
        let features = padded(width + 1);
        let block = |rows: &[Vec<f32>]| {
            let mut block = vec![0.0; BLOCK * features];
            for (row, to) in rows.iter().zip(block.chunks_exact_mut(features)) {
                to.iter_mut()
                    .zip(row.iter().zip(mean))
                    .for_each(|(to, (x, mean))| *to = f64::from(*x) - mean);
                to[width] = 1.0;
            }
            block
        };
        let blocks: Vec<Vec<f64>> = rows.chunks(BLOCK).map(block).collect();
        let transposed = blocks.iter().map(|block| transpose(block, BLOCK, features)).collect();
        Data { rows: rows.len(), width, features, mean: Vec::new(), blocks, transposed }
    }
}

fn transpose(a: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut out = vec![0.0; a.len()];
    for i in 0..rows {
        for j in 0..columns {
            out[j * rows + i] = a[i * columns + j];
        }
    }
    out
}

/// `c += aᵀ b`, with `a [k, m]`, `b [k, n]`, `c [m, n]`; `m` and `n` are multiples of [`TILE`].
fn add_product(c: &mut [f64], a: &[f64], b: &[f64], (m, n): (usize, usize)) {
    for j in (0..n).step_by(TILE) {
        for i in (0..m).step_by(TILE) {
            let mut sums = [[0.0; TILE]; TILE];
            for (a, b) in a.chunks_exact(m).zip(b.chunks_exact(n)) {
                let (a, b) = (&a[i..i + TILE], &b[j..j + TILE]);
                for (sums, a) in sums.iter_mut().zip(a) {
                    sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                let c = &mut c[(i + row) * n + j..][..TILE];
                c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
            }
        }
    }
}

/// `ln(1 + e^x)` without overflow.
fn soft_plus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Link {
    /// Turns the logits of one row into `probability − mark`, and gives the row's loss.
    fn residual(self, logits: &mut [f64], marks: &[f64]) -> f64 {
        if self != Link::Softmax {
            let mut loss = 0.0;
            for (logit, mark) in logits.iter_mut().zip(marks) {
                loss += soft_plus(*logit) - mark * *logit;
                *logit = sigmoid(*logit) - mark;
            }
            return loss;
        }
        let right: f64 = logits.iter().zip(marks).map(|(logit, mark)| logit * mark).sum();
        let normaliser = softmax(logits);
        logits.iter_mut().zip(marks).for_each(|(p, mark)| *p -= mark);
        normaliser - right
    }
}

/// Logits to probabilities in place; gives the logarithm of the sum of exponentials.
fn softmax(logits: &mut [f64]) -> f64 {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - top).exp();
        sum += *logit;
    }
    logits.iter_mut().for_each(|p| *p /= sum);
    top + sum.ln()
}

impl Logistic {
    /// Fits with the inverse penalty `c` as scikit-learn has it; `start` is a fit of the same data with another one.
    ///
    /// # Panics
    /// When there are not as many targets as rows.
    pub fn fit(data: &Data, targets: &Targets, c: f64, start: Option<&Logistic>, stop: Stop) -> Logistic {
        let given = match targets {
            Targets::Classes { of_row, .. } => of_row.len(),
            Targets::Labels { of_row, .. } => of_row.len(),
        };
        assert_eq!(given, data.rows, "one target a row");
        let columns = targets.columns();
        let shape = Shape { features: data.features, columns: padded(columns) };
        let link = targets.link();
        let mut weights = match start {
            Some(start) if start.shape == shape && start.link == link => start.weights.clone(),
            _ => vec![0.0; shape.features * shape.columns],
        };
        let marks = marks(data.rows, columns, targets);
        let penalty = 1.0 / (c * data.rows as f64);
        let mut loss = |weights: &[f64], gradient: &mut [f64]| {
            let mut value = sum_over_rows(data, (link, columns, shape), &marks, weights, gradient);
            value /= data.rows as f64;
            gradient.iter_mut().for_each(|g| *g /= data.rows as f64);
            let penalised = data.width * shape.columns;
            for (g, w) in gradient[..penalised].iter_mut().zip(weights) {
                *g += penalty * w;
                value += 0.5 * penalty * w * w;
            }
            value
        };
        minimise(&mut weights, &mut loss, stop);
        Logistic { link, columns, shape, weights, mean: data.mean.clone() }
    }

    /// The probability of each class or label for each row.
    ///
    /// # Panics
    /// When the rows have another width than those of the fit.
    pub fn probabilities(&self, rows: &[Vec<f32>]) -> Vec<Vec<f64>> {
        let data = Data::centred(rows, &self.mean);
        let mut all = Vec::with_capacity(rows.len());
        for block in &data.transposed {
            let mut logits = vec![0.0; BLOCK * self.shape.columns];
            add_product(&mut logits, block, &self.weights, (BLOCK, self.shape.columns));
            for row in logits.chunks_exact_mut(self.shape.columns).take(rows.len() - all.len()) {
                let logits = &mut row[..self.columns];
                all.push(match self.link {
                    Link::Softmax => {
                        softmax(logits);
                        logits.to_vec()
                    }
                    Link::TwoClasses => vec![sigmoid(-logits[0]), sigmoid(logits[0])],
                    Link::Labels => logits.iter().map(|logit| sigmoid(*logit)).collect(),
                });
            }
        }
        all
    }
}

/// 1 where a column is right for a row: `[rows, columns]`.
fn marks(rows: usize, columns: usize, targets: &Targets) -> Vec<f64> {
    let mut marks = vec![0.0; rows * columns];
    marks.chunks_exact_mut(columns).enumerate().for_each(|(row, marks)| targets.mark(row, marks));
    marks
}

/// The summed loss of all rows; `gradient` gets the sum of its gradients.
fn sum_over_rows(
    data: &Data,
    (link, columns, shape): (Link, usize, Shape),
    marks: &[f64],
    weights: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let tasks = data.blocks.par_chunks(BLOCKS_A_TASK).zip(data.transposed.par_chunks(BLOCKS_A_TASK));
    let parts: Vec<(f64, Vec<f64>)> = tasks
        .enumerate()
        .map(|(task, (blocks, transposed))| {
            let (mut loss, mut part) = (0.0, vec![0.0; gradient.len()]);
            let mut logits = vec![0.0; BLOCK * shape.columns];
            for (index, (block, transposed)) in blocks.iter().zip(transposed).enumerate() {
                let first = (task * BLOCKS_A_TASK + index) * BLOCK;
                logits.fill(0.0);
                add_product(&mut logits, transposed, weights, (BLOCK, shape.columns));
                for (row, logits) in logits.chunks_exact_mut(shape.columns).enumerate() {
                    // What only fills up the block or the columns has no part in it.
                    let (used, filling) = logits.split_at_mut(columns);
                    filling.fill(0.0);
                    match marks.get((first + row) * columns..(first + row + 1) * columns) {
                        Some(marks) => loss += link.residual(used, marks),
                        None => used.fill(0.0),
                    }
                }
                add_product(&mut part, block, &logits, (shape.features, shape.columns));
            }
            (loss, part)
        })
        .collect();
    gradient.fill(0.0);
    let mut loss = 0.0;
    for (value, part) in parts {
        loss += value;
        gradient.iter_mut().zip(part).for_each(|(g, part)| *g += part);
    }
    loss
}

#[cfg(test)]
#[path = "logistic_tests.rs"]
mod tests;
