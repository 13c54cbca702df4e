//! What kind of answers a task has, read off its training rows: classes, sets of labels, or free text.

use super::logistic::Targets;
use crate::sample::Sample;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// An answer must come back this often on average for the answers to be classes.
const ROWS_A_CLASS: usize = 2;

/// The answers of training rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// Each row has one of a few answers; the texts are sorted.
    Classes {
        /// The distinct answers as text.
        texts: Vec<String>,
        /// Index into `texts` for each row.
        of_row: Vec<usize>,
    },
    /// Each row has a list of labels, any number of a few; the labels are sorted.
    Sets {
        /// The distinct labels.
        labels: Vec<String>,
        /// Indices into `labels` for each row, ascending.
        of_row: Vec<Vec<usize>>,
    },
    /// Answers that do not come back.
    Free,
}

impl Answers {
    /// Reads the answers of `samples`.
    pub fn of(samples: &[Sample]) -> Answers {
        let found = sets(samples).unwrap_or_else(|| classes(samples));
        let different = match &found {
            Answers::Sets { labels, .. } if labels.is_empty() => return Answers::Free,
            Answers::Sets { labels, .. } => labels.len(),
            Answers::Classes { texts, .. } => texts.len(),
            Answers::Free => return Answers::Free,
        };
        if different * ROWS_A_CLASS > samples.len() { Answers::Free } else { found }
    }

    /// The answers of other samples of the same task, in the same kind, however few come back.
    pub fn alike(&self, samples: &[Sample]) -> Answers {
        match self {
            Answers::Free => Answers::Free,
            Answers::Classes { .. } => classes(samples),
            Answers::Sets { .. } => sets(samples).unwrap_or(Answers::Free),
        }
    }

    /// The same answers as targets of a regression; `None` where there is nothing to learn: free answers, or one class.
    pub fn targets(&self) -> Option<Targets> {
        match self {
            Answers::Classes { texts, of_row } if texts.len() > 1 => {
                Some(Targets::Classes { of_row: of_row.clone(), count: texts.len() })
            }
            Answers::Sets { labels, of_row } => {
                Some(Targets::Labels { of_row: of_row.clone(), count: labels.len() })
            }
            _ => None,
        }
    }

    /// What is right for another sample, in the numbering of these answers; answers that do not occur here are left out.
    pub fn right(&self, sample: &Sample) -> Vec<usize> {
        match self {
            Answers::Classes { texts, .. } => {
                texts.binary_search(&sample.expected_text()).into_iter().collect()
            }
            Answers::Sets { labels, .. } => places(labels, &labels_of(&sample.expected).unwrap_or_default()),
            Answers::Free => Vec::new(),
        }
    }

    /// The answers of the rows at `rows` only, in the same numbering.
    pub fn part(&self, rows: &[usize]) -> Answers {
        match self {
            Answers::Classes { texts, of_row } => {
                let of_row = rows.iter().map(|&row| of_row[row]).collect();
                Answers::Classes { texts: texts.clone(), of_row }
            }
            Answers::Sets { labels, of_row } => {
                let of_row = rows.iter().map(|&row| of_row[row].clone()).collect();
                Answers::Sets { labels: labels.clone(), of_row }
            }
            Answers::Free => Answers::Free,
        }
    }

    /// The text of an answer that consists of `chosen`: a class, or a list of labels in the form of the data.
    pub fn text(&self, chosen: &[usize]) -> String {
        match self {
            Answers::Classes { texts, .. } => {
                chosen.first().and_then(|&class| texts.get(class)).cloned().unwrap_or_default()
            }
            Answers::Sets { labels, .. } => {
                let list = chosen.iter().map(|&label| Value::String(labels[label].clone())).collect();
                crate::sample::text_of(&Value::Array(list))
            }
            Answers::Free => String::new(),
        }
    }
}

/// Lists of labels; `None` where a row has something else.
fn sets(samples: &[Sample]) -> Option<Answers> {
    let sets: Vec<Vec<&str>> =
        samples.iter().map(|sample| labels_of(&sample.expected)).collect::<Option<_>>()?;
    let labels = sorted(sets.iter().flatten().copied());
    let of_row = sets.iter().map(|set| places(&labels, set)).collect();
    Some(Answers::Sets { labels, of_row })
}

fn classes(samples: &[Sample]) -> Answers {
    let each: Vec<String> = samples.iter().map(Sample::expected_text).collect();
    let texts = sorted(each.iter().map(String::as_str));
    let place: HashMap<&str, usize> = texts.iter().enumerate().map(|(i, t)| (t.as_str(), i)).collect();
    let of_row = each.iter().map(|text| place[text.as_str()]).collect();
    Answers::Classes { texts, of_row }
}

/// The strings of a list of strings.
fn labels_of(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    texts.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
}

fn places(labels: &[String], set: &[&str]) -> Vec<usize> {
    let found: BTreeSet<usize> = set
        .iter()
        .filter_map(|label| labels.binary_search_by(|known| known.as_str().cmp(label)).ok())
        .collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn samples(expected: &[Value]) -> Vec<Sample> {
        let sample = |(line, expected): (usize, &Value)| Sample {
            id: format!("r{line}"),
            input: "x".into(),
            expected: expected.clone(),
            meta: Default::default(),
            line,
        };
        expected.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn answers_that_come_back_are_classes() {
        let answers = Answers::of(&samples(&[json!("b"), json!("a"), json!("b"), json!("a")]));
        let Answers::Classes { texts, of_row } = &answers else { panic!("{answers:?}") };
        assert_eq!((texts.join(" "), of_row.as_slice()), ("a b".to_owned(), &[1, 0, 1, 0][..]));
        assert_eq!(answers.text(&[1]), "b");
        assert_eq!(answers.right(&samples(&[json!("b")])[0]), [1]);
        assert_eq!(answers.right(&samples(&[json!("new")])[0]), [0usize; 0]);
        let numbers = Answers::of(&samples(&[json!(1), json!(1)]));
        assert_eq!(
            (numbers.text(&[0]), numbers.targets()),
            ("1".to_owned(), None),
            "one class teaches nothing"
        );
    }

    #[test]
    fn lists_of_labels_are_sets_and_written_as_in_the_data() {
        let rows = [json!(["joy", "anger"]), json!([]), json!(["joy"]), json!(["anger"])];
        let answers = Answers::of(&samples(&rows));
        let Answers::Sets { labels, of_row } = &answers else { panic!("{answers:?}") };
        assert_eq!(labels.join(" "), "anger joy");
        assert_eq!(of_row, &[vec![0, 1], vec![], vec![1], vec![0]]);
        assert_eq!((answers.text(&[0, 1]), answers.text(&[])), (r#"["anger", "joy"]"#.into(), "[]".into()));
        assert_eq!(
            answers.part(&[2]).targets().unwrap(),
            Targets::Labels { of_row: vec![vec![1]], count: 2 }
        );
    }

    #[test]
    fn answers_that_differ_are_free() {
        assert_eq!(Answers::of(&samples(&[json!("a"), json!("b"), json!("b")])), Answers::Free);
        assert_eq!(Answers::of(&samples(&[json!(["a"]), json!(["b"])])), Answers::Free);
        let kind = Answers::of(&samples(&[json!("a"), json!("b"), json!("b"), json!("a")]));
        let few = kind.alike(&samples(&[json!("b"), json!("a")]));
        assert_eq!(few, Answers::Classes { texts: vec!["a".into(), "b".into()], of_row: vec![1, 0] });
    }
}
