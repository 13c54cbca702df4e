//! The bootstrap of means: samples, or whole clusters of them, are redrawn with replacement, the same draws for all
//! columns of one length. A column of few distinct numbers is redrawn from their counts, which is the same distribution
//! at a fraction of the work. Guards for little data are `intervals`'.

use super::binomial::binomial;
use super::{ALPHA, Clusters, DRAWS, Interval, distinct, not_enough, quantile, z};
use crate::random::Random;
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use std::collections::BTreeMap;

/// Columns that are summed in one pass: a row of them fills a cache line.
const LANES: usize = 8;
/// Up to this many distinct numbers a column is redrawn from their counts.
const FEW_VALUES: usize = 8;

/// How often is redrawn, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    /// Seed of the draws.
    pub seed: u64,
    /// How many; [`DRAWS`] unless speed matters more than the last digit.
    pub count: usize,
}

impl Draws {
    /// [`DRAWS`] draws from `seed`.
    pub fn new(seed: u64) -> Self {
        Draws { seed, count: DRAWS }
    }

    /// The generator of one draw: a function of seed and number, whatever thread asks for it.
    pub(crate) fn random(&self, draw: usize) -> Random {
        let step = 0xD1B5_4A32_D192_ED03u64.wrapping_mul(draw as u64 + 1);
        Random::new(Random::new(self.seed.wrapping_add(step)).next_u64())
    }
}

/// Numbers whose mean is asked for: one a sample, `clusters` of the same samples where they stand or fall together.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// One finite number a sample.
    pub values: &'a [f64],
    /// Which samples form a cluster; `None`, or all of size one, where each sample stands alone.
    pub clusters: Option<&'a Clusters>,
}

impl Column<'_> {
    fn clusters(&self) -> Option<&Clusters> {
        self.clusters.filter(|clusters| clusters.matter())
    }

    fn units(&self) -> usize {
        self.clusters().map_or(self.values.len(), Clusters::count)
    }

    fn refusal(&self) -> Option<&'static str> {
        if self.values.len() < 2 {
            return Some(not_enough(self.values.len()));
        }
        if self.values.iter().all(|value| *value == self.values[0]) {
            return Some("all samples give the same number, so that redrawing them shows no spread");
        }
        (self.units() < 2).then_some("not enough clusters: one says nothing about the spread")
    }
}

/// The seeded percentile bootstrap interval of the mean of `values` (for a paired difference: of the differences).
///
/// # Errors
/// In words, when there are fewer than two values or all are equal.
pub fn bootstrap_mean(values: &[f64], seed: u64) -> Result<Interval, &'static str> {
    bootstrap_means(&[Column { values, clusters: None }], &Draws::new(seed)).remove(0)
}

/// The percentile bootstrap interval of the mean of each column, in order. A column's interval depends on its own
/// numbers and the seed only, not on which other columns are asked for. With clusters, whole clusters are redrawn and the
/// percentiles are taken further out, as Student's t would for so few of them (T. Hesterberg, "What teachers should know
/// about the bootstrap", 2015, section 5.3: the expanded percentile interval).
///
/// # Errors
/// In words for each column: fewer than two values, all equal, or all of one cluster.
pub fn bootstrap_means(columns: &[Column<'_>], draws: &Draws) -> Vec<Result<Interval, &'static str>> {
    let mut joint: BTreeMap<(usize, bool), Vec<usize>> = BTreeMap::new();
    let mut counted = Vec::new();
    let mut results = vec![Err(""); columns.len()];
    for (index, column) in columns.iter().enumerate() {
        if let Some(reason) = column.refusal() {
            results[index] = Err(reason);
        } else if let Some(counts) = few_values(column) {
            counted.push((index, counts));
        } else {
            joint.entry((column.units(), column.clusters().is_some())).or_default().push(index);
        }
    }
    let from_counts: Vec<_> = counted
        .par_iter()
        .map(|(index, counts)| (*index, percentiles(means_from_counts(counts, draws), ALPHA / 2.0)))
        .collect();
    from_counts.into_iter().for_each(|(index, interval)| results[index] = Ok(interval));
    for ((units, clustered), indices) in joint {
        let picked: Vec<&Column<'_>> = indices.iter().map(|&index| &columns[index]).collect();
        let tail = if clustered { expanded_tail(units) } else { ALPHA / 2.0 };
        for (index, means) in indices.into_iter().zip(joint_means(&picked, (units, clustered), draws)) {
            results[index] = Ok(percentiles(means, tail));
        }
    }
    results
}

/// The tail of the percentiles that makes an interval of `units` redrawn clusters as wide as Student's t would.
pub(crate) fn expanded_tail(units: usize) -> f64 {
    let (units, tail) = (units as f64, ALPHA / 2.0);
    let t = StudentsT::new(0.0, 1.0, units - 1.0).map_or(z(tail), |t| t.inverse_cdf(tail));
    Normal::standard().cdf((units / (units - 1.0)).sqrt() * t)
}

/// A one-sided p from redrawn clusters as Student's t of so many would have it: the way back of [`expanded_tail`].
pub(crate) fn expanded_p(p: f64, units: usize) -> f64 {
    let units = units as f64;
    let distance = ((units - 1.0) / units).sqrt() * z(1.0 - p);
    StudentsT::new(0.0, 1.0, units - 1.0).map_or(1.0, |t| t.sf(distance))
}

pub(crate) fn percentiles(mut means: Vec<f64>, tail: f64) -> Interval {
    means.sort_unstable_by(f64::total_cmp);
    Interval { low: quantile(&means, tail), high: quantile(&means, 1.0 - tail) }
}

fn few_values(column: &Column<'_>) -> Option<Vec<(f64, usize)>> {
    if column.clusters().is_some() || column.values.len() < 4 * FEW_VALUES {
        return None;
    }
    distinct(column.values.iter().copied(), FEW_VALUES)
}

/// Means of redrawn samples of which only the count of each distinct number matters: a multinomial draw, as a chain of
/// binomial ones.
fn means_from_counts(counts: &[(f64, usize)], draws: &Draws) -> Vec<f64> {
    let n: usize = counts.iter().map(|(_, count)| count).sum();
    (0..draws.count)
        .map(|draw| {
            let mut random = draws.random(draw);
            let (mut left, mut mass, mut sum) = (n as u64, n, 0.0);
            for &(value, count) in counts {
                let drawn = binomial(&mut random, left, count as f64 / mass as f64);
                sum += value * drawn as f64;
                left -= drawn;
                mass -= count;
            }
            sum / n as f64
        })
        .collect()
}

/// Means of each column under the same draws of `units` samples or clusters.
fn joint_means(columns: &[&Column<'_>], (units, clustered): (usize, bool), draws: &Draws) -> Vec<Vec<f64>> {
    let lanes = if clustered {
        let both: Vec<_> =
            columns.iter().filter_map(|c| c.clusters().map(|clusters| clusters.sums(c.values))).collect();
        let flat: Vec<&[f64]> = both.iter().flat_map(|(sums, sizes)| [&sums[..], &sizes[..]]).collect();
        lanes(&flat, units)
    } else {
        lanes(&columns.iter().map(|column| column.values).collect::<Vec<_>>(), units)
    };
    let width = lanes.len() * LANES;
    let mut sums = vec![0.0; draws.count * width];
    sums.par_chunks_mut(width).enumerate().for_each_init(
        || vec![0u32; units],
        |indices, (draw, row)| {
            let mut random = draws.random(draw);
            indices.iter_mut().for_each(|index| *index = random.below(units) as u32);
            for (group, out) in lanes.iter().zip(row.chunks_exact_mut(LANES)) {
                out.copy_from_slice(&sum_rows(group, indices));
            }
        },
    );
    let mean_of = |row: &[f64], column: usize| match clustered {
        true => row[2 * column] / row[2 * column + 1],
        false => row[column] / units as f64,
    };
    (0..columns.len())
        .map(|column| sums.chunks_exact(width).map(|row| mean_of(row, column)).collect())
        .collect()
}

/// Columns side by side in groups of [`LANES`], so that a redrawn sample is read in one piece.
fn lanes(columns: &[&[f64]], units: usize) -> Vec<Vec<[f64; LANES]>> {
    columns
        .chunks(LANES)
        .map(|group| {
            let mut rows = vec![[0.0; LANES]; units];
            for (lane, column) in group.iter().enumerate() {
                rows.iter_mut().zip(*column).for_each(|(row, value)| row[lane] = *value);
            }
            rows
        })
        .collect()
}

fn sum_rows(rows: &[[f64; LANES]], indices: &[u32]) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for &index in indices {
        let row = &rows[index as usize];
        for lane in 0..LANES {
            sums[lane] += row[lane];
        }
    }
    sums
}
