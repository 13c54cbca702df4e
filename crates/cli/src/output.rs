//! What is printed: results on stdout, talk and errors on stderr. Nothing depends on colour.

use serde::Serialize;
use std::io::Write;
use underdog_eval::runner::Evaluation;
use underdog_eval::statistics::Estimate;
use underdog_eval::{Error, Kind, Result};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One object on stdout instead of text.
    pub json: bool,
}

impl Output {
    /// A line of talk.
    pub fn say(&self, line: &str) {
        eprintln!("{line}");
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
        eprintln!("{}: {}", if stopped { "stopped" } else { "error" }, facts.what);
        let lines = [("expected", &facts.expected), ("found", &facts.found), ("where", &facts.place)];
        for (name, value) in lines {
            if let Some(value) = value {
                eprintln!("  {name:<9} {}", value.replace('\n', "\n            "));
            }
        }
        if let Some(hint) = &facts.hint {
            eprintln!("  hint      {hint}");
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

/// A metric's number in its unit.
fn value(estimate: &Estimate) -> String {
    estimate.value.map_or_else(|| "-".into(), |value| estimate.unit.value(value))
}

/// The score card of evaluations side by side, one column each.
pub fn score_card(columns: &[(&str, &Evaluation)]) -> String {
    let Some((_, first)) = columns.first() else { return String::new() };
    let width = first.metrics.keys().map(|k| k.len()).max().unwrap_or(0).max(8);
    let score = first.header.harness.score.name();
    let mut text = format!("{} on {} rows ({})\n", first.task, first.n, first.split);
    if columns.len() > 1 {
        let heads: Vec<String> = columns.iter().map(|(role, _)| format!("{role:<25}")).collect();
        text.push_str(&format!("  {:<width$}  {}\n", "", heads.join("").trim_end()));
    }
    for name in first.metrics.keys() {
        let cell = |(_, evaluation): &(&str, &Evaluation)| match evaluation.metrics.get(name) {
            Some(m) => match (m.low, m.high) {
                (Some(low), Some(high)) => {
                    format!("{:>7} [{} to {}]", value(m), m.unit.bare(low), m.unit.bare(high))
                }
                _ => format!("{:>7} ({})", value(m), m.reason.as_deref().unwrap_or("no interval")),
            },
            None => "-".into(),
        };
        let cells: Vec<String> = columns.iter().map(|c| format!("{:<25}", cell(c))).collect();
        let mark = if name == score { "*" } else { " " };
        text.push_str(&format!("{mark} {name:<width$}  {}\n", cells.join("").trim_end()));
    }
    text.push_str("* the score; in brackets the 95 % interval\n");
    text
}
