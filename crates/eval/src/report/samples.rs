//! The samples side by side, as the page's template reads them: expected and given answers field by field where they
//! are objects, marks from the verdicts, the ones that still fail first. Escaping is the template's.

use super::ReportData;
use crate::harness::{Metric, Verdicts};
use crate::record::SampleRecord;
use crate::sample::text_of;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;

/// Longer texts are cut on the page; the record has them whole.
const LONGEST_TEXT: usize = 4_000;
const LONGEST_CELL: usize = 600;

/// One sample of the page.
#[derive(Serialize)]
pub(super) struct SampleView {
    pub id: String,
    pub input: String,
    /// `right` or `wrong`, by the last candidate.
    pub state: &'static str,
    /// `gained`, `lost` or `same`, from the first candidate to the last.
    pub change: &'static str,
    pub rows: Vec<RowView>,
    pub answers: Vec<AnswerView>,
    #[serde(skip)]
    score: Option<f64>,
}

/// One field, or the whole answer.
#[derive(Serialize)]
pub(super) struct RowView {
    pub label: String,
    pub expected: String,
    pub cells: Vec<CellView>,
}

/// What one candidate gave for one field.
#[derive(Serialize)]
pub(super) struct CellView {
    pub role: String,
    pub text: String,
    pub mark: Mark,
}

/// Right, wrong, partly right, or nothing to say.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    Right,
    Partly,
    Wrong,
    None,
}

/// One candidate's whole answer.
#[derive(Serialize)]
pub(super) struct AnswerView {
    pub role: String,
    pub mark: Mark,
    pub score: String,
    pub text: String,
    /// Whether the fields above show the answer already.
    pub in_rows: bool,
    pub failed: Vec<FailedView>,
}

/// A check that failed, and why.
#[derive(Serialize)]
pub(super) struct FailedView {
    pub check: String,
    pub reason: String,
}

/// The samples that every candidate has, the failing ones first, else in the order of the data.
pub(super) fn views(data: &ReportData, score: Option<&Metric>) -> Vec<SampleView> {
    let Some((last, earlier)) = data.candidates.split_last() else { return Vec::new() };
    let by_id: Vec<HashMap<&str, &SampleRecord>> = earlier
        .iter()
        .map(|candidate| candidate.evaluation.samples.iter().map(|s| (s.id.as_str(), s)).collect())
        .collect();
    let roles: Vec<&str> = data.candidates.iter().map(|candidate| candidate.role.as_str()).collect();
    let mut views: Vec<SampleView> = last
        .evaluation
        .samples
        .iter()
        .filter_map(|sample| {
            let twins: Option<Vec<&SampleRecord>> =
                by_id.iter().map(|samples| samples.get(sample.id.as_str()).copied()).collect();
            Some(view(&roles, &twins?.into_iter().chain([sample]).collect::<Vec<_>>(), score))
        })
        .collect();
    // Stable, so that equal scores keep the order of the data.
    views.sort_by(|a, b| a.score.unwrap_or(-1.0).total_cmp(&b.score.unwrap_or(-1.0)));
    views
}

fn view(roles: &[&str], records: &[&SampleRecord], score: Option<&Metric>) -> SampleView {
    let score_of = |record: &SampleRecord| score.and_then(|metric| metric.value(&record.verdicts));
    let (first, last) = (records[0], records[records.len() - 1]);
    let (before, after) = (score_of(first).unwrap_or(0.0), score_of(last).unwrap_or(0.0));
    let objects: Vec<Option<Value>> = records.iter().map(|record| object(record)).collect();
    let rows = match &last.expected {
        Value::Object(fields) if (1..=16).contains(&fields.len()) => fields
            .iter()
            .map(|(field, expected)| field_row(field, expected, roles, records, &objects))
            .collect(),
        expected => vec![whole_row(expected, roles, records, score)],
    };
    let by_field = last.expected.is_object();
    let answers = roles
        .iter()
        .zip(records)
        .zip(&objects)
        .map(|((role, record), object)| answer(role, record, score_of(record), !by_field || object.is_some()))
        .collect();
    SampleView {
        id: last.id.clone(),
        input: cut(&text_of(&last.input), LONGEST_TEXT),
        state: if after == 1.0 { "right" } else { "wrong" },
        change: if after > before {
            "gained"
        } else if after < before {
            "lost"
        } else {
            "same"
        },
        rows,
        answers,
        score: score_of(last),
    }
}

/// The answer as an object, if it is one.
fn object(record: &SampleRecord) -> Option<Value> {
    let value = crate::json::parse(record.output.as_deref()?.trim()).ok()?;
    value.is_object().then_some(value)
}

fn field_row(
    field: &str,
    expected: &Value,
    roles: &[&str],
    records: &[&SampleRecord],
    objects: &[Option<Value>],
) -> RowView {
    let cells = roles.iter().zip(records).zip(objects).map(|((role, record), object)| {
        let given = object.as_ref().and_then(|object| object.get(field));
        CellView {
            role: (*role).to_owned(),
            text: given.map(|value| cut(&text_of(value), LONGEST_CELL)).unwrap_or_default(),
            mark: field_mark(field, &record.verdicts),
        }
    });
    RowView {
        label: field.to_owned(),
        expected: cut(&text_of(expected), LONGEST_CELL),
        cells: cells.collect(),
    }
}

/// By the checks of this field (`….field`): right when one forgiving enough passed, as the score counts it.
fn field_mark(field: &str, verdicts: &Verdicts) -> Mark {
    let ending = format!(".{field}");
    let mut numbers =
        verdicts.iter().filter(|(name, _)| name.ends_with(&ending)).filter_map(|(_, v)| v.number());
    match numbers.next() {
        None => Mark::None,
        Some(number) => mark(Some(numbers.fold(number, f64::max))),
    }
}

fn whole_row(expected: &Value, roles: &[&str], records: &[&SampleRecord], score: Option<&Metric>) -> RowView {
    let cells = roles.iter().zip(records).map(|(role, record)| CellView {
        role: (*role).to_owned(),
        text: cut(record.output.as_deref().unwrap_or_default(), LONGEST_CELL),
        mark: mark(score.and_then(|metric| metric.value(&record.verdicts))),
    });
    RowView {
        label: "answer".into(),
        expected: cut(&text_of(expected), LONGEST_CELL),
        cells: cells.collect(),
    }
}

fn answer(role: &str, record: &SampleRecord, score: Option<f64>, in_rows: bool) -> AnswerView {
    let failed =
        record.verdicts.iter().filter(|(_, verdict)| verdict.number().is_some_and(|number| number < 1.0));
    AnswerView {
        role: role.to_owned(),
        mark: mark(score),
        score: score.map_or_else(|| "–".to_owned(), |score| format!("{:.0} %", score * 100.0)),
        text: match (&record.output, &record.error) {
            (Some(output), _) => cut(output, LONGEST_TEXT),
            (None, Some(error)) => format!("(no answer: {})", cut(error, LONGEST_CELL)),
            (None, None) => "(no answer)".to_owned(),
        },
        in_rows,
        failed: failed
            .map(|(name, verdict)| FailedView {
                check: name.clone(),
                reason: cut(verdict.reason().unwrap_or("failed"), LONGEST_CELL),
            })
            .collect(),
    }
}

fn mark(score: Option<f64>) -> Mark {
    match score {
        None => Mark::None,
        Some(score) if score >= 1.0 => Mark::Right,
        Some(score) if score > 0.0 => Mark::Partly,
        Some(_) => Mark::Wrong,
    }
}

/// The first `limit` characters, with a note where something was cut.
pub(super) fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{} … ({more} more characters in the record)", &text[..end])
        }
    }
}

/// Control characters as their pictures: a browser would drop them, and what cannot be seen cannot be judged.
pub(super) fn pictured(text: &str) -> String {
    let picture = |character| match character {
        '\n' | '\t' => character,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + character as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        other => other,
    };
    text.chars().map(picture).collect()
}
