//! Candidates against a baseline on the same samples, and what may be said about them. This is the only room that can say
//! that one is better: a [`Claim`] is made from a paired test, or says that nothing may be claimed and what it would take.
//! Numbers of one comparison are made in `cells`, sentences in `claim`; tests and intervals are `statistics`', and how a
//! claim looks on a page is `report`'s.

mod cells;
mod claim;
mod comparison;
mod corpus;
mod slices;
mod words;

pub use cells::clusters_of;
pub(crate) use claim::leakage;
pub use claim::{Claim, ClaimKind};
pub use comparison::{AgainstAll, CandidateComparisons, Comparison, Comparisons, ManyComparisons};
pub use slices::{Slice, slice_fields};
pub(crate) use words::{p_short, percent};

use crate::baseline::Sort;
use crate::harness::resolve_metrics;
use crate::record::{Header, SampleRecord};
use crate::runner::Evaluation;
use crate::sample::kind_of;
use crate::statistics;
use crate::statistics::power::Design;
use crate::{Error, Kind, Result};
use cells::Cell;

/// The field of `meta` that says which samples stand or fall together, unless another one is named.
pub const GROUP: &str = "group";
/// Stands among [`CompareSettings::by`] for every field with few values.
pub const ALL_FIELDS: &str = "all";

/// How evaluations are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompareSettings {
    /// Seed of bootstrap and permutation draws.
    pub seed: u64,
    /// Measured inputs that stand in the training rows too, where more of them are known than the records say; above 0
    /// nothing may be claimed.
    pub shared: usize,
    /// The score may be worse by so much (above 0, below 1), stated before anything was measured.
    pub margin: Option<f64>,
    /// Fields of `meta` to slice by; [`ALL_FIELDS`] for each with two to eight values.
    pub by: Vec<String>,
    /// Field of `meta` whose equal values stand or fall together; [`GROUP`] where samples have one.
    pub group: Option<String>,
    /// The candidate (by index) whose score comparison was asked for before anything was measured: that one test needs no
    /// correction. Where there is one candidate only, it is that one.
    pub primary: Option<usize>,
    /// On slices compare the score alone: each further test makes the correction of all stricter.
    pub slices_of_score: bool,
}

impl CompareSettings {
    /// Settings with nothing but a seed.
    pub fn new(seed: u64) -> Self {
        CompareSettings { seed, ..CompareSettings::default() }
    }

    fn group_field(&self) -> &str {
        self.group.as_deref().unwrap_or(GROUP)
    }
}

/// An evaluation and what it is called.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name in sentences and tables.
    pub name: &'a str,
    /// What was measured.
    pub evaluation: &'a Evaluation,
}

/// Compares two evaluations of the same task on the samples they have in common, called `names.0` (the baseline) and
/// `names.1`. Slices that the settings ask for are left out; [`compare_many`] has them.
///
/// # Errors
/// As [`compare_many`].
pub fn compare(
    baseline: &Evaluation,
    candidate: &Evaluation,
    names: (&str, &str),
    settings: &CompareSettings,
) -> Result<Comparisons> {
    let settings = CompareSettings { by: Vec::new(), primary: Some(0), ..settings.clone() };
    let entry = |name, evaluation| Entry { name, evaluation };
    let mut all = compare_many(entry(names.0, baseline), &[entry(names.1, candidate)], &settings)?;
    let only = all.candidates.remove(0);
    let (score, others): (Vec<_>, Vec<_>) = only.comparisons.into_iter().partition(|c| c.metric == all.score);
    let score = score.into_iter().next().ok_or_else(|| no_score(&all.score))?;
    Ok(Comparisons { score, others, only_baseline: only.only_baseline, only_candidate: only.only_candidate })
}

fn no_score(name: &str) -> Error {
    Error::new(Kind::Data, "the score names no metric").found(format!("`{name}`"))
}

/// Compares each candidate with the baseline on the samples that the two have in common: every metric, on all samples and
/// on every slice. All tests are corrected together by Holm's procedure, but for the score of the primary candidate, which
/// is the one comparison asked for beforehand.
///
/// # Errors
/// When there is no candidate, evaluations are of different tasks, harnesses or encoders, have less than half of their samples in
/// common, a field to slice or group by is not there or holds lists, or the margin is not between 0 and 1.
pub fn compare_many(
    baseline: Entry<'_>,
    candidates: &[Entry<'_>],
    settings: &CompareSettings,
) -> Result<ManyComparisons> {
    check_settings(baseline, candidates, settings)?;
    let header = &baseline.evaluation.header;
    let primary = settings.primary.or((candidates.len() == 1).then_some(0));
    let pairings: Vec<_> = candidates.iter().map(|candidate| (baseline, *candidate)).collect();
    let compared = Measured::new(&pairings, settings)?.conclude(primary, settings);
    Ok(ManyComparisons {
        task: header.task.clone(),
        split: header.split.name().to_owned(),
        score: header.harness.score.name().to_owned(),
        baseline: baseline.name.to_owned(),
        margin: settings.margin,
        by: compared.by,
        group: compared.group,
        primary,
        corrected_tests: compared.corrected_tests,
        candidates: compared.comparisons,
    })
}

/// Compares one candidate with each of the baselines, and so with the strongest of them: the one that it is ahead of by the
/// least, or behind by the most, on the samples in common; of equals, the one that needs least. Where the candidate has the higher
/// score, the test against the strongest needs no correction: that this one was picked after measuring works against the
/// candidate. Where it has not, the pick favours the difference, and the test is corrected with all others.
///
/// # Errors
/// As [`compare_many`].
pub fn compare_with_all(
    candidate: Entry<'_>,
    baselines: &[Entry<'_>],
    settings: &CompareSettings,
) -> Result<AgainstAll> {
    check_settings(candidate, baselines, settings)?;
    let score = candidate.evaluation.header.harness.score.name();
    let pairings: Vec<_> = baselines.iter().map(|baseline| (*baseline, candidate)).collect();
    let measured = Measured::new(&pairings, settings)?;
    let ahead = |pairing: usize| measured.overall(pairing, score).and_then(|overall| overall.difference);
    let strongest = strongest(baselines, ahead);
    let primary = baselines.len() == 1 || ahead(strongest).is_some_and(|difference| difference > 0.0);
    let compared = measured.conclude(primary.then_some(strongest), settings);
    Ok(AgainstAll {
        score: score.to_owned(),
        candidate: candidate.name.to_owned(),
        strongest,
        by: compared.by,
        group: compared.group,
        corrected_tests: compared.corrected_tests,
        baselines: compared.comparisons,
    })
}

/// Scores that differ by no more are equal: they are sums over the same samples in another order.
const EQUAL: f64 = 1e-12;

/// The index of the baseline that a candidate is `ahead` of by the least; of equals the one that needs least, then the
/// first. One without a number is no rival.
fn strongest(baselines: &[Entry<'_>], ahead: impl Fn(usize) -> Option<f64>) -> usize {
    let lead = |index: usize| ahead(index).unwrap_or(f64::INFINITY);
    let least = (0..baselines.len()).map(lead).fold(f64::INFINITY, f64::min);
    let equals = (0..baselines.len()).filter(|index| lead(*index) <= least + EQUAL);
    equals.min_by_key(|index| Sort::of(baselines[*index].name).needs()).unwrap_or(0)
}

/// What all pairs of a baseline and a candidate give together.
struct Compared {
    by: Vec<String>,
    group: Option<String>,
    corrected_tests: usize,
    comparisons: Vec<CandidateComparisons>,
}

/// Every metric of each pair, on all samples and on every slice: the numbers, from which nothing is concluded yet. Slices
/// are those of the first baseline.
struct Measured<'a> {
    pairings: &'a [(Entry<'a>, Entry<'a>)],
    score: &'a str,
    by: Vec<String>,
    cells: Vec<((&'a str, &'a str), Cell)>,
    /// One for each cell; as many in a row belong to a pair as there are cells of it.
    comparisons: Vec<Comparison>,
    results: Vec<CandidateComparisons>,
}

impl<'a> Measured<'a> {
    fn new(pairings: &'a [(Entry<'a>, Entry<'a>)], settings: &CompareSettings) -> Result<Self> {
        let first = pairings[0].0.evaluation;
        let score = first.header.harness.score.name();
        let metrics = resolve_metrics(&first.header.harness)?;
        if !metrics.iter().any(|metric| metric.name == score) {
            return Err(no_score(score));
        }
        let by = fields(&first.samples, settings);
        let slicings =
            by.iter().map(|field| slices::slicing(&first.samples, field)).collect::<Result<Vec<_>>>()?;
        let mut cells: Vec<((&str, &str), Cell)> = Vec::new();
        let mut results = Vec::new();
        for (baseline, candidate) in pairings {
            let pairs = common(baseline.evaluation, candidate.evaluation)?;
            let own = cells::cells(&pairs, &metrics, &slicings, settings, score);
            cells.extend(own.into_iter().map(|cell| ((baseline.name, candidate.name), cell)));
            results.push(CandidateComparisons {
                baseline: baseline.name.to_owned(),
                candidate: candidate.name.to_owned(),
                common: pairs.len(),
                only_baseline: baseline.evaluation.samples.len() - pairs.len(),
                only_candidate: candidate.evaluation.samples.len() - pairs.len(),
                comparisons: Vec::new(),
            });
        }
        let comparisons = cells::measure(&cells, settings.seed);
        Ok(Measured { pairings, score, by, cells, comparisons, results })
    }

    fn cells_of_a_pair(&self) -> usize {
        self.cells.len() / self.pairings.len()
    }

    /// The comparison of `metric` on all samples of a pair.
    fn overall(&self, pairing: usize, metric: &str) -> Option<&Comparison> {
        let own = self.comparisons.chunks(self.cells_of_a_pair()).nth(pairing)?;
        own.iter().find(|c| c.slice.is_none() && c.metric == metric)
    }

    /// Corrects all tests together, but for the score of the `primary` pair, and says what follows.
    fn conclude(self, primary: Option<usize>, settings: &CompareSettings) -> Compared {
        let each = self.cells_of_a_pair();
        let Measured { pairings, score, by, cells, mut comparisons, mut results } = self;
        let exempt = |index: usize, c: &Comparison| {
            primary == Some(index / each) && c.slice.is_none() && c.metric == score
        };
        let grouped = comparisons.iter().any(|c| c.clusters.is_some());
        let corrected_tests = correct_together(&mut comparisons, exempt);
        for (index, (mut comparison, (_, cell))) in comparisons.into_iter().zip(&cells).enumerate() {
            let (baseline, candidate) = &pairings[index / each];
            let known = [baseline, candidate].map(|entry| entry.evaluation.header.shared);
            let shared = known.into_iter().fold(settings.shared, usize::max);
            cells::plan(&mut comparison, cell, corrected_tests);
            comparison.verdict = Some(claim::verdict(&comparison, corrected_tests, shared));
            results[index / each].comparisons.push(comparison);
        }
        let group = grouped.then(|| settings.group_field().to_owned());
        Compared { by, group, corrected_tests, comparisons: results }
    }
}

fn check_settings(baseline: Entry<'_>, candidates: &[Entry<'_>], settings: &CompareSettings) -> Result<()> {
    if candidates.is_empty() {
        return Err(Error::new(Kind::Usage, "a comparison takes two").expected("a baseline and a candidate"));
    }
    if let Some(margin) = settings.margin.filter(|margin| !(*margin > 0.0 && *margin < 1.0)) {
        return Err(Error::new(Kind::Usage, "the margin of non-inferiority")
            .expected("above 0 and below 1, such as 0.02")
            .found(margin.to_string()));
    }
    let a = &baseline.evaluation.header;
    for candidate in candidates {
        let b = &candidate.evaluation.header;
        if a.task != b.task || a.harness_fingerprint != b.harness_fingerprint {
            return Err(Error::new(Kind::Usage, "two runs with different checks cannot be compared")
                .expected(format!("task `{}`, harness {}", a.task, short(&a.harness_fingerprint)))
                .found(format!("task `{}`, harness {}", b.task, short(&b.harness_fingerprint)))
                .hint("measure both with the same task file"));
        }
        let known = |header: &Header| !header.encoders.is_empty();
        if a.encoders != b.encoders && known(a) && known(b) {
            return Err(Error::new(
                Kind::Usage,
                "two runs whose answers met different encoders cannot be compared",
            )
            .expected(format!("{:?}", a.encoders))
            .found(format!("{:?}", b.encoders))
            .hint("measure one of them again with the encoder of the other"));
        }
    }
    if let Some(group) = &settings.group
        && !baseline.evaluation.samples.iter().any(|sample| sample.meta.contains_key(group))
    {
        return Err(Error::new(Kind::Usage, "no sample has the field to group by in its meta")
            .found(format!("`{group}`")));
    }
    settings.by.iter().chain(&settings.group).try_for_each(|field| require_scalar(field, baseline.evaluation))
}

/// Refuses a field that holds lists or objects: a sample belongs to one slice and one group.
fn require_scalar(field: &str, evaluation: &Evaluation) -> Result<()> {
    let mut values = evaluation.samples.iter().filter_map(|sample| Some((sample, sample.meta.get(field)?)));
    match values.find(|(_, value)| value.is_array() || value.is_object()) {
        None => Ok(()),
        Some((sample, value)) => {
            Err(Error::new(Kind::Usage, format!("`{field}` cannot say which slice or group a sample is in"))
                .expected("text, numbers or yes and no")
                .found(format!("{} in sample `{}`", kind_of(value), sample.id)))
        }
    }
}

/// What the scores of two evaluations say about planning a comparison like theirs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// How they differ from sample to sample; where samples are in groups, as much wider as these make it.
    pub design: Design,
    /// The difference, candidate minus baseline; not to be taken for a result.
    pub difference: f64,
    /// Samples a group, where they stand or fall together.
    pub group_size: Option<f64>,
}

/// [`Seen`] of two evaluations.
///
/// # Errors
/// As [`compare_many`]; when there are fewer than two samples with a score on both sides.
pub fn design(baseline: Entry<'_>, candidate: Entry<'_>) -> Result<Seen> {
    check_settings(baseline, &[candidate], &CompareSettings::default())?;
    let header = &baseline.evaluation.header;
    let metrics = resolve_metrics(&header.harness)?;
    let score = metrics.iter().find(|m| m.name == header.harness.score.name());
    let score = score.ok_or_else(|| no_score(header.harness.score.name()))?;
    let pairs = common(baseline.evaluation, candidate.evaluation)?;
    cells::design(score, &pairs, GROUP).ok_or_else(|| {
        Error::new(Kind::Data, "the records are too short to plan from")
            .expected("two samples with a score on both sides")
    })
}

/// The fields to slice by, each once.
fn fields(samples: &[SampleRecord], settings: &CompareSettings) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for field in &settings.by {
        let found = match field.as_str() {
            ALL_FIELDS => slice_fields(samples, settings.group_field()),
            name => vec![name.to_owned()],
        };
        fields.extend(found.into_iter().filter(|name| !fields.contains(name)).collect::<Vec<_>>());
    }
    fields
}

/// The samples in common; at least half of them.
fn common<'a>(baseline: &'a Evaluation, candidate: &'a Evaluation) -> Result<Vec<cells::Pair<'a>>> {
    let pairs = cells::pair(&baseline.samples, &candidate.samples);
    let most = baseline.samples.len().max(candidate.samples.len());
    if pairs.is_empty() || pairs.len() * 2 < most {
        return Err(Error::new(Kind::Data, "the two runs have too few samples in common")
            .expected(format!("at least half of {most}"))
            .found(pairs.len().to_string())
            .hint("measure both on the same rows: the same split, --limit and --seed"));
    }
    Ok(pairs)
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

/// Holm's correction over every test but the exempt ones; gives the number of tests. The one-sided p of non-inferiority
/// is compared with half the level, so it counts twice its size.
fn correct_together(comparisons: &mut [Comparison], exempt: impl Fn(usize, &Comparison) -> bool) -> usize {
    let family: Vec<usize> = (0..comparisons.len()).filter(|&i| !exempt(i, &comparisons[i])).collect();
    let two_sided = |i: usize| comparisons[i].p;
    let one_sided = |i: usize| comparisons[i].non_inferiority.as_ref().and_then(|test| test.p);
    let tests: Vec<(usize, bool, f64)> = family
        .iter()
        .flat_map(|&i| {
            [two_sided(i).map(|p| (i, true, p)), one_sided(i).map(|p| (i, false, (2.0 * p).min(1.0)))]
        })
        .flatten()
        .collect();
    let corrected = statistics::holm(&tests.iter().map(|(.., p)| *p).collect::<Vec<_>>());
    for ((index, is_two_sided, _), corrected) in tests.iter().zip(corrected) {
        let comparison = &mut comparisons[*index];
        if *is_two_sided {
            comparison.p_holm = Some(corrected);
        } else if let Some(test) = &mut comparison.non_inferiority {
            test.p_holm = Some(corrected / 2.0);
        }
    }
    tests.len()
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "guard_tests.rs"]
mod guard_tests;

#[cfg(test)]
#[path = "many_tests.rs"]
mod many_tests;
