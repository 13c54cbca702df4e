//! How well each label is found, where samples have lists of labels: a table by label, from what the checks of kind
//! `labels` keep in their verdicts.

use super::ReportData;
use crate::check::{CheckSpec, Evidence, shorten};
use crate::compare::{GROUP, clusters_of};
use crate::corpus::{CorpusNumber, DRAWS_RANKED, Statistic, bootstrap};
use crate::record::{SampleRecord, by_id};
use crate::runner::Evaluation;
use crate::statistics::{self, Draws, Estimate, Interval};
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
    /// Of the F1; empty for what no sample expects.
    interval: String,
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
    checks.filter_map(|check| table(evaluation, check)).collect()
}

fn table(evaluation: &Evaluation, check: &str) -> Option<LabelTable> {
    let samples = by_id(&evaluation.samples);
    let seed = evaluation.header.settings.seed;
    let counts = counts(&samples, check);
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
    let with_interval = |(label, counts): &(&str, Counts)| LabelRow {
        interval: f1(&samples, check, label, seed).interval_or_reason(),
        ..row(label, *counts)
    };
    let mut rows: Vec<LabelRow> = known.iter().map(with_interval).collect();
    let superfluous = unexpected.iter().map(|(_, counts)| counts[2]).sum();
    if superfluous > 0 {
        rows.push(row(UNEXPECTED, [0, 0, superfluous]));
    }
    let note = (labels > LIST).then(|| format!("The {LIST} most frequent of {labels} labels."));
    Some(LabelTable { check: check.to_owned(), rows, note })
}

/// The F1 of one label. Among the samples that expect it or have it in their answer, the share `s` with both is a rate, and
/// F1 = 2 s / (1 + s): the interval is Wilson's of that share; where samples stand or fall together, it reaches as far as that
/// of redrawn groups, too.
fn f1(samples: &[&SampleRecord], check: &str, label: &str, seed: u64) -> Estimate {
    let has = |labels: &[String]| labels.iter().any(|other| other == label);
    let row = |sample: &&SampleRecord| match sample.verdicts.get(check)?.evidence()? {
        Evidence::Labels { found, expected } => {
            let (found, expected) = (has(found), has(expected));
            let one = |is: bool| f64::from(u8::from(is));
            Some(Evidence::Hits {
                hit: one(found && expected),
                extra: one(found && !expected),
                missed: one(!found && expected),
            })
        }
        _ => None,
    };
    let rows: Vec<Option<Evidence>> = samples.iter().map(row).collect();
    let statistic = Statistic::new(CorpusNumber::MicroF1, &rows);
    let value = match statistic.value(&(0..rows.len()).collect::<Vec<_>>()) {
        Ok(value) => value,
        Err(reason) => return Estimate::new(None, Err(reason), 0),
    };
    let there =
        |row: &&Evidence| matches!(row, Evidence::Hits { hit, extra, missed } if hit + extra + missed > 0.0);
    let n = rows.iter().flatten().filter(there).count();
    let of_share = |share: f64| 2.0 * share / (1.0 + share);
    let alone = statistics::intervals::wilson(value / (2.0 - value), n)
        .map(|share| Interval { low: of_share(share.low), high: of_share(share.high) });
    let interval = match clusters_of(samples.iter().copied(), GROUP) {
        None => alone,
        Some(clusters) => {
            // A table has as many as LIST of these.
            let draws = Draws { seed, count: DRAWS_RANKED };
            let together = bootstrap(rows.len(), Some(&clusters), &draws, &statistic);
            together.and_then(|together| {
                let alone = alone?;
                Ok(Interval { low: together.low.min(alone.low), high: together.high.max(alone.high) })
            })
        }
    };
    Estimate::new(Some(value), interval, n)
}

fn counts<'a>(samples: &[&'a SampleRecord], check: &str) -> BTreeMap<&'a str, Counts> {
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
        interval: String::new(),
    }
}
