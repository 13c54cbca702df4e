//! The advice as one page, in the style of the report and, like it, with nothing loaded from anywhere else.

use super::{AdviseData, Advised, LearningCurve};
use crate::Result;
use crate::baseline::Sort;
use crate::report::html::{broken, environment};
use crate::report::learning::{Level, picture};
use crate::report::words::{duration, grouped, short_name};
use crate::report::{Command, Fingerprint, STYLE, THEME, TUNED};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

#[derive(Serialize)]
struct Page<'a> {
    task: &'a str,
    description: &'a str,
    score: String,
    headline: &'a str,
    why: &'a str,
    reasons: &'a [String],
    split: &'a str,
    n: usize,
    train_rows: String,
    rows: Vec<RowView<'a>>,
    curves: Vec<CurveView<'a>>,
    commands: &'a [Command],
    fingerprints: &'a [Fingerprint],
    machine: &'a Option<String>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct RowView<'a> {
    role: &'a str,
    candidate: String,
    rank: &'static str,
    value: String,
    interval: String,
    difference: String,
    difference_interval: String,
    p: String,
    time: String,
}

#[derive(Serialize)]
struct CurveView<'a> {
    role: &'a str,
    law: String,
    points: Vec<(String, String, String)>,
}

/// The page for `data`.
pub(super) fn render(data: &AdviseData) -> Result<String> {
    let environment = environment();
    let template =
        environment.template_from_named_str("advise.html", include_str!("advise.html")).map_err(broken)?;
    template
        .render(context! {
            page => Value::from(Serde(page(data))),
            style => Value::from_safe_string(STYLE.to_owned()),
            theme => Value::from_safe_string(THEME.to_owned()),
            picture => curves(data).map(Value::from_safe_string),
        })
        .map_err(broken)
}

/// The learning curves as a picture.
pub(super) fn curves(data: &AdviseData) -> Option<String> {
    picture(&data.curves, &levels(data))
}

/// The strongest prompt, as what does not grow with the rows.
fn levels(data: &AdviseData) -> Vec<Level<'_>> {
    let prompts = data.candidates.iter().filter(|candidate| Sort::of(&candidate.role) == Sort::Prompt);
    let scored = prompts.filter_map(|c| Some(Level { role: &c.role, score: c.score.value? }));
    scored.reduce(|best, level| if level.score > best.score { level } else { best }).into_iter().collect()
}

fn page(data: &AdviseData) -> Page<'_> {
    let mut rows: Vec<&Advised> = data.candidates.iter().collect();
    let value = |c: &Advised| c.score.value.unwrap_or(f64::NEG_INFINITY);
    rows.sort_by(|a, b| value(b).total_cmp(&value(a)));
    let (why, reasons) = match data.reasons.split_first() {
        Some((why, reasons)) => (why.as_str(), reasons),
        None => ("", &[][..]),
    };
    Page {
        task: &data.task.name,
        description: &data.task.description,
        score: data.task.score.replace('_', " "),
        headline: &data.headline,
        why,
        reasons,
        split: &data.split,
        n: data.n,
        train_rows: grouped(data.train_rows as u64),
        rows: rows.into_iter().map(row).collect(),
        curves: data.curves.iter().map(curve).collect(),
        commands: &data.commands,
        fingerprints: &data.fingerprints,
        machine: &data.machine,
        notes: &data.notes,
    }
}

fn row(advised: &Advised) -> RowView<'_> {
    let Advised { role, candidate, score, .. } = advised;
    let unit = score.unit;
    let text = |difference: Option<f64>| difference.map(|d| unit.difference(d)).unwrap_or_default();
    RowView {
        role,
        candidate: short_name(candidate),
        rank: if role == TUNED { "subject" } else { "other" },
        value: score.value.map_or_else(|| "–".to_owned(), |value| unit.value(value)),
        interval: score.interval_or_reason(),
        difference: text(advised.difference),
        difference_interval: match (advised.low, advised.high) {
            (Some(low), Some(high)) => format!("{} to {}", unit.difference(low), unit.difference(high)),
            _ => String::new(),
        },
        p: advised.p.map(crate::compare::p_short).unwrap_or_default(),
        time: duration(advised.seconds),
    }
}

fn curve(curve: &LearningCurve) -> CurveView<'_> {
    let law = match (&curve.law, &curve.reason) {
        (Some(law), _) => {
            format!("1 − score = {:.3} + {:.3} · rows^−{:.2}", law.floor, law.scale, law.rate)
        }
        (None, reason) => reason.clone().unwrap_or_default(),
    };
    let point = |point: &super::CurvePoint| {
        let value = point.score.value.map_or_else(|| "–".to_owned(), |value| point.score.unit.value(value));
        (grouped(point.rows as u64), value, point.score.interval_or_reason())
    };
    CurveView { role: &curve.role, law, points: curve.points.iter().map(point).collect() }
}
