//! The runner: task + samples + candidate → record → metrics. It asks, judges and writes each answer as it comes; the
//! candidate batches as it likes. What may be concluded from two evaluations is `compare`'s.

use crate::compare::{GROUP, clusters_of, leakage};
use crate::harness::{ANSWERED, Metric, resolve_metrics};
use crate::model::{Message, Model, Output, Request};
use crate::record::{Header, RECORD_VERSION, Record, RecordSettings, RecordWriter, SampleRecord, by_id};
use crate::sample::Sample;
use crate::split::{EvalSet, Split};
use crate::statistics::{self, Estimate};
use crate::task::Task;
use crate::{Error, Kind, Result, json, select};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How an evaluation is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalSettings {
    /// Where the record goes.
    pub record_path: PathBuf,
    /// Go on with the record if there is one. Without it an existing record is an error.
    pub resume: bool,
    /// Measure a seeded random sample of this size.
    pub limit: Option<usize>,
    /// Seed of the random sample and of the intervals.
    pub seed: u64,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Samples done, those of an earlier sitting included.
    pub done: usize,
    /// Samples in all.
    pub n: usize,
    /// Mean score so far; `None` before the first sample that has one.
    pub score: Option<f64>,
    /// Wall seconds so far, over all sittings.
    pub seconds: f64,
}

/// What was measured. As JSON this is the object that `eval --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Name of the task.
    pub task: String,
    /// The model reference of the candidate.
    pub candidate: String,
    /// The split measured on.
    pub split: String,
    /// Samples measured.
    pub n: usize,
    /// The score: the value of the metric that the task names.
    pub score: Option<f64>,
    /// Every metric with its interval.
    pub metrics: BTreeMap<String, Estimate>,
    /// Samples a second of wall time.
    pub rows_per_s: Option<f64>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Prompt tokens that were computed; shared ones count once.
    pub computed_tokens: usize,
    /// Generated tokens.
    pub new_tokens: usize,
    /// Wall seconds over all sittings, loading the model not counted.
    pub seconds: f64,
    /// Most memory the process held, in MiB; filled by the caller, who knows the machine.
    pub peak_rss_mib: Option<f64>,
    /// Where the record is.
    pub record: PathBuf,
    /// The first line of the record.
    #[serde(skip)]
    pub header: Header,
    /// The samples in the order of the data, or of the record that they were read from.
    #[serde(skip)]
    pub samples: Vec<SampleRecord>,
}

impl Evaluation {
    /// The evaluation that a whole record on disk holds.
    ///
    /// # Errors
    /// When the record cannot be read or lacks samples (its run was not finished).
    pub fn from_record(path: &Path) -> Result<Evaluation> {
        let Record { header, samples } = Record::read(path)?;
        if samples.len() != header.n {
            return Err(Error::new(Kind::Data, "the record is not finished")
                .expected(format!("{} samples", header.n))
                .found(samples.len().to_string())
                .at(path.display().to_string())
                .hint("finish the run with --resume"));
        }
        Evaluation::new(header, samples, path)
    }

    fn new(header: Header, samples: Vec<SampleRecord>, path: &Path) -> Result<Evaluation> {
        let seed = header.settings.seed;
        let ordered = by_id(&samples);
        let verdicts: Vec<_> = ordered.iter().map(|sample| &sample.verdicts).collect();
        let clusters = clusters_of(ordered.iter().copied(), GROUP);
        let mut metrics = BTreeMap::new();
        for metric in resolve_metrics(&header.harness)? {
            metrics.insert(metric.name.clone(), metric.measure(&verdicts, clusters.as_ref(), seed));
        }
        let answered: Vec<f64> =
            ordered.iter().map(|sample| f64::from(u8::from(sample.output.is_some()))).collect();
        let answered = statistics::mean_over(&answered, clusters.as_ref(), seed);
        metrics.insert(ANSWERED.to_owned(), answered);
        let seconds = samples.iter().map(|sample| sample.elapsed).fold(0.0, f64::max);
        let total = |count: fn(&SampleRecord) -> usize| samples.iter().map(count).sum();
        Ok(Evaluation {
            task: header.task.clone(),
            candidate: header.candidate.name.clone(),
            split: header.split.name().to_owned(),
            n: samples.len(),
            score: metrics.get(header.harness.score.name()).and_then(|estimate| estimate.value),
            metrics,
            rows_per_s: (seconds > 0.0).then(|| samples.len() as f64 / seconds),
            prompt_tokens: total(|sample| sample.prompt_tokens),
            computed_tokens: total(|sample| sample.computed_tokens),
            new_tokens: total(|sample| sample.new_tokens),
            seconds,
            peak_rss_mib: None,
            record: path.to_owned(),
            header,
            samples,
        })
    }

    /// What is to be said where measured inputs stand in the training rows.
    pub fn leakage_note(&self) -> Option<String> {
        (self.header.shared > 0).then(|| leakage(self.header.shared, self.n))
    }

    /// Samples that the candidate could not answer; they count as wrong.
    pub fn unanswered(&self) -> usize {
        self.samples.iter().filter(|sample| sample.output.is_none()).count()
    }
}

/// Measures `model` on the rows of `set`. Each answer is judged and appended to the record as it comes; a sample that the
/// candidate cannot answer counts as wrong. `progress` is called once before the first and after every sample; when it
/// returns `Break`, the evaluation stops and can be resumed.
///
/// # Errors
/// When a prompt cannot be made, the record cannot be written or is of another run, the candidate as a whole fails, or
/// `progress` stopped it (`Kind::Stopped`).
pub fn evaluate(
    task: &Task,
    set: &EvalSet,
    model: &mut dyn Model,
    settings: &EvalSettings,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Evaluation> {
    task.harness.require_embedders()?;
    let samples = match settings.limit {
        Some(limit) => select::random_subset(set.samples.iter().collect(), limit, settings.seed)?,
        None => set.samples.iter().collect(),
    };
    let prompts = samples.iter().map(|sample| task.messages(sample)).collect::<Result<Vec<_>>>()?;
    let header = header(task, (set.split, &samples, &prompts), model, settings)?;
    let (writer, done) = if settings.resume {
        RecordWriter::resume(&settings.record_path, &header)?
    } else {
        (RecordWriter::create(&settings.record_path, &header)?, Vec::new())
    };
    require_same_meta(&samples, &done, &settings.record_path)?;
    let done_ids: HashSet<&str> = done.iter().map(|record| record.id.as_str()).collect();
    let (open, requests): (Vec<&Sample>, Vec<Request>) = samples
        .iter()
        .zip(prompts)
        .filter(|(sample, _)| !done_ids.contains(sample.id.as_str()))
        .map(|(sample, messages)| (*sample, Request { messages, max_new_tokens: task.max_new_tokens }))
        .unzip();
    let mut sitting = Sitting::new(task, &open, writer, done, samples.len());
    sitting.run(model, &requests, progress)?;
    let Sitting { writer, mut records, .. } = sitting;
    writer.finish()?;
    let order: HashMap<&str, usize> = samples.iter().enumerate().map(|(i, s)| (s.id.as_str(), i)).collect();
    records.sort_by_key(|record| order.get(record.id.as_str()).copied());
    Evaluation::new(header, records, &settings.record_path)
}

/// Refuses to go on where a row's other fields have changed since its answer was judged: checks may read them.
fn require_same_meta(samples: &[&Sample], done: &[SampleRecord], path: &Path) -> Result<()> {
    let now: HashMap<&str, &Sample> = samples.iter().map(|sample| (sample.id.as_str(), *sample)).collect();
    let changed = done.iter().find(|record| {
        // Records from before `meta` was kept say nothing about it.
        !record.meta.is_empty() && now.get(record.id.as_str()).is_some_and(|row| row.meta != record.meta)
    });
    let Some(changed) = changed else { return Ok(()) };
    Err(Error::new(Kind::Usage, "the rows have changed since the record was begun")
        .expected(format!("the row `{}` with the fields that its answer was judged with", changed.id))
        .found("other values in its fields")
        .at(path.display().to_string())
        .hint("resume with the rows that the record was begun with, or write to another place"))
}

/// The first line of the record of `samples` of a split, asked with `prompts`.
fn header(
    task: &Task,
    (split, samples, prompts): (Split, &[&Sample], &[Vec<Message>]),
    model: &dyn Model,
    settings: &EvalSettings,
) -> Result<Header> {
    // The prompts too: a template may read `meta`, which a sample could change without changing its input.
    let rows = samples.iter().zip(prompts);
    let data: Vec<_> = rows.map(|(s, p)| serde_json::json!([s.id, s.input, s.expected, p])).collect();
    Ok(Header {
        version: RECORD_VERSION,
        task: task.name.clone(),
        split,
        candidate: model.identity(),
        how: model.how(),
        prompt: task.prompt.clone(),
        harness: task.harness.spec().clone(),
        harness_fingerprint: task.harness.fingerprint().to_owned(),
        encoders: task.harness.encoders(),
        prompt_fingerprint: task.prompt_fingerprint().to_owned(),
        data_fingerprint: json::fingerprint(&data.into()),
        settings: RecordSettings {
            seed: settings.seed,
            limit: settings.limit,
            max_new_tokens: task.max_new_tokens,
        },
        n: samples.len(),
        shared: task.shared_with_training(samples.iter().map(|sample| &sample.input))?,
    })
}

/// One stretch of work on a record, from start or resume to the end or a stop.
struct Sitting<'a> {
    task: &'a Task,
    score: Option<&'a Metric>,
    open: &'a [&'a Sample],
    answered: Vec<bool>,
    writer: RecordWriter,
    records: Vec<SampleRecord>,
    /// Sum and number of the scores so far: a sample that was not asked has none.
    scores: (f64, usize),
    n: usize,
    /// Seconds of earlier sittings.
    before: f64,
    started: Instant,
}

impl<'a> Sitting<'a> {
    fn new(
        task: &'a Task,
        open: &'a [&'a Sample],
        writer: RecordWriter,
        records: Vec<SampleRecord>,
        n: usize,
    ) -> Self {
        // The mean so far of a number of the corpus, or of one that is no share, would not be the score so far.
        let is_shown = |metric: &&Metric| metric.is_mean_over(&[]) && metric.unit().is_share();
        let score = task.harness.metrics().iter().find(|metric| metric.name == task.harness.score());
        let score = score.filter(is_shown);
        let score_of = |record: &SampleRecord| score.and_then(|metric| metric.value(&record.verdicts));
        let known = records.iter().filter_map(score_of);
        Sitting {
            scores: known.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1)),
            before: records.iter().map(|record| record.elapsed).fold(0.0, f64::max),
            answered: vec![false; open.len()],
            started: Instant::now(),
            task,
            score,
            open,
            writer,
            records,
            n,
        }
    }

    fn run(
        &mut self,
        model: &mut dyn Model,
        requests: &[Request],
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut failure = match progress(self.progress()) {
            ControlFlow::Break(()) => Some(self.stopped()),
            ControlFlow::Continue(()) => None,
        };
        if failure.is_none() && !requests.is_empty() {
            model.generate(requests, &mut |index, answer| {
                if let Err(error) = self.take(index, answer) {
                    failure = Some(error);
                } else if progress(self.progress()).is_break() && self.records.len() < self.n {
                    failure = Some(self.stopped());
                }
                if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        match failure {
            Some(error) => Err(error),
            None if self.records.len() < self.n => {
                Err(Error::new(Kind::Model, "the candidate ended without answering every request")
                    .expected(format!("{} answers", self.open.len()))
                    .found(self.answered.iter().filter(|answered| **answered).count().to_string()))
            }
            None => Ok(()),
        }
    }

    /// Judges and writes one answer.
    fn take(&mut self, index: usize, answer: Result<Output>) -> Result<()> {
        match self.answered.get_mut(index) {
            Some(answered) if !*answered => *answered = true,
            _ => {
                return Err(Error::new(Kind::Model, "the candidate answered a request that is not open")
                    .expected(format!("an index below {}, each once", self.open.len()))
                    .found(index.to_string()));
            }
        }
        let record = self.judge(self.open[index], answer);
        self.writer.append(&record)?;
        if let Some(value) = self.score.and_then(|metric| metric.value(&record.verdicts)) {
            self.scores = (self.scores.0 + value, self.scores.1 + 1);
        }
        self.records.push(record);
        Ok(())
    }

    fn judge(&self, sample: &Sample, answer: Result<Output>) -> SampleRecord {
        let record = SampleRecord {
            id: sample.id.clone(),
            input: sample.input.clone(),
            expected: sample.expected.clone(),
            meta: sample.meta.clone(),
            output: None,
            finish: None,
            verdicts: BTreeMap::new(),
            prompt_tokens: 0,
            computed_tokens: 0,
            new_tokens: 0,
            seconds: 0.0,
            elapsed: self.seconds(),
            error: None,
        };
        match answer {
            Ok(output) => SampleRecord {
                verdicts: self.task.harness.judge(sample, &output.text),
                output: Some(output.text),
                finish: Some(output.finish),
                prompt_tokens: output.prompt_tokens,
                computed_tokens: output.computed_tokens,
                new_tokens: output.new_tokens,
                seconds: output.seconds,
                ..record
            },
            Err(error) => SampleRecord {
                verdicts: self.task.harness.judge_missing(sample, &error.to_string()),
                error: Some(error.to_string()),
                ..record
            },
        }
    }

    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    fn progress(&self) -> Progress {
        let done = self.records.len();
        let (sum, scored) = self.scores;
        let score = (scored > 0).then(|| sum / scored as f64);
        Progress { done, n: self.n, score, seconds: self.seconds() }
    }

    fn stopped(&self) -> Error {
        Error::new(Kind::Stopped, format!("stopped after {} of {} samples", self.records.len(), self.n))
            .hint("the record keeps them; the same command with --resume goes on from there")
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
