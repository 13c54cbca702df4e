//! Numbers with their uncertainty: intervals for means and rates, and tests of paired differences. What may be said
//! because of them is decided in `compare`. Every random draw comes from the seed given; 95 % throughout.
//!
//! Agreement with scipy and statsmodels is tested against values from `reference/statistics_goldens.py`.

use crate::random::Random;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal};

/// Draws of a bootstrap or a permutation test.
pub const DRAWS: usize = 10_000;
/// The chance of a wrong claim when nothing is there to be claimed, two-sided.
pub const ALPHA: f64 = 0.05;
/// The chance to see a true difference that [`rows_needed`] plans for.
pub const POWER: f64 = 0.8;
/// With fewer samples than this away from 0, or from 1, redrawing them shows too little of the spread.
const FEW: usize = 10;
/// Up to this many differing samples, all sign flips (2^13 < [`DRAWS`]) are counted instead of drawn.
const EXACT_UP_TO: usize = 13;

/// The ends of a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A number, its 95 % interval and its n. What is not known is `None`, and `reason` says why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean or rate.
    pub value: Option<f64>,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
    /// Samples it rests on.
    pub n: usize,
    /// Why a number is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Estimate {
    fn new(value: Option<f64>, interval: Result<Interval, &str>, n: usize) -> Self {
        let (low, high, reason) = match interval {
            Ok(Interval { low, high }) => (Some(low), Some(high), None),
            Err(reason) => (None, None, Some(reason.to_owned())),
        };
        Estimate { value, low, high, n, reason }
    }
}

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The share `passed / n` with its Wilson interval. Below two samples there is no interval.
pub fn rate(passed: usize, n: usize) -> Estimate {
    let value = (n > 0).then(|| passed as f64 / n as f64);
    Estimate::new(value, wilson(value.unwrap_or(0.0), n), n)
}

/// The mean of `values`, which lie in 0..=1, with a seeded percentile bootstrap interval. Where fewer than ten of them
/// are not 0, or fewer than ten not 1, redrawing shows too little of the spread: the interval then reaches as far as
/// Wilson's for a rate of the same mean, too, which is wide enough, because nothing in 0..=1 with that mean varies
/// more than a rate. Where ten or more are all equal to another number, or there are fewer than two, there is none.
pub fn mean_in_unit(values: &[f64], seed: u64) -> Estimate {
    let (n, value) = (values.len(), mean(values));
    let few = |end: f64| values.iter().filter(|&&value| value != end).count() < FEW;
    let drawn = bootstrap_mean(values, seed);
    let interval = match value {
        Some(share) if (0.0..=1.0).contains(&share) && (few(0.0) || few(1.0)) => {
            wilson(share, n).map(|wide| match drawn {
                Ok(drawn) => Interval { low: wide.low.min(drawn.low), high: wide.high.max(drawn.high) },
                Err(_) => wide,
            })
        }
        _ => drawn,
    };
    Estimate::new(value, interval, n)
}

/// Wilson's interval for a rate of `share` among `n`.
fn wilson(share: f64, n: usize) -> Result<Interval, &'static str> {
    if n < 2 {
        return Err(not_enough(n));
    }
    let (z, n) = (z(1.0 - ALPHA / 2.0), n as f64);
    let scale = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / scale;
    let half = z / scale * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    Ok(Interval { low: (centre - half).clamp(0.0, share), high: (centre + half).clamp(share, 1.0) })
}

fn not_enough(n: usize) -> &'static str {
    if n == 0 { "not enough samples: none" } else { "not enough samples: one says nothing about the spread" }
}

/// The seeded percentile bootstrap interval of the mean of `values` (for a paired difference: of the differences).
///
/// # Errors
/// In words, when there are fewer than two values or all are equal.
pub fn bootstrap_mean(values: &[f64], seed: u64) -> Result<Interval, &'static str> {
    if values.len() < 2 {
        return Err(not_enough(values.len()));
    }
    if values.iter().all(|value| *value == values[0]) {
        return Err("all samples give the same number, so that redrawing them shows no spread");
    }
    let mut random = Random::new(seed);
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| {
            (0..values.len()).map(|_| values[random.below(values.len())]).sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Ok(Interval { low: quantile(&means, ALPHA / 2.0), high: quantile(&means, 1.0 - ALPHA / 2.0) })
}

/// The quantile of sorted numbers, linear between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// Two-sided p of the exact McNemar test: `first` samples only the first got right, `second` only the second. 1 when no
/// sample tells them apart.
pub fn mcnemar_exact(first: usize, second: usize) -> f64 {
    let discordant = (first + second) as u64;
    if discordant == 0 {
        return 1.0;
    }
    let coin = Binomial::new(0.5, discordant).expect("one half is a probability");
    (2.0 * coin.cdf(first.min(second) as u64)).min(1.0)
}

/// Two-sided p of the paired permutation test: how often random signs move the mean of `differences` as far from 0 as it
/// is. All sign patterns are counted where at most 13 differences are not 0; else [`DRAWS`] are drawn, and the pattern
/// seen counts as one of them, so that p is never 0. `None` below two samples.
pub fn paired_permutation(differences: &[f64], seed: u64) -> Option<f64> {
    if differences.len() < 2 {
        return None;
    }
    // A difference of 0 stays 0 under any sign.
    let moving: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    let slack = 1e-12 * moving.iter().map(|difference| difference.abs()).sum::<f64>();
    let seen = moving.iter().sum::<f64>().abs() - slack;
    let reaches = |signs: &dyn Fn(usize) -> bool| {
        let sum: f64 = moving.iter().enumerate().map(|(i, d)| if signs(i) { -d } else { *d }).sum();
        sum.abs() >= seen
    };
    if moving.len() <= EXACT_UP_TO {
        let patterns = 1usize << moving.len();
        let hits = (0..patterns).filter(|pattern| reaches(&|i| pattern >> i & 1 == 1)).count();
        return Some(hits as f64 / patterns as f64);
    }
    let mut random = Random::new(seed);
    let mut bits = vec![0u64; moving.len().div_ceil(64)];
    let hits = (0..DRAWS)
        .filter(|_| {
            bits.iter_mut().for_each(|word| *word = random.next_u64());
            reaches(&|i| bits[i / 64] >> (i % 64) & 1 == 1)
        })
        .count();
    Some((1 + hits) as f64 / (1 + DRAWS) as f64)
}

/// About how many paired samples a two-sided test at 5 % needs to see a difference like this one with 80 % chance
/// (normal approximation). `None` when nothing differs, or below two samples.
pub fn rows_needed(differences: &[f64]) -> Option<u64> {
    let average = mean(differences)?;
    if differences.len() < 2 || average == 0.0 {
        return None;
    }
    let squares: f64 = differences.iter().map(|difference| (difference - average).powi(2)).sum();
    let variance = squares / (differences.len() - 1) as f64;
    let needed = (z(1.0 - ALPHA / 2.0) + z(POWER)).powi(2) * variance / average.powi(2);
    // Six is the least at which a sign test can reach 5 %: 2 / 2^6.
    (needed < 1e12).then(|| (needed.ceil() as u64).max(6))
}

/// Holm's correction: each p as if all of them had been tested together. Same order as given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        least = least.max((p[index] * (p.len() - rank) as f64).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

fn z(share: f64) -> f64 {
    Normal::standard().inverse_cdf(share)
}

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
