//! The report of a run: plain data that serialises to JSON, and one self-contained HTML page made from it. It lays out
//! what was measured and what `compare` says may be claimed; it concludes nothing itself.

mod html;
mod samples;
mod svg;

use crate::compare::{Claim, CompareSettings, Comparisons, compare, leakage};
use crate::runner::Evaluation;
use crate::task::Task;
use crate::{Error, Kind, Result, files};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of [`ReportData`] as JSON.
pub const REPORT_VERSION: u32 = 2;

/// Everything a report shows. Make one with [`ReportData::new`], then fill in what training adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportData {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The task.
    pub task: TaskSummary,
    /// The candidates in the order of measuring: the baseline first.
    pub candidates: Vec<CandidateResult>,
    /// The second candidate against the first, where there are two.
    pub comparison: Option<Comparisons>,
    /// What may be said.
    pub claims: Vec<Claim>,
    /// What training did, if there was any.
    pub train: Option<TrainSummary>,
    /// Loss by step, in order.
    pub loss_curve: Vec<(u64, f64)>,
    /// How to get the same numbers again.
    pub commands: Vec<Command>,
    /// What the numbers rest on.
    pub fingerprints: Vec<Fingerprint>,
    /// The machine, in words, for the times.
    pub machine: Option<String>,
    /// What a reader must know besides: rows left out, leakage allowed.
    pub notes: Vec<String>,
}

/// What a report says about the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The metric that is the score.
    pub score: String,
}

/// One candidate and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidateResult {
    /// What it is called in the report: `base`, `tuned`.
    pub role: String,
    /// What was measured.
    pub evaluation: Evaluation,
}

/// What training did. As JSON this is the object that `train --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// How: `sft`.
    pub method: String,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Rows of the training split.
    pub rows: u64,
    /// Times each row was seen.
    pub epochs: f64,
    /// Rows a second of wall time.
    pub rows_per_s: Option<f64>,
    /// Tokens if every row were computed on its own.
    pub flat_tokens: u64,
    /// Tokens computed, shared ones once.
    pub tree_tokens: u64,
    /// Wall seconds.
    pub seconds: f64,
    /// Loss of the first step.
    pub loss_first: Option<f64>,
    /// Loss of the last step.
    pub loss_last: Option<f64>,
    /// Most memory the process held, in MiB.
    pub peak_rss_mib: Option<f64>,
    /// Where the adapter is.
    pub adapter: String,
}

/// A command and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What it does, in a few words.
    pub purpose: String,
    /// The command as typed into a shell.
    pub command: String,
}

/// The hash of something the numbers rest on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Of what.
    pub name: String,
    /// The hash.
    pub value: String,
}

impl ReportData {
    /// A report of one candidate, or of a baseline and a second one that is compared with it. Where measured inputs
    /// stand in the training rows of `task`, nothing is claimed and a note says so.
    ///
    /// # Errors
    /// When there is no candidate, there are more than two, the two cannot be compared, or the training rows cannot be
    /// read.
    pub fn new(task: &Task, candidates: Vec<CandidateResult>, seed: u64) -> Result<Self> {
        let mut shared = 0;
        for candidate in &candidates {
            let inputs = candidate.evaluation.samples.iter().map(|sample| &sample.input);
            shared = shared.max(task.shared_with_training(inputs)?);
        }
        let settings = CompareSettings { shared, ..CompareSettings::new(seed) };
        let comparison = match candidates.as_slice() {
            [_] => None,
            [a, b] => Some(compare(&a.evaluation, &b.evaluation, (&a.role, &b.role), &settings)?),
            other => {
                return Err(Error::new(Kind::Usage, "a report cannot be made of these candidates")
                    .expected("one or two")
                    .found(other.len().to_string()));
            }
        };
        let mut notes = notes(&candidates, comparison.as_ref());
        if shared > 0 {
            let n = candidates.iter().map(|candidate| candidate.evaluation.n).max().unwrap_or(0);
            notes.push(leakage(shared, n));
        }
        Ok(ReportData {
            version: REPORT_VERSION,
            task: TaskSummary {
                name: task.name.clone(),
                description: task.description.clone(),
                score: task.harness.score().to_owned(),
            },
            claims: comparison.as_ref().map(Comparisons::claims).unwrap_or_default(),
            fingerprints: fingerprints(&candidates),
            notes,
            comparison,
            candidates,
            train: None,
            loss_curve: Vec::new(),
            commands: Vec::new(),
            machine: None,
        })
    }

    /// The page, complete in itself.
    ///
    /// # Errors
    /// When a record names metrics that its harness lacks.
    pub fn html(&self) -> Result<String> {
        html::render(self)
    }

    /// Writes `report.html` and `report.json` into `folder`; each is whole or not there.
    ///
    /// # Errors
    /// As [`ReportData::html`], or when the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| {
            Error::new(Kind::Data, "the report is not valid JSON").found(error.to_string())
        })?;
        files::write_atomic(&folder.join("report.json"), &json)?;
        files::write_atomic(&folder.join("report.html"), self.html()?.as_bytes())
    }
}

fn fingerprints(candidates: &[CandidateResult]) -> Vec<Fingerprint> {
    let each = |name: String, value: &str| Fingerprint { name, value: value.to_owned() };
    let mut all: Vec<Fingerprint> = Vec::new();
    if let Some(first) = candidates.first() {
        let header = &first.evaluation.header;
        all.push(each("checks and metrics".into(), &header.harness_fingerprint));
        all.push(each("prompt".into(), &header.prompt_fingerprint));
        all.push(each(format!("{} samples", header.split), &header.data_fingerprint));
    }
    for candidate in candidates {
        let identity = &candidate.evaluation.header.candidate;
        all.push(each(format!("{} ({})", candidate.role, identity.name), &identity.fingerprint));
    }
    all
}

fn notes(candidates: &[CandidateResult], comparison: Option<&Comparisons>) -> Vec<String> {
    let mut notes = Vec::new();
    for candidate in candidates {
        let unanswered = candidate.evaluation.unanswered();
        if unanswered > 0 {
            notes.push(format!(
                "{} gave no answer to {unanswered} samples; they count as wrong.",
                candidate.role
            ));
        }
    }
    if let Some(c) = comparison
        && c.only_baseline + c.only_candidate > 0
    {
        notes.push(format!(
            "Compared on the {} samples in common; {} were measured on one side only.",
            c.score.n,
            c.only_baseline + c.only_candidate
        ));
    }
    notes
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
