//! Splits: training, validation and test rows are different types, so that a trainer cannot be handed test rows by
//! mistake, and the same input on both sides is refused. Reading files is `sample`'s; which file is which, `task`'s.

use crate::compare::GROUP;
use crate::sample::{ReadRows, Sample};
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// The name of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Rows the weights are made from.
    Train,
    /// Rows the recipe is chosen on.
    Validation,
    /// Rows that are only ever measured on.
    Test,
}

impl Split {
    /// The name in task files, records and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Split {
    type Err = Error;

    /// `train`, `validation` or `test`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "train" => Ok(Split::Train),
            "validation" => Ok(Split::Validation),
            "test" => Ok(Split::Test),
            _ => Err(Error::new(Kind::Usage, "there is no such split")
                .expected("train, validation or test")
                .found(format!("`{name}`"))),
        }
    }
}

/// How rows are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Leave out rows that cannot be used, and count them, instead of an error at the first.
    pub skip_bad_rows: bool,
    /// Accept rows of the training split whose input also occurs in validation or test.
    pub allow_leakage: bool,
}

/// Marks rows of the training split.
#[derive(Clone, Copy, Debug)]
pub struct Train;
/// Marks rows of the validation split.
#[derive(Clone, Copy, Debug)]
pub struct Validation;
/// Marks rows of the test split.
#[derive(Clone, Copy, Debug)]
pub struct Test;

/// The three marker types; nothing else can be one.
pub trait Part: sealed::Sealed {
    /// Which split the marker stands for.
    const SPLIT: Split;
}
mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Train {}
    impl Sealed for super::Validation {}
    impl Sealed for super::Test {}
}
impl Part for Train {
    const SPLIT: Split = Split::Train;
}
impl Part for Validation {
    const SPLIT: Split = Split::Validation;
}
impl Part for Test {
    const SPLIT: Split = Split::Test;
}

/// The rows of one split, never empty. A trainer takes `Rows<Train>`; rows of one split never become another's.
#[derive(Clone, Debug)]
pub struct Rows<P: Part> {
    samples: Vec<Sample>,
    skipped: Vec<Error>,
    source: PathBuf,
    part: PhantomData<P>,
}

impl<P: Part> Rows<P> {
    pub(crate) fn new(read: ReadRows, source: &Path) -> Self {
        Rows { samples: read.samples, skipped: read.skipped, source: source.to_owned(), part: PhantomData }
    }

    /// The samples in file order.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// What was wrong with each row left out under `skip_bad_rows`.
    pub fn skipped(&self) -> &[Error] {
        &self.skipped
    }

    /// The file they came from.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// A seeded random sample of at most `limit` rows, in file order.
    ///
    /// # Errors
    /// When `limit` is 0.
    pub fn limited(mut self, limit: Option<usize>, seed: u64) -> Result<Self> {
        if let Some(limit) = limit {
            self.samples = crate::select::random_subset(self.samples, limit, seed)?;
        }
        Ok(self)
    }
}

/// Rows to measure a candidate on, of any split. There is no way back from here into training.
#[derive(Clone, Debug)]
pub struct EvalSet {
    /// Which split this is.
    pub split: Split,
    /// The samples in file order, never empty.
    pub samples: Vec<Sample>,
    /// What was wrong with each row left out under `skip_bad_rows`.
    pub skipped: Vec<Error>,
    /// The file they came from.
    pub source: PathBuf,
}

impl<P: Part> From<Rows<P>> for EvalSet {
    fn from(rows: Rows<P>) -> Self {
        EvalSet { split: P::SPLIT, samples: rows.samples, skipped: rows.skipped, source: rows.source }
    }
}

impl EvalSet {
    /// Rows whose input stands in an earlier row too, spacing aside, unless both say that they stand or fall together: how
    /// many, in words with the lines of the first. Intervals count such rows as if they were independent.
    pub fn repeated_note(&self) -> Option<String> {
        let mut seen: HashMap<String, &Sample> = HashMap::new();
        let (mut count, mut first) = (0, None);
        for sample in &self.samples {
            match seen.entry(input_key(&sample.input)) {
                Entry::Vacant(place) => drop(place.insert(sample)),
                Entry::Occupied(place) => {
                    let before = *place.get();
                    let group = sample.meta.get(GROUP);
                    if group.is_none() || group != before.meta.get(GROUP) {
                        count += 1;
                        first.get_or_insert((before.line, sample.line));
                    }
                }
            }
        }
        let (line, again) = first?;
        let rows = match count {
            1 => "1 measured row repeats the input".to_owned(),
            _ => format!("{count} measured rows repeat the input"),
        };
        Some(format!(
            "{rows} of an earlier one (the first: lines {line} and {again}); intervals take them for independent unless they share a `{GROUP}`."
        ))
    }
}

/// Samples and the file they came from, for [`refuse_leakage`].
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub split: Split,
    pub samples: &'a [Sample],
    pub source: &'a Path,
}

/// Refuses two sides that share an input. Inputs are equal when they differ in white space only.
pub(crate) fn refuse_leakage(train: Side<'_>, held_out: Side<'_>) -> Result<()> {
    let seen: HashMap<String, &Sample> = train.samples.iter().map(|s| (input_key(&s.input), s)).collect();
    let shared: Vec<_> = held_out
        .samples
        .iter()
        .filter_map(|sample| seen.get(&input_key(&sample.input)).map(|twin| (*twin, sample)))
        .collect();
    let Some((in_train, outside)) = shared.first() else { return Ok(()) };
    let place = |side: Side<'_>, sample: &Sample| format!("{}:{}", side.source.display(), sample.line);
    Err(Error::new(Kind::Data, format!("the same input is in the {} and the {} split", train.split, held_out.split))
        .expected("no row in common")
        .found(format!("{} in common, the first is `{}` = `{}`", shared.len(), in_train.id, outside.id))
        .at(format!("{} and {}", place(train, in_train), place(held_out, outside)))
        .hint("take the rows out of one of the files; --allow-leakage measures anyway, but what it measures is memory"))
}

/// How many of `measured` stand among the inputs of `train`; spacing aside, as in [`refuse_leakage`].
pub(crate) fn shared_inputs<'a>(train: &[Sample], measured: impl Iterator<Item = &'a Value>) -> usize {
    let seen: HashSet<String> = train.iter().map(|sample| input_key(&sample.input)).collect();
    measured.filter(|input| seen.contains(&input_key(input))).count()
}

fn input_key(input: &Value) -> String {
    let text = crate::sample::text_of(&crate::json::canonical(input));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(line: usize, input: &str) -> Sample {
        Sample {
            id: format!("r{line}"),
            input: input.into(),
            expected: "x".into(),
            meta: Default::default(),
            line,
        }
    }

    #[test]
    fn repeated_inputs_are_told_unless_they_share_a_group() {
        let set = |samples: Vec<Sample>| EvalSet {
            split: Split::Test,
            samples,
            skipped: Vec::new(),
            source: PathBuf::new(),
        };
        let grouped = |line: usize, group: &str| {
            let meta = [(GROUP.to_owned(), group.into())].into_iter().collect();
            Sample { meta, ..sample(line, "b") }
        };
        assert_eq!(set(vec![sample(1, "a"), sample(2, "b")]).repeated_note(), None);
        let note = set(vec![sample(1, "a"), sample(2, "b"), sample(3, " a"), sample(4, "a")])
            .repeated_note()
            .unwrap();
        assert!(note.starts_with("2 measured rows repeat") && note.contains("lines 1 and 3"), "{note}");
        assert_eq!(set(vec![grouped(1, "x"), grouped(2, "x")]).repeated_note(), None);
        assert!(
            set(vec![grouped(1, "x"), grouped(2, "y")])
                .repeated_note()
                .unwrap()
                .starts_with("1 measured row ")
        );
    }

    #[test]
    fn a_shared_input_is_refused_with_both_lines() {
        let train = [sample(1, "a"), sample(2, "b  c\n")];
        let test = [sample(1, "d"), sample(4, "b c")];
        let side = |split, samples, source| Side { split, samples, source: Path::new(source) };
        let error =
            refuse_leakage(side(Split::Train, &train, "train.jsonl"), side(Split::Test, &test, "test.jsonl"))
                .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("train.jsonl:2 and test.jsonl:4"), "{text}");
        assert!(text.contains("1 in common"), "{text}");
        let apart = refuse_leakage(
            side(Split::Train, &train, "train.jsonl"),
            side(Split::Test, &test[..1], "test.jsonl"),
        );
        assert_eq!(apart, Ok(()));
        let inputs = || test.iter().map(|sample| &sample.input);
        assert_eq!((shared_inputs(&train, inputs()), shared_inputs(&test[..1], inputs().skip(1))), (1, 0));
    }

    #[test]
    fn split_names_read_back() {
        for split in [Split::Train, Split::Validation, Split::Test] {
            assert_eq!(split.name().parse::<Split>().unwrap(), split);
        }
        assert_eq!("dev".parse::<Split>().unwrap_err().kind(), Kind::Usage);
    }
}
