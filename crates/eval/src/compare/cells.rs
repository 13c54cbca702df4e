//! From two evaluations to numbers: which samples they have in common, their values for one metric and one slice (a
//! *cell*), and the interval, test and effect of each cell. Cells on numbers of the corpus are measured by `corpus`. What
//! may be said because of them is `claim`'s.

use super::corpus::{self, Corpus};
use super::slices::{Slice, Slicing, label};
use super::{CompareSettings, Comparison, Seen};
use crate::harness::Metric;
use crate::record::SampleRecord;
use crate::statistics::power::Design;
use crate::statistics::{
    self, ALPHA, Clusters, Column, Draws, Estimate, Interval, Unit, effects, intervals, paired,
};
use std::collections::HashMap;

/// A sample on both sides: the baseline's and the candidate's.
pub(super) type Pair<'a> = (&'a SampleRecord, &'a SampleRecord);

/// Samples with the same id, input and expected answer on both sides, by their ids: a record has them in the order in which
/// they were finished, and what is drawn must not depend on that.
pub(super) fn pair<'a>(baseline: &'a [SampleRecord], candidate: &'a [SampleRecord]) -> Vec<Pair<'a>> {
    let by_id: HashMap<&str, &SampleRecord> = baseline.iter().map(|s| (s.id.as_str(), s)).collect();
    let twin = |sample: &'a SampleRecord| by_id.get(sample.id.as_str()).map(|first| (*first, sample));
    let mut pairs: Vec<Pair<'a>> = candidate
        .iter()
        .filter_map(twin)
        .filter(|(first, second)| first.input == second.input && first.expected == second.expected)
        .collect();
    pairs.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    pairs
}

/// The numbers of one metric, on one slice, for one candidate and the baseline.
pub(super) struct Cell {
    metric: String,
    unit: Unit,
    slice: Option<Slice>,
    yes_or_no: bool,
    baseline: Vec<f64>,
    candidate: Vec<f64>,
    differences: Vec<f64>,
    clusters: Option<Clusters>,
    margin: Option<f64>,
    /// The number of the corpus, where the metric is one; the numbers of samples then only describe them.
    corpus: Option<Corpus>,
    /// Samples that have what the number is made of on one side only: an answer that says nothing of it, or a verdict that is
    /// missing. Leaving them out would reward silence.
    silent: usize,
}

/// All cells of one candidate: each metric on all samples, then each metric on each slice.
pub(super) fn cells(
    pairs: &[Pair<'_>],
    metrics: &[Metric],
    slicings: &[Slicing<'_>],
    settings: &CompareSettings,
    score: &str,
) -> Vec<Cell> {
    let mut cells = Vec::new();
    for metric in metrics {
        let margin = settings.margin.filter(|_| metric.name == score);
        cells.push(Cell { margin, ..cell(metric, pairs, settings.group_field()) });
    }
    for slicing in slicings {
        for (index, slice) in slicing.slices.iter().enumerate() {
            let inside = |pair: &&Pair<'_>| slicing.index(&pair.0.id) == Some(index);
            let part: Vec<Pair<'_>> = pairs.iter().filter(inside).copied().collect();
            let on_slice =
                |metric| Cell { slice: Some(slice.clone()), ..cell(metric, &part, settings.group_field()) };
            let wanted = |metric: &&Metric| !settings.slices_of_score || metric.name == score;
            cells.extend(metrics.iter().filter(wanted).map(on_slice));
        }
    }
    cells
}

pub(super) fn cell(metric: &Metric, pairs: &[Pair<'_>], group: &str) -> Cell {
    let counts = |sample: &SampleRecord| metric.counts(&sample.verdicts);
    let silent = pairs.iter().filter(|(a, b)| counts(a) != counts(b)).count();
    let pairs: Vec<Pair<'_>> = pairs.iter().filter(|(a, b)| counts(a) && counts(b)).copied().collect();
    let corpus = Corpus::new(metric, &pairs);
    let known: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|(a, b)| Some((metric.value(&a.verdicts)?, metric.value(&b.verdicts)?)))
        .collect();
    let baseline: Vec<f64> = known.iter().map(|(a, _)| *a).collect();
    let candidate: Vec<f64> = known.iter().map(|(_, b)| *b).collect();
    let zero_or_one = |values: &[f64]| values.iter().all(|value| *value == 0.0 || *value == 1.0);
    Cell {
        metric: metric.name.clone(),
        unit: metric.unit(),
        slice: None,
        yes_or_no: corpus.is_none() && metric.is_rate() && zero_or_one(&baseline) && zero_or_one(&candidate),
        differences: baseline.iter().zip(&candidate).map(|(a, b)| b - a).collect(),
        baseline,
        candidate,
        // Records from before `meta` was kept have no groups; the other side may know them.
        clusters: clusters(pairs.iter().map(|(a, b)| group_of(a, group).or_else(|| group_of(b, group)))),
        margin: None,
        corpus,
        silent,
    }
}

/// The clusters of `samples` by the field `group` of their meta; `None` where each stands alone.
pub fn clusters_of<'a>(samples: impl Iterator<Item = &'a SampleRecord>, group: &str) -> Option<Clusters> {
    clusters(samples.map(|sample| group_of(sample, group)))
}

fn clusters(groups: impl Iterator<Item = Option<String>>) -> Option<Clusters> {
    Some(Clusters::new(&groups.collect::<Vec<_>>())).filter(Clusters::matter)
}

/// The group of a sample; without the field, or with nothing in it, a sample stands alone.
fn group_of(sample: &SampleRecord, group: &str) -> Option<String> {
    sample.meta.get(group).filter(|value| !value.is_null()).and_then(label)
}

impl Cell {
    fn columns(&self) -> [Column<'_>; 3] {
        if self.corpus.is_some() {
            return [Column { values: &[], clusters: None }; 3];
        }
        let clusters = self.clusters.as_ref();
        [&self.differences, &self.baseline, &self.candidate].map(|values| Column { values, clusters })
    }

    /// Interval of the mean of one side: Wilson's for rates, the drawn one else.
    fn side(&self, column: &Column<'_>, drawn: Result<Interval, &'static str>) -> Option<Interval> {
        let passed = || column.values.iter().filter(|value| **value == 1.0).count();
        let estimate: Estimate = match (self.yes_or_no, &self.clusters) {
            (true, None) => statistics::rate(passed(), column.values.len()),
            _ => Estimate::new(None, intervals::guarded_column(column, drawn), column.values.len()),
        };
        Some(Interval { low: estimate.low?, high: estimate.high? })
    }

    fn mean(&self, values: &[f64]) -> Option<f64> {
        statistics::mean(values).filter(|_| self.corpus.is_none())
    }

    fn test(&self, draws: &Draws) -> (&'static str, Option<f64>) {
        if self.corpus.is_some() {
            return ("", None);
        }
        match &self.clusters {
            Some(clusters) => {
                ("cluster sign-flip test", paired::cluster_sign_flip(&self.differences, clusters, draws))
            }
            None if self.yes_or_no => {
                let (lost, gained) =
                    (count(&self.differences, |d| d < 0.0), count(&self.differences, |d| d > 0.0));
                (
                    "exact McNemar test",
                    (self.differences.len() >= 2).then(|| statistics::mcnemar_exact(lost, gained)),
                )
            }
            None => ("paired permutation test", paired::permutation(&self.differences, draws)),
        }
    }

    fn effects(&self) -> Vec<statistics::Effect> {
        if self.corpus.is_some() {
            return Vec::new();
        }
        if !self.yes_or_no {
            return effects::of_differences(&self.differences);
        }
        let pairs: Vec<(f64, f64)> =
            self.baseline.iter().copied().zip(self.candidate.iter().copied()).collect();
        effects::of_rates(&pairs)
    }

    /// About how many more samples it takes at this level of the test. Clusters count as wholes of the average size.
    fn more_rows(&self, alpha: f64) -> Option<u64> {
        let n = self.differences.len() as u64;
        let needed = match &self.clusters {
            None => statistics::rows_needed_at(&self.differences, alpha)?,
            Some(clusters) => {
                let size = n as f64 / clusters.count() as f64;
                let needed = statistics::rows_needed_at(&clusters.sums(&self.differences).0, alpha)?;
                (needed as f64 * size).ceil() as u64
            }
        };
        // The plan may say "as many as there are" when the test just missed; then any number more is the honest answer.
        Some(needed.saturating_sub(n).max(1))
    }
}

fn count(values: &[f64], which: impl Fn(f64) -> bool) -> usize {
    values.iter().filter(|value| which(**value)).count()
}

/// Interval, test and effect of each cell, which comes with the names of baseline and candidate. All cells are redrawn
/// together. Neither corrected nor concluded from yet.
pub(super) fn measure(cells: &[((&str, &str), Cell)], seed: u64) -> Vec<Comparison> {
    let draws = Draws::new(seed);
    let columns: Vec<Column<'_>> = cells.iter().flat_map(|(_, cell)| cell.columns()).collect();
    let drawn = statistics::bootstrap_means(&columns, &draws);
    cells
        .iter()
        .zip(drawn.chunks_exact(3).zip(columns.chunks_exact(3)))
        .map(|(((baseline, candidate), cell), (drawn, columns))| {
            let interval = paired::guarded_difference(&columns[0], drawn[0]);
            let (test, p) = cell.test(&draws);
            let (baseline_wins, candidate_wins) =
                (count(&cell.differences, |d| d < 0.0), count(&cell.differences, |d| d > 0.0));
            let mut comparison = Comparison {
                metric: cell.metric.clone(),
                unit: cell.unit,
                baseline: (*baseline).to_owned(),
                candidate: (*candidate).to_owned(),
                slice: cell.slice.clone(),
                n: cell.differences.len(),
                clusters: cell.clusters.as_ref().map(Clusters::count),
                baseline_value: cell.mean(&cell.baseline),
                baseline_interval: cell.side(&columns[1], drawn[1]),
                candidate_value: cell.mean(&cell.candidate),
                candidate_interval: cell.side(&columns[2], drawn[2]),
                difference: cell.mean(&cell.differences),
                low: interval.ok().map(|interval| interval.low),
                high: interval.ok().map(|interval| interval.high),
                p,
                p_holm: None,
                test: test.to_owned(),
                baseline_wins,
                candidate_wins,
                ties: cell.differences.len() - baseline_wins - candidate_wins,
                effects: cell.effects(),
                non_inferiority: cell.margin.filter(|_| cell.corpus.is_none()).map(|margin| {
                    statistics::non_inferiority(
                        &cell.differences,
                        cell.yes_or_no,
                        cell.clusters.as_ref(),
                        margin,
                    )
                }),
                more_rows_needed: None,
                reason: interval.err().map(str::to_owned),
                verdict: None,
            };
            if let Some(corpus) = &cell.corpus {
                corpus.measure(&mut comparison, cell.clusters.as_ref(), (seed, cell.margin));
            }
            if cell.silent > 0 && comparison.n > 0 {
                comparison
                    .forbid(format!("{} samples have nothing to make it of on one side only", cell.silent));
            }
            comparison
        })
        .collect()
}

/// Says how many more rows it takes where nothing is told, at the level that the correction over `tests` left for the test.
pub(super) fn plan(comparison: &mut Comparison, cell: &Cell, tests: usize) {
    if comparison.is_significant() {
        return;
    }
    let level = match (comparison.p, comparison.p_holm) {
        (Some(p), Some(corrected)) if p > 0.0 && corrected < 1.0 => ALPHA * p / corrected,
        // A corrected p is cut off at 1, and no longer says by how much it was multiplied: by all tests at most.
        (Some(_), Some(_)) => ALPHA / tests.max(1) as f64,
        _ => ALPHA,
    };
    comparison.more_rows_needed = match &cell.corpus {
        // More samples do not help where the test is at its end and only the correction for other tests stands against it.
        Some(corpus) if comparison.p.is_some_and(|p| corpus.is_smallest(p)) => None,
        Some(_) => corpus::more_rows(comparison, level),
        None => cell.more_rows(level),
    };
}

/// How the values of one metric differ from sample to sample, and by how much on average. Where samples stand or fall
/// together in groups, the variance is what one sample of such groups would have to have alone.
pub(super) fn design(metric: &Metric, pairs: &[Pair<'_>], group: &str) -> Option<Seen> {
    let unit = metric.unit();
    let cell = cell(metric, pairs, group);
    if cell.corpus.is_some() {
        let comparison = measure(&[(("", ""), cell)], 0).remove(0);
        let variance = corpus::error(&comparison)?.powi(2) * comparison.n as f64;
        return Some(Seen {
            design: Design::Graded { variance, unit },
            difference: comparison.difference?,
            group_size: comparison.clusters.map(|clusters| comparison.n as f64 / clusters as f64),
        });
    }
    let difference = statistics::mean(&cell.differences)?;
    if let Some(clusters) = &cell.clusters {
        let (sums, sizes) = clusters.sums(&cell.differences);
        let apart: Vec<f64> = sums.iter().zip(&sizes).map(|(sum, size)| sum - difference * size).collect();
        let size = cell.differences.len() as f64 / clusters.count() as f64;
        let design = Design::Graded { variance: statistics::variance(&apart)? / size, unit };
        return Some(Seen { design, difference, group_size: Some(size) });
    }
    let variance = statistics::variance(&cell.differences)?;
    let differing = count(&cell.differences, |d| d != 0.0) as f64 / cell.differences.len() as f64;
    let design = if cell.yes_or_no {
        Design::Discordance { discordance: differing }
    } else {
        Design::Graded { variance, unit }
    };
    Some(Seen { design, difference, group_size: None })
}
