//! Numbers of a whole corpus, which are no means over samples: F1 by counts, BLEU, chrF, agreement, correlation, and
//! weighted means of metrics. All are made from the verdicts in records. What a number means for a choice of samples is
//! here; intervals come from redrawing the samples (percentile bootstrap, seeded), tests of two candidates from swapping
//! their outputs (`compare/corpus.rs`).

use crate::check::{Evidence, bleu, chrf};
use crate::statistics::redrawn::Redrawn;
use crate::statistics::{Clusters, DRAWS, Draws, Interval};
use std::cmp::Ordering;
use std::collections::HashMap;

/// Draws for numbers that sort the samples anew each time.
pub const DRAWS_RANKED: usize = 1_000;

/// Samples times swaps that a test may take, some seconds of sorting.
const WORK: usize = 20_000_000;

/// A number of a corpus, from the evidence of its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorpusNumber {
    /// F1 (van Rijsbergen 1979) of all hits, misses and superfluous ones together, 0..=1, as scikit-learn's `f1_score` with
    /// `average="micro"`.
    MicroF1,
    /// Mean of the F1 of each label that occurs, 0..=1, as with `average="macro"`.
    MacroF1,
    /// BLEU, 0..=1.
    Bleu,
    /// chrF2, 0..=1.
    Chrf,
    /// Cohen's κ with quadratic weights (Cohen 1968), −1..=1.
    QuadraticKappa,
    /// Pearson's r, −1..=1.
    Pearson,
    /// Spearman's ρ: Pearson's r of the ranks, ties sharing their mean rank, −1..=1.
    Spearman,
    /// Kendall's τ-b (Kendall 1945, by Knight's algorithm of 1966), −1..=1.
    Kendall,
}

/// A number prepared for many choices of the same samples; a sample without evidence counts for nothing.
pub(crate) enum Statistic {
    Labels { by_label: bool, labels: usize, rows: Vec<Option<Labels>> },
    Hits(Vec<Option<[f64; 3]>>),
    Sums { rows: Vec<Option<Vec<u64>>>, number: fn(&[u64]) -> f64 },
    Pairs { rows: Vec<Option<(f64, f64)>>, number: CorpusNumber },
    Mean(Vec<Option<f64>>),
    Weighted(Vec<(Statistic, f64)>),
}

/// Found and expected labels by their numbers.
type Labels = (Vec<usize>, Vec<usize>);

const NOT_ENOUGH: &str = "not enough samples: none";
const ONE: &str = "not enough samples: one says nothing about the spread";

impl Statistic {
    /// The number over the samples with this evidence.
    pub fn new(number: CorpusNumber, rows: &[Option<Evidence>]) -> Self {
        match number {
            CorpusNumber::MicroF1
                if rows.iter().flatten().any(|row| matches!(row, Evidence::Hits { .. })) =>
            {
                Statistic::Hits(pick(rows, |evidence| match evidence {
                    Evidence::Hits { hit, extra, missed } => Some([*hit, *extra, *missed]),
                    _ => None,
                }))
            }
            CorpusNumber::MicroF1 | CorpusNumber::MacroF1 => {
                let mut known: HashMap<String, usize> = HashMap::new();
                let mut number_of = |label: &'_ String| -> usize {
                    let next = known.len();
                    *known.entry(label.clone()).or_insert(next)
                };
                let rows = rows.iter().map(|row| match row {
                    Some(Evidence::Labels { found, expected }) => {
                        let found = found.iter().map(&mut number_of).collect();
                        Some((found, expected.iter().map(&mut number_of).collect()))
                    }
                    _ => None,
                });
                let rows: Vec<Option<Labels>> = rows.collect();
                Statistic::Labels { by_label: number == CorpusNumber::MacroF1, labels: known.len(), rows }
            }
            CorpusNumber::Bleu | CorpusNumber::Chrf => {
                let rows = pick(rows, |evidence| match evidence {
                    Evidence::Counts(counts) => Some(counts.clone()),
                    _ => None,
                });
                let bleu: fn(&[u64]) -> f64 = |counts| bleu::from_counts(counts, false);
                let chrf: fn(&[u64]) -> f64 = chrf::from_counts;
                Statistic::Sums { rows, number: if number == CorpusNumber::Bleu { bleu } else { chrf } }
            }
            _ => {
                let rows = pick(rows, |evidence| match evidence {
                    Evidence::Numbers { found, expected } => Some((*found, *expected)),
                    _ => None,
                });
                Statistic::Pairs { rows, number }
            }
        }
    }

    /// The number over the `chosen` samples, each as often as it stands there.
    ///
    /// # Errors
    /// In words, why there is none.
    pub fn value(&self, chosen: &[usize]) -> Result<f64, &'static str> {
        match self {
            Statistic::Labels { by_label, labels, rows } => {
                f1_of_labels(*by_label, *labels, some(rows, chosen))
            }
            Statistic::Hits(rows) => {
                let mut sums = [0.0; 3];
                for row in some(rows, chosen) {
                    (0..3).for_each(|i| sums[i] += row[i]);
                }
                f1(sums[0], sums[1], sums[2]).ok_or("nothing was expected and nothing was found")
            }
            Statistic::Sums { rows, number } => {
                let mut sums: Vec<u64> = Vec::new();
                for row in some(rows, chosen) {
                    sums.resize(row.len().max(sums.len()), 0);
                    sums.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
                }
                if sums.is_empty() { Err(NOT_ENOUGH) } else { Ok(number(&sums)) }
            }
            Statistic::Pairs { rows, number } => {
                let pairs: Vec<(f64, f64)> = some(rows, chosen).copied().collect();
                match (pairs.len(), number) {
                    (0, _) => Err(NOT_ENOUGH),
                    (1, _) => Err(ONE),
                    (_, CorpusNumber::QuadraticKappa) => quadratic_kappa(&pairs),
                    (_, CorpusNumber::Spearman) => pearson(&ranked(&pairs)),
                    (_, CorpusNumber::Kendall) => kendall(pairs),
                    _ => pearson(&pairs),
                }
            }
            Statistic::Mean(rows) => {
                let (mut sum, mut n) = (0.0, 0usize);
                for value in some(rows, chosen) {
                    sum += value;
                    n += 1;
                }
                if n == 0 { Err(NOT_ENOUGH) } else { Ok(sum / n as f64) }
            }
            Statistic::Weighted(parts) => {
                let (mut sum, mut weights) = (0.0, 0.0);
                for (part, weight) in parts.iter().filter(|(_, weight)| *weight > 0.0) {
                    sum += part.value(chosen)? * weight;
                    weights += weight;
                }
                Ok(sum / weights)
            }
        }
    }

    /// Whether two samples add different things to the number.
    pub fn differs(&self, a: usize, b: usize) -> bool {
        match self {
            Statistic::Labels { rows, .. } => rows[a] != rows[b],
            Statistic::Hits(rows) => rows[a] != rows[b],
            Statistic::Sums { rows, .. } => rows[a] != rows[b],
            Statistic::Pairs { rows, .. } => rows[a] != rows[b],
            Statistic::Mean(rows) => rows[a] != rows[b],
            Statistic::Weighted(parts) => parts.iter().any(|(part, _)| part.differs(a, b)),
        }
    }

    /// How often samples are redrawn for this number.
    pub fn draws(&self) -> usize {
        match self {
            Statistic::Pairs { number: CorpusNumber::Spearman | CorpusNumber::Kendall, .. } => DRAWS_RANKED,
            Statistic::Weighted(parts) => parts.iter().map(|(part, _)| part.draws()).min().unwrap_or(DRAWS),
            _ => DRAWS,
        }
    }

    /// How often the outputs of `n` samples are swapped where so few swaps do as well as what was seen that the smallest p
    /// of [`Statistic::draws`] could not bear a correction for many tests: as often as [`WORK`] allows.
    pub fn most_swaps(&self, n: usize) -> usize {
        (WORK / n.max(1)).clamp(self.draws(), DRAWS)
    }
}

fn pick<T>(rows: &[Option<Evidence>], of: impl Fn(&Evidence) -> Option<T>) -> Vec<Option<T>> {
    rows.iter().map(|row| row.as_ref().and_then(&of)).collect()
}

fn some<'a, T>(rows: &'a [Option<T>], chosen: &'a [usize]) -> impl Iterator<Item = &'a T> {
    chosen.iter().filter_map(|index| rows[*index].as_ref())
}

/// The interval of `statistic` over all its samples.
///
/// # Errors
/// As [`Redrawn::interval`].
pub(crate) fn bootstrap(
    n: usize,
    clusters: Option<&Clusters>,
    draws: &Draws,
    statistic: &Statistic,
) -> Result<Interval, &'static str> {
    let redrawn = Redrawn::new(n, clusters);
    redrawn.interval(&redrawn.numbers(draws, |chosen| statistic.value(chosen).ok()))
}

fn f1(hit: f64, extra: f64, missed: f64) -> Option<f64> {
    let all = 2.0 * hit + extra + missed;
    (all > 0.0).then(|| 2.0 * hit / all)
}

fn f1_of_labels<'a>(
    by_label: bool,
    labels: usize,
    rows: impl Iterator<Item = &'a Labels>,
) -> Result<f64, &'static str> {
    // For each label: hits, superfluous, missed.
    let mut counts = vec![[0.0f64; 3]; labels];
    for (found, expected) in rows {
        for label in found {
            counts[*label][usize::from(!expected.contains(label))] += 1.0;
        }
        for label in expected.iter().filter(|label| !found.contains(label)) {
            counts[*label][2] += 1.0;
        }
    }
    let nothing = "nothing was expected and nothing was found";
    if by_label {
        let each: Vec<f64> =
            counts.iter().filter_map(|[hit, extra, missed]| f1(*hit, *extra, *missed)).collect();
        return if each.is_empty() { Err(nothing) } else { Ok(each.iter().sum::<f64>() / each.len() as f64) };
    }
    let sum = |which: usize| counts.iter().map(|count| count[which]).sum::<f64>();
    f1(sum(0), sum(1), sum(2)).ok_or(nothing)
}

/// 1 − mean squared distance of the pairs / mean squared distance of all possible pairs. The number of steps cancels.
fn quadratic_kappa(pairs: &[(f64, f64)]) -> Result<f64, &'static str> {
    let n = pairs.len() as f64;
    let seen: f64 = pairs.iter().map(|(x, y)| (x - y).powi(2)).sum();
    let sum = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>();
    let squares = sum(|(x, y)| x * x + y * y);
    let by_chance = squares - 2.0 * sum(|(x, _)| *x) * sum(|(_, y)| *y) / n;
    if by_chance <= 1e-12 * squares {
        return Err("all answers and all rows are on the same step, so that there is nothing to agree about");
    }
    Ok(1.0 - seen / by_chance)
}

const FLAT: &str = "all numbers of one side are equal, so that nothing can go with them";

fn pearson(pairs: &[(f64, f64)]) -> Result<f64, &'static str> {
    let n = pairs.len() as f64;
    let (x, y) = pairs.iter().fold((0.0, 0.0), |(x, y), pair| (x + pair.0, y + pair.1));
    let (x, y) = (x / n, y / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (a, b) in pairs {
        xx += (a - x) * (a - x);
        yy += (b - y) * (b - y);
        xy += (a - x) * (b - y);
    }
    let flat = |of: fn(&(f64, f64)) -> f64| pairs.iter().all(|pair| of(pair) == of(&pairs[0]));
    if flat(|pair| pair.0) || flat(|pair| pair.1) || xx * yy == 0.0 {
        return Err(FLAT);
    }
    Ok((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// Both sides as ranks from 1; equal numbers share their mean rank.
fn ranked(pairs: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let ranks = |of: fn(&(f64, f64)) -> f64| {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|&a, &b| of(&pairs[a]).total_cmp(&of(&pairs[b])));
        let mut ranks = vec![0.0; pairs.len()];
        for group in order.chunk_by(|&a, &b| of(&pairs[a]) == of(&pairs[b])) {
            let first = group[0];
            // The group's place in the order: how many stand before it.
            let before = order.partition_point(|&i| of(&pairs[i]) < of(&pairs[first]));
            let rank = before as f64 + (group.len() + 1) as f64 / 2.0;
            group.iter().for_each(|&i| ranks[i] = rank);
        }
        ranks
    };
    ranks(|pair| pair.0).into_iter().zip(ranks(|pair| pair.1)).collect()
}

/// τ-b: concordant minus discordant pairs over the geometric mean of the pairs that are not tied on either side.
fn kendall(mut pairs: Vec<(f64, f64)>) -> Result<f64, &'static str> {
    let order = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    pairs.sort_by(|a, b| order(a.0, b.0).then(order(a.1, b.1)));
    let twos = |count: usize| count as f64 * (count as f64 - 1.0) / 2.0;
    let tied_x: f64 = pairs.chunk_by(|a, b| a.0 == b.0).map(|group| twos(group.len())).sum();
    let tied_both: f64 = pairs.chunk_by(|a, b| a == b).map(|group| twos(group.len())).sum();
    let mut y: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
    let mut space = y.clone();
    let discordant = inversions(&mut y, &mut space) as f64;
    let tied_y: f64 = y.chunk_by(|a, b| a == b).map(|group| twos(group.len())).sum();
    let all = twos(pairs.len());
    let (free_x, free_y) = (all - tied_x, all - tied_y);
    if free_x == 0.0 || free_y == 0.0 {
        return Err(FLAT);
    }
    let score = all - tied_x - tied_y + tied_both - 2.0 * discordant;
    Ok((score / (free_x * free_y).sqrt()).clamp(-1.0, 1.0))
}

/// Sorts `values` and counts the pairs that stood the wrong way round.
fn inversions(values: &mut [f64], space: &mut [f64]) -> u64 {
    let n = values.len();
    if n < 2 {
        return 0;
    }
    let middle = n / 2;
    let mut count = inversions(&mut values[..middle], space) + inversions(&mut values[middle..], space);
    let (mut left, mut right) = (0, middle);
    for slot in space[..n].iter_mut() {
        if right == n || (left < middle && values[left] <= values[right]) {
            *slot = values[left];
            left += 1;
        } else {
            *slot = values[right];
            count += (middle - left) as u64;
            right += 1;
        }
    }
    values.copy_from_slice(&space[..n]);
    count
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;
