//! The harness of a task: checks → metrics → one score, as a single object with a fingerprint of its content. The same
//! object measures candidates here and, later, filters data, rewards and gates; there is no second implementation.

use crate::check::{Answer, CheckEntry, NamedCheck, Verdict, When, not_asked, require_places};
use crate::embedder::SharedEmbedder;
use crate::sample::Sample;
use crate::score::{ScoreSpec, WEIGHTED};
use crate::{Error, Kind, Result, json};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

use crate::metric::KnownCheck;
pub use crate::metric::{Aggregate, Metric, MetricSpec};

/// Changes when the meaning of an unchanged harness changes, so that old and new scores are never compared.
pub const HARNESS_VERSION: u32 = 3;
/// The metric every harness has: the share of samples that the candidate answered at all.
pub const ANSWERED: &str = "answered";

/// The verdicts on one output, by check name.
pub type Verdicts = BTreeMap<String, Verdict>;

/// A harness as it stands in a task file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HarnessSpec {
    /// The score: a metric, or a weighted mean of metrics.
    pub score: ScoreSpec,
    /// The checks, in order, with the rows they are asked of.
    pub check: Vec<CheckEntry>,
    /// The metrics, in the order reports show them.
    pub metric: Vec<MetricSpec>,
}

/// All of a task's checks and metrics, and its score.
#[derive(Debug)]
pub struct Harness {
    spec: HarnessSpec,
    checks: Vec<(NamedCheck, When)>,
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
            checks.extend(entry.check.build()?.into_iter().map(|check| (check, entry.when.clone())));
        }
        if checks.is_empty() {
            return Err(
                Error::new(Kind::Data, "the harness has no checks").expected("at least one [[check]]")
            );
        }
        unique("check", checks.iter().map(|(check, _)| check.name.as_str()))?;
        let metrics = resolve_metrics(&spec)?;
        let fingerprint = fingerprint(&spec)?;
        Ok(Harness { spec, checks, metrics, fingerprint })
    }

    /// The encoders that checks still lack, as model references, each once.
    pub fn missing_embedders(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.checks.iter().filter_map(|(named, _)| named.check.embedder()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The encoders that checks were handed: fingerprints by the names that the task file gives them. The same harness with
    /// another encoder gives other verdicts.
    pub fn encoders(&self) -> BTreeMap<String, String> {
        let attached = self.checks.iter().filter_map(|(named, _)| named.check.attached());
        attached.map(|(name, identity)| (name.to_owned(), identity.fingerprint)).collect()
    }

    /// Hands the encoder called `name` to the checks that lack it.
    pub fn attach(&self, name: &str, embedder: &SharedEmbedder) {
        let lacking = self.checks.iter().filter(|(named, _)| named.check.embedder() == Some(name));
        lacking.for_each(|(named, _)| named.check.attach(embedder));
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

    /// Every place of a row that a check asks for is in some row.
    ///
    /// # Errors
    /// Names the check, what it asks for, and what rows have there.
    pub fn require_fields(&self, samples: &[Sample]) -> Result<()> {
        require_places(&self.spec.check, samples)
    }

    /// What every check finds about one output.
    pub fn judge(&self, sample: &Sample, output: &str) -> Verdicts {
        let answer = Answer::new(output);
        self.each(sample, |check| check.check.judge(sample, &answer).sound())
    }

    /// What every check finds about each output, in the same order, on all threads.
    pub fn judge_all(&self, outputs: &[(&Sample, &str)]) -> Vec<Verdicts> {
        outputs.par_iter().map(|(sample, output)| self.judge(sample, output)).collect()
    }

    /// The verdicts on a sample that was not answered: every check that is asked of it failed, for this reason.
    pub fn judge_missing(&self, sample: &Sample, reason: &str) -> Verdicts {
        let reason = format!("no answer: {reason}");
        self.each(sample, |check| check.check.judge_missing(sample, &reason).sound())
    }

    fn each(&self, sample: &Sample, judge: impl Fn(&NamedCheck) -> Verdict) -> Verdicts {
        let verdict = |(check, when): &(NamedCheck, When)| match not_asked(when, sample) {
            None => judge(check),
            Some(not_asked) => Verdict::NotAsked { not_asked },
        };
        self.checks.iter().map(|entry| (entry.0.name.clone(), verdict(entry))).collect()
    }

    /// The metrics in the order of the task file, without the built-in [`ANSWERED`].
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// Names of the checks in order.
    pub fn check_names(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().map(|(check, _)| check.name.as_str())
    }

    /// Name of the metric that is the score.
    pub fn score(&self) -> &str {
        self.spec.score.name()
    }

    /// The harness as it stands in the task file; goes into every record.
    pub fn spec(&self) -> &HarnessSpec {
        &self.spec
    }

    /// sha256 of the canonical content; two harnesses with the same fingerprint, and the same [`Harness::encoders`] where
    /// checks need one, give the same verdicts.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// The metrics of `spec` with their checks found, a weighted score as the last of them; the way to a record's metrics
/// without building its checks.
///
/// # Errors
/// When a metric names a check that is not there, or none, a name occurs twice, a metric cannot be made of its checks, or
/// the score is none.
pub fn resolve_metrics(spec: &HarnessSpec) -> Result<Vec<Metric>> {
    let known = |entry: &CheckEntry| {
        let (kept, unit) = (entry.check.kept(), entry.check.unit());
        entry.check.names().into_iter().map(move |name| KnownCheck { name, kept, unit })
    };
    let checks: Vec<KnownCheck> = spec.check.iter().flat_map(known).collect();
    let names: Vec<&str> = spec.metric.iter().map(|metric| metric.name.as_str()).collect();
    let weighted = matches!(spec.score, ScoreSpec::Weighted(_)).then_some(WEIGHTED);
    unique("metric", names.iter().copied().chain([ANSWERED]).chain(weighted))?;
    spec.score.check(&names)?;
    let mut metrics: Vec<Metric> =
        spec.metric.iter().map(|metric| resolve_metric(metric, &checks)).collect::<Result<_>>()?;
    if let ScoreSpec::Weighted(score) = &spec.score {
        let weight =
            |metric: &Metric| score.metrics.get(&metric.name).map(|weight| (metric.clone(), *weight));
        metrics.push(Metric::weighted(WEIGHTED, metrics.iter().filter_map(weight).collect()));
    }
    Ok(metrics)
}

fn resolve_metric(metric: &MetricSpec, known: &[KnownCheck]) -> Result<Metric> {
    let names = || known.iter().map(|check| check.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut checks: Vec<KnownCheck> = Vec::new();
    for wanted in &metric.checks {
        let found = known.iter().filter(|check| match wanted.strip_suffix('*') {
            Some(start) => check.name.starts_with(start),
            None => check.name == *wanted,
        });
        let before = checks.len();
        checks.extend(found.cloned());
        if checks.len() == before {
            return Err(Error::new(
                Kind::Data,
                format!("the metric `{}` names a check that is not there", metric.name),
            )
            .expected(format!("one of {}", names()))
            .found(format!("`{wanted}`")));
        }
    }
    let earlier = |i: usize| checks[..i].iter().find(|check| check.name == checks[i].name);
    if let Some(KnownCheck { name, .. }) = (1..checks.len()).find_map(earlier) {
        return Err(Error::new(Kind::Data, format!("the metric `{}` names a check twice", metric.name))
            .expected("each check once, by its name or by one with `*`: another one would weigh double")
            .found(format!("`{name}`")));
    }
    if checks.is_empty() {
        return Err(Error::new(Kind::Data, format!("the metric `{}` has no checks", metric.name))
            .expected(format!("at least one of {}", names())));
    }
    Metric::new(metric, checks)
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
        let missing = harness.judge_missing(&sample(), "too long");
        assert_eq!(harness.metrics()[0].value(&missing), Some(0.0));
        assert_eq!(missing["valid"].reason(), Some("no answer: too long"));
        assert_eq!(harness.metrics()[0].value(&Verdicts::new()), None, "no verdict is no number");
        assert_eq!(harness.metrics()[2].value(&Verdicts::new()), None);
    }

    #[test]
    fn harnesses_of_every_version_stay_readable_and_are_told_apart() {
        #[derive(serde::Deserialize)]
        struct Kept {
            fingerprint: String,
            harness: HarnessSpec,
        }
        for version in 1..=HARNESS_VERSION {
            let path = format!("{}/tests/data/harness.v{version}.json", env!("CARGO_MANIFEST_DIR"));
            let kept: Kept = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let now = Harness::new(kept.harness).unwrap();
            assert_eq!(
                now.fingerprint() == kept.fingerprint,
                version == HARNESS_VERSION,
                "{version}: {}",
                now.fingerprint()
            );
        }
    }

    #[test]
    fn a_check_that_a_metric_names_twice_would_weigh_double() {
        let mut twice = spec();
        twice.metric[0].checks.push("field.a".into());
        let error = Harness::new(twice).unwrap_err().to_string();
        assert!(error.contains("`fields` names a check twice") && error.contains("`field.a`"), "{error}");
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
        assert!(harness.encoders().is_empty());
        harness.attach("letters", &embedder);
        harness.require_embedders().unwrap();
        let known = embedder.lock().unwrap().identity().fingerprint;
        assert_eq!(harness.encoders(), [("letters".to_owned(), known)].into());
        let sample = Sample { expected: json!("ab"), ..sample() };
        assert_eq!(harness.judge(&sample, "c")["close"].number(), Some(0.0));
    }
}
