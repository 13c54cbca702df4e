//! Should you fine-tune at all? Baselines and learning curves on validation rows, put together into one recommendation
//! with its reasons. What was measured comes from `runner`; every sentence that says which of two is ahead is a claim of
//! `compare`; this room draws the curves, reads off what more rows would bring, and looks up the recommendation in a
//! table. What is measured, and how it is trained, is `cli`'s.

mod curve;
mod learning;
mod page;
mod recommend;

pub use curve::PowerLaw;
pub use learning::{CurvePoint, Doubled, Fitted, LearningCurve};
pub use recommend::{Evidence, Recommendation, recommend};

use crate::baseline::Sort;
use crate::compare::{AgainstAll, Claim, CompareSettings, Entry, compare_with_all, leakage};
use crate::report::{CandidateResult, Command, Fingerprint, TUNED, TaskSummary};
use crate::statistics::Estimate;
use crate::{Error, Kind, Result, files};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of [`AdviseData`] as JSON.
pub const ADVISE_VERSION: u32 = 1;

/// Everything that the advice shows. As JSON this is `advise.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdviseData {
    /// [`ADVISE_VERSION`].
    pub version: u32,
    /// The task.
    pub task: TaskSummary,
    /// The split measured on.
    pub split: String,
    /// Samples measured.
    pub n: usize,
    /// Training rows there are.
    pub train_rows: usize,
    /// What to do.
    pub recommendation: Recommendation,
    /// The same as a sentence.
    pub headline: String,
    /// Why, the most important first.
    pub reasons: Vec<String>,
    /// What may be said of the trained model (where none was trained, of the last candidate) and the others.
    pub claims: Vec<Claim>,
    /// All candidates in the order of measuring.
    pub candidates: Vec<Advised>,
    /// The learning curves.
    pub curves: Vec<LearningCurve>,
    /// How to get the same numbers again.
    pub commands: Vec<Command>,
    /// What the numbers rest on.
    pub fingerprints: Vec<Fingerprint>,
    /// The machine, in words, for the times.
    pub machine: Option<String>,
    /// What a reader must know besides.
    pub notes: Vec<String>,
}

/// One candidate of the advice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advised {
    /// What it is called: `base`, `constrained`, `few-shot`, `tuned`, `majority`, `nearest`, `linear`.
    pub role: String,
    /// Its model reference.
    pub candidate: String,
    /// Its score.
    pub score: Estimate,
    /// The trained model's score minus its; `None` for the trained model itself.
    pub difference: Option<f64>,
    /// Lower end of the interval of the difference.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// p of the paired test, corrected where it is one of several.
    pub p: Option<f64>,
    /// Seconds that measuring took.
    pub seconds: f64,
}

/// What the advice is made from.
pub struct Findings {
    /// The task.
    pub task: TaskSummary,
    /// Training rows there are.
    pub train_rows: usize,
    /// Measured inputs that stand in the training rows too; above 0 nothing is claimed.
    pub shared: usize,
    /// The candidates in the order of measuring; the trained one is called `tuned`.
    pub candidates: Vec<CandidateResult>,
    /// The learning curves, that of `tuned` among them where it was drawn.
    pub curves: Vec<LearningCurve>,
    /// Seed of the draws.
    pub seed: u64,
}

impl AdviseData {
    /// The recommendation and everything it rests on.
    ///
    /// # Errors
    /// When there are fewer than two candidates, or they cannot be compared.
    pub fn new(findings: Findings) -> Result<AdviseData> {
        let Findings { task, train_rows, shared, candidates, curves, seed } = findings;
        let trained = candidates.iter().position(|candidate| candidate.role == TUNED);
        let Some(subject) = trained.or(candidates.len().checked_sub(1)).filter(|_| candidates.len() > 1)
        else {
            return Err(Error::new(Kind::Usage, "advice takes two candidates or more")
                .found(candidates.len().to_string()));
        };
        let n = candidates[subject].evaluation.n;
        let known = candidates.iter().map(|candidate| candidate.evaluation.header.shared);
        let shared = known.fold(shared, usize::max);
        let against = against(&candidates, subject, (shared, seed))?;
        let tuned_curve = curves.iter().find(|curve| curve.role == TUNED);
        let (recommendation, why) =
            recommend(&evidence(&against, &candidates, (trained, tuned_curve), shared));
        let claims = claims(&against, &candidates);
        let score_unit = candidates[subject]
            .evaluation
            .metrics
            .get(&task.score)
            .map(|score| score.unit)
            .unwrap_or_default();
        let mut reasons = vec![why];
        reasons.extend(claims.iter().map(|claim| claim.sentence().to_owned()));
        reasons.extend(curves.iter().map(|curve| curve.sentence(score_unit)));
        let mut notes = Vec::new();
        if shared > 0 {
            notes.push(leakage(shared, n));
        }
        let advised = candidates.iter().map(|candidate| advised(candidate, &against, &task.score)).collect();
        let header = &candidates[subject].evaluation.header;
        let print = |name: &str, value: &str| Fingerprint { name: name.into(), value: value.into() };
        Ok(AdviseData {
            version: ADVISE_VERSION,
            split: header.split.name().to_owned(),
            n,
            train_rows,
            recommendation,
            headline: recommendation.headline().to_owned(),
            reasons,
            claims,
            candidates: advised,
            fingerprints: vec![
                print("checks and metrics", &header.harness_fingerprint),
                print("prompt", &header.prompt_fingerprint),
                print(&format!("{} samples", header.split), &header.data_fingerprint),
            ],
            task,
            curves,
            commands: Vec::new(),
            machine: None,
            notes,
        })
    }

    /// Reads the advice in a folder; `None` where there is none.
    ///
    /// # Errors
    /// When the file cannot be read, is no advice, or is of a newer version.
    pub fn read(folder: &Path) -> Result<Option<AdviseData>> {
        let path = folder.join("advise.json");
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(|e| Error::io("cannot read the advice", &path, &e))?;
        let wrong = |found: String| {
            Error::new(Kind::Data, "the file holds no advice").found(found).at(path.display().to_string())
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version > u64::from(ADVISE_VERSION) => {
                Err(Error::new(Kind::Data, "the advice is of a newer version")
                    .expected(format!("{ADVISE_VERSION} at most"))
                    .found(version.to_string())
                    .at(path.display().to_string()))
            }
            Some(_) => serde_json::from_value(value).map(Some).map_err(|e| wrong(e.to_string())),
            None => Err(wrong("no version".into())),
        }
    }

    /// The learning curves as a picture; `None` where no curve has two points.
    pub(crate) fn picture(&self) -> Option<String> {
        page::curves(self)
    }

    /// What more rows would bring, a sentence a curve.
    pub(crate) fn outlook(&self) -> Vec<String> {
        let unit = self.candidates.first().map(|candidate| candidate.score.unit).unwrap_or_default();
        self.curves.iter().map(|curve| curve.sentence(unit)).collect()
    }

    /// The page, complete in itself.
    ///
    /// # Errors
    /// When the template cannot be filled in.
    pub fn html(&self) -> Result<String> {
        page::render(self)
    }

    /// Writes `advise.html` and `advise.json` into `folder`; each is whole or not there.
    ///
    /// # Errors
    /// As [`AdviseData::html`], or when the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| {
            Error::new(Kind::Data, "the advice cannot be written as JSON").found(error.to_string())
        })?;
        files::write_atomic(&folder.join("advise.json"), &json)?;
        files::write_atomic(&folder.join("advise.html"), self.html()?.as_bytes())
    }
}

fn against(
    candidates: &[CandidateResult],
    subject: usize,
    (shared, seed): (usize, u64),
) -> Result<AgainstAll> {
    let entries: Vec<Entry<'_>> =
        candidates.iter().map(|c| Entry { name: &c.role, evaluation: &c.evaluation }).collect();
    let others: Vec<Entry<'_>> =
        entries.iter().enumerate().filter(|(index, _)| *index != subject).map(|(_, entry)| *entry).collect();
    let settings = CompareSettings { shared, ..CompareSettings::new(seed) };
    compare_with_all(entries[subject], &others, &settings)
}

fn evidence<'a>(
    against: &AgainstAll,
    candidates: &[CandidateResult],
    (trained, curve): (Option<usize>, Option<&'a LearningCurve>),
    shared: usize,
) -> Evidence<'a> {
    let strongest = against.with_strongest();
    let name = strongest.map(|strongest| strongest.baseline.as_str()).unwrap_or_default();
    let comparison = strongest.and_then(|strongest| strongest.overall(&against.score));
    let score = candidates.iter().find(|c| c.role == name).and_then(|c| c.evaluation.score);
    Evidence {
        strongest: strongest.map(|_| Sort::of(name)),
        strongest_score: score,
        verdict: trained.and_then(|_| against.claim(name)).map(|claim| claim.kind()),
        // Without an interval all differences are equal; without a test there is nothing to go by.
        at_most: comparison.and_then(|c| c.high.or(c.difference.filter(|_| c.p.is_some()))),
        shared,
        doubled: curve.and_then(|curve| curve.doubled.as_ref()),
    }
}

/// Against the strongest of all, the strongest prompt and the linear classifier, each once.
fn claims(against: &AgainstAll, candidates: &[CandidateResult]) -> Vec<Claim> {
    let score = |role: &str| {
        let candidate = candidates.iter().find(|candidate| candidate.role == role);
        candidate.and_then(|candidate| candidate.evaluation.score).unwrap_or(f64::NEG_INFINITY)
    };
    let others = || against.baselines.iter().map(|baseline| baseline.baseline.as_str());
    let prompt = others()
        .filter(|role| Sort::of(role) == Sort::Prompt)
        .reduce(|best, role| if score(role) > score(best) { role } else { best });
    let linear = others().find(|role| Sort::of(role) == Sort::Linear);
    let strongest = against.with_strongest().map(|strongest| strongest.baseline.as_str());
    let mut names: Vec<&str> = Vec::new();
    for name in [strongest, prompt, linear].into_iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().filter_map(|name| against.claim(name)).collect()
}

fn advised(candidate: &CandidateResult, against: &AgainstAll, score: &str) -> Advised {
    let CandidateResult { role, evaluation, .. } = candidate;
    let comparison = against
        .baselines
        .iter()
        .find(|baseline| baseline.baseline == *role)
        .and_then(|baseline| baseline.overall(score));
    let nothing = || Estimate::new(None, Err("the score names no metric"), 0);
    Advised {
        role: role.clone(),
        candidate: evaluation.candidate.clone(),
        score: evaluation.metrics.get(score).cloned().unwrap_or_else(nothing),
        difference: comparison.and_then(|c| c.difference),
        low: comparison.and_then(|c| c.low),
        high: comparison.and_then(|c| c.high),
        p: comparison.and_then(|c| c.p_holm.or(c.p)),
        seconds: evaluation.seconds,
    }
}

#[cfg(test)]
#[path = "advise_tests.rs"]
mod tests;
