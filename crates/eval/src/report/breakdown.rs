//! Where the candidates fail: the checks that fail most first, and by what the expected answer is: labels become a
//! confusion matrix (or, where they are many, the confusions that happen most), objects a table of their fields. A field
//! of few labels that a check looks at gets its confusions too. Lists of labels are told apart in `labels`.

use super::{CandidateResult, ReportData};
use crate::check::{CheckEntry, CheckSpec, Evidence};
use crate::compare::{GROUP, clusters_of};
use crate::json;
use crate::record::{SampleRecord, by_id};
use crate::runner::Evaluation;
use crate::sample::text_of;
use crate::statistics::{self, Unit};
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
    /// The field that holds the labels; `None` where they are the whole answers.
    field: Option<String>,
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
    /// The check whose mean it is, where the name of the field does not say so.
    pub(super) check: Option<String>,
    cells: Vec<FieldCell>,
}

/// One candidate's number for a field.
#[derive(Serialize)]
struct FieldCell {
    role: String,
    /// As `93.0 %`, or `0.93` where it is no share.
    value: String,
    /// 0 to 100, for a bar.
    bar: String,
    /// Interval and samples.
    range: String,
}

/// The checks that fail for the subject, the most failures first; the others after them in the order of names.
pub(super) fn checks(data: &ReportData) -> Vec<CheckView> {
    let subject = &data.candidates[data.subject].evaluation;
    // A number that stands in the row judges no answer.
    let harness = &subject.header.harness;
    let given = |name: &str| {
        harness.check.iter().any(|c| c.check.name() == name && matches!(c.check, CheckSpec::Given(_)))
    };
    let mut names: Vec<&String> = subject.samples.iter().flat_map(|sample| sample.verdicts.keys()).collect();
    names.retain(|name| !given(name));
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

/// A field of objects that checks look at alone, and their names.
struct Asked<'a> {
    field: &'a str,
    checks: Vec<&'a str>,
}

/// The fields in the order of the checks.
fn asked(data: &ReportData) -> Vec<Asked<'_>> {
    let mut all: Vec<Asked<'_>> = Vec::new();
    for entry in &data.candidates[data.subject].evaluation.header.harness.check {
        let Some(field) = entry.check.field() else { continue };
        match all.iter_mut().find(|asked| asked.field == field) {
            Some(asked) => asked.checks.push(entry.check.name()),
            None => all.push(Asked { field, checks: vec![entry.check.name()] }),
        }
    }
    all
}

/// The confusions: of the whole answers where the expected ones are labels, and of each field whose values are.
pub(super) fn confusions(data: &ReportData) -> Vec<Confusion> {
    let samples = &data.candidates[data.subject].evaluation.samples;
    let asked = asked(data);
    let each = [None].into_iter().chain(asked.iter().map(Some));
    each.filter_map(|asked| confusion(samples, asked)).collect()
}

fn confusion(samples: &[SampleRecord], asked: Option<&Asked<'_>>) -> Option<Confusion> {
    let mut expected: Vec<(&SampleRecord, String)> = Vec::new();
    for sample in samples {
        let value = match asked {
            None => Some(&sample.expected),
            // A row without the field says nothing about it.
            Some(asked) => sample.expected.get(asked.field).filter(|value| !value.is_null()),
        };
        if let Some(value) = value {
            expected.push((sample, label(value)?));
        }
    }
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for (_, label) in &expected {
        known.entry(label.to_lowercase()).or_insert_with(|| label.clone());
    }
    if known.len() < 2 || known.len() > MOST_LABELS || known.len() * 2 > expected.len() {
        return None;
    }
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    for (sample, label) in expected {
        *counts.entry((label, given(sample, asked, &known))).or_default() += 1;
    }
    let labels: Vec<&String> = known.values().collect();
    let (given, rows) =
        if labels.len() <= MATRIX { matrix(&labels, &counts) } else { (Vec::new(), Vec::new()) };
    let field = asked.map(|asked| asked.field.to_owned());
    Some(Confusion { field, given, rows, pairs: pairs(&counts), labels: labels.len() })
}

/// The confusions that happen most.
fn pairs(counts: &HashMap<(String, String), usize>) -> Vec<(String, String, usize)> {
    let mut pairs: Vec<(String, String, usize)> = counts
        .iter()
        .filter(|((expected, given), _)| expected.to_lowercase() != given.to_lowercase())
        .map(|((expected, given), count)| (expected.clone(), given.clone(), *count))
        .collect();
    pairs.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1))));
    pairs.truncate(LIST);
    pairs
}

/// The columns and rows of the matrix.
fn matrix(labels: &[&String], counts: &HashMap<(String, String), usize>) -> (Vec<String>, Vec<ConfusionRow>) {
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
    let rows = labels.iter().map(row).collect();
    (columns, rows)
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

/// Which of the known labels the answer names: by the check that found labels in it, else as a whole or in its field.
fn given(sample: &SampleRecord, asked: Option<&Asked<'_>>, known: &BTreeMap<String, String>) -> String {
    let asks = |name: &str| asked.is_none_or(|asked| asked.checks.contains(&name));
    let found = sample.verdicts.iter().filter(|(name, _)| asks(name)).find_map(|(_, verdict)| match verdict
        .evidence()
    {
        Some(Evidence::Labels { found, .. }) => Some(found.first().cloned().unwrap_or_default()),
        _ => None,
    });
    let output = || match asked {
        None => sample.output.clone(),
        Some(asked) => {
            let object = json::parse(sample.output.as_deref()?.trim()).ok()?;
            object.get(asked.field).map(text_of)
        }
    };
    let text = found.or_else(output).unwrap_or_default();
    known.get(&text.trim().to_lowercase()).cloned().unwrap_or_else(|| OTHER.to_owned())
}

/// The fields of expected objects: the share of right ones where checks ask for fields one by one, then the mean of each
/// check that looks at one field alone.
pub(super) fn fields(data: &ReportData) -> Vec<FieldView> {
    let samples = &data.candidates[data.subject].evaluation.samples;
    let mut names: Vec<&String> = Vec::new();
    for field in samples.iter().filter_map(|sample| sample.expected.as_object()).flat_map(|o| o.keys()) {
        if !names.contains(&field) && names.len() < 64 {
            names.push(field);
        }
    }
    let one_by_one = names.into_iter().filter_map(|name| {
        let ending = format!(".{name}");
        Some(FieldView {
            name: name.clone(),
            check: None,
            cells: cells(data, |check| check.ends_with(&ending))?,
        })
    });
    let alone = asked(data).into_iter().flat_map(|Asked { field, checks }| {
        let ending = format!(".{field}");
        // Such a name counts above already.
        let checks = checks.into_iter().filter(move |check| !check.ends_with(&ending));
        checks.filter_map(move |check| {
            let named = (check != field).then(|| check.to_owned());
            Some(FieldView {
                name: field.to_owned(),
                check: named,
                cells: cells(data, |name| name == check)?,
            })
        })
    });
    one_by_one.chain(alone).collect()
}

/// By candidate the mean over the samples of the best of these checks; `None` where one has no number.
fn cells(data: &ReportData, is_asked: impl Fn(&str) -> bool) -> Option<Vec<FieldCell>> {
    let best = |sample: &SampleRecord| {
        let asked = sample.verdicts.iter().filter(|(name, _)| is_asked(name));
        asked.filter_map(|(_, verdict)| verdict.number()).reduce(f64::max)
    };
    let checks = &data.candidates[data.subject].evaluation.header.harness.check;
    let own = |entry: &CheckEntry| {
        entry.check.unit() == Unit::Number && entry.check.names().iter().any(|name| is_asked(name))
    };
    let unit = if checks.iter().any(own) { Unit::Number } else { Unit::Share };
    let cell = |candidate: &CandidateResult| {
        let evaluation = &candidate.evaluation;
        let (asked, numbers): (Vec<&SampleRecord>, Vec<f64>) =
            by_id(&evaluation.samples).into_iter().filter_map(|sample| Some((sample, best(sample)?))).unzip();
        let clusters = clusters_of(asked.into_iter(), GROUP);
        let mut estimate =
            statistics::mean_over(&numbers, clusters.as_ref(), evaluation.header.settings.seed);
        let share = estimate.value?;
        estimate.unit = unit;
        Some(FieldCell {
            role: candidate.role.clone(),
            value: unit.value(share),
            // A scorer may go below 0; a bar cannot.
            bar: format!("{:.1}", 100.0 * share.clamp(0.0, 1.0)),
            range: format!("{}, n {}", estimate.interval_or_reason(), estimate.n),
        })
    };
    data.candidates.iter().map(cell).collect()
}

#[cfg(test)]
#[path = "breakdown_tests.rs"]
mod tests;
