//! What is printed: results on stdout, talk and errors on stderr. Nothing depends on colour.

use serde::Serialize;
use std::borrow::Cow;
use std::io::Write;
use underdog_eval::check::Verdict;
use underdog_eval::runner::Evaluation;
use underdog_eval::statistics::Estimate;
use underdog_eval::{Error, Kind, Result};

/// A line on stderr. Nobody listening there (`2>&1 | head`, a full disk behind it) must not end hours of work.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One object on stdout instead of text.
    pub json: bool,
}

impl Output {
    /// A line of talk.
    pub fn say(&self, line: &str) {
        say(line);
    }

    /// The result: the object with `--json`, the text without.
    pub fn result(&self, object: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let line = match self.json {
            true => serde_json::to_string(object).map_err(|e| Error::new(Kind::System, e.to_string()))?,
            false => text(),
        };
        self.print(&format!("{line}\n"))
    }

    /// Text on stdout as it is. A reader that has gone away (`| head`) is no error.
    pub fn print(&self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::new(Kind::System, "cannot write to stdout").found(e.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// A failure: its facts, then the hint. With `--json` also as the one object on stdout.
    pub fn error(&self, error: &Error) {
        let facts = error.facts();
        let stopped = facts.kind == Kind::Stopped;
        say(&format!("{}: {}", if stopped { "stopped" } else { "error" }, shown(&facts.what)));
        let lines = [("expected", &facts.expected), ("found", &facts.found), ("where", &facts.place)];
        for (name, value) in lines {
            if let Some(value) = value {
                say(&format!("  {name:<9} {}", shown(value).replace('\n', "\n            ")));
            }
        }
        if let Some(hint) = &facts.hint {
            say(&format!("  hint      {hint}"));
        }
        if self.json {
            self.error_object(error);
        }
    }

    /// The failure as the one object on stdout.
    pub fn error_object(&self, error: &Error) {
        let facts = error.facts();
        let object = serde_json::json!({"error": {
            "kind": format!("{:?}", facts.kind).to_lowercase(), "what": facts.what, "expected": facts.expected,
            "found": facts.found, "where": facts.place, "hint": facts.hint,
        }});
        // The failure itself is what matters; a closed stdout adds nothing.
        let _ = self.print(&format!("{object}\n"));
    }
}

/// Characters of a fact that a person is shown: a row may bring an id of any length.
const MOST_SHOWN: usize = 1_000;
/// Of these at the end.
const LAST_SHOWN: usize = 200;

fn shown(fact: &str) -> Cow<'_, str> {
    let count = fact.chars().count();
    if count <= MOST_SHOWN {
        return fact.into();
    }
    // What was wrong often stands at the end.
    let head: String = fact.chars().take(MOST_SHOWN - LAST_SHOWN).collect();
    let tail: String = fact.chars().skip(count - LAST_SHOWN).collect();
    format!("{head} … {tail} ({count} characters, all with --json)").into()
}

/// A share as a person reads it; a missing one as a dash.
pub fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{:.1} %", (v * 1000.0).round() / 10.0))
}

/// Seconds as a person reads them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A metric's number in its unit; a missing one as a dash.
pub fn value(estimate: &Estimate) -> String {
    estimate.value.map_or_else(|| "-".into(), |value| estimate.unit.value(value))
}

/// Candidates that still stand side by side on a line of 80 characters.
const SIDE_BY_SIDE: usize = 2;

/// The score card of evaluations: a line a metric, with two candidates side by side; of more, each has a line of its own.
pub fn score_card(candidates: &[(&str, &Evaluation)]) -> String {
    let Some((_, first)) = candidates.first() else { return String::new() };
    let score = first.header.harness.score.name();
    let mut text = format!("{} on {} rows ({})\n", first.task, first.n, first.split);
    let cells =
        |name: &str| -> Vec<String> { candidates.iter().map(|(_, e)| cell(e, name, first.n)).collect() };
    let mark = |name: &str| if name == score { "*" } else { " " };
    if candidates.len() > SIDE_BY_SIDE {
        let width = candidates.iter().map(|(role, _)| role.len()).max().unwrap_or(0);
        for name in first.metrics.keys() {
            text.push_str(&format!("{} {name}\n", mark(name)));
            for ((role, _), cell) in candidates.iter().zip(cells(name)) {
                text.push_str(&format!("    {role:<width$}  {cell}\n"));
            }
        }
    } else {
        let width = first.metrics.keys().map(|k| k.len()).max().unwrap_or(0).max(8);
        let line = |cells: &[String]| -> String {
            cells.iter().map(|cell| format!("{cell:<25}")).collect::<String>().trim_end().to_owned()
        };
        if candidates.len() > 1 {
            let heads: Vec<String> = candidates.iter().map(|(role, _)| (*role).to_owned()).collect();
            text.push_str(&format!("  {:<width$}  {}\n", "", line(&heads)));
        }
        for name in first.metrics.keys() {
            text.push_str(&format!("{} {name:<width$}  {}\n", mark(name), line(&cells(name))));
        }
    }
    text.push_str("* the score; in brackets the 95 % interval\n");
    candidates.iter().filter_map(|(role, e)| without_verdict(role, e)).for_each(|line| text.push_str(&line));
    text
}

/// How many rows the score does not rest on for want of a verdict, and the first reason.
fn without_verdict(role: &str, evaluation: &Evaluation) -> Option<String> {
    let missing = evaluation.metrics.get(evaluation.header.harness.score.name())?.missing;
    let verdicts = evaluation.samples.iter().flat_map(|sample| sample.verdicts.values());
    let reason =
        verdicts.filter(|verdict| matches!(verdict, Verdict::Missing { .. })).find_map(Verdict::reason)?;
    let whose = if role.is_empty() { String::new() } else { format!("{role}: ") };
    (missing > 0)
        .then(|| format!("{whose}{missing} of {} rows lack a verdict, such as: {reason}\n", evaluation.n))
}

/// A metric of an evaluation with its interval, or why there is none; and what it rests on, where that is not all of `rows`: some
/// may lack a verdict, some were not asked, and another candidate may have been measured on others.
fn cell(evaluation: &Evaluation, name: &str, rows: usize) -> String {
    let Some(m) = evaluation.metrics.get(name) else { return "-".into() };
    let of = if m.n == rows { String::new() } else { format!(" of {}", m.n) };
    format!("{:>7} {}{of}", value(m), range(m))
}

/// The interval of a number, or in brackets why there is none.
pub fn range(estimate: &Estimate) -> String {
    match estimate.interval_in_words() {
        Ok(interval) => format!("[{interval}]"),
        Err(reason) => format!("({reason})"),
    }
}
