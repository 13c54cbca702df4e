//! The score as it stands in a task file: one metric, or a weighted mean of several. What metrics are is `harness`'s.

use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a weighted score is called among the metrics.
pub const WEIGHTED: &str = "score";

/// The score of a harness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ScoreSpec {
    /// The metric of this name.
    Metric(String),
    /// A weighted mean of metrics; its name is [`WEIGHTED`].
    Weighted(Weighted),
}

/// Metrics and what they count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// By name of the metric: its weight, 0 or more; only their ratio matters.
    pub metrics: BTreeMap<String, f64>,
}

impl ScoreSpec {
    /// Name of the metric that is the score.
    pub fn name(&self) -> &str {
        match self {
            ScoreSpec::Metric(name) => name,
            ScoreSpec::Weighted(_) => WEIGHTED,
        }
    }

    /// Refuses what is no score over the metrics called `known`.
    ///
    /// # Errors
    /// When a name is not among them, a weight is negative or no finite number, or the weights sum to nothing.
    pub(crate) fn check(&self, known: &[&str]) -> Result<()> {
        let names: Vec<&str> = match self {
            ScoreSpec::Metric(name) => vec![name],
            ScoreSpec::Weighted(Weighted { metrics }) => metrics.keys().map(String::as_str).collect(),
        };
        if let Some(unknown) = names.into_iter().find(|name| !known.contains(name)) {
            return Err(Error::new(Kind::Data, "the score names no metric")
                .expected(format!("one of {}", known.join(", ")))
                .found(format!("`{unknown}`")));
        }
        let ScoreSpec::Weighted(Weighted { metrics }) = self else { return Ok(()) };
        if let Some((name, weight)) =
            metrics.iter().find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0))
        {
            return Err(Error::new(
                Kind::Data,
                format!("the weight of `{name}` in the score cannot be used"),
            )
            .expected("a number of 0 or more")
            .found(weight.to_string()));
        }
        let sum: f64 = metrics.values().sum();
        if sum > 0.0 && sum.is_finite() {
            return Ok(());
        }
        Err(Error::new(Kind::Data, "the weights of the score sum to nothing")
            .expected("at least one weight above 0")
            .found(if metrics.is_empty() { "no metrics".to_owned() } else { format!("a sum of {sum}") }))
    }
}

impl From<&str> for ScoreSpec {
    fn from(name: &str) -> Self {
        ScoreSpec::Metric(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighted(pairs: &[(&str, f64)]) -> ScoreSpec {
        let metrics = pairs.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        ScoreSpec::Weighted(Weighted { metrics })
    }

    #[test]
    fn a_name_and_weights_are_told_apart() {
        for (text, name) in [(r#""f1""#, "f1"), (r#"{"metrics":{"a":2.0,"b":1.0}}"#, "score")] {
            let spec: ScoreSpec = serde_json::from_str(text).unwrap();
            assert_eq!(spec.name(), name);
            assert_eq!(serde_json::to_string(&spec).unwrap(), text);
        }
        assert!(serde_json::from_str::<ScoreSpec>(r#"{"metrics":{},"x":1}"#).is_err());
    }

    #[test]
    fn weights_that_weigh_nothing_are_refused() {
        let known = ["a", "b"];
        assert!(weighted(&[("a", 2.0), ("b", 0.0)]).check(&known).is_ok());
        for (spec, word) in [
            (weighted(&[("a", 0.0), ("b", 0.0)]), "sum to nothing"),
            (weighted(&[]), "no metrics"),
            (weighted(&[("a", -1.0), ("b", 3.0)]), "`a`"),
            (weighted(&[("a", f64::NAN)]), "NaN"),
            (weighted(&[("a", f64::INFINITY)]), "inf"),
            (weighted(&[("a", f64::MAX), ("b", f64::MAX)]), "inf"),
            (weighted(&[("c", 1.0)]), "one of a, b"),
            (ScoreSpec::from("c"), "`c`"),
        ] {
            let error = spec.check(&known).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
