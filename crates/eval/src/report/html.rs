//! The page: report data → views of ready text → the template `report.html`, which escapes everything it is given. The
//! style and the little script lie beside it; nothing is loaded from anywhere else.

use super::samples::{self, SampleView, cut, pictured};
use super::{CandidateResult, Command, Fingerprint, ReportData, svg};
use crate::compare::{Comparison, p_words, percent, points};
use crate::harness::{ANSWERED, Metric, resolve_metrics};
use crate::statistics::Estimate;
use crate::{Error, Kind, Result};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context, escape_formatter};
use serde::Serialize;

#[derive(Serialize)]
struct Page<'a> {
    task: String,
    description: String,
    kicker: &'static str,
    supported: bool,
    headline: String,
    facts: String,
    score: Vec<ScoreView>,
    roles: Vec<&'a str>,
    metrics: Vec<MetricView>,
    split: &'a str,
    n: usize,
    compared: bool,
    system: Option<String>,
    train: Option<String>,
    costs: Vec<CostView>,
    commands: &'a [Command],
    fingerprints: &'a [Fingerprint],
    machine: &'a Option<String>,
    notes: &'a [String],
    samples: Vec<SampleView>,
}

/// The big numbers on top.
#[derive(Serialize)]
struct ScoreView {
    role: String,
    candidate: String,
    value: String,
    interval: String,
    has_interval: bool,
    whisker: Option<WhiskerView>,
}

#[derive(Serialize)]
struct MetricView {
    title: String,
    name: String,
    is_score: bool,
    cells: Vec<ScoreView>,
    difference: String,
    difference_interval: String,
    p: String,
}

/// A dot with its interval on a line from 0 to 100 %.
#[derive(Serialize)]
struct WhiskerView {
    at: String,
    left: String,
    width: String,
}

#[derive(Serialize)]
struct CostView {
    what: String,
    time: String,
    rate: String,
    memory: String,
    tokens: String,
}

/// The page for `data`.
pub(super) fn render(data: &ReportData) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => escape_formatter(out, state, &Value::from(pictured(text))),
        _ => escape_formatter(out, state, value),
    });
    let broken = |error: minijinja::Error| {
        Error::new(Kind::Data, "the report page cannot be made").found(error.to_string())
    };
    let template =
        environment.template_from_named_str("report.html", include_str!("report.html")).map_err(broken)?;
    template
        .render(context! {
            page => Value::from(Serde(page(data)?)),
            style => Value::from_safe_string(include_str!("report.css").to_owned()),
            script => Value::from_safe_string(include_str!("report.js").to_owned()),
            curve => svg::loss_curve(&data.loss_curve).map(Value::from_safe_string),
        })
        .map_err(broken)
}

fn page(data: &ReportData) -> Result<Page<'_>> {
    let Some(first) = data.candidates.first() else {
        return Err(Error::new(Kind::Usage, "a report needs a candidate"));
    };
    let header = &first.evaluation.header;
    let metrics = resolve_metrics(&header.harness)?;
    let score = metrics.iter().find(|metric| metric.name == data.task.score);
    let (headline, facts, supported) = headline(data);
    Ok(Page {
        task: data.task.name.clone(),
        description: data.task.description.clone(),
        kicker: match (data.claims.is_empty(), supported) {
            (true, _) => "Measured",
            (false, true) => "What may be claimed",
            (false, false) => "Nothing may be claimed",
        },
        supported,
        headline,
        facts,
        score: data.candidates.iter().map(|candidate| score_view(candidate, &data.task.score)).collect(),
        roles: data.candidates.iter().map(|candidate| candidate.role.as_str()).collect(),
        metrics: metric_views(data, &metrics),
        split: header.split.name(),
        n: first.evaluation.n,
        compared: data.comparison.is_some(),
        system: header.prompt.system.as_deref().map(|text| cut(text, 4_000)),
        train: data.train.as_ref().map(|train| {
            let losses = match (train.loss_first, train.loss_last) {
                (Some(first), Some(last)) => format!(" The loss went from {first:.3} to {last:.3}."),
                _ => String::new(),
            };
            let rows = grouped(train.rows);
            let epochs = train.epochs;
            format!(
                "{} steps of {} over {rows} rows, each seen {epochs:.1} times.{losses}",
                train.steps, train.method
            )
        }),
        costs: costs(data),
        commands: &data.commands,
        fingerprints: &data.fingerprints,
        machine: &data.machine,
        notes: &data.notes,
        samples: samples::views(data, score),
    })
}

/// The claim, cut at its colon into what is said and the facts behind it.
fn headline(data: &ReportData) -> (String, String, bool) {
    if let Some(claim) = data.claims.first() {
        let (said, facts) = claim.sentence().split_once(": ").unwrap_or((claim.sentence(), ""));
        let mut facts = facts.to_owned();
        if let Some(start) = facts.get(..1) {
            facts.replace_range(..1, &start.to_uppercase());
        }
        return (said.trim_end_matches('.').to_owned() + ".", facts, claim.supported());
    }
    let Some(candidate) = data.candidates.first() else { return (String::new(), String::new(), false) };
    let n = candidate.evaluation.n;
    let value = candidate.evaluation.score.map_or_else(|| "no number".to_owned(), percent);
    let said =
        format!("The {} model reaches {value} at {}.", candidate.role, data.task.score.replace('_', " "));
    (said, format!("On {n} samples. One candidate alone supports no comparison."), false)
}

fn score_view(candidate: &CandidateResult, metric: &str) -> ScoreView {
    let estimate = candidate.evaluation.metrics.get(metric);
    ScoreView {
        role: candidate.role.clone(),
        candidate: candidate.evaluation.candidate.clone(),
        value: estimate.and_then(|e| e.value).map_or_else(|| "–".to_owned(), percent),
        interval: estimate.map(interval_text).unwrap_or_default(),
        has_interval: estimate.is_some_and(|e| e.low.is_some()),
        whisker: estimate.and_then(whisker),
    }
}

fn interval_text(estimate: &Estimate) -> String {
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!("{:.1} – {:.1}", low * 100.0, high * 100.0),
        _ => estimate.reason.clone().unwrap_or_else(|| "no interval".to_owned()),
    }
}

fn whisker(estimate: &Estimate) -> Option<WhiskerView> {
    let share = |number: f64| (number.clamp(0.0, 1.0) * 1000.0).round() / 10.0;
    let value = share(estimate.value?);
    let (low, high) = (estimate.low.map_or(value, share), estimate.high.map_or(value, share));
    Some(WhiskerView {
        at: format!("{value:.1}%"),
        left: format!("{low:.1}%"),
        width: format!("{:.1}%", high - low),
    })
}

/// The score first, then the others in the order of the task; `answered` only where something was not.
fn metric_views(data: &ReportData, metrics: &[Metric]) -> Vec<MetricView> {
    let mut views: Vec<MetricView> =
        metrics.iter().map(|metric| metric_view(data, &metric.name, metric.description.as_deref())).collect();
    views.sort_by_key(|view| !view.is_score);
    if data.candidates.iter().any(|candidate| candidate.evaluation.unanswered() > 0) {
        views.push(metric_view(data, ANSWERED, Some("Samples with an answer")));
    }
    views
}

fn metric_view(data: &ReportData, name: &str, description: Option<&str>) -> MetricView {
    let comparison = data.comparison.as_ref().and_then(|all| {
        if all.score.metric == name { Some(&all.score) } else { all.others.iter().find(|c| c.metric == name) }
    });
    MetricView {
        title: description.unwrap_or(name).to_owned(),
        name: name.to_owned(),
        is_score: name == data.task.score,
        cells: data.candidates.iter().map(|candidate| score_view(candidate, name)).collect(),
        difference: comparison.and_then(|c| c.difference).map_or_else(|| "–".to_owned(), points),
        difference_interval: comparison.map(difference_interval).unwrap_or_default(),
        p: comparison
            .and_then(|comparison| comparison.p_holm.or(comparison.p))
            .map(|p| p_words(p).trim_start_matches("p ").trim_start_matches("= ").to_owned())
            .unwrap_or_default(),
    }
}

fn difference_interval(comparison: &Comparison) -> String {
    match (comparison.low, comparison.high) {
        (Some(low), Some(high)) => format!("{} to {}", points(low), points(high)),
        // A missing interval means equal differences only where there are differences to be equal.
        _ if comparison.n >= 2 => "the same on every sample".to_owned(),
        _ => comparison.reason.clone().unwrap_or_else(|| "no interval".to_owned()),
    }
}

fn costs(data: &ReportData) -> Vec<CostView> {
    let mut costs: Vec<CostView> = data
        .candidates
        .iter()
        .map(|candidate| {
            let evaluation = &candidate.evaluation;
            CostView {
                what: format!("Measuring {}", candidate.role),
                time: duration(evaluation.seconds),
                rate: evaluation.rows_per_s.map(rate).unwrap_or_else(|| "–".to_owned()),
                memory: evaluation.peak_rss_mib.map(memory).unwrap_or_else(|| "–".to_owned()),
                tokens: format!(
                    "{} prompt, {} of them computed; {} generated",
                    grouped(evaluation.prompt_tokens as u64),
                    grouped(evaluation.computed_tokens as u64),
                    grouped(evaluation.new_tokens as u64)
                ),
            }
        })
        .collect();
    if let Some(train) = &data.train {
        let view = CostView {
            what: "Training".to_owned(),
            time: duration(train.seconds),
            rate: train.rows_per_s.map(rate).unwrap_or_else(|| "–".to_owned()),
            memory: train.peak_rss_mib.map(memory).unwrap_or_else(|| "–".to_owned()),
            tokens: format!(
                "{} in the rows, {} computed as a tree",
                grouped(train.flat_tokens),
                grouped(train.tree_tokens)
            ),
        };
        // In the order of the run: the baseline, training, the tuned model.
        costs.insert(1.min(costs.len()), view);
    }
    costs
}

fn rate(rows_per_s: f64) -> String {
    if rows_per_s >= 100.0 { format!("{rows_per_s:.0} rows/s") } else { format!("{rows_per_s:.2} rows/s") }
}

fn memory(mib: f64) -> String {
    if mib >= 1024.0 { format!("{:.2} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

/// `41 s`, `12 min 05 s`, `1 h 02 min`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") };
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {:02} s", whole / 60, whole % 60);
    }
    format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
}

/// Digits in threes with narrow spaces that do not break.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}
