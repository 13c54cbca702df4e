//! Records on disk and what lies beside them: which records a folder holds, and the report that they make. The numbers
//! are `eval`'s.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use underdog_eval::advise::AdviseData;
use underdog_eval::baseline::BaselineReference;
use underdog_eval::record::Header;
use underdog_eval::report::{BASE, CandidateResult, ReportData, TUNED, short_name};
use underdog_eval::runner::Evaluation;
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::catalogue::Cache;
use underdog_model::reference::Reference;
use underdog_train::metrics;

/// A longer first line is no record's.
const LONGEST_HEADER: u64 = 16 << 20;

/// A record and what its candidate is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name of the file, or the model reference without its folders where the file is called `record`.
    pub role: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The header of a record; `None` where the file is none.
pub fn header(path: &Path) -> Option<Header> {
    let file = std::fs::File::open(path).ok()?;
    let mut line = Vec::new();
    BufReader::new(file.take(LONGEST_HEADER)).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

fn found(path: PathBuf) -> Option<Found> {
    let header = header(&path)?;
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    Some(Found { role: if stem == "record" { short_name(&header.candidate.name) } else { stem }, path })
}

/// The records in a folder: base, tuned, then the others by name.
pub fn in_folder(folder: &Path) -> Vec<Found> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let paths = files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let mut records: Vec<Found> = paths.filter_map(found).collect();
    let rank = |role: &str| [BASE, TUNED].iter().position(|known| *known == role).unwrap_or(2);
    records.sort_by(|a, b| (rank(&a.role), &a.role).cmp(&(rank(&b.role), &b.role)));
    records
}

/// The records that arguments name: files, and folders with all their records. Candidates with the same name are called
/// by their paths.
///
/// # Errors
/// When an argument is no record and no folder with one.
pub fn named(arguments: &[PathBuf]) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for path in arguments {
        let here = if path.is_dir() { in_folder(path) } else { found(path.clone()).into_iter().collect() };
        if here.is_empty() {
            // A file that wants to be a record says best itself why it is none.
            if path.is_file() {
                Evaluation::from_record(path)?;
            }
            return Err(Error::new(Kind::Usage, "there is no record here")
                .expected("a record file or the folder of a run")
                .at(path.display().to_string()));
        }
        all.extend(here);
    }
    let twice = |role: &String| all.iter().filter(|found| found.role == *role).count() > 1;
    let doubled: Vec<bool> = all.iter().map(|found| twice(&found.role)).collect();
    for (found, doubled) in all.iter_mut().zip(doubled) {
        if doubled {
            found.role = found.path.display().to_string();
        }
    }
    Ok(all)
}

/// How a report is made of records.
pub struct Making<'a> {
    /// The folder of the run, where there is one: what its report.json and metrics.jsonl know is taken over.
    pub folder: Option<&'a Path>,
    /// The folder with the advice to show; else the folder of the run, or that of the first record.
    pub advice: Option<&'a Path>,
    /// The task whose training rows are looked at for measured inputs.
    pub task: Option<&'a Path>,
    /// Seed of the draws; the first record's unless stated.
    pub seed: Option<u64>,
    /// Where models are, for their sizes.
    pub cache: &'a Cache,
}

/// The report of whole records.
///
/// # Errors
/// When a record is broken, not finished, or cannot be compared with the others.
pub fn report(records: &[Found], making: &Making<'_>) -> Result<ReportData> {
    let known = making.folder.and_then(known).unwrap_or(Value::Null);
    let mut candidates = Vec::new();
    for (index, Found { role, path }) in records.iter().enumerate() {
        let mut evaluation = Evaluation::from_record(path)?;
        let before = known["candidates"].as_array().into_iter().flatten().find(|c| c["role"] == **role);
        let before = before.unwrap_or(&Value::Null);
        evaluation.peak_rss_mib = before["evaluation"]["peak_rss_mib"].as_f64();
        let bytes = before["bytes"].as_u64().or_else(|| candidate_bytes(&evaluation.candidate, making.cache));
        let role = if role.is_empty() { format!("candidate {}", index + 1) } else { role.clone() };
        candidates.push(CandidateResult { role, evaluation, bytes });
    }
    let seed = making.seed.or(candidates.first().map(|first| first.evaluation.header.settings.seed));
    let seed = seed.unwrap_or(0);
    let mut data = match making.task {
        Some(task) => ReportData::new(&Task::load(task)?, candidates, seed)?,
        None => ReportData::of(candidates, shared(&known), seed)?,
    };
    take_over(&mut data, &known);
    data.advice = advice(records, making, &data.task.name)?;
    if data.loss_curve.is_empty()
        && let Some(folder) = making.folder
    {
        let lines = metrics::read_until(&folder.join("metrics.jsonl"), usize::MAX)?;
        data.loss_curve = lines.iter().map(|line| (line.step as u64, line.loss)).collect();
    }
    Ok(data)
}

/// The advice to show: the one asked for, which must be of this task, or the one beside the records.
fn advice(records: &[Found], making: &Making<'_>, task: &str) -> Result<Option<AdviseData>> {
    if let Some(folder) = making.advice {
        let advice = AdviseData::read(folder)?.filter(|advice| advice.task.name == task);
        let missing = Error::new(Kind::Usage, "there is no advice on this task here")
            .expected(format!("advise.json of the task `{task}`"))
            .at(folder.display().to_string());
        return advice.map(Some).ok_or(missing);
    }
    let beside = records.first().and_then(|record| record.path.parent());
    let Some(folder) = making.folder.or(beside) else { return Ok(None) };
    Ok(AdviseData::read(folder)?.filter(|advice| advice.task.name == task))
}

/// What an earlier report of the run says.
fn known(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("report.json")).ok()?).ok()
}

/// How many measured inputs the earlier report found in the training rows; before version 3 only a note says so.
fn shared(known: &Value) -> usize {
    let notes = known["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let from_note = || {
        let note = notes.clone().find(|note| note.contains("in the training rows too"))?;
        note.split(' ').next()?.parse().ok()
    };
    known["shared"].as_u64().map(|shared| shared as usize).or_else(from_note).unwrap_or(0)
}

fn take_over(data: &mut ReportData, known: &Value) {
    let part = |name: &str| known.get(name).cloned().unwrap_or(Value::Null);
    if data.task.description.is_empty() {
        data.task.description = known["task"]["description"].as_str().unwrap_or_default().to_owned();
    }
    data.train = serde_json::from_value(part("train")).ok();
    data.loss_curve = serde_json::from_value(part("loss_curve")).unwrap_or_default();
    data.commands = serde_json::from_value(part("commands")).unwrap_or_default();
    data.machine = known["machine"].as_str().map(str::to_owned);
    let notes: Vec<String> = serde_json::from_value(part("notes")).unwrap_or_default();
    for note in notes {
        if !data.notes.contains(&note) {
            data.notes.push(note);
        }
    }
    let prints: Vec<_> = serde_json::from_value(part("fingerprints")).unwrap_or_default();
    for print in prints {
        if !data.fingerprints.contains(&print) {
            data.fingerprints.push(print);
        }
    }
}

/// Bytes of the files that a candidate needs: its weights and adapter, or the encoder of a baseline. `None` where they
/// are not here.
pub fn candidate_bytes(name: &str, cache: &Cache) -> Option<u64> {
    let asked = ["?constrain=", "?choose=", "?shots=", "?kv=", "?temperature="];
    let end = asked.iter().filter_map(|how| name.find(how)).min().unwrap_or(name.len());
    let plain = &name[..end];
    match BaselineReference::parse(plain) {
        Some(baseline) => bytes_of(&Reference::parse(baseline.embedder()?).ok()?.locate(cache).ok()?),
        None => {
            let reference = Reference::parse(plain).ok()?;
            let adapter = match &reference.adapter {
                Some(adapter) => bytes_of(adapter)?,
                None => 0,
            };
            Some(bytes_of(&reference.locate(cache).ok()?)? + adapter)
        }
    }
}

/// The size of a file, or of the files in a folder.
fn bytes_of(path: &Path) -> Option<u64> {
    let data = std::fs::metadata(path).ok()?;
    if data.is_file() {
        return Some(data.len());
    }
    let files = std::fs::read_dir(path).ok()?.flatten().filter_map(|entry| entry.metadata().ok());
    Some(files.filter(|data| data.is_file()).map(|data| data.len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_report_knew_of_leakage_is_not_forgotten() {
        assert_eq!(shared(&serde_json::json!({"shared": 3})), 3);
        let old = serde_json::json!({"notes": ["x", "2 of the 9 measured inputs stand in the training rows too, so"]});
        assert_eq!((shared(&old), shared(&Value::Null)), (2, 0));
    }

    #[test]
    fn what_is_no_record_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("metrics.jsonl"), "{\"step\":1}\n").unwrap();
        std::fs::write(folder.path().join("broken.jsonl"), [0xff, 0xfe, b'\n']).unwrap();
        assert!(in_folder(folder.path()).is_empty());
        assert!(named(&[folder.path().to_owned()]).unwrap_err().to_string().contains("no record here"));
    }
}
