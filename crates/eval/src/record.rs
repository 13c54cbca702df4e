//! A run's record: a header line that says what was measured and how, then one JSON line for each sample as it
//! finishes, written and flushed at once, so that a killed run resumes with nothing lost. What the lines add up to is
//! computed in `runner` and `compare`, from the record alone.

use crate::harness::{HarnessSpec, Verdicts};
use crate::model::{Finish, Identity};
use crate::split::Split;
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The version of the lines below. A record of a newer version is refused; older ones stay readable.
pub const RECORD_VERSION: u32 = 1;

/// The first line of a record: who answered what, asked how, judged by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`RECORD_VERSION`] of the program that wrote it.
    pub version: u32,
    /// Name of the task.
    pub task: String,
    /// The split measured on.
    pub split: Split,
    /// Who answered.
    pub candidate: Identity,
    /// How its answers were made where that is not plain greedy decoding, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// What it was asked with.
    pub prompt: Prompt,
    /// The checks, the metrics and the score.
    pub harness: HarnessSpec,
    /// Fingerprint of `harness`.
    pub harness_fingerprint: String,
    /// Fingerprints of the encoders that checks look with, by name; records of before this was kept have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub encoders: BTreeMap<String, String>,
    /// Fingerprint of the templates and the bound on new tokens.
    pub prompt_fingerprint: String,
    /// Fingerprint of the ids, inputs, expected answers and prompts, in order.
    pub data_fingerprint: String,
    /// What else decides the numbers.
    pub settings: RecordSettings,
    /// Samples that the whole run has.
    pub n: usize,
    /// How many of their inputs stand in the training rows too: with one or more, nothing may be claimed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The templates of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The system template, if there is one.
    pub system: Option<String>,
    /// The user template.
    pub user: String,
}

/// Settings that decide which samples there are and how intervals are drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSettings {
    /// Seed of the random sample and of the intervals.
    pub seed: u64,
    /// Size of the random sample, if not all.
    pub limit: Option<usize>,
    /// Upper bound of generated tokens.
    pub max_new_tokens: usize,
}

/// One sample, answered or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// The sample's id.
    pub id: String,
    /// The sample's input.
    pub input: Value,
    /// The sample's expected answer.
    pub expected: Value,
    /// The sample's other fields, for slices and groups.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
    /// The answer; `None` when there is none, and `error` says why.
    pub output: Option<String>,
    /// Why generation ended.
    pub finish: Option<Finish>,
    /// What each check found.
    pub verdicts: Verdicts,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens computed for this sample.
    pub computed_tokens: usize,
    /// Generated tokens.
    pub new_tokens: usize,
    /// Wall seconds of this sample; samples of a batch overlap.
    pub seconds: f64,
    /// Wall seconds of the whole run when this sample was finished, over all its sittings.
    pub elapsed: f64,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Samples by their ids. A record has them in the order in which they were finished, and what is drawn must not depend on
/// that.
pub fn by_id(samples: &[SampleRecord]) -> Vec<&SampleRecord> {
    let mut ordered: Vec<&SampleRecord> = samples.iter().collect();
    ordered.sort_by(|a, b| a.id.cmp(&b.id));
    ordered
}

/// A record as read from disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its first line.
    pub header: Header,
    /// The samples in the order in which they finished.
    pub samples: Vec<SampleRecord>,
}

impl Record {
    /// Reads a record; a last line that was cut off when the run was killed is left out.
    ///
    /// # Errors
    /// When the file cannot be read, is no record, is of a newer version, a line before the last is broken, or a sample
    /// stands in it twice.
    pub fn read(path: &Path) -> Result<Record> {
        match read_whole_lines(path)? {
            Some((record, _)) => Ok(record),
            None => Err(Error::new(Kind::Data, "the record is empty")
                .expected("a header line and one line for each sample")
                .at(path.display().to_string())),
        }
    }
}

/// The record up to its last whole line and the length of that in bytes; `None` when not even the header is whole.
fn read_whole_lines(path: &Path) -> Result<Option<(Record, usize)>> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("cannot read the record", path, &source))?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |index| index + 1);
    let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n').enumerate();
    let Some((_, first)) = lines.next() else { return Ok(None) };
    let header = read_header(first).map_err(|error| error.at(format!("{}:1", path.display())))?;
    let (mut samples, mut line_of) = (Vec::new(), HashMap::new());
    for (index, line) in lines {
        let sample: SampleRecord = serde_json::from_slice(line).map_err(|error| {
            Error::new(Kind::Data, "a line of the record is broken")
                .expected("one sample as JSON")
                .found(error.to_string())
                .at(format!("{}:{}", path.display(), index + 1))
                .hint("delete that line to have the sample measured again, or start a new record")
        })?;
        if let Some(first) = line_of.insert(sample.id.clone(), index + 1) {
            return Err(Error::new(
                Kind::Data,
                format!("the sample `{}` stands in the record twice", sample.id),
            )
            .expected("every sample once")
            .found(format!("the same id on line {first}"))
            .at(format!("{}:{}", path.display(), index + 1))
            .hint("delete one of the two lines, or start a new record"));
        }
        samples.push(sample);
    }
    Ok(Some((Record { header, samples }, whole)))
}

fn read_header(line: &[u8]) -> Result<Header> {
    let broken = |found: String| {
        Error::new(Kind::Data, "the file is not a record").expected("a header line of a record").found(found)
    };
    let value: Value = serde_json::from_slice(line).map_err(|error| broken(error.to_string()))?;
    match value.get("version").and_then(Value::as_u64) {
        None => return Err(broken("a line without a version".into())),
        Some(version) if version > u64::from(RECORD_VERSION) => {
            return Err(Error::new(Kind::Data, "the record is of a newer version")
                .expected(format!("{RECORD_VERSION} at most"))
                .found(version.to_string())
                .hint("read it with the program that wrote it, or a newer one"));
        }
        Some(_) => {}
    }
    serde_json::from_value(value).map_err(|error| broken(error.to_string()))
}

/// Appends to a record, line by line.
#[derive(Debug)]
pub struct RecordWriter {
    file: File,
    path: PathBuf,
}

impl RecordWriter {
    /// Starts a record with its header line.
    ///
    /// # Errors
    /// When there is a file already (a record is never overwritten), or the place cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<RecordWriter> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|source| Error::io("cannot make the folder of the record", path, &source))?;
        }
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(|source| {
            if source.kind() == std::io::ErrorKind::AlreadyExists {
                return Error::new(Kind::Usage, "there is a record already")
                    .expected("a new file")
                    .at(path.display().to_string())
                    .hint("go on with it by --resume, or write to another place");
            }
            Error::io("cannot write the record", path, &source)
        })?;
        let mut writer = RecordWriter::alone(file, path)?;
        writer.line(header)?;
        Ok(writer)
    }

    /// Goes on with a record, or starts it where there is none: a torn last line is cut off, and the samples that are
    /// done come back with the writer.
    ///
    /// # Errors
    /// When the record is of another candidate, task, split, data or setting (names which); when a line is broken; when
    /// another process is writing it.
    pub fn resume(path: &Path, header: &Header) -> Result<(RecordWriter, Vec<SampleRecord>)> {
        if !path.exists() {
            return Ok((RecordWriter::create(path, header)?, Vec::new()));
        }
        let failed = |source: std::io::Error| Error::io("cannot write the record", path, &source);
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        let mut writer = RecordWriter::alone(file, path)?;
        let whole = read_whole_lines(path)?;
        if let Some((record, _)) = &whole {
            require_equal(&record.header, header).map_err(|error| error.at(path.display().to_string()))?;
        }
        match whole {
            Some((record, length)) => {
                writer.file.set_len(length as u64).map_err(failed)?;
                Ok((writer, record.samples))
            }
            None => {
                writer.file.set_len(0).map_err(failed)?;
                writer.line(header)?;
                Ok((writer, Vec::new()))
            }
        }
    }

    /// A writer that holds the file as long as it lives: two of them would write every sample twice.
    fn alone(file: File, path: &Path) -> Result<RecordWriter> {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(Error::new(Kind::Usage, "another process is writing this record")
                    .expected("a record that nobody writes")
                    .at(path.display().to_string())
                    .hint("wait for it or stop it, or write to another place"))
            }
            // Some network file systems know no locks; then there is none, as there was before.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(RecordWriter { file, path: path.to_owned() }),
        }
    }

    /// Writes one sample as a whole line and hands it to the system at once.
    ///
    /// # Errors
    /// When the disk is full or gone; the lines before stay whole.
    pub fn append(&mut self, sample: &SampleRecord) -> Result<()> {
        self.line(sample)
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// When the disk is full or gone.
    pub fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|source| Error::io("cannot write the record", &self.path, &source))
    }

    fn line(&mut self, content: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(content).map_err(|error| {
            Error::new(Kind::Data, "a line of the record cannot be written as JSON").found(error.to_string())
        })?;
        line.push(b'\n');
        // One call for the whole line, so that a kill leaves at most the last line torn.
        self.file
            .write_all(&line)
            .and_then(|()| self.file.flush())
            .map_err(|source| Error::io("cannot write the record", &self.path, &source))
    }
}

/// Refuses to mix two runs in one record.
fn require_equal(found: &Header, expected: &Header) -> Result<()> {
    let differs = |what: &str, expected: String, found: String| {
        Err(Error::new(Kind::Usage, format!("the record is of a run with another {what}"))
            .expected(expected)
            .found(found)
            .hint("resume with what the record was begun with, or write to another place"))
    };
    let pairs = [
        ("task", &expected.task, &found.task),
        ("harness", &expected.harness_fingerprint, &found.harness_fingerprint),
        ("prompt", &expected.prompt_fingerprint, &found.prompt_fingerprint),
        ("set of samples", &expected.data_fingerprint, &found.data_fingerprint),
        ("candidate", &expected.candidate.name, &found.candidate.name),
        ("candidate's weights", &expected.candidate.fingerprint, &found.candidate.fingerprint),
    ];
    for (what, expected, found) in pairs {
        if expected != found {
            return differs(what, format!("`{expected}`"), format!("`{found}`"));
        }
    }
    if found.encoders != expected.encoders && !found.encoders.is_empty() {
        return differs("encoder", format!("{:?}", expected.encoders), format!("{:?}", found.encoders));
    }
    if found.split != expected.split {
        return differs("split", expected.split.to_string(), found.split.to_string());
    }
    if found.settings != expected.settings || found.n != expected.n {
        return differs(
            "setting",
            format!("{:?}, n {}", expected.settings, expected.n),
            format!("{:?}, n {}", found.settings, found.n),
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
