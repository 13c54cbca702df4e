//! The harness of a task: checks → metrics → one score, as a single object with a fingerprint of its content. The same
//! object measures candidates here and, later, filters data, rewards and gates; there is no second implementation.

use crate::check::{Answer, CheckSpec, NamedCheck, Verdict};
use crate::embedder::SharedEmbedder;
use crate::sample::Sample;
use crate::statistics::{self, Estimate};
use crate::{Error, Kind, Result, json};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Changes when the meaning of an unchanged harness changes, so that old and new scores are never compared.
pub const HARNESS_VERSION: u32 = 1;
/// The metric every harness has: the share of samples that the candidate answered at all.
pub const ANSWERED: &str = "answered";

/// The verdicts on one output, by check name.
pub type Verdicts = BTreeMap<String, Verdict>;

/// A harness as it stands in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HarnessSpec {
    /// The metric that is the score.
    pub score: String,
    /// The checks, in order.
    pub check: Vec<CheckSpec>,
    /// The metrics, in the order reports show them.
    pub metric: Vec<MetricSpec>,
}

/// A metric as it stands in a task file under `[[metric]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// Name in records and reports.
    pub name: String,
    /// What it means, in a few words, for reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Names of checks; `field.*` stands for all that begin with `field.`.
    pub checks: Vec<String>,
    /// How the verdicts on one sample become one number.
    #[serde(default)]
    pub aggregate: Aggregate,
}

/// How the verdicts on one sample become one number. The metric is the mean of these over the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// The mean: the share of checks that passed.
    #[default]
    Mean,
    /// 1 when every check passed, else 0.
    All,
}

/// A metric with its checks found.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name in records and reports.
    pub name: String,
    /// What it means, for reports.
    pub description: Option<String>,
    checks: Vec<String>,
    aggregate: Aggregate,
}

impl Metric {
    /// This metric's number for one sample; `None` where no check gave a number.
    pub fn value(&self, verdicts: &Verdicts) -> Option<f64> {
        let numbers: Vec<f64> =
            self.checks.iter().filter_map(|name| verdicts.get(name).and_then(Verdict::number)).collect();
        match self.aggregate {
            Aggregate::Mean => statistics::mean(&numbers),
            Aggregate::All if numbers.len() < self.checks.len() => None,
            Aggregate::All => Some(f64::from(u8::from(numbers.iter().all(|number| *number == 1.0)))),
        }
    }

    /// Whether the number of a sample answers one yes-or-no question, so that the metric is a rate.
    pub fn is_rate(&self) -> bool {
        self.checks.len() == 1 || self.aggregate == Aggregate::All
    }

    /// The metric over samples, with its interval: Wilson's for a rate, a seeded bootstrap for a mean.
    pub fn estimate(&self, values: &[f64], seed: u64) -> Estimate {
        if self.is_rate() && values.iter().all(|value| *value == 0.0 || *value == 1.0) {
            return statistics::rate(values.iter().filter(|value| **value == 1.0).count(), values.len());
        }
        statistics::mean_in_unit(values, seed)
    }
}

/// All of a task's checks and metrics, and its score.
#[derive(Debug)]
pub struct Harness {
    spec: HarnessSpec,
    checks: Vec<NamedCheck>,
    metrics: Vec<Metric>,
    fingerprint: String,
}

impl Harness {
    /// Builds the checks and finds the checks of each metric.
    ///
    /// # Errors
    /// When there is no check, a name occurs twice, a metric or the score names something that is not there, or a check
    /// cannot be built.
    pub fn new(spec: HarnessSpec) -> Result<Self> {
        let mut checks = Vec::new();
        for entry in &spec.check {
            checks.extend(entry.build()?);
        }
        if checks.is_empty() {
            return Err(
                Error::new(Kind::Data, "the harness has no checks").expected("at least one [[check]]")
            );
        }
        unique("check", checks.iter().map(|check| check.name.as_str()))?;
        let metrics = resolve_metrics(&spec)?;
        if !spec.metric.iter().any(|metric| metric.name == spec.score) {
            let known: Vec<_> = spec.metric.iter().map(|metric| metric.name.as_str()).collect();
            return Err(Error::new(Kind::Data, "the score names no metric")
                .expected(format!("one of {}", known.join(", ")))
                .found(format!("`{}`", spec.score)));
        }
        let fingerprint = fingerprint(&spec)?;
        Ok(Harness { spec, checks, metrics, fingerprint })
    }

    /// The encoders that checks still lack, as model references, each once.
    pub fn missing_embedders(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.checks.iter().filter_map(|named| named.check.embedder()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Hands the encoder called `name` to the checks that lack it.
    pub fn attach(&self, name: &str, embedder: &SharedEmbedder) {
        let lacking = self.checks.iter().filter(|named| named.check.embedder() == Some(name));
        lacking.for_each(|named| named.check.attach(embedder));
    }

    /// Nothing is lacking for judging.
    ///
    /// # Errors
    /// When a check lacks its encoder.
    pub fn require_embedders(&self) -> Result<()> {
        match self.missing_embedders().first() {
            None => Ok(()),
            Some(name) => Err(Error::new(Kind::Usage, "a check of this task needs an encoder")
                .expected(format!("`{name}`"))
                .hint(format!("underdog models pull {name}"))),
        }
    }

    /// What every check finds about one output.
    pub fn judge(&self, sample: &Sample, output: &str) -> Verdicts {
        let answer = Answer::new(output);
        self.checks.iter().map(|named| (named.name.clone(), named.check.judge(sample, &answer))).collect()
    }

    /// The verdicts on a sample that was not answered: every check failed, for this reason.
    pub fn judge_missing(&self, reason: &str) -> Verdicts {
        let verdict = Verdict::fail(format!("no answer: {reason}"));
        self.checks.iter().map(|named| (named.name.clone(), verdict.clone())).collect()
    }

    /// The metrics in the order of the task file, without the built-in [`ANSWERED`].
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// Names of the checks in order.
    pub fn check_names(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().map(|check| check.name.as_str())
    }

    /// Name of the metric that is the score.
    pub fn score(&self) -> &str {
        &self.spec.score
    }

    /// The harness as it stands in the task file; goes into every record.
    pub fn spec(&self) -> &HarnessSpec {
        &self.spec
    }

    /// sha256 of the canonical content; two harnesses with the same fingerprint give the same verdicts.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// The metrics of `spec` with their checks found; the way to a record's metrics without building its checks.
///
/// # Errors
/// When a metric names a check that is not there, or none, or a name occurs twice.
pub fn resolve_metrics(spec: &HarnessSpec) -> Result<Vec<Metric>> {
    let names: Vec<String> = spec.check.iter().flat_map(expanded_names).collect();
    unique("metric", spec.metric.iter().map(|metric| metric.name.as_str()).chain([ANSWERED]))?;
    spec.metric.iter().map(|metric| resolve_metric(metric, &names)).collect()
}

fn resolve_metric(metric: &MetricSpec, names: &[String]) -> Result<Metric> {
    let mut checks: Vec<String> = Vec::new();
    for wanted in &metric.checks {
        let found: Vec<_> = match wanted.strip_suffix('*') {
            Some(start) => names.iter().filter(|name| name.starts_with(start)).cloned().collect(),
            None => names.iter().filter(|name| *name == wanted).cloned().collect(),
        };
        if found.is_empty() {
            return Err(Error::new(
                Kind::Data,
                format!("the metric `{}` names a check that is not there", metric.name),
            )
            .expected(format!("one of {}", names.join(", ")))
            .found(format!("`{wanted}`")));
        }
        checks.extend(found);
    }
    if checks.is_empty() {
        return Err(Error::new(Kind::Data, format!("the metric `{}` has no checks", metric.name))
            .expected(format!("at least one of {}", names.join(", "))));
    }
    Ok(Metric {
        name: metric.name.clone(),
        description: metric.description.clone(),
        checks,
        aggregate: metric.aggregate,
    })
}

/// The names of the checks that an entry stands for.
fn expanded_names(entry: &CheckSpec) -> Vec<String> {
    match entry {
        CheckSpec::FieldExact { name, fields, .. } => {
            fields.iter().map(|field| format!("{name}.{field}")).collect()
        }
        CheckSpec::Exact { name, .. }
        | CheckSpec::JsonValid { name }
        | CheckSpec::JsonSchema { name, .. }
        | CheckSpec::Similarity { name, .. }
        | CheckSpec::AllFields { name, .. } => vec![name.clone()],
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            return Err(Error::new(Kind::Data, format!("the name of a {what} cannot be used"))
                .expected("a name of its own for each")
                .found(
                    format!("`{name}` {}", if name.is_empty() { "" } else { "twice" }).trim().to_owned(),
                ));
        }
    }
    Ok(())
}

/// The fingerprint of a harness: its version and its canonical content. Descriptions, which measure nothing, are left out.
fn fingerprint(spec: &HarnessSpec) -> Result<String> {
    let mut bare = spec.clone();
    bare.metric.iter_mut().for_each(|metric| metric.description = None);
    let content = serde_json::to_value(&bare).map_err(|error| {
        Error::new(Kind::Data, "the harness cannot be written as JSON").found(error.to_string())
    })?;
    Ok(json::fingerprint(&serde_json::json!({"version": HARNESS_VERSION, "harness": content})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> HarnessSpec {
        serde_json::from_value(json!({
            "score": "fields",
            "check": [
                {"name": "valid", "kind": "json_valid"},
                {"name": "field", "kind": "field_exact", "fields": ["a", "b"], "normalise": ["case"]},
            ],
            "metric": [
                {"name": "fields", "checks": ["field.*"], "description": "Fields right"},
                {"name": "valid", "checks": ["valid"]},
                {"name": "both", "checks": ["field.*"], "aggregate": "all"},
            ],
        }))
        .unwrap()
    }

    fn sample() -> Sample {
        Sample {
            id: "r".into(),
            input: "i".into(),
            expected: json!({"a": "1", "b": "x"}),
            meta: Default::default(),
            line: 1,
        }
    }

    #[test]
    fn verdicts_become_metrics() {
        let harness = Harness::new(spec()).unwrap();
        assert_eq!(harness.check_names().collect::<Vec<_>>(), ["valid", "field.a", "field.b"]);
        let value = |output: &str| -> Vec<_> {
            let verdicts = harness.judge(&sample(), output);
            harness.metrics().iter().map(|metric| metric.value(&verdicts).unwrap()).collect()
        };
        assert_eq!(value(r#"{"a": "1", "b": "X"}"#), [1.0, 1.0, 1.0]);
        assert_eq!(value(r#"{"a": "1", "b": "y"}"#), [0.5, 1.0, 0.0]);
        assert_eq!(value("no"), [0.0, 0.0, 0.0]);
        let missing = harness.judge_missing("too long");
        assert_eq!(harness.metrics()[0].value(&missing), Some(0.0));
        assert_eq!(missing["valid"].reason(), Some("no answer: too long"));
        assert_eq!(harness.metrics()[0].value(&Verdicts::new()), None, "no verdict is no number");
        assert_eq!(harness.metrics()[2].value(&Verdicts::new()), None);
    }

    #[test]
    fn the_fingerprint_follows_content_and_not_words() {
        let original = Harness::new(spec()).unwrap();
        assert_eq!(Harness::new(spec()).unwrap().fingerprint(), original.fingerprint());
        let mut described = spec();
        described.metric[0].description = Some("Other words".into());
        assert_eq!(Harness::new(described).unwrap().fingerprint(), original.fingerprint());
        let mut changed = spec();
        changed.metric[0].aggregate = Aggregate::All;
        assert_ne!(Harness::new(changed).unwrap().fingerprint(), original.fingerprint());
    }

    #[test]
    fn names_that_lead_nowhere_are_refused() {
        let refused = |change: fn(&mut HarnessSpec)| {
            let mut spec = spec();
            change(&mut spec);
            Harness::new(spec).unwrap_err().to_string()
        };
        assert!(refused(|spec| spec.score = "f1".into()).contains("one of fields, valid, both"));
        assert!(refused(|spec| spec.metric[0].checks = vec!["fold.*".into()]).contains("`fold.*`"));
        assert!(refused(|spec| spec.metric[0].checks.clear()).contains("no checks"));
        assert!(refused(|spec| spec.check.clear()).contains("no checks"));
        assert!(refused(|spec| spec.metric[1].name = "fields".into()).contains("`fields` twice"));
        assert!(refused(|spec| spec.metric[1].name = ANSWERED.into()).contains("`answered` twice"));
        assert!(refused(|spec| spec.check.push(spec.check[0].clone())).contains("`valid` twice"));
    }

    #[test]
    fn an_encoder_that_is_lacking_is_named_until_it_is_there() {
        let spec = json!({"score": "mean",
            "check": [{"name": "close", "kind": "similarity", "embedder": "letters"}],
            "metric": [{"name": "mean", "checks": ["close"]}]});
        let harness = Harness::new(serde_json::from_value(spec).unwrap()).unwrap();
        assert_eq!(harness.missing_embedders(), ["letters"]);
        let error = harness.require_embedders().unwrap_err();
        assert_eq!(error.facts().hint.as_deref(), Some("underdog models pull letters"));
        let embedder: SharedEmbedder =
            std::sync::Arc::new(std::sync::Mutex::new(crate::test_support::Letters));
        harness.attach("other", &embedder);
        assert!(harness.require_embedders().is_err());
        harness.attach("letters", &embedder);
        harness.require_embedders().unwrap();
        let sample = Sample { expected: json!("ab"), ..sample() };
        assert_eq!(harness.judge(&sample, "c")["close"].number(), Some(0.0));
    }

    #[test]
    fn rates_and_means_get_their_intervals() {
        let harness = Harness::new(spec()).unwrap();
        let [fields, valid, both] = harness.metrics() else { panic!("three metrics") };
        assert!(!fields.is_rate() && valid.is_rate() && both.is_rate());
        let values = [1.0, 0.0, 1.0, 1.0];
        assert_eq!(valid.estimate(&values, 1), statistics::rate(3, 4));
        assert_eq!(fields.estimate(&values, 1), statistics::mean_in_unit(&values, 1));
    }
}
