//! Where the candidates fail: the checks that fail most first, and by what the expected answer is: labels become a
//! confusion matrix (or, where they are many, the confusions that happen most), objects a table of their fields.

use super::ReportData;
use crate::check::Evidence;
use crate::record::SampleRecord;
use crate::runner::Evaluation;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Up to so many labels are a matrix that can be read.
const MATRIX: usize = 14;
/// More labels than this are no classes.
const MOST_LABELS: usize = 300;
/// Rows of a list.
const LIST: usize = 12;
const LONGEST_LABEL: usize = 80;
/// An answer that is none of the labels.
const OTHER: &str = "(another answer)";

/// One check, worst first.
#[derive(Serialize)]
pub(super) struct CheckView {
    name: String,
    /// The name as it stands in an address.
    link: String,
    /// One a candidate.
    cells: Vec<CheckCell>,
    #[serde(skip)]
    failed: usize,
}

#[derive(Serialize)]
struct CheckCell {
    role: String,
    /// `12 of 200`.
    text: String,
    /// Share that failed, in per cent, for a bar.
    share: String,
}

/// The confusions of the candidate that the report is about.
#[derive(Serialize)]
pub(super) struct Confusion {
    /// Columns of the matrix; empty where there are too many.
    given: Vec<String>,
    rows: Vec<ConfusionRow>,
    /// Expected and given labels with their count, the most frequent first.
    pairs: Vec<(String, String, usize)>,
    labels: usize,
}

#[derive(Serialize)]
struct ConfusionRow {
    expected: String,
    n: usize,
    cells: Vec<ConfusionCell>,
}

#[derive(Serialize)]
struct ConfusionCell {
    given: String,
    count: usize,
    right: bool,
    /// 0 to 100, for the depth of the colour.
    depth: usize,
}

/// Right answers for one field.
#[derive(Serialize)]
pub(super) struct FieldView {
    name: String,
    /// By candidate: role, `93.0 %`, and the number for a bar.
    cells: Vec<(String, String, String)>,
}

/// The checks that fail for the subject, the most failures first; the others after them in the order of names.
pub(super) fn checks(data: &ReportData) -> Vec<CheckView> {
    let subject = &data.candidates[data.subject].evaluation;
    let mut names: Vec<&String> = subject.samples.iter().flat_map(|sample| sample.verdicts.keys()).collect();
    names.sort();
    names.dedup();
    let mut views: Vec<CheckView> = names
        .into_iter()
        .map(|name| CheckView {
            name: name.clone(),
            link: encoded(name),
            failed: failures(subject, name).0,
            cells: data
                .candidates
                .iter()
                .map(|candidate| {
                    let (failed, n) = failures(&candidate.evaluation, name);
                    CheckCell {
                        role: candidate.role.clone(),
                        text: format!("{failed} of {n}"),
                        share: format!("{:.1}", 100.0 * failed as f64 / n.max(1) as f64),
                    }
                })
                .collect(),
        })
        .collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.failed));
    views
}

/// Percent-encoded.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Samples on which the check found something wrong, and those on which it found anything.
fn failures(evaluation: &Evaluation, check: &str) -> (usize, usize) {
    let numbers = evaluation.samples.iter().filter_map(|sample| sample.verdicts.get(check)?.number());
    numbers.fold((0, 0), |(failed, n), number| (failed + usize::from(number < 1.0), n + 1))
}

/// The confusions, where the expected answers are labels.
pub(super) fn confusion(data: &ReportData) -> Option<Confusion> {
    let samples = &data.candidates[data.subject].evaluation.samples;
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    for sample in samples {
        let label = label(&sample.expected)?;
        known.entry(label.to_lowercase()).or_insert(label);
    }
    if known.len() < 2 || known.len() > MOST_LABELS || known.len() * 2 > samples.len() {
        return None;
    }
    for sample in samples {
        let expected = label(&sample.expected)?;
        *counts.entry((expected, given(sample, &known))).or_default() += 1;
    }
    let labels: Vec<&String> = known.values().collect();
    let mut pairs: Vec<(String, String, usize)> = counts
        .iter()
        .filter(|((expected, given), _)| expected.to_lowercase() != given.to_lowercase())
        .map(|((expected, given), count)| (expected.clone(), given.clone(), *count))
        .collect();
    pairs.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1))));
    pairs.truncate(LIST);
    let matrix = labels.len() <= MATRIX;
    let columns: Vec<String> =
        labels.iter().map(|label| (*label).clone()).chain([OTHER.to_owned()]).collect();
    let row = |expected: &&String| {
        let count = |given: &str| counts.get(&((*expected).clone(), given.to_owned())).copied().unwrap_or(0);
        let n: usize = columns.iter().map(|given| count(given)).sum();
        let cell = |given: &String| ConfusionCell {
            given: given.clone(),
            count: count(given),
            right: given == *expected,
            depth: count(given) * 100 / n.max(1),
        };
        ConfusionRow { expected: (*expected).clone(), n, cells: columns.iter().map(cell).collect() }
    };
    Some(Confusion {
        rows: if matrix { labels.iter().map(row).collect() } else { Vec::new() },
        labels: labels.len(),
        given: if matrix { columns } else { Vec::new() },
        pairs,
    })
}

/// A short scalar as a label.
fn label(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(answer) => answer.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text.chars().count() <= LONGEST_LABEL && !text.contains('\n')).then_some(text)
}

/// Which of the known labels the answer names: by the check that found labels in it, else as a whole.
fn given(sample: &SampleRecord, known: &BTreeMap<String, String>) -> String {
    let found = sample.verdicts.values().find_map(|verdict| match verdict.evidence() {
        Some(Evidence::Labels { found, .. }) => Some(found.first().cloned().unwrap_or_default()),
        _ => None,
    });
    let text = found.or_else(|| sample.output.clone()).unwrap_or_default();
    known.get(&text.trim().to_lowercase()).cloned().unwrap_or_else(|| OTHER.to_owned())
}

/// The fields of expected objects with the share of right ones, where checks ask for fields one by one.
pub(super) fn fields(data: &ReportData) -> Vec<FieldView> {
    let samples = &data.candidates[data.subject].evaluation.samples;
    let mut names: Vec<&String> = Vec::new();
    for field in samples.iter().filter_map(|sample| sample.expected.as_object()).flat_map(|o| o.keys()) {
        if !names.contains(&field) && names.len() < 64 {
            names.push(field);
        }
    }
    let share = |evaluation: &Evaluation, field: &str| {
        let ending = format!(".{field}");
        let best = |sample: &SampleRecord| {
            let of_field = sample.verdicts.iter().filter(|(name, _)| name.ends_with(&ending));
            of_field.filter_map(|(_, verdict)| verdict.number()).reduce(f64::max)
        };
        let numbers: Vec<f64> = evaluation.samples.iter().filter_map(best).collect();
        crate::statistics::mean(&numbers)
    };
    names
        .into_iter()
        .filter_map(|name| {
            let cells = data.candidates.iter().map(|candidate| {
                let share = share(&candidate.evaluation, name)?;
                let text = crate::compare::percent(share);
                Some((candidate.role.clone(), text, format!("{:.1}", 100.0 * share)))
            });
            Some(FieldView { name: name.clone(), cells: cells.collect::<Option<Vec<_>>>()? })
        })
        .collect()
}
