//! The sentences of the house that say more than numbers. A [`Claim`] is made here, from a [`Comparison`]'s tests, and
//! nowhere else: its fields are private, and `cargo xtask tidy` looks for the words in all other source.

use super::comparison::{Comparison, is_told};
use super::words::{p_words, rounded};
use crate::statistics::ALPHA;
use serde::{Deserialize, Serialize};

/// What a claim says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimKind {
    /// The candidate is better than the baseline.
    Better,
    /// The candidate is worse than the baseline.
    Worse,
    /// The candidate is not worse than the baseline by more than the stated margin.
    NonInferior,
    /// Nothing may be claimed.
    Nothing,
}

/// A sentence and what the statistics support of it. Only `compare` makes one; others read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Claim {
    sentence: String,
    kind: ClaimKind,
    supported: bool,
}

/// A claim as it stands in a report; version 1 of the report has no `kind`.
#[derive(Deserialize)]
struct Stored {
    sentence: String,
    supported: bool,
    kind: Option<ClaimKind>,
}

impl From<Stored> for Claim {
    fn from(stored: Stored) -> Claim {
        let kind = match stored.kind {
            Some(kind) => kind,
            None if !stored.supported => ClaimKind::Nothing,
            None if stored.sentence.contains(" is worse than ") => ClaimKind::Worse,
            None => ClaimKind::Better,
        };
        Claim { sentence: stored.sentence, kind, supported: kind != ClaimKind::Nothing }
    }
}

impl Claim {
    fn new(kind: ClaimKind, sentence: String) -> Claim {
        Claim { sentence, kind, supported: kind != ClaimKind::Nothing }
    }

    /// What may be said.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// Which sort of sentence it is.
    pub fn kind(&self) -> ClaimKind {
        self.kind
    }

    /// Whether something may be claimed; `false` means the sentence says that nothing may be.
    pub fn supported(&self) -> bool {
        self.supported
    }
}

/// Why nothing may be claimed when `shared` of `n` measured inputs stand in the training rows.
pub(crate) fn leakage(shared: usize, n: usize) -> String {
    let stand = if shared == 1 { "stands" } else { "stand" };
    format!(
        "{shared} of the {n} measured inputs {stand} in the training rows too, so the scores measure memory as well."
    )
}

/// What may be said about one comparison. `tests` is the size of the family of the correction; where measured inputs stand
/// in the training rows as well (`shared` of them), nothing may be claimed, whatever the numbers are.
pub(super) fn verdict(comparison: &Comparison, tests: usize, shared: usize) -> Claim {
    let Comparison { baseline, candidate, n, unit, .. } = comparison;
    let what = what(comparison);
    let nothing = |rest: String| {
        let start =
            format!("Nothing may be claimed about which of {candidate} and {baseline} has the higher {what}");
        Claim::new(ClaimKind::Nothing, format!("{start}: {rest}"))
    };
    if shared > 0 {
        return nothing(leakage(shared, *n));
    }
    let (Some(before), Some(after), Some(difference), Some(p)) =
        (comparison.baseline_value, comparison.candidate_value, comparison.difference, comparison.p)
    else {
        let start = format!("Nothing may be claimed about {candidate} and {baseline}");
        let samples = match (comparison.clusters, &comparison.reason) {
            (Some(1), _) if *n > 1 => "1 group is".to_owned(),
            (_, Some(reason)) if *n > 1 => {
                return Claim::new(ClaimKind::Nothing, format!("{start} at {what}: {reason}."));
            }
            _ if *n == 1 => "1 sample is".to_owned(),
            _ => format!("{n} samples are"),
        };
        let text = format!("{start}: {samples} not enough for a test of {what}.");
        return Claim::new(ClaimKind::Nothing, text);
    };
    let facts = format!(
        "{} against {}, {}{} ({}; {}, {}) on {}",
        unit.value(after),
        unit.value(before),
        unit.difference(difference),
        unit.points(),
        interval(comparison),
        comparison.test,
        corrected(p, comparison.p_holm, tests),
        samples(comparison),
    );
    if comparison.is_significant() {
        let (kind, word) =
            if difference > 0.0 { (ClaimKind::Better, "better") } else { (ClaimKind::Worse, "worse") };
        return Claim::new(
            kind,
            format!("The {candidate} model is {word} than the {baseline} model at {what}: {facts}."),
        );
    }
    if let Some(test) = comparison.non_inferiority.as_ref().filter(|test| test.holds())
        && let Some(p) = test.p
    {
        let margin = unit.difference(test.margin).trim_start_matches('+').to_owned() + unit.points();
        let sentence = format!(
            "The {candidate} model is not worse than the {baseline} model at {what} by more than {margin} \
             (non-inferior): {facts}; against the margin {}, {}.",
            test.test,
            corrected(p, test.p_holm, tests)
        );
        return Claim::new(ClaimKind::NonInferior, sentence);
    }
    let margin = comparison.non_inferiority.as_ref().map_or_else(String::new, |test| {
        let margin = unit.difference(test.margin).trim_start_matches('+').to_owned() + unit.points();
        let p = test
            .p
            .map_or_else(String::new, |p| format!(" ({}, {})", test.test, corrected(p, test.p_holm, tests)));
        format!(" That it is not worse by more than {margin} is not shown either{p}.")
    });
    nothing(format!("{facts}. {}{margin}", what_it_takes(comparison)))
}

/// What is compared, and where.
fn what(comparison: &Comparison) -> String {
    let metric = comparison.metric.replace('_', " ");
    match &comparison.slice {
        Some(slice) => format!("{metric} where {} is {}", slice.field, slice.value),
        None => metric,
    }
}

fn interval(comparison: &Comparison) -> String {
    match (comparison.low, comparison.high) {
        (Some(low), Some(high)) => format!(
            "95 % interval {} to {}",
            comparison.unit.difference(low),
            comparison.unit.difference(high)
        ),
        _ if comparison.ties == comparison.n || comparison.is_significant() => {
            "the same on every sample".to_owned()
        }
        _ => "no interval".to_owned(),
    }
}

fn corrected(p: f64, p_holm: Option<f64>, tests: usize) -> String {
    match p_holm {
        Some(p) if tests > 1 => format!("{} corrected for {tests} tests", p_words(p)),
        _ => p_words(p),
    }
}

fn samples(comparison: &Comparison) -> String {
    match comparison.clusters {
        Some(clusters) => format!("{} samples in {clusters} groups", comparison.n),
        None => format!("{} samples", comparison.n),
    }
}

fn what_it_takes(comparison: &Comparison) -> String {
    match comparison.more_rows_needed {
        Some(more) => {
            let samples = if more == 1 { "sample" } else { "samples" };
            format!("It would take about {} more {samples} to tell a difference of this size.", rounded(more))
        }
        None if is_told(comparison) => {
            "The test alone would tell them apart, but not together with the interval.".to_owned()
        }
        None if comparison.p.is_some_and(|p| p < ALPHA) => {
            "The test is at the smallest p that it can show: not more samples but fewer tests would tell them apart."
                .to_owned()
        }
        None if comparison.ties < comparison.n => {
            "What each gains on some samples it loses on others, so no number of further samples can be planned for."
                .to_owned()
        }
        None => "They do not differ on these samples, so no number of further samples can be planned for."
            .to_owned(),
    }
}
