//! `metrics.jsonl`: one object a step under the names that TRL uses, so that existing dashboards read it.

use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use underdog_eval::{Error, Result};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Steps taken, from 1.
    pub step: usize,
    /// Passes over the data, as a fraction.
    pub epoch: f64,
    /// Mean negative log-likelihood of the step's completion tokens, in nats.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Share of completion tokens whose logit was the largest.
    pub mean_token_accuracy: f64,
    /// Tokens of all rows so far, shared ones counted for every row.
    pub num_tokens: u64,
    /// Tokens computed so far, shared ones counted once.
    pub tree_tokens: u64,
    /// Wall seconds of the step.
    pub seconds: f64,
}

/// Adds a line.
///
/// # Errors
/// What the file system says.
pub fn append(path: &Path, metrics: &StepMetrics) -> Result<()> {
    let line = serde_json::to_string(metrics).map_err(std::io::Error::other);
    let open = || OpenOptions::new().create(true).append(true).open(path);
    line.and_then(|line| open()?.write_all(format!("{line}\n").as_bytes()))
        .map_err(|e| Error::io("cannot write the metrics", path, &e))
}

/// Makes what was added durable; a checkpoint is written only after the lines of its steps.
///
/// # Errors
/// What the file system says.
pub fn sync(path: &Path) -> Result<()> {
    let synced = OpenOptions::new().append(true).open(path).and_then(|file| file.sync_data());
    synced.map_err(|e| Error::io("cannot write the metrics", path, &e))
}

/// All whole lines up to and including `step`; what is not a whole line is left out.
///
/// # Errors
/// When the file exists and cannot be read.
pub fn read_until(path: &Path, step: usize) -> Result<Vec<StepMetrics>> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Error::io("cannot read the metrics", path, &e)),
    };
    let parsed = text.lines().filter_map(|line| serde_json::from_str::<StepMetrics>(line).ok());
    Ok(parsed.filter(|m| m.step <= step).collect())
}

/// Replaces the file by these lines: what a resumed run takes back.
///
/// # Errors
/// What the file system says.
pub fn rewrite(path: &Path, lines: &[StepMetrics]) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        let json = serde_json::to_string(line)
            .map_err(|e| Error::io("cannot write the metrics", path, &std::io::Error::other(e)))?;
        text.push_str(&json);
        text.push('\n');
    }
    underdog_eval::files::write_atomic(path, text.as_bytes())
}
