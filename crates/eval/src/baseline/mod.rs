//! Baselines that need no language model, behind the same trait as every candidate: the most frequent answer, the answer
//! of the most similar training row, and a linear classifier on frozen vectors. A tuned model that does not beat them was
//! not worth training.
//!
//! They see training and validation rows, never test rows. Which of them a run measures is `cli`'s to say, and what may be
//! concluded `compare`'s.

mod answers;
mod linear;
mod logistic;
mod minimise;
mod sort;

pub use answers::Answers;
pub use linear::{Examples, Linear};
pub use logistic::{Data, Logistic, Targets};
pub use minimise::{Stop, minimise};
pub use sort::Sort;

use crate::embedder::{self, SharedEmbedder};
use crate::model::{Finish, Identity, Message, Model, Output, Request, Role};
use crate::sample::Sample;
use crate::split::{Rows, Train, Validation};
use crate::task::Task;
use crate::{Error, Kind, Result, json};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

/// Requests that are answered together.
const BATCH: usize = 256;
/// Changes when a baseline answers otherwise to the same rows, so that records do not mix.
const EDITION: u32 = 1;

/// A baseline as a model reference names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaselineReference {
    /// `majority`: the most frequent answer of the training rows.
    Majority,
    /// `nearest:EMBEDDER`: the answer of the most similar training row.
    Nearest(String),
    /// `linear:EMBEDDER`: a logistic regression on the vectors of the inputs.
    Linear(String),
}

impl BaselineReference {
    /// Reads a model reference; `None` where it names no baseline.
    pub fn parse(text: &str) -> Option<BaselineReference> {
        let embedder =
            |start: &str| text.strip_prefix(start).filter(|rest| !rest.is_empty()).map(str::to_owned);
        match text {
            "majority" => Some(BaselineReference::Majority),
            _ => embedder("nearest:")
                .map(BaselineReference::Nearest)
                .or_else(|| embedder("linear:").map(BaselineReference::Linear)),
        }
    }

    /// The encoder that the baseline needs.
    pub fn embedder(&self) -> Option<&str> {
        match self {
            BaselineReference::Majority => None,
            BaselineReference::Nearest(name) | BaselineReference::Linear(name) => Some(name),
        }
    }
}

impl std::fmt::Display for BaselineReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BaselineReference::Majority => f.write_str("majority"),
            BaselineReference::Nearest(name) => write!(f, "nearest:{name}"),
            BaselineReference::Linear(name) => write!(f, "linear:{name}"),
        }
    }
}

/// What a baseline learns from.
#[derive(Clone, Copy)]
pub struct Lessons<'a> {
    /// The task, for its prompts.
    pub task: &'a Task,
    /// The rows to learn from.
    pub train: &'a Rows<Train>,
    /// The rows to choose settings on; without them a part of the training rows is held out for it.
    pub validation: Option<&'a Rows<Validation>>,
    /// Decides which part that is.
    pub seed: u64,
    /// The kind of answers where it is known from more rows than these: few rows of many classes look like free text.
    pub kind: Option<&'a Answers>,
}

impl Lessons<'_> {
    /// What kind of answers the training rows have.
    pub fn answers(&self) -> Answers {
        match self.kind {
            Some(kind) => kind.alike(self.train.samples()),
            None => Answers::of(self.train.samples()),
        }
    }
}

/// A baseline that is ready to answer.
pub struct Baseline {
    identity: Identity,
    embedder: Option<SharedEmbedder>,
    knowledge: Knowledge,
}

enum Knowledge {
    Majority(String),
    Nearest { vectors: Vec<Vec<f32>>, answers: Vec<String> },
    Linear { linear: Box<Linear>, answers: Answers },
}

impl std::fmt::Debug for Baseline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Baseline").field("identity", &self.identity).finish()
    }
}

impl Baseline {
    /// Learns from the rows. `embedder` is what [`BaselineReference::embedder`] names, opened.
    ///
    /// # Errors
    /// When a prompt cannot be made, an embedder is needed and absent, or answers that do not come back are to be learnt
    /// as classes.
    pub fn learn(
        reference: &BaselineReference,
        lessons: Lessons<'_>,
        embedder: Option<&SharedEmbedder>,
    ) -> Result<Baseline> {
        let train = lessons.train.samples();
        let prompts = user_texts(lessons.task, train)?;
        let vectors = |texts: &[String]| {
            let embedder = embedder.ok_or_else(|| missing_embedder(reference))?;
            embedder::embed(embedder, &texts.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let mut seen = vec![pairs(&prompts, train)];
        let knowledge = match reference {
            BaselineReference::Majority => Knowledge::Majority(most_frequent(train)),
            BaselineReference::Nearest(_) => Knowledge::Nearest {
                vectors: vectors(&prompts)?,
                answers: train.iter().map(Sample::expected_text).collect(),
            },
            BaselineReference::Linear(_) => {
                let answers = lessons.answers();
                let validation = match lessons.validation {
                    None => {
                        seen.push(lessons.seed.into());
                        None
                    }
                    Some(rows) => {
                        let texts = user_texts(lessons.task, rows.samples())?;
                        seen.push(pairs(&texts, rows.samples()));
                        let right = rows.samples().iter().map(|sample| answers.right(sample)).collect();
                        Some(Examples { vectors: vectors(&texts)?, right })
                    }
                };
                let linear = Linear::fit(&vectors(&prompts)?, &answers, validation.as_ref(), lessons.seed)
                    .ok_or_else(|| not_classes(reference, &answers, train.len()))?;
                Knowledge::Linear { linear: Box::new(linear), answers }
            }
        };
        let name = reference.to_string();
        let encoder = embedder.map(embedder::identity);
        let content = serde_json::json!([EDITION, name, encoder.map(|e| e.fingerprint), seen]);
        let fingerprint = json::fingerprint(&content);
        Ok(Baseline { identity: Identity { name, fingerprint }, embedder: embedder.cloned(), knowledge })
    }

    fn answers(&self, texts: &[&str]) -> Result<Vec<String>> {
        let vectors = match &self.embedder {
            Some(embedder) => embedder::embed(embedder, texts)?,
            None => Vec::new(),
        };
        Ok(match &self.knowledge {
            Knowledge::Majority(answer) => texts.iter().map(|_| answer.clone()).collect(),
            Knowledge::Nearest { vectors: known, answers } => embedder::most_similar(known, &vectors, 1)
                .into_iter()
                .map(|found| found.first().map(|&row| answers[row].clone()).unwrap_or_default())
                .collect(),
            Knowledge::Linear { linear, answers } => {
                linear.choose(&vectors).iter().map(|chosen| answers.text(chosen)).collect()
            }
        })
    }
}

impl Model for Baseline {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// Reads the last user message of each request. No tokens are counted: there are none.
    fn generate(
        &mut self,
        requests: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()> {
        for (batch, requests) in requests.chunks(BATCH).enumerate() {
            let started = Instant::now();
            let texts: Vec<&str> = requests.iter().map(|request| last_user(&request.messages)).collect();
            let answers = self.answers(&texts)?;
            let seconds = started.elapsed().as_secs_f64() / requests.len() as f64;
            for (index, text) in answers.into_iter().enumerate() {
                let output = Output {
                    text,
                    finish: Finish::Stop,
                    prompt_tokens: 0,
                    computed_tokens: 0,
                    new_tokens: 0,
                    seconds,
                };
                if on_output(batch * BATCH + index, Ok(output)).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// What the candidate is asked last; empty where nobody asks.
pub(crate) fn last_user(messages: &[Message]) -> &str {
    messages.iter().rev().find(|m| m.role == Role::User).map_or("", |message| &message.content)
}

/// The user messages of samples, as every candidate sees them.
pub(crate) fn user_texts(task: &Task, samples: &[Sample]) -> Result<Vec<String>> {
    let text = |sample: &Sample| task.messages(sample).map(|messages| last_user(&messages).to_owned());
    samples.iter().map(text).collect()
}

fn pairs(prompts: &[String], samples: &[Sample]) -> serde_json::Value {
    prompts.iter().zip(samples).map(|(prompt, s)| serde_json::json!([prompt, s.expected])).collect()
}

/// The most frequent answer, the first of equally frequent ones.
fn most_frequent(samples: &[Sample]) -> String {
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for (place, sample) in samples.iter().enumerate() {
        counts.entry(sample.expected_text()).or_insert((0, place)).0 += 1;
    }
    let best = counts.into_iter().max_by_key(|(_, (count, first))| (*count, std::cmp::Reverse(*first)));
    best.map(|(text, _)| text).unwrap_or_default()
}

fn missing_embedder(reference: &BaselineReference) -> Error {
    let name = reference.embedder().unwrap_or_default();
    Error::new(Kind::Usage, format!("the baseline `{reference}` needs an encoder"))
        .expected(format!("`{name}`"))
        .hint(format!("underdog models pull {name}"))
}

fn not_classes(reference: &BaselineReference, answers: &Answers, rows: usize) -> Error {
    let found = match answers {
        Answers::Free => "answers that hardly come back".to_owned(),
        Answers::Classes { texts, .. } => format!("{} different answers in {rows} rows", texts.len()),
        Answers::Sets { labels, .. } => format!("{} labels in {rows} rows", labels.len()),
    };
    Error::new(Kind::Usage, format!("the baseline `{reference}` does not fit this task"))
        .expected("at least 2 answers that come back, and rows enough to choose settings on")
        .found(found)
        .hint("nearest:all-minilm-l6-v2 takes any answers")
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
