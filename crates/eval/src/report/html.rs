//! The page: report data → views of ready text → the template `report.html`, which escapes everything it is given. The
//! style and the script lie beside it; nothing is loaded from anywhere else.

use super::words::{cut, duration, grouped, memory, pictured, rate};
use super::{
    CandidateResult, Command, Fingerprint, ReportData, breakdown, card, labels, samples, scatter, svg,
};
use crate::advise::AdviseData;
use crate::harness::resolve_metrics;
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
    strongest: Option<String>,
    further: Vec<String>,
    score: Vec<card::ScoreView>,
    metrics: Vec<card::MetricView>,
    slicings: Vec<card::SlicingView>,
    slice_roles: Vec<&'a str>,
    roles: Vec<&'a str>,
    subject: &'a str,
    split: &'a str,
    n: usize,
    compared: bool,
    tests: usize,
    /// Whether the test on top needs no correction.
    alone: bool,
    group: Option<String>,
    system: Option<String>,
    train: Option<String>,
    learned: Vec<String>,
    advised: Option<String>,
    costs: Vec<CostView>,
    checks: Vec<breakdown::CheckView>,
    confusions: Vec<breakdown::Confusion>,
    labels: Vec<labels::LabelTable>,
    fields: Vec<breakdown::FieldView>,
    /// Whether a check is named beside a field.
    named_checks: bool,
    commands: &'a [Command],
    fingerprints: &'a [Fingerprint],
    machine: &'a Option<String>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct CostView {
    what: String,
    time: String,
    rate: String,
    memory: String,
    tokens: String,
}

/// What fills in the templates of pages: everything is escaped, and what is not there is an error.
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => escape_formatter(out, state, &Value::from(pictured(text))),
        _ => escape_formatter(out, state, value),
    });
    environment
}

/// A template that cannot be filled in.
pub(crate) fn broken(error: minijinja::Error) -> Error {
    Error::new(Kind::Data, "the page cannot be made").found(error.to_string())
}

/// The page for `data`.
pub(super) fn render(data: &ReportData) -> Result<String> {
    let environment = environment();
    let template =
        environment.template_from_named_str("report.html", include_str!("report.html")).map_err(broken)?;
    let Some(subject) = data.candidates.get(data.subject) else {
        return Err(Error::new(Kind::Usage, "a report needs a candidate"));
    };
    let metrics = resolve_metrics(&subject.evaluation.header.harness)?;
    let safe = |text: &str| Value::from_safe_string(text.to_owned());
    template
        .render(context! {
            page => Value::from(Serde(page(data, &metrics))),
            style => safe(super::STYLE),
            theme => safe(super::THEME),
            script => safe(include_str!("report.js")),
            samples => Value::from_safe_string(samples::payload(data, &metrics)),
            curve => svg::loss_curve(&data.loss_curve).map(Value::from_safe_string),
            learning => data.advice.as_ref().and_then(AdviseData::picture).map(Value::from_safe_string),
            speed => scatter::speed(data).map(Value::from_safe_string),
            size => scatter::size(data).map(Value::from_safe_string),
        })
        .map_err(broken)
}

fn page<'a>(data: &'a ReportData, metrics: &[crate::harness::Metric]) -> Page<'a> {
    let subject = &data.candidates[data.subject];
    let header = &subject.evaluation.header;
    let (headline, facts, supported) = headline(data);
    let role = |index: usize| data.candidates[index].role.as_str();
    let fields = breakdown::fields(data);
    Page {
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
        strongest: strongest(data),
        further: data.claims.iter().skip(1).map(|claim| claim.sentence().to_owned()).collect(),
        score: card::headline(data),
        metrics: card::metrics(data, metrics),
        slicings: card::slices(data),
        slice_roles: data
            .strongest()
            .map(|strongest| card::columns(data, strongest).into_iter().map(role).collect())
            .unwrap_or_default(),
        roles: data.candidates.iter().map(|candidate| candidate.role.as_str()).collect(),
        subject: &subject.role,
        split: header.split.name(),
        n: subject.evaluation.n,
        compared: data.comparisons.is_some(),
        tests: data.comparisons.as_ref().map_or(0, |all| all.corrected_tests),
        alone: alone(data),
        group: data.comparisons.as_ref().and_then(|all| all.group.clone()),
        system: header.prompt.system.as_deref().map(|text| cut(text, 4_000)),
        train: training(data),
        learned: data.advice.as_ref().map(AdviseData::outlook).unwrap_or_default(),
        advised: data.advice.as_ref().map(advised),
        costs: costs(data),
        checks: breakdown::checks(data),
        confusions: breakdown::confusions(data),
        labels: labels::tables(data),
        named_checks: fields.iter().any(|field| field.check.is_some()),
        fields,
        commands: &data.commands,
        fingerprints: &data.fingerprints,
        machine: &data.machine,
        notes: &data.notes,
    }
}

/// Which one the claim is against, and out of how many.
fn strongest(data: &ReportData) -> Option<String> {
    let index = data.strongest()?;
    let (name, subject) = (&data.candidates[index].role, &data.candidates[data.subject].role);
    let others = data.candidates.len() - 1;
    let score = |candidate: &CandidateResult| candidate.evaluation.score;
    let highest = data.candidates.iter().enumerate().all(|(other, candidate)| {
        other == data.subject || score(candidate) <= score(&data.candidates[index])
    });
    let why = match highest {
        true => format!("which has the highest score of the {others} measured besides"),
        // Measured on other samples.
        false => {
            format!("of the {others} measured besides the hardest for {subject} on the samples in common")
        }
    };
    (others > 1).then(|| format!("The strongest baseline is {name}, {why}."))
}

fn alone(data: &ReportData) -> bool {
    let overall = data.comparisons.as_ref().and_then(|all| all.with_strongest()?.overall(&all.score));
    data.candidates.len() > 2 && overall.is_some_and(|score| score.p.is_some() && score.p_holm.is_none())
}

fn advised(advice: &AdviseData) -> String {
    let rows = grouped(advice.train_rows as u64);
    format!(
        "Measured by underdog advise on {} {} samples, with parts of the {rows} training rows. Its advice then: {}",
        advice.n, advice.split, advice.headline
    )
}

fn training(data: &ReportData) -> Option<String> {
    let train = data.train.as_ref()?;
    let losses = match (train.loss_first, train.loss_last) {
        (Some(first), Some(last)) => format!(" The loss went from {first:.3} to {last:.3}."),
        _ => String::new(),
    };
    let (steps, method, rows, epochs) = (train.steps, &train.method, grouped(train.rows), train.epochs);
    Some(format!("{steps} steps of {method} over {rows} rows, each seen {epochs:.1} times.{losses}"))
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
    let candidate = &data.candidates[data.subject];
    let n = candidate.evaluation.n;
    let estimate = candidate.evaluation.metrics.get(&data.task.score);
    let value = estimate.and_then(|e| Some(e.unit.value(e.value?))).unwrap_or_else(|| "no number".to_owned());
    let said =
        format!("The {} model reaches {value} at {}.", candidate.role, data.task.score.replace('_', " "));
    (said, format!("On {n} samples. One candidate alone supports no comparison."), false)
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
            memory: train.peak_rss_mib.map(|mib| memory(mib as f64)).unwrap_or_else(|| "–".to_owned()),
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
