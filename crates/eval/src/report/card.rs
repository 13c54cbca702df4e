//! The score card: every metric by candidate with its interval, the paired comparison of the subject with each of the
//! others beside it, and the score on slices. Numbers come from `compare`; this file lays them out.

use super::words::{short_name, short_print};
use super::{CandidateResult, ReportData};
use crate::compare::{Comparison, Slice};
use crate::harness::{ANSWERED, Metric};
use crate::statistics::{Estimate, Interval, Unit};
use serde::Serialize;

/// One number with its interval.
#[derive(Serialize)]
pub(super) struct ScoreView {
    role: String,
    candidate: String,
    /// What the colour and the weight follow: `subject`, `strongest` or `other`.
    rank: &'static str,
    value: String,
    interval: String,
    has_interval: bool,
    whisker: Option<WhiskerView>,
}

/// A dot with its interval on a line from 0 to 100 %.
#[derive(Serialize)]
struct WhiskerView {
    at: String,
    left: String,
    width: String,
}

/// One metric of all candidates.
#[derive(Serialize)]
pub(super) struct MetricView {
    title: String,
    name: String,
    is_score: bool,
    rows: Vec<CardRow>,
}

#[derive(Serialize)]
struct CardRow {
    cell: ScoreView,
    /// What its number rests on, where that is not all samples.
    counts: String,
    /// Of the subject minus this one.
    difference: String,
    difference_interval: String,
    p: String,
}

/// The score on the slices of one field.
#[derive(Serialize)]
pub(super) struct SlicingView {
    field: String,
    rows: Vec<SliceRow>,
}

#[derive(Serialize)]
struct SliceRow {
    value: String,
    n: usize,
    /// Role, score and its interval, in the order of the candidates.
    cells: Vec<(String, String, String)>,
    difference: String,
    p: String,
}

/// The big numbers on top: the subject, the strongest of the others, and the untrained model.
pub(super) fn headline(data: &ReportData) -> Vec<ScoreView> {
    let base = data.candidates.iter().position(|candidate| candidate.role == super::BASE);
    let mut indices = vec![Some(data.subject), data.strongest(), base];
    let mut seen = Vec::new();
    indices.retain(|index| {
        index.is_some_and(|index| {
            !seen.contains(&index) && {
                seen.push(index);
                true
            }
        })
    });
    indices.into_iter().flatten().map(|index| score_view(data, index, &data.task.score)).collect()
}

fn score_view(data: &ReportData, index: usize, metric: &str) -> ScoreView {
    let CandidateResult { role, evaluation, .. } = &data.candidates[index];
    let estimate = evaluation.metrics.get(metric);
    ScoreView {
        role: role.clone(),
        candidate: format!(
            "{} · {}",
            short_name(&evaluation.candidate),
            short_print(&evaluation.header.candidate.fingerprint)
        ),
        rank: match index {
            index if index == data.subject => "subject",
            index if Some(index) == data.strongest() => "strongest",
            _ => "other",
        },
        value: estimate.and_then(|e| Some(e.unit.value(e.value?))).unwrap_or_else(|| "–".to_owned()),
        interval: estimate.map(Estimate::interval_or_reason).unwrap_or_default(),
        has_interval: estimate.is_some_and(|e| e.low.is_some()),
        whisker: estimate.and_then(whisker),
    }
}

fn whisker(estimate: &Estimate) -> Option<WhiskerView> {
    // The line stands for 0 to 100 %; a number that may be below 0 has no place on it.
    if estimate.unit == Unit::Number {
        return None;
    }
    let share = |number: f64| (number.clamp(0.0, 1.0) * 1000.0).round() / 10.0;
    let value = share(estimate.value?);
    let Interval { low, high } =
        Interval { low: estimate.low.map_or(value, share), high: estimate.high.map_or(value, share) };
    Some(WhiskerView {
        at: format!("{value:.1}%"),
        left: format!("{low:.1}%"),
        width: format!("{:.1}%", high - low),
    })
}

/// The score first, then the others in the order of the task; `answered` only where something was not.
pub(super) fn metrics(data: &ReportData, metrics: &[Metric]) -> Vec<MetricView> {
    let mut views: Vec<MetricView> =
        metrics.iter().map(|metric| metric_view(data, &metric.name, metric.description.as_deref())).collect();
    views.sort_by_key(|view| !view.is_score);
    if data.candidates.iter().any(|candidate| candidate.evaluation.unanswered() > 0) {
        views.push(metric_view(data, ANSWERED, Some("Samples with an answer")));
    }
    views
}

fn metric_view(data: &ReportData, name: &str, description: Option<&str>) -> MetricView {
    let estimate = |index: usize| data.candidates[index].evaluation.metrics.get(name);
    let row = |index: usize| {
        let comparison = comparison(data, index, name, None);
        CardRow {
            cell: score_view(data, index, name),
            counts: estimate(index).map(counts).unwrap_or_default(),
            difference: comparison.and_then(|c| Some(c.unit.difference(c.difference?))).unwrap_or_default(),
            difference_interval: comparison.map(difference_interval).unwrap_or_default(),
            p: comparison.map(Comparison::p_text).unwrap_or_default(),
        }
    };
    MetricView {
        title: description.unwrap_or(name).to_owned(),
        name: name.to_owned(),
        is_score: name == data.task.score,
        rows: by_value(data, name).into_iter().map(row).collect(),
    }
}

/// How many samples a metric rests on, where it is not all of them.
fn counts(estimate: &Estimate) -> String {
    let mut parts = Vec::new();
    if estimate.missing > 0 {
        parts.push(format!("{} without a number", estimate.missing));
    }
    if estimate.not_asked > 0 {
        parts.push(format!("not asked of {}", estimate.not_asked));
    }
    if parts.is_empty() { String::new() } else { format!("n {}, {}", estimate.n, parts.join(", ")) }
}

/// The candidates, the highest number first.
fn by_value(data: &ReportData, metric: &str) -> Vec<usize> {
    let value = |index: &usize| {
        let estimate = data.candidates[*index].evaluation.metrics.get(metric);
        estimate.and_then(|estimate| estimate.value).unwrap_or(f64::NEG_INFINITY)
    };
    let mut order: Vec<usize> = (0..data.candidates.len()).collect();
    order.sort_by(|a, b| value(b).total_cmp(&value(a)));
    order
}

/// The comparison of the subject with the candidate at `index`.
fn comparison<'a>(
    data: &'a ReportData,
    index: usize,
    metric: &str,
    slice: Option<&Slice>,
) -> Option<&'a Comparison> {
    let role = &data.candidates[index].role;
    let against = data.comparisons.as_ref()?.baselines.iter().find(|b| b.baseline == *role)?;
    against.comparisons.iter().find(|c| c.metric == metric && c.slice.as_ref() == slice)
}

fn difference_interval(comparison: &Comparison) -> String {
    match (comparison.low, comparison.high) {
        (Some(low), Some(high)) => {
            format!("{} to {}", comparison.unit.difference(low), comparison.unit.difference(high))
        }
        // A missing interval means equal differences only where there are differences to be equal.
        _ if comparison.n >= 2 && comparison.difference == Some(0.0) => "the same on every sample".to_owned(),
        _ => comparison.reason.clone().unwrap_or_else(|| "no interval".to_owned()),
    }
}

/// The score on every slice, by field: each candidate, and the subject against the strongest of the others.
pub(super) fn slices(data: &ReportData) -> Vec<SlicingView> {
    let (Some(all), Some(strongest)) = (&data.comparisons, data.strongest()) else { return Vec::new() };
    let Some(with_strongest) = all.with_strongest() else { return Vec::new() };
    let row = |comparison: &Comparison, slice: &Slice| {
        let value = |index: usize| {
            let (number, interval) = if index == data.subject {
                (comparison.candidate_value, comparison.candidate_interval)
            } else {
                let with = self::comparison(data, index, &all.score, Some(slice));
                (with.and_then(|c| c.baseline_value), with.and_then(|c| c.baseline_interval))
            };
            let text = number.map_or_else(|| "–".to_owned(), |number| comparison.unit.value(number));
            let bare = |number: f64| comparison.unit.bare(number);
            let range = interval.map_or_else(
                || "not enough for an interval".to_owned(),
                |interval| format!("{} to {}", bare(interval.low), bare(interval.high)),
            );
            (data.candidates[index].role.clone(), text, range)
        };
        SliceRow {
            value: slice.value.clone(),
            n: comparison.n,
            cells: columns(data, strongest).into_iter().map(value).collect(),
            difference: comparison.difference_text(),
            p: comparison.p_text(),
        }
    };
    let of_field = |field: &String| SlicingView {
        field: field.clone(),
        rows: with_strongest
            .comparisons
            .iter()
            .filter_map(|c| c.slice.as_ref().filter(|slice| slice.field == *field).map(|slice| row(c, slice)))
            .collect(),
    };
    all.by.iter().map(of_field).collect()
}

/// The subject, the strongest of the others, then the rest.
pub(super) fn columns(data: &ReportData, strongest: usize) -> Vec<usize> {
    let rest = (0..data.candidates.len()).filter(|index| *index != data.subject && *index != strongest);
    [data.subject, strongest].into_iter().chain(rest).collect()
}
