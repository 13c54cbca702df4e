//! Which runs there are under a folder, and how far each is. Whole records are read once and kept by length and time of
//! the file, so that a page that asks every two seconds costs little.

use crate::records::{Found, in_folder};
use serde::Serialize;
use std::collections::HashMap;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use underdog_eval::compare::{GROUP, clusters_of};
use underdog_eval::harness::{Verdicts, resolve_metrics};
use underdog_eval::record::{Record, by_id};
use underdog_eval::statistics::Unit;
use underdog_train::metrics;

/// Folders in folders, so deep; `underdog-runs/TASK/VERB-NNN` is two.
const DEEPEST: usize = 5;
const MOST_RUNS: usize = 2_000;
/// A run that holds none of its files and wrote nothing for so long is not going on: between two of its steps it loads or
/// learns something.
const QUIET_SECONDS: u64 = 60;
/// Points of a curve.
const MOST_POINTS: usize = 160;

/// One run as the first page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Its folder under the one that is shown, with `/` between.
    pub id: String,
    #[serde(skip)]
    pub folder: PathBuf,
    /// `finished`, `running` or `stopped`.
    pub state: &'static str,
    /// Points of `advise`'s curve: candidates that saw a part of the training rows, which no leaderboard lists.
    pub points: bool,
    /// When something was written last, in seconds since 1970.
    pub updated: u64,
    pub records: Vec<Progress>,
    pub training: Option<Training>,
}

/// One record.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    pub role: String,
    pub task: String,
    pub split: String,
    pub candidate: String,
    /// The name of the score, and its value over the samples that are done.
    pub metric: String,
    pub score: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Why there is no interval.
    pub reason: Option<String>,
    /// Samples that the score rests on.
    pub counted: usize,
    /// What the three are: shares of 1, or numbers of their own.
    pub unit: Unit,
    pub done: usize,
    pub n: usize,
    pub rows_per_s: Option<f64>,
    /// Records with the same key were measured on the same samples by the same checks.
    pub key: String,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    stamp: (u64, u64),
}

/// What `metrics.jsonl` says.
#[derive(Clone, Debug, Serialize)]
pub struct Training {
    pub step: usize,
    pub epoch: f64,
    pub loss: f64,
    pub seconds: f64,
    pub points: Vec<(usize, f64)>,
}

impl Run {
    /// The records that are whole.
    pub fn finished(&self) -> Vec<Found> {
        let whole = self.records.iter().filter(|record| record.done == record.n);
        whole.map(|record| Found { role: record.role.clone(), path: record.path.clone() }).collect()
    }

    /// What a page of it depends on.
    pub fn state(&self) -> String {
        let stamps: Vec<_> = self.records.iter().map(|record| (&record.path, record.stamp)).collect();
        // A run writes these after its records, and they decide what may be said.
        let beside = ["report.json", "advise.json"].map(|name| stamp(&self.folder.join(name)));
        format!("{} {} {stamps:?} {beside:?}", self.id, self.updated)
    }
}

/// Remembers what was read.
#[derive(Default)]
pub struct Scanner {
    known: HashMap<PathBuf, Progress>,
}

impl Scanner {
    /// The runs under `root`, the newest first. Links are not followed, so that nothing outside is shown.
    pub fn scan(&mut self, root: &Path) -> Vec<Run> {
        let mut folders = vec![(root.to_owned(), 0)];
        let mut runs = Vec::new();
        while let Some((folder, depth)) = folders.pop() {
            runs.extend(self.run(root, &folder));
            if runs.len() >= MOST_RUNS {
                break;
            }
            if depth < DEEPEST {
                let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
                let inside = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                folders.extend(inside.map(|entry| (entry.path(), depth + 1)));
            }
        }
        runs.sort_by(|a: &Run, b: &Run| b.updated.cmp(&a.updated).then_with(|| a.id.cmp(&b.id)));
        runs
    }

    fn run(&mut self, root: &Path, folder: &Path) -> Option<Run> {
        let records: Vec<Progress> =
            in_folder(folder).into_iter().filter_map(|found| self.progress(found)).collect();
        let curve = folder.join("metrics.jsonl");
        let training = training(&curve);
        if records.is_empty() && training.is_none() {
            return None;
        }
        let times = records.iter().map(|record| record.stamp.1).chain(stamp(&curve).map(|stamp| stamp.1));
        let updated = times.max().unwrap_or(0);
        let parts = folder.strip_prefix(root).ok()?.components();
        let id: Vec<String> = parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let whole = |name: &str| folder.join(name).exists();
        let trained = training.is_none() || whole("adapter") || whole("report.json");
        let held = records
            .iter()
            .map(|record| &record.path)
            .chain([&folder.join(".lock")])
            .any(|path| is_held(path));
        let finished = records.iter().all(|record| record.done == record.n) && trained;
        Some(Run {
            id: if id.is_empty() { ".".to_owned() } else { id.join("/") },
            folder: folder.to_owned(),
            points: folder.file_name().is_some_and(|name| name == "points"),
            state: match (finished, held || now().saturating_sub(updated) < QUIET_SECONDS) {
                (true, _) => "finished",
                (false, true) => "running",
                (false, false) => "stopped",
            },
            updated,
            records,
            training,
        })
    }

    fn progress(&mut self, found: Found) -> Option<Progress> {
        let stamp = stamp(&found.path)?;
        if let Some(known) = self.known.get(&found.path).filter(|known| known.stamp == stamp) {
            return Some(known.clone());
        }
        let Record { header, samples } = Record::read(&found.path).ok()?;
        let metrics = resolve_metrics(&header.harness).ok()?;
        let score = metrics.iter().find(|metric| metric.name == header.harness.score.name())?;
        let ordered = by_id(&samples);
        let verdicts: Vec<&Verdicts> = ordered.iter().map(|sample| &sample.verdicts).collect();
        let clusters = clusters_of(ordered.iter().copied(), GROUP);
        let seconds = samples.iter().map(|sample| sample.elapsed).fold(0.0, f64::max);
        let estimate = score.measure(&verdicts, clusters.as_ref(), header.settings.seed);
        let progress = Progress {
            role: found.role,
            task: header.task,
            split: header.split.name().to_owned(),
            candidate: header.candidate.name,
            metric: score.name.clone(),
            score: estimate.value,
            low: estimate.low,
            high: estimate.high,
            reason: estimate.reason,
            counted: estimate.n,
            unit: estimate.unit,
            done: samples.len(),
            n: header.n,
            rows_per_s: (seconds > 0.0).then(|| samples.len() as f64 / seconds),
            key: format!("{} {:?} {}", header.harness_fingerprint, header.encoders, header.data_fingerprint),
            path: found.path.clone(),
            stamp,
        };
        self.known.insert(found.path, progress.clone());
        Some(progress)
    }
}

/// Length and time of a file, the latter in seconds since 1970.
fn stamp(path: &Path) -> Option<(u64, u64)> {
    let data = std::fs::metadata(path).ok()?;
    let written = data.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((data.len(), written.as_secs()))
}

/// Whether a process holds the file: it writes the record, or trains in the folder.
fn is_held(path: &Path) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn training(path: &Path) -> Option<Training> {
    let lines = metrics::read_until(path, usize::MAX).ok()?;
    let last = lines.last()?;
    let each = lines.len().div_ceil(MOST_POINTS);
    let points = lines.iter().step_by(each.max(1)).filter(|line| line.loss.is_finite());
    Some(Training {
        step: last.step,
        epoch: last.epoch,
        loss: last.loss,
        seconds: lines.iter().map(|line| line.seconds).sum(),
        points: points.map(|line| (line.step, line.loss)).collect(),
    })
}
