//! Cells on numbers of the corpus (`crate::corpus`), where the difference is no mean over samples: paired bootstrap
//! intervals, and the approximate randomisation test (Noreen 1989), which swaps the two outputs on random samples. Where
//! samples stand or fall together, whole clusters are redrawn and swapped. Cells of means are `cells`', and what the
//! numbers mean is `claim`'s.

use super::Comparison;
use super::cells::Pair;
use crate::corpus::Statistic;
use crate::harness::{Metric, Verdicts};
use crate::statistics::bootstrap::expanded_p;
use crate::statistics::non_inferiority::tango;
use crate::statistics::redrawn::{Redrawn, TOO_FEW, too_few};
use crate::statistics::{Clusters, Draws, FEW, Interval, NonInferiority, POWER, not_enough, z};

/// Swaps that did as well as what was seen, below which more are drawn.
const NEAR: f64 = 10.0;

/// One number of the corpus on both sides: samples `0..n` are the baseline's, `n..2 n` the candidate's.
pub(super) struct Corpus {
    statistic: Statistic,
    n: usize,
}

impl Corpus {
    /// The number over `pairs`, which all have what it is made from; `None` where the metric is a mean over samples.
    pub fn new(metric: &Metric, pairs: &[Pair<'_>]) -> Option<Self> {
        let baseline = pairs.iter().map(|pair| &pair.0.verdicts);
        let verdicts: Vec<&Verdicts> = baseline.chain(pairs.iter().map(|pair| &pair.1.verdicts)).collect();
        (!metric.is_mean_over(&verdicts))
            .then(|| Corpus { statistic: metric.statistic(&verdicts), n: pairs.len() })
    }

    /// Fills in what `comparison` says about values, difference, intervals, test and margin.
    pub fn measure(
        &self,
        comparison: &mut Comparison,
        clusters: Option<&Clusters>,
        (seed, margin): (u64, Option<f64>),
    ) {
        let n = self.n;
        let draws = Draws { seed, count: self.statistic.draws() };
        let redrawn = Redrawn::new(n, clusters);
        let samples: Vec<usize> = (0..n).collect();
        let values = self.both(&samples);
        comparison.n = n;
        comparison.test = "paired randomisation test".to_owned();
        let pairs = match values {
            Ok(_) if n >= 2 => redrawn.numbers(&draws, |chosen| self.both(chosen).ok()),
            _ => Vec::new(),
        };
        comparison.reason = match values {
            _ if n < 2 => Some(not_enough(n).to_owned()),
            Err(reason) => Some(reason.to_owned()),
            Ok(_) => None,
        };
        if let Ok((a, b)) = values {
            comparison.baseline_value = Some(a);
            comparison.candidate_value = Some(b);
            comparison.difference = Some(b - a);
        }
        let interval = |number: fn((f64, f64)) -> f64| {
            redrawn.interval(&pairs.iter().map(|pair| pair.map(number)).collect::<Vec<_>>())
        };
        if !pairs.is_empty() {
            comparison.baseline_interval = interval(|pair| pair.0).ok();
            comparison.candidate_interval = interval(|pair| pair.1).ok();
            match interval(|pair| pair.1 - pair.0) {
                Ok(Interval { low, high }) => (comparison.low, comparison.high) = (Some(low), Some(high)),
                Err(reason) => comparison.reason = Some(reason.to_owned()),
            }
        }
        let units = clusters.map_or(n, Clusters::count);
        let testable = values.ok().filter(|_| units >= 2);
        comparison.p = testable.map(|(a, b)| self.p(&redrawn, &draws, b - a));
        comparison.non_inferiority = margin.map(|margin| {
            let worse = pairs.iter().filter(|pair| !pair.is_some_and(|(a, b)| b - a > -margin)).count();
            let drawn = (1 + worse) as f64 / (1 + draws.count) as f64;
            let p = testable.map(|_| self.not_worse(drawn, clusters, margin));
            NonInferiority { margin, p, p_holm: None, test: "one-sided paired bootstrap".to_owned() }
        });
        if too_few(&pairs) {
            comparison.forbid(TOO_FEW.to_owned());
        }
    }

    /// One-sided p of non-inferiority from the p of the bootstrap: of clusters as Student's t would have it, and where
    /// fewer than ten units differ at all, so that their spread cannot be known, at least that of Tango's test of the units
    /// gained and lost.
    fn not_worse(&self, drawn: f64, clusters: Option<&Clusters>, margin: f64) -> f64 {
        let units = clusters.map_or_else(|| (0..self.n).map(|i| vec![i]).collect(), Clusters::members);
        let differ = |unit: &&Vec<usize>| unit.iter().any(|&i| self.statistic.differs(i, i + self.n));
        let differing: Vec<&Vec<usize>> = units.iter().filter(differ).collect();
        let p = if clusters.is_some() { expanded_p(drawn, units.len()) } else { drawn };
        if differing.len() >= FEW {
            return p;
        }
        let gained = differing.iter().filter(|unit| self.gains_by(unit)).count();
        let lost = differing.len() - gained;
        let counts = tango::Counts { gained: gained as f64, lost: lost as f64, n: units.len() as f64 };
        p.max(tango::p(&counts, margin))
    }

    /// Whether the candidate's number would be lower with the baseline's answers to these samples.
    fn gains_by(&self, unit: &[usize]) -> bool {
        let own: Vec<usize> = (self.n..2 * self.n).collect();
        let mut mixed = own.clone();
        unit.iter().for_each(|&i| mixed[i] = i);
        matches!((self.statistic.value(&own), self.statistic.value(&mixed)), (Ok(own), Ok(mixed)) if own > mixed)
    }

    /// The number of the baseline and of the candidate over the `chosen` samples.
    fn both(&self, chosen: &[usize]) -> Result<(f64, f64), &'static str> {
        let shifted: Vec<usize> = chosen.iter().map(|sample| sample + self.n).collect();
        Ok((self.statistic.value(chosen)?, self.statistic.value(&shifted)?))
    }

    /// Two-sided p of a difference, from more swaps where the first ones leave it near the smallest that they can show.
    fn p(&self, redrawn: &Redrawn, draws: &Draws, seen: f64) -> f64 {
        let p = self.randomisation(redrawn, draws, seen);
        let more = Draws { count: self.statistic.most_swaps(self.n), ..*draws };
        if more.count > draws.count && p * (draws.count as f64) < NEAR {
            return self.randomisation(redrawn, &more, seen);
        }
        p
    }

    /// Whether `p` is the smallest that the swaps can show: more samples would not make it smaller.
    pub fn is_smallest(&self, p: f64) -> bool {
        p <= 1.5 / (1 + self.statistic.most_swaps(self.n)) as f64
    }

    /// Two-sided p of so many swaps: how often swapping the outputs on random samples gives a difference as large as the one seen. What was seen counts
    /// as one of the draws, so that p is never 0; so does a draw without a number.
    fn randomisation(&self, redrawn: &Redrawn, draws: &Draws, seen: f64) -> f64 {
        let least = seen.abs() * (1.0 - 1e-12);
        let hits = redrawn.swaps(self.n, draws, |swapped| {
            let side = |other: bool| -> Vec<usize> {
                swapped
                    .iter()
                    .enumerate()
                    .map(|(i, swap)| if *swap != other { i + self.n } else { i })
                    .collect()
            };
            let value = |other| self.statistic.value(&side(other));
            let difference = value(false).and_then(|a| Ok(value(true)? - a));
            !difference.is_ok_and(|difference| difference.abs() < least)
        });
        (1 + hits) as f64 / (1 + draws.count) as f64
    }
}

/// The standard error of the difference, from an interval that is 2 · 1.96 of them wide.
pub(super) fn error(comparison: &Comparison) -> Option<f64> {
    Some((comparison.high? - comparison.low?) / (2.0 * z(0.975)))
}

/// About how many more samples it takes to tell a difference of this size at the level `alpha`, where the spread shrinks
/// with the root of n (normal approximation). `None` where nothing differs.
pub(super) fn more_rows(comparison: &Comparison, alpha: f64) -> Option<u64> {
    let difference = comparison.difference.filter(|difference| *difference != 0.0)?;
    let errors = (z(1.0 - alpha / 2.0) + z(POWER)) * error(comparison)? / difference;
    let needed = comparison.n as f64 * errors.powi(2);
    (needed < 1e12).then(|| (needed.ceil() as u64).saturating_sub(comparison.n as u64).max(1))
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "corpus_simulation.rs"]
mod simulation;
