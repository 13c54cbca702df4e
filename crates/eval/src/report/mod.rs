//! The report of a run: plain data that serialises to JSON, and one self-contained HTML page made from it. It lays out
//! what was measured and what `compare` says may be claimed; it concludes nothing itself.

mod breakdown;
mod card;
#[cfg(test)]
mod contrast;
pub(crate) mod html;
mod labels;
pub(crate) mod learning;
mod samples;
mod scatter;
mod svg;
pub(crate) mod words;

use crate::advise::AdviseData;
pub use words::short_name;

use crate::compare::{ALL_FIELDS, AgainstAll, Claim, CompareSettings, Entry, compare_with_all, leakage};
use crate::runner::Evaluation;
use crate::task::Task;
use crate::{Error, Kind, Result, files};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::HashSet;
use std::path::Path;

/// The version of [`ReportData`] as JSON.
pub const REPORT_VERSION: u32 = 3;
/// The style of the report, for pages beside it.
pub const STYLE: &str = include_str!("report.css");
/// The script that switches between light and dark, for pages beside it.
pub const THEME: &str = include_str!("theme.js");
/// The role of the untrained model.
pub const BASE: &str = "base";
/// The role of the trained one.
pub const TUNED: &str = "tuned";

/// Everything a report shows. Make one with [`ReportData::new`] or [`ReportData::of`], then fill in what training adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportData {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The task.
    pub task: TaskSummary,
    /// The candidates in the order of measuring.
    pub candidates: Vec<CandidateResult>,
    /// Index of the candidate that the report is about.
    pub subject: usize,
    /// It against each of the others, where there are any.
    pub comparisons: Option<AgainstAll>,
    /// What may be said: about it and the strongest other, then about it and the untrained model.
    pub claims: Vec<Claim>,
    /// Measured inputs that stand in the training rows too, as far as is known.
    pub shared: usize,
    /// What training did, if there was any.
    pub train: Option<TrainSummary>,
    /// Loss by step, in order.
    pub loss_curve: Vec<(u64, f64)>,
    /// The learning curves of the task and what was advised, where `underdog advise` was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<AdviseData>,
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
    /// Bytes of its files (weights, adapter, encoder), where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What a training did: the object of `train --json`, and a part of a run's report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// The objective: `sft`.
    pub method: String,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Different training rows.
    pub rows: u64,
    /// Passes over them.
    pub epochs: f64,
    /// Rows in a second of training, over all steps and sittings; `None` where no step has a time.
    pub rows_per_s: Option<f64>,
    /// Tokens of all rows of all steps.
    pub flat_tokens: u64,
    /// Tokens that were computed; less where rows share a prompt.
    pub tree_tokens: u64,
    /// Wall seconds of all steps over all sittings, as `metrics.jsonl` has them.
    pub seconds: f64,
    /// Loss of the first step.
    pub loss_first: Option<f64>,
    /// Loss of the last step.
    pub loss_last: Option<f64>,
    /// Peak resident memory of the process in MiB, where the platform tells.
    #[serde(default, deserialize_with = "whole_mib")]
    pub peak_rss_mib: Option<u64>,
    /// The adapter's folder.
    pub adapter: String,
}

/// Reports of earlier versions hold the peak with a decimal point.
fn whole_mib<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u64>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|mib| mib.round() as u64))
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
    /// A report of candidates of `task`. Where measured inputs stand in its training rows, nothing is claimed and a note
    /// says so.
    ///
    /// # Errors
    /// As [`ReportData::of`], or when the training rows cannot be read.
    pub fn new(task: &Task, candidates: Vec<CandidateResult>, seed: u64) -> Result<Self> {
        let mut shared = 0;
        for candidate in &candidates {
            let inputs = candidate.evaluation.samples.iter().map(|sample| &sample.input);
            shared = shared.max(task.shared_with_training(inputs)?);
        }
        let mut data = ReportData::of(candidates, shared, seed)?;
        data.task.description = task.description.clone();
        Ok(data)
    }

    /// A report of what records say: one candidate alone, or one against all others. `shared` is how many measured inputs
    /// stand in the training rows, where more of them are known than the records say.
    ///
    /// # Errors
    /// When there is no candidate, two have the same role, or they cannot be compared.
    pub fn of(candidates: Vec<CandidateResult>, shared: usize, seed: u64) -> Result<Self> {
        let Some(subject) = subject(&candidates) else {
            return Err(Error::new(Kind::Usage, "a report needs a candidate"));
        };
        let known = candidates.iter().map(|candidate| candidate.evaluation.header.shared);
        let shared = known.fold(shared, usize::max);
        let header = &candidates[subject].evaluation.header;
        let task = TaskSummary {
            name: header.task.clone(),
            description: String::new(),
            score: header.harness.score.name().to_owned(),
        };
        let comparisons = against_all(&candidates, subject, shared, seed)?;
        let mut notes = notes(&candidates, comparisons.as_ref());
        if shared > 0 {
            let n = candidates.iter().map(|candidate| candidate.evaluation.n).max().unwrap_or(0);
            notes.push(leakage(shared, n));
        }
        Ok(ReportData {
            version: REPORT_VERSION,
            task,
            claims: comparisons.as_ref().map(|all| claims(all, &candidates)).unwrap_or_default(),
            fingerprints: fingerprints(&candidates),
            notes,
            subject,
            shared,
            comparisons,
            candidates,
            train: None,
            loss_curve: Vec::new(),
            advice: None,
            commands: Vec::new(),
            machine: None,
        })
    }

    /// Index of the strongest of the other candidates.
    fn strongest(&self) -> Option<usize> {
        let name = &self.comparisons.as_ref()?.with_strongest()?.baseline;
        self.candidates.iter().position(|candidate| candidate.role == *name)
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

/// Which candidate the report is about: the tuned one, else the last.
fn subject(candidates: &[CandidateResult]) -> Option<usize> {
    candidates.iter().position(|candidate| candidate.role == TUNED).or(candidates.len().checked_sub(1))
}

fn against_all(
    candidates: &[CandidateResult],
    subject: usize,
    shared: usize,
    seed: u64,
) -> Result<Option<AgainstAll>> {
    let entries: Vec<Entry<'_>> =
        candidates.iter().map(|c| Entry { name: &c.role, evaluation: &c.evaluation }).collect();
    let mut seen = HashSet::new();
    if let Some(twice) = entries.iter().find(|entry| !seen.insert(entry.name)) {
        return Err(Error::new(Kind::Usage, "two candidates of a report have the same name")
            .expected("a name of its own for each")
            .found(format!("`{}`", twice.name)));
    }
    let others: Vec<Entry<'_>> =
        entries.iter().enumerate().filter(|(index, _)| *index != subject).map(|(_, entry)| *entry).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let settings = CompareSettings {
        shared,
        by: vec![ALL_FIELDS.to_owned()],
        slices_of_score: true,
        ..CompareSettings::new(seed)
    };
    compare_with_all(entries[subject], &others, &settings).map(Some)
}

/// Against the strongest, and against the untrained model where that is another one.
fn claims(all: &AgainstAll, candidates: &[CandidateResult]) -> Vec<Claim> {
    let strongest = all.with_strongest().map(|strongest| strongest.baseline.as_str());
    let base = candidates.iter().map(|candidate| candidate.role.as_str()).find(|role| *role == BASE);
    let names = strongest.into_iter().chain(base.filter(|base| Some(*base) != strongest));
    names.filter_map(|name| all.claim(name)).collect()
}

fn notes(candidates: &[CandidateResult], comparisons: Option<&AgainstAll>) -> Vec<String> {
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
    for c in comparisons.iter().flat_map(|all| &all.baselines) {
        let alone = c.only_baseline + c.only_candidate;
        if alone > 0 {
            notes.push(format!(
                "{} and {} are compared on the {} samples in common; {alone} were measured on one side only.",
                c.candidate, c.baseline, c.common
            ));
        }
    }
    notes
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
