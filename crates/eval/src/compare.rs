//! Two candidates on the same samples, and what may be said about them. This is the only code that can say that one is
//! better: a [`Claim`] is made from a paired test, or says that nothing may be claimed and what it would take.
//! Tests and intervals are `statistics`'; how a claim looks on a page is `report`'s.

use crate::harness::{Metric, resolve_metrics};
use crate::record::SampleRecord;
use crate::runner::Evaluation;
use crate::statistics::{self, ALPHA};
use crate::{Error, Kind, Result, compare_corpus};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// One metric of two candidates on the samples they have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the metric.
    pub metric: String,
    /// What the baseline is called.
    pub baseline: String,
    /// What the other one is called.
    pub candidate: String,
    /// Samples in common with a number on both sides.
    pub n: usize,
    /// Mean of the baseline on these.
    pub baseline_value: Option<f64>,
    /// Mean of the candidate on these.
    pub candidate_value: Option<f64>,
    /// Candidate minus baseline.
    pub difference: Option<f64>,
    /// Lower end of the 95 % paired bootstrap interval of the difference.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Two-sided p of the paired test.
    pub p: Option<f64>,
    /// For metrics beside the score: p after Holm's correction over all of them.
    pub p_holm: Option<f64>,
    /// Name of the test.
    pub test: String,
    /// Samples on which the baseline's number is higher.
    pub baseline_wins: usize,
    /// Samples on which the candidate's number is higher.
    pub candidate_wins: usize,
    /// Samples on which both are equal.
    pub ties: usize,
    /// About how many more samples it would take to tell a difference of this size; `None` when it is told already, or
    /// when nothing differs.
    pub more_rows_needed: Option<u64>,
    /// Why a number is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Comparison {
    /// Whether the test and the interval both say that there is a difference.
    pub fn is_significant(&self) -> bool {
        let outside = match (self.low, self.high) {
            (Some(low), Some(high)) => low > 0.0 || high < 0.0,
            // All differences equal: there is no interval, and the test alone decides.
            _ => true,
        };
        self.p.is_some_and(|p| p < ALPHA) && outside && self.difference.is_some_and(|d| d != 0.0)
    }
}

/// All metrics of two candidates, the score apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparisons {
    /// The score: the one comparison that was asked for before anything was measured.
    pub score: Comparison,
    /// The other metrics in the order of the task; their `p_holm` is corrected over all of them.
    pub others: Vec<Comparison>,
    /// Samples that only the baseline has.
    pub only_baseline: usize,
    /// Samples that only the candidate has.
    pub only_candidate: usize,
}

/// A sentence and whether the statistics support a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What may be said.
    pub sentence: String,
    /// Whether a difference may be claimed; `false` means the sentence says that none may be.
    pub supported: bool,
}

/// Compares two evaluations of the same task on the samples they have in common, called `names.0` (the baseline) and
/// `names.1`.
///
/// # Errors
/// When they are of different tasks or harnesses, or have less than half of their samples in common.
pub fn compare(
    baseline: &Evaluation,
    candidate: &Evaluation,
    names: (&str, &str),
    seed: u64,
) -> Result<Comparisons> {
    let (a, b) = (&baseline.header, &candidate.header);
    if a.task != b.task || a.harness_fingerprint != b.harness_fingerprint {
        return Err(Error::new(Kind::Usage, "two runs with different checks cannot be compared")
            .expected(format!("task `{}`, harness {}", a.task, short(&a.harness_fingerprint)))
            .found(format!("task `{}`, harness {}", b.task, short(&b.harness_fingerprint)))
            .hint("measure both with the same task file"));
    }
    let pairs = pair(&baseline.samples, &candidate.samples);
    let most = baseline.samples.len().max(candidate.samples.len());
    if pairs.is_empty() || pairs.len() * 2 < most {
        return Err(Error::new(Kind::Data, "the two runs have too few samples in common")
            .expected(format!("at least half of {most}"))
            .found(pairs.len().to_string())
            .hint("measure both on the same rows: the same split, --limit and --seed"));
    }
    let mut score = None;
    let mut others = Vec::new();
    for metric in resolve_metrics(&a.harness)? {
        let comparison = compare_corpus::compare(&metric, &pairs, names, seed)
            .unwrap_or_else(|| compare_metric(&metric, &pairs, names, seed));
        if metric.name == a.harness.score.name() { score = Some(comparison) } else { others.push(comparison) }
    }
    correct_together(&mut others);
    let score = score.ok_or_else(|| {
        Error::new(Kind::Data, "the score names no metric").found(format!("`{}`", a.harness.score.name()))
    })?;
    Ok(Comparisons {
        score,
        others,
        only_baseline: baseline.samples.len() - pairs.len(),
        only_candidate: candidate.samples.len() - pairs.len(),
    })
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

pub(crate) type Pair<'a> = (&'a SampleRecord, &'a SampleRecord);

/// Samples with the same id, input and expected answer on both sides.
fn pair<'a>(baseline: &'a [SampleRecord], candidate: &'a [SampleRecord]) -> Vec<Pair<'a>> {
    let by_id: HashMap<&str, &SampleRecord> = baseline.iter().map(|s| (s.id.as_str(), s)).collect();
    let twin = |sample: &'a SampleRecord| by_id.get(sample.id.as_str()).map(|first| (*first, sample));
    candidate
        .iter()
        .filter_map(twin)
        .filter(|(first, second)| first.input == second.input && first.expected == second.expected)
        .collect()
}

fn compare_metric(metric: &Metric, pairs: &[Pair<'_>], names: (&str, &str), seed: u64) -> Comparison {
    let values: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|(a, b)| Some((metric.value(&a.verdicts)?, metric.value(&b.verdicts)?)))
        .collect();
    let differences: Vec<f64> = values.iter().map(|(a, b)| b - a).collect();
    let baseline_wins = differences.iter().filter(|d| **d < 0.0).count();
    let candidate_wins = differences.iter().filter(|d| **d > 0.0).count();
    let yes_or_no =
        metric.is_rate() && values.iter().all(|(a, b)| [a, b].iter().all(|v| **v == 0.0 || **v == 1.0));
    let (test, p) = if yes_or_no {
        let p = (values.len() >= 2).then(|| statistics::mcnemar_exact(baseline_wins, candidate_wins));
        ("exact McNemar test", p)
    } else {
        ("paired permutation test", statistics::paired_permutation(&differences, seed))
    };
    let interval = statistics::bootstrap_mean(&differences, seed);
    let mut comparison = Comparison {
        metric: metric.name.clone(),
        baseline: names.0.to_owned(),
        candidate: names.1.to_owned(),
        n: values.len(),
        baseline_value: statistics::mean(&values.iter().map(|(a, _)| *a).collect::<Vec<_>>()),
        candidate_value: statistics::mean(&values.iter().map(|(_, b)| *b).collect::<Vec<_>>()),
        difference: statistics::mean(&differences),
        low: interval.ok().map(|interval| interval.low),
        high: interval.ok().map(|interval| interval.high),
        p,
        p_holm: None,
        test: test.to_owned(),
        baseline_wins,
        candidate_wins,
        ties: values.len() - baseline_wins - candidate_wins,
        more_rows_needed: None,
        reason: interval.err().map(str::to_owned),
    };
    if !comparison.is_significant() {
        // The plan may say "as many as there are" when the test just missed; then any number more is the honest answer.
        comparison.more_rows_needed = statistics::rows_needed(&differences)
            .map(|needed| needed.saturating_sub(values.len() as u64).max(1));
    }
    comparison
}

fn correct_together(comparisons: &mut [Comparison]) {
    let tested: Vec<usize> = (0..comparisons.len()).filter(|&i| comparisons[i].p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|&i| comparisons[i].p).collect();
    for (index, adjusted) in tested.into_iter().zip(statistics::holm(&p)) {
        comparisons[index].p_holm = Some(adjusted);
    }
}

/// What may be said: one sentence about the score. Where measured inputs stand in the training rows as well
/// (`shared` of them), nothing may be claimed, whatever the numbers are.
pub fn claims(comparisons: &Comparisons, shared: usize) -> Vec<Claim> {
    vec![if shared > 0 { leaked(&comparisons.score, shared) } else { headline(&comparisons.score) }]
}

fn leaked(score: &Comparison, shared: usize) -> Claim {
    let Comparison { baseline, candidate, n, .. } = score;
    let what = score.metric.replace('_', " ");
    let reason = leakage(shared, *n);
    let sentence = format!(
        "Nothing may be claimed about which of {candidate} and {baseline} has the higher {what}: {reason}"
    );
    Claim { sentence, supported: false }
}

/// Why nothing may be claimed when `shared` of `n` measured inputs stand in the training rows.
pub(crate) fn leakage(shared: usize, n: usize) -> String {
    let stand = if shared == 1 { "stands" } else { "stand" };
    format!(
        "{shared} of the {n} measured inputs {stand} in the training rows too, so the scores measure memory as well."
    )
}

fn headline(score: &Comparison) -> Claim {
    let Comparison { baseline, candidate, n, test, .. } = score;
    let what = score.metric.replace('_', " ");
    let unsupported = |sentence: String| Claim { sentence, supported: false };
    let (Some(before), Some(after), Some(difference), Some(p)) =
        (score.baseline_value, score.candidate_value, score.difference, score.p)
    else {
        return unsupported(format!(
            "Nothing may be claimed about {candidate} and {baseline}: {n} {} not enough for a test of {what}.",
            if *n == 1 { "sample is" } else { "samples are" }
        ));
    };
    let interval = match (score.low, score.high) {
        (Some(low), Some(high)) => format!("95 % interval {} to {}", points(low), points(high)),
        // With two samples or more, only equal differences leave the interval out.
        _ => "the same on every sample".to_owned(),
    };
    let facts = format!("{} points ({interval}; {test}, {}) on {n} samples", points(difference), p_words(p));
    let values = format!("{} against {}", percent(after), percent(before));
    if score.is_significant() {
        let word = if difference > 0.0 { "better" } else { "worse" };
        let sentence = format!(
            "The {candidate} model is {word} than the {baseline} model at {what}: {values}, {facts}."
        );
        return Claim { sentence, supported: true };
    }
    let more = match score.more_rows_needed {
        Some(more) => {
            format!("It would take about {} more samples to tell a difference of this size.", rounded(more))
        }
        None => "They do not differ on these samples, so no number of further samples can be planned for."
            .to_owned(),
    };
    unsupported(format!(
        "Nothing may be claimed about which of {candidate} and {baseline} has the higher {what}: {values}, {facts}. {more}"
    ))
}

/// A share as `78.5 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A difference of shares in points, with its sign; never `-0.0`.
pub(crate) fn points(difference: f64) -> String {
    let tenths = (difference * 1000.0).round() / 10.0;
    if tenths == 0.0 { "0.0".to_owned() } else { format!("{tenths:+.1}").replace('-', "−") }
}

/// p in words: never 0, and no more digits than it deserves.
pub(crate) fn p_words(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p if p < 0.1 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}

/// Two leading digits: an estimate of samples has no more.
fn rounded(count: u64) -> String {
    let mut unit = 1;
    while count / unit >= 100 {
        unit *= 10;
    }
    let digits = (count.div_ceil(unit) * unit).to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
