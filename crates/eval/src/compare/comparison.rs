//! What a comparison is, as data: every number with what it rests on, ready for JSON, tables and pages. The numbers are
//! made in `cells`, the sentences in `claim`.

use super::{Claim, Slice};
use crate::statistics::{ALPHA, Effect, Interval, NonInferiority, Unit};
use serde::{Deserialize, Serialize};

/// One metric of a candidate and the baseline, on the samples that they have in common, or on a slice of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the metric.
    pub metric: String,
    /// What its number is.
    #[serde(default, skip_serializing_if = "Unit::is_share")]
    pub unit: Unit,
    /// What the baseline is called.
    pub baseline: String,
    /// What the other one is called.
    pub candidate: String,
    /// The slice; `None` where it is all samples.
    #[serde(default)]
    pub slice: Option<Slice>,
    /// Samples in common with a number on both sides.
    pub n: usize,
    /// Groups that these are in, where samples stand or fall together: intervals and tests then are of groups.
    #[serde(default)]
    pub clusters: Option<usize>,
    /// Mean of the baseline on these.
    pub baseline_value: Option<f64>,
    /// Its 95 % interval.
    #[serde(default)]
    pub baseline_interval: Option<Interval>,
    /// Mean of the candidate on these.
    pub candidate_value: Option<f64>,
    /// Its 95 % interval.
    #[serde(default)]
    pub candidate_interval: Option<Interval>,
    /// Candidate minus baseline.
    pub difference: Option<f64>,
    /// Lower end of the 95 % paired bootstrap interval of the difference.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Two-sided p of the paired test.
    pub p: Option<f64>,
    /// p after Holm's correction over everything that was tested; `None` for the one comparison that was asked for
    /// before anything was measured, and where there is no test.
    pub p_holm: Option<f64>,
    /// Name of the test.
    pub test: String,
    /// Samples on which the baseline's number is higher.
    pub baseline_wins: usize,
    /// Samples on which the candidate's number is higher.
    pub candidate_wins: usize,
    /// Samples on which both are equal.
    pub ties: usize,
    /// How large the difference is, each number with its name.
    #[serde(default)]
    pub effects: Vec<Effect>,
    /// Whether the score is not worse by more than the stated margin.
    #[serde(default)]
    pub non_inferiority: Option<NonInferiority>,
    /// About how many more samples it would take to tell a difference of this size; `None` when it is told already, or
    /// when nothing differs.
    pub more_rows_needed: Option<u64>,
    /// Why a number is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What may be said. `None` only in reports of version 1.
    #[serde(default)]
    pub verdict: Option<Claim>,
}

impl Comparison {
    /// Whether the test, corrected where others were tested too, and the interval both say that there is a difference.
    pub fn is_significant(&self) -> bool {
        let outside = match (self.low, self.high) {
            (Some(low), Some(high)) => low > 0.0 || high < 0.0,
            // All samples say the same: there is no spread for an interval, and the test alone decides.
            _ => self.n > 0 && [self.baseline_wins, self.candidate_wins].contains(&self.n),
        };
        is_told(self) && outside
    }

    /// Takes the tests away, for this reason: nothing may be claimed then, whatever the numbers are.
    pub(super) fn forbid(&mut self, reason: String) {
        (self.p, self.p_holm) = (None, None);
        if let Some(test) = &mut self.non_inferiority {
            test.p = None;
        }
        self.reason = Some(reason);
    }
}

/// Whether the test alone tells both apart.
pub(super) fn is_told(comparison: &Comparison) -> bool {
    comparison.p_holm.or(comparison.p).is_some_and(|p| p < ALPHA)
        && comparison.difference.is_some_and(|difference| difference != 0.0)
}

/// All comparisons of one candidate with the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateComparisons {
    /// What the baseline is called.
    #[serde(default)]
    pub baseline: String,
    /// What it is called.
    pub candidate: String,
    /// Samples in common with the baseline.
    pub common: usize,
    /// Samples that only the baseline has.
    pub only_baseline: usize,
    /// Samples that only the candidate has.
    pub only_candidate: usize,
    /// Each metric on all samples in the order of the task, then each metric on each slice.
    pub comparisons: Vec<Comparison>,
}

impl CandidateComparisons {
    /// The comparison of `metric` on all samples.
    pub fn overall(&self, metric: &str) -> Option<&Comparison> {
        self.comparisons.iter().find(|c| c.slice.is_none() && c.metric == metric)
    }
}

/// Candidates against one baseline. As JSON this is the object that `compare --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManyComparisons {
    /// Name of the task.
    pub task: String,
    /// The split measured on.
    pub split: String,
    /// The metric that is the score.
    pub score: String,
    /// What the baseline is called.
    pub baseline: String,
    /// The stated margin of non-inferiority.
    pub margin: Option<f64>,
    /// The fields that were sliced by.
    pub by: Vec<String>,
    /// The field by which samples stand or fall together, where they do.
    pub group: Option<String>,
    /// Index of the candidate whose score comparison was asked for before anything was measured.
    pub primary: Option<usize>,
    /// How many tests the correction is over.
    pub corrected_tests: usize,
    /// The candidates in the order given.
    pub candidates: Vec<CandidateComparisons>,
}

impl ManyComparisons {
    /// What may be said about the score: one sentence a candidate.
    pub fn claims(&self) -> Vec<Claim> {
        let score = |c: &CandidateComparisons| c.overall(&self.score).and_then(|score| score.verdict.clone());
        self.candidates.iter().filter_map(score).collect()
    }
}

/// One candidate against each of several baselines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgainstAll {
    /// The metric that is the score.
    pub score: String,
    /// What the candidate is called.
    pub candidate: String,
    /// Which of the `baselines` is the strongest: on the samples that each has in common with the candidate, the one that this
    /// is ahead of by the least.
    pub strongest: usize,
    /// The fields that were sliced by; on slices the score alone is compared.
    pub by: Vec<String>,
    /// The field by which samples stand or fall together, where they do.
    pub group: Option<String>,
    /// How many tests the correction is over.
    pub corrected_tests: usize,
    /// The baselines in the order given.
    pub baselines: Vec<CandidateComparisons>,
}

impl AgainstAll {
    /// What may be said about the score and the baseline of this name.
    pub fn claim(&self, baseline: &str) -> Option<Claim> {
        let against = self.baselines.iter().find(|against| against.baseline == baseline)?;
        against.overall(&self.score)?.verdict.clone()
    }

    /// The comparisons with the strongest baseline.
    pub fn with_strongest(&self) -> Option<&CandidateComparisons> {
        self.baselines.get(self.strongest)
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

impl Comparisons {
    /// What may be said: one sentence about the score.
    pub fn claims(&self) -> Vec<Claim> {
        self.score.verdict.clone().into_iter().collect()
    }
}
