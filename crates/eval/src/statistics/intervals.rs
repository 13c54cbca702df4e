//! Intervals of rates and means: Wilson's, and the bootstrap's with a guard where there is too little to redraw. Draws
//! are `bootstrap`'s, intervals of differences between two candidates `paired`'s.

use super::{ALPHA, Clusters, Column, Draws, FEW, bootstrap_mean, bootstrap_means, mean, not_enough, z};
use serde::{Deserialize, Serialize};

/// The ends of a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a number is, and so how it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share of 1, written in per cent.
    #[default]
    Share,
    /// A number of its own, such as κ, a correlation, a cosine or a mark of 1 to 5, written as it is.
    Number,
}

impl Unit {
    /// Whether it is the usual one, which files leave out.
    pub fn is_share(&self) -> bool {
        *self == Unit::Share
    }
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
    /// Samples with a check that was asked and gave no number; those without any number are not among the n.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: usize,
    /// Samples that the checks are not asked of (their `when`); not among the n.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_asked: usize,
    /// What the number is.
    #[serde(default, skip_serializing_if = "Unit::is_share")]
    pub unit: Unit,
    /// Why a number is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Estimate {
    pub(crate) fn new(value: Option<f64>, interval: Result<Interval, &str>, n: usize) -> Self {
        let (low, high, reason) = match interval {
            Ok(Interval { low, high }) => (Some(low), Some(high), None),
            Err(reason) => (None, None, Some(reason.to_owned())),
        };
        Estimate { value, low, high, n, missing: 0, not_asked: 0, unit: Unit::Share, reason }
    }
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
    let interval = guarded(values, bootstrap_mean(values, seed));
    Estimate::new(mean(values), interval, values.len())
}

/// The mean of `values`, which come in clusters that stand or fall together, with a seeded cluster bootstrap interval.
/// Where all lie in 0..=1, the same guard as [`mean_in_unit`]'s holds, on the means of the clusters.
pub fn mean_in_clusters(values: &[f64], clusters: &Clusters, seed: u64) -> Estimate {
    let column = Column { values, clusters: Some(clusters) };
    let drawn = bootstrap_means(&[column], &Draws::new(seed)).remove(0);
    Estimate::new(mean(values), guarded_column(&column, drawn), values.len())
}

/// The mean of `values` with the interval that suits them: where they come in clusters, whole clusters are redrawn; else
/// Wilson's for zeros and ones, [`mean_in_unit`]'s for others in 0..=1, and a seeded bootstrap for those of any range.
pub fn mean_over(values: &[f64], clusters: Option<&Clusters>, seed: u64) -> Estimate {
    if let Some(clusters) = clusters {
        return mean_in_clusters(values, clusters, seed);
    }
    if values.iter().all(|value| *value == 0.0 || *value == 1.0) {
        return rate(values.iter().filter(|value| **value == 1.0).count(), values.len());
    }
    if values.iter().all(|value| (0.0..=1.0).contains(value)) {
        return mean_in_unit(values, seed);
    }
    Estimate::new(mean(values), bootstrap_mean(values, seed), values.len())
}

/// The interval that was drawn for a column, for numbers in 0..=1 widened where there was too little to redraw.
pub(crate) fn guarded_column(
    column: &Column<'_>,
    drawn: Result<Interval, &'static str>,
) -> Result<Interval, &'static str> {
    match column.clusters {
        // The guard is for numbers in 0..=1; what a row gives (`given`) and what is no mean may have any range.
        _ if !column.values.iter().all(|value| (0.0..=1.0).contains(value)) => drawn,
        None => guarded(column.values, drawn),
        Some(clusters) => guarded(&clusters.means(column.values), drawn),
    }
}

fn guarded(values: &[f64], drawn: Result<Interval, &'static str>) -> Result<Interval, &'static str> {
    let few = |end: f64| values.iter().filter(|&&value| value != end).count() < FEW;
    match mean(values) {
        Some(share) if few(0.0) || few(1.0) => wilson(share, values.len()).map(|wide| match drawn {
            Ok(drawn) => Interval { low: wide.low.min(drawn.low), high: wide.high.max(drawn.high) },
            Err(_) => wide,
        }),
        _ => drawn,
    }
}

/// Wilson's interval for a rate of `share` among `n`.
///
/// # Errors
/// In words, below two samples.
pub fn wilson(share: f64, n: usize) -> Result<Interval, &'static str> {
    if n < 2 {
        return Err(not_enough(n));
    }
    let (z, n) = (z(1.0 - ALPHA / 2.0), n as f64);
    let scale = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / scale;
    let half = z / scale * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    Ok(Interval { low: (centre - half).clamp(0.0, share), high: (centre + half).clamp(share, 1.0) })
}
