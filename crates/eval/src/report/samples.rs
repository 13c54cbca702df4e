//! The samples as the page's script reads them: one JSON object inside the page, from which it makes rows only as they are
//! looked at. Failing samples come first. Texts are cut until all of it is small enough to open at once; the record has
//! them whole. Nothing in it can end the element that it stands in.

use super::words::cut;
use super::{CandidateResult, ReportData};
use crate::harness::{Metric, Verdicts};
use crate::record::SampleRecord;
use crate::sample::text_of;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The page must stay below 15 MB; this leaves room for everything else on it.
const MOST_BYTES: usize = 12_000_000;
/// Bounds on a text, in characters, that are tried one after the other.
const BOUNDS: [usize; 6] = [4_000, 2_000, 1_000, 500, 250, 120];
/// Objects with more fields are shown as texts.
const MOST_FIELDS: usize = 16;

/// All that the script needs.
#[derive(Serialize)]
pub(super) struct Payload<'a> {
    roles: Vec<&'a str>,
    /// Index of the candidate that the report is about.
    subject: usize,
    /// Index of the candidate that gained and lost samples are told against.
    against: Option<usize>,
    checks: Vec<&'a str>,
    /// Metrics with the indices of their checks.
    metrics: Vec<(&'a str, Vec<usize>)>,
    samples: Vec<SampleView<'a>>,
    /// Samples that were left out because the page would have become too large.
    left_out: usize,
    /// The bound on texts.
    bound: usize,
}

#[derive(Clone, Serialize)]
struct SampleView<'a> {
    id: &'a str,
    input: String,
    /// A text, or an object of texts by field.
    expected: Value,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<&'a str, String>,
    /// One a candidate; `None` where it was not measured on the sample.
    answers: Vec<Option<AnswerView<'a>>>,
}

#[derive(Clone, Serialize)]
struct AnswerView<'a> {
    /// The output; `None` where there is none.
    #[serde(rename = "o")]
    output: Option<String>,
    /// Why there is none.
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// The score of the sample.
    #[serde(rename = "s")]
    score: Option<f64>,
    /// One letter a field of `expected`: right, partly, wrong, or `-` where no check says.
    #[serde(rename = "m", skip_serializing_if = "String::is_empty")]
    marks: String,
    /// Indices of the checks that failed, and why.
    #[serde(rename = "f", skip_serializing_if = "Vec::is_empty")]
    failed: Vec<(usize, String)>,
    /// Indices of the checks that say nothing: not asked, or a verdict is missing.
    #[serde(rename = "u", skip_serializing_if = "Vec::is_empty")]
    unsaid: Vec<usize>,
}

/// The object as text that can stand in a `script` element.
pub(super) fn payload(data: &ReportData, metrics: &[Metric]) -> String {
    let score = metrics.iter().find(|metric| metric.name == data.task.score);
    let order = order(data, score);
    let mut kept = order.len();
    loop {
        for bound in BOUNDS {
            let payload = view(data, (metrics, score), &order[..kept], bound);
            let json = serde_json::to_string(&Payload { left_out: order.len() - kept, ..payload });
            let text = embedded(&json.unwrap_or_else(|_| "null".to_owned()));
            if text.len() <= MOST_BYTES || kept <= 1 {
                return text;
            }
            // The smallest bound is not enough: fewer samples are.
            if bound == BOUNDS[BOUNDS.len() - 1] {
                kept = (kept as f64 * 0.9 * MOST_BYTES as f64 / text.len() as f64).max(1.0) as usize;
            }
        }
    }
}

/// JSON without the characters that mean something in HTML; they only occur inside of strings.
fn embedded(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// The subject's samples, those with the lowest score first, else in the order of the data.
fn order<'a>(data: &'a ReportData, score: Option<&Metric>) -> Vec<&'a SampleRecord> {
    let mut samples: Vec<&SampleRecord> = data.candidates[data.subject].evaluation.samples.iter().collect();
    let value =
        |sample: &SampleRecord| score.and_then(|metric| metric.value(&sample.verdicts)).unwrap_or(-1.0);
    // Stable, so that equal scores keep the order of the data.
    samples.sort_by(|a, b| value(a).total_cmp(&value(b)));
    samples
}

fn view<'a>(
    data: &'a ReportData,
    (metrics, score): (&'a [Metric], Option<&Metric>),
    order: &[&'a SampleRecord],
    bound: usize,
) -> Payload<'a> {
    let by_id = |candidate: &'a CandidateResult| -> HashMap<&'a str, &'a SampleRecord> {
        candidate.evaluation.samples.iter().map(|sample| (sample.id.as_str(), sample)).collect()
    };
    let records: Vec<HashMap<&str, &SampleRecord>> = data.candidates.iter().map(by_id).collect();
    let names: BTreeSet<&str> =
        order.iter().flat_map(|sample| sample.verdicts.keys().map(String::as_str)).collect();
    let checks: Vec<&str> = names.into_iter().collect();
    let index: HashMap<&str, usize> = checks.iter().enumerate().map(|(i, name)| (*name, i)).collect();
    let sample = |sample: &&'a SampleRecord| SampleView {
        id: &sample.id,
        input: cut(&text_of(&sample.input), bound),
        expected: expected(sample, bound),
        meta: sample.meta.iter().map(|(name, value)| (name.as_str(), cut(&text_of(value), 60))).collect(),
        answers: records
            .iter()
            .map(|records| records.get(sample.id.as_str()).map(|record| answer(record, score, &index, bound)))
            .collect(),
    };
    Payload {
        roles: data.candidates.iter().map(|candidate| candidate.role.as_str()).collect(),
        subject: data.subject,
        against: data.strongest(),
        samples: order.iter().map(sample).collect(),
        metrics: metrics
            .iter()
            .map(|metric| {
                let of = metric.checks().into_iter().filter_map(|name| index.get(name.as_str()).copied());
                (metric.name.as_str(), of.collect())
            })
            .collect(),
        checks,
        left_out: 0,
        bound,
    }
}

fn expected(sample: &SampleRecord, bound: usize) -> Value {
    match &sample.expected {
        Value::Object(fields) if (1..=MOST_FIELDS).contains(&fields.len()) => Value::Object(
            fields.iter().map(|(name, value)| (name.clone(), cut(&text_of(value), bound).into())).collect(),
        ),
        other => cut(&text_of(other), bound).into(),
    }
}

fn answer<'a>(
    record: &'a SampleRecord,
    score: Option<&Metric>,
    index: &HashMap<&str, usize>,
    bound: usize,
) -> AnswerView<'a> {
    let failed = record.verdicts.iter().filter_map(|(name, verdict)| {
        let failed = verdict.number().is_some_and(|number| number < 1.0);
        failed
            .then(|| Some((*index.get(name.as_str())?, cut(verdict.reason().unwrap_or(""), bound))))
            .flatten()
    });
    let marks = match &record.expected {
        Value::Object(fields) if (1..=MOST_FIELDS).contains(&fields.len()) => {
            fields.keys().map(|field| field_mark(field, &record.verdicts)).collect()
        }
        _ => String::new(),
    };
    AnswerView {
        output: record.output.as_deref().map(|output| cut(output, bound)),
        error: record.error.as_deref(),
        score: score.and_then(|metric| metric.value(&record.verdicts)).map(|s| (s * 1e4).round() / 1e4),
        marks,
        failed: failed.collect(),
        unsaid: record
            .verdicts
            .iter()
            .filter(|(_, verdict)| verdict.number().is_none())
            .filter_map(|(name, _)| index.get(name.as_str()).copied())
            .collect(),
    }
}

/// By the checks of this field (`….field`): right when one forgiving enough passed, as the score counts it.
fn field_mark(field: &str, verdicts: &Verdicts) -> char {
    let ending = format!(".{field}");
    let numbers = verdicts.iter().filter(|(name, _)| name.ends_with(&ending)).filter_map(|(_, v)| v.number());
    match numbers.reduce(f64::max) {
        None => '-',
        Some(1.0) => 'r',
        Some(number) if number > 0.0 => 'p',
        Some(_) => 'w',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_object_can_end_its_element() {
        let text = embedded(&serde_json::json!(["</script><!--&amp;"]).to_string());
        assert!(!text.contains(['<', '>', '&']), "{text}");
        let back: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, ["</script><!--&amp;"]);
    }
}
