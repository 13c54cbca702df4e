//! Numbers with their uncertainty, one file a family: intervals, the bootstrap behind them, paired tests, non-inferiority,
//! effect sizes, many tests at once, and how many rows it takes. What may be said because of them is decided in
//! `compare`. Every random draw is a function of the seed given and of the number of the draw, so that results depend
//! neither on the machine nor on its threads; 95 % throughout.
//!
//! Agreement with scipy and statsmodels is tested against values from `reference/statistics_goldens.py`; the promised
//! coverage and error rates on simulated data in `tests/simulation.rs`.

pub mod binomial;
pub mod bootstrap;
pub mod clusters;
pub mod effects;
pub mod intervals;
pub mod multiple;
pub mod non_inferiority;
pub mod paired;
pub mod power;
pub(crate) mod redrawn;

pub use bootstrap::{Column, Draws, bootstrap_mean, bootstrap_means};
pub use clusters::Clusters;
pub use effects::{Effect, EffectKind};
pub use intervals::{Estimate, Interval, Unit, mean_in_clusters, mean_in_unit, mean_over, rate};
pub use multiple::holm;
pub use non_inferiority::{NonInferiority, non_inferiority};
pub use paired::{cluster_sign_flip, mcnemar_exact, paired_permutation};
pub use power::{rows_needed, rows_needed_at};

use statrs::distribution::{ContinuousCDF, Normal};

/// Draws of a bootstrap or a permutation test.
pub const DRAWS: usize = 10_000;
/// The chance of a wrong claim when nothing is there to be claimed, two-sided.
pub const ALPHA: f64 = 0.05;
/// The chance to see a true difference that is planned for.
pub const POWER: f64 = 0.8;
/// With fewer samples than this away from 0, or from 1, redrawing them shows too little of the spread.
pub(crate) const FEW: usize = 10;

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample variance (over n − 1); `None` below two values.
pub fn variance(values: &[f64]) -> Option<f64> {
    let average = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - average).powi(2)).sum();
    (values.len() >= 2).then(|| squares / (values.len() - 1) as f64)
}

/// Why there is no interval and no test of none or one.
pub(crate) fn not_enough(n: usize) -> &'static str {
    if n == 0 { "not enough samples: none" } else { "not enough samples: one says nothing about the spread" }
}

/// The quantile of sorted numbers, linear between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// The quantile of the standard normal distribution.
pub(crate) fn z(share: f64) -> f64 {
    Normal::standard().inverse_cdf(share)
}

/// The distinct numbers among `values` in ascending order with their counts; `None` where there are more than `most`.
fn distinct(values: impl Iterator<Item = f64>, most: usize) -> Option<Vec<(f64, usize)>> {
    let mut found: Vec<(f64, usize)> = Vec::with_capacity(most);
    for value in values {
        match found.iter().position(|(known, _)| *known == value) {
            Some(index) => found[index].1 += 1,
            None if found.len() < most => found.push((value, 1)),
            None => return None,
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(found)
}

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
