//! How well each label is found, where samples have lists of labels: a table by label, from what the checks of kind
//! `labels` keep in their verdicts.

use super::ReportData;
use crate::check::{CheckSpec, Evidence, shorten};
use crate::record::SampleRecord;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Rows of the table: more labels than this are not looked through.
const LIST: usize = 30;
const LONGEST_LABEL: usize = 80;
/// What an answer makes up, which may be another word every time.
const UNEXPECTED: &str = "(labels that no sample expects)";

/// The labels of the candidate that the report is about, by one check.
#[derive(Serialize)]
pub(super) struct LabelTable {
    check: String,
    /// The most frequent labels first.
    rows: Vec<LabelRow>,
    /// What is left out, where something is.
    note: Option<String>,
}

#[derive(Serialize)]
struct LabelRow {
    label: String,
    /// Samples that expect it.
    expected: usize,
    /// Of these, the ones in whose answer it is.
    right: usize,
    missed: usize,
    /// Samples in whose answer it is although they do not expect it.
    superfluous: usize,
    f1: String,
}

/// Right, missed, superfluous.
type Counts = [usize; 3];

/// One table for each check of lists of labels.
pub(super) fn tables(data: &ReportData) -> Vec<LabelTable> {
    let evaluation = &data.candidates[data.subject].evaluation;
    let checks = evaluation.header.harness.check.iter().filter_map(|entry| match &entry.check {
        CheckSpec::Labels(spec) => Some(spec.name.as_str()),
        _ => None,
    });
    checks.filter_map(|check| table(&evaluation.samples, check)).collect()
}

fn table(samples: &[SampleRecord], check: &str) -> Option<LabelTable> {
    let counts = counts(samples, check);
    let frequency = |[right, missed, _]: &Counts| right + missed;
    let (mut known, unexpected): (Vec<_>, Vec<_>) =
        counts.into_iter().partition(|(_, counts)| frequency(counts) > 0);
    if known.is_empty() {
        return None;
    }
    // Stable, so that labels of the same frequency keep the order of their names.
    known.sort_by_key(|(_, counts)| Reverse(frequency(counts)));
    let labels = known.len();
    known.truncate(LIST);
    let mut rows: Vec<LabelRow> = known.iter().map(|(label, counts)| row(label, *counts)).collect();
    let superfluous = unexpected.iter().map(|(_, counts)| counts[2]).sum();
    if superfluous > 0 {
        rows.push(row(UNEXPECTED, [0, 0, superfluous]));
    }
    let note = (labels > LIST).then(|| format!("The {LIST} most frequent of {labels} labels."));
    Some(LabelTable { check: check.to_owned(), rows, note })
}

fn counts<'a>(samples: &'a [SampleRecord], check: &str) -> BTreeMap<&'a str, Counts> {
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    for verdict in samples.iter().filter_map(|sample| sample.verdicts.get(check)) {
        let Some(Evidence::Labels { found, expected }) = verdict.evidence() else { continue };
        for label in expected {
            counts.entry(label).or_default()[usize::from(!found.contains(label))] += 1;
        }
        for label in found.iter().filter(|label| !expected.contains(label)) {
            counts.entry(label).or_default()[2] += 1;
        }
    }
    counts
}

fn row(label: &str, [right, missed, superfluous]: Counts) -> LabelRow {
    let all = 2 * right + missed + superfluous;
    LabelRow {
        label: shorten(label, LONGEST_LABEL),
        expected: right + missed,
        right,
        missed,
        superfluous,
        f1: crate::compare::percent(2.0 * right as f64 / all.max(1) as f64),
    }
}
