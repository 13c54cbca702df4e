//! The summary of a measurement, as `bench/results` keeps it: the numbers and sentences of the program's report, without
//! samples. Numbers are kept as the report wrote them.

use super::settings::Measurement;
use serde_json::{Map, Value, json};

/// The version of the file.
const VERSION: u64 = 1;

/// One file of `bench/results`.
#[derive(Debug)]
pub struct Summary(Value);

/// A number of a candidate with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// `None` where there is none.
    pub value: Option<f64>,
    /// The interval, where there is one.
    pub interval: Option<(f64, f64)>,
    /// Samples it rests on.
    pub n: u64,
}

impl Summary {
    /// What a report of the program says about a measurement. `seconds` is the wall time of all of it.
    ///
    /// # Errors
    /// In one line, what the report lacks.
    pub fn of_report(
        report: &str,
        measurement: &Measurement,
        commit: &str,
        seconds: Option<f64>,
    ) -> Result<Self, String> {
        let report: Value = serde_json::from_str(report).map_err(|error| format!("not JSON: {error}"))?;
        let mut candidates = Vec::new();
        for candidate in array(&report, "candidates")? {
            let evaluation = field(candidate, "evaluation")?;
            let kept = ["split", "n", "metrics", "seconds", "rows_per_s", "peak_rss_mib"];
            let mut entry = Map::from_iter([("role".to_string(), field(candidate, "role")?.clone())]);
            for name in kept {
                entry.insert(name.into(), field(evaluation, name)?.clone());
            }
            candidates.push(Value::Object(entry));
        }
        let train = match report.get("train") {
            Some(Value::Object(train)) => {
                let mut train = train.clone();
                // A path on the machine that measured.
                train.shift_remove("adapter");
                Value::Object(train)
            }
            _ => Value::Null,
        };
        let summary = Summary(json!({
            "version": VERSION,
            "task": measurement.task,
            "model": measurement.model,
            "set": measurement.set,
            "limit": measurement.limit,
            "commit": commit,
            "machine": report.get("machine"),
            "seconds": seconds,
            "score": field(field(&report, "task")?, "score")?,
            "strongest": strongest(&report),
            "candidates": candidates,
            "claims": field(&report, "claims")?,
            "train": train,
            "fingerprints": fingerprints(&report),
            "notes": field(&report, "notes")?,
        }));
        summary.check()?;
        Ok(summary)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// In one line, what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        match value.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            other => return Err(format!("version {other:?}; expected {VERSION}")),
        }
        let summary = Summary(value);
        summary.check()?;
        Ok(summary)
    }

    /// Whether everything is there that the page needs.
    fn check(&self) -> Result<(), String> {
        for name in ["task", "model", "commit", "score"] {
            field(&self.0, name)?.as_str().ok_or(format!("`{name}` is no text"))?;
        }
        array(&self.0, "claims")?;
        for role in self.roles() {
            self.score_of(role).ok_or(format!("`{role}` has no score"))?;
        }
        match self.roles().is_empty() {
            true => Err("no candidates".into()),
            false => Ok(()),
        }
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        format!("{:#}\n", self.0)
    }

    /// A text of the file; empty where it is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The roles of the candidates, in the order of measuring.
    pub fn roles(&self) -> Vec<&str> {
        self.candidates().filter_map(|candidate| candidate.get("role")?.as_str()).collect()
    }

    fn candidates(&self) -> impl Iterator<Item = &Value> {
        self.0.get("candidates").and_then(Value::as_array).into_iter().flatten()
    }

    /// The score of a candidate.
    pub fn score_of(&self, role: &str) -> Option<Estimate> {
        let candidate = self.candidates().find(|c| c.get("role").is_some_and(|found| found == role))?;
        let metric = candidate.get("metrics")?.get(self.text("score"))?;
        let number = |name: &str| metric.get(name).and_then(Value::as_f64);
        let interval = number("low").zip(number("high"));
        Some(Estimate { value: number("value"), interval, n: metric.get("n")?.as_u64()? })
    }

    /// The split that was measured.
    pub fn split(&self) -> &str {
        self.candidates().next().and_then(|c| c.get("split")?.as_str()).unwrap_or_default()
    }

    /// The sentences about the tuned model.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        let claims = self.0.get("claims").and_then(Value::as_array).into_iter().flatten();
        claims.filter_map(|claim| claim.get("sentence")?.as_str())
    }

    /// The notes of the report.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.0.get("notes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// A number of the training: `steps`, `rows`, `epochs`, `seconds`, `rows_per_s`, `peak_rss_mib`.
    pub fn train(&self, name: &str) -> Option<f64> {
        self.0.get("train")?.get(name)?.as_f64()
    }

    /// Wall seconds of everything, where it was measured in one go.
    pub fn seconds(&self) -> Option<f64> {
        self.0.get("seconds")?.as_f64()
    }

    /// Whether it was measured as the settings say now.
    pub fn is_of(&self, measurement: &Measurement) -> bool {
        self.0.get("set") == Some(&json!(measurement.set))
            && self.0.get("limit") == Some(&json!(measurement.limit))
    }
}

fn field<'v>(value: &'v Value, name: &str) -> Result<&'v Value, String> {
    value.get(name).ok_or(format!("no `{name}`"))
}

fn array<'v>(value: &'v Value, name: &str) -> Result<&'v Vec<Value>, String> {
    field(value, name)?.as_array().ok_or(format!("`{name}` is no list"))
}

/// The role of the strongest of the others, as the report's tests name it.
fn strongest(report: &Value) -> Option<&str> {
    let comparisons = report.get("comparisons")?;
    let index = usize::try_from(comparisons.get("strongest")?.as_u64()?).ok()?;
    comparisons.get("baselines")?.get(index)?.get("baseline")?.as_str()
}

/// The report's fingerprints by what they are of, without paths: those of models have names with paths in them.
fn fingerprints(report: &Value) -> Value {
    let all = report.get("fingerprints").and_then(Value::as_array).into_iter().flatten();
    let pair = |entry: &Value| {
        let name = entry.get("name")?.as_str()?.split(" (").next()?.to_string();
        Some((name, entry.get("value")?.clone()))
    };
    Value::Object(all.filter_map(pair).collect())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::results::settings::tests::one;

    /// The summary of a report that the program wrote for its own tests.
    pub fn summary() -> Summary {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/eval/tests/data/report.v3.json");
        let report = std::fs::read_to_string(path).expect("the sample of version 3");
        let measurement = one("task = \"t\"\nmodel = \"m\"").unwrap();
        Summary::of_report(&report, &measurement, "abc", Some(90.0)).unwrap()
    }

    #[test]
    fn a_report_becomes_a_summary_that_reads_back() {
        let summary = summary();
        let again = Summary::parse(&summary.to_text()).unwrap();
        assert_eq!(again.to_text(), summary.to_text());
        assert_eq!(summary.roles(), ["base", "tuned"]);
        assert_eq!(summary.text("strongest"), "base");
        let score = summary.score_of("tuned").unwrap();
        assert_eq!((score.value, score.n), (Some(2.0 / 3.0), 3));
        assert_eq!(score.interval, Some((0.2076596008020477, 1.0)));
        assert!(summary.claims().next().unwrap().starts_with("Nothing may be claimed"));
        assert!(summary.is_of(&one("task = \"t\"\nmodel = \"m\"").unwrap()));
        assert!(!summary.is_of(&one("task = \"t\"\nmodel = \"m\"\nlimit = 9").unwrap()));
    }

    #[test]
    fn what_lacks_something_is_refused() {
        let measurement = one("task = \"t\"\nmodel = \"m\"").unwrap();
        let of = |report: &str| Summary::of_report(report, &measurement, "abc", None).unwrap_err();
        assert!(of("{").contains("not JSON"));
        assert!(of("{}").contains("`candidates`"));
        let lacking = |name: &str| {
            let mut value: Value = serde_json::from_str(&summary().to_text()).unwrap();
            value.as_object_mut().unwrap().shift_remove(name);
            Summary::parse(&value.to_string()).unwrap_err()
        };
        assert!(lacking("version").contains("expected 1"));
        assert!(lacking("commit").contains("`commit`"));
        assert!(lacking("score").contains("`score`"));
        assert!(lacking("candidates").contains("no candidates"));
    }
}
