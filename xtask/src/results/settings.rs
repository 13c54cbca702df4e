//! `bench/results.toml`: which tasks are measured with which models, and what differs from their recipes.

use toml::{Table, Value};

/// The version of the file.
const VERSION: i64 = 1;

/// The file as read.
#[derive(Debug)]
pub struct Settings {
    /// In the order of the file.
    pub measure: Vec<Measurement>,
}

/// One task with one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Folder in `tasks`.
    pub task: String,
    /// Name in the catalogue of models.
    pub model: String,
    /// Fields of the recipe that differ, each as `key=value`.
    pub set: Vec<String>,
    /// A random sample of so many test rows; all without it.
    pub limit: Option<u64>,
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// In one line, what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error| format!("not TOML: {error}"))?;
        match table.get("version").and_then(Value::as_integer) {
            Some(VERSION) => {}
            other => return Err(format!("version {other:?}; expected {VERSION}")),
        }
        let entries = table.get("measure").and_then(Value::as_array).ok_or("no `[[measure]]`")?;
        let measure: Vec<Measurement> = entries.iter().map(Measurement::parse).collect::<Result<_, _>>()?;
        for (i, measurement) in measure.iter().enumerate() {
            if measure[..i].iter().any(|other| other.name() == measurement.name()) {
                return Err(format!("{} twice", measurement.name()));
            }
        }
        Ok(Settings { measure })
    }
}

impl Measurement {
    fn parse(entry: &Value) -> Result<Self, String> {
        let table = entry.as_table().ok_or("a `measure` that is no table")?;
        if let Some(key) = table.keys().find(|key| !["task", "model", "set", "limit"].contains(&key.as_str()))
        {
            return Err(format!("the field `{key}`; expected task, model, set or limit"));
        }
        let name = |key: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let found = table.get(key).and_then(Value::as_str).filter(|name| name.chars().all(plain));
            found.map(str::to_string).ok_or(format!("a `measure` without a plain `{key}`"))
        };
        let set = match table.get("set") {
            None => Vec::new(),
            Some(Value::Array(items)) if items.iter().all(Value::is_str) => {
                items.iter().filter_map(|item| item.as_str().map(str::to_string)).collect()
            }
            Some(other) => return Err(format!("`set` is {other}; expected a list of texts `key=value`")),
        };
        let limit = match table.get("limit").map(|limit| limit.as_integer().map(u64::try_from)) {
            None => None,
            Some(Some(Ok(limit))) if limit > 0 => Some(limit),
            Some(_) => return Err("`limit` is no whole number above 0".into()),
        };
        Ok(Measurement { task: name("task")?, model: name("model")?, set, limit })
    }

    /// What files and folders of it are called.
    pub fn name(&self) -> String {
        format!("{}+{}", self.task, self.model)
    }

    /// Its summary.
    pub fn path(&self) -> String {
        format!("bench/results/{}.json", self.name())
    }

    /// The words after `underdog` that measure it, without a folder.
    pub fn words(&self) -> Vec<String> {
        let mut words =
            vec!["run".into(), format!("tasks/{}", self.task), "--model".into(), self.model.clone()];
        for set in &self.set {
            words.extend(["--set".into(), set.clone()]);
        }
        if let Some(limit) = self.limit {
            words.extend(["--limit".into(), limit.to_string()]);
        }
        words
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The only measurement of these lines.
    pub fn one(lines: &str) -> Result<Measurement, String> {
        let settings = Settings::parse(&format!("version = 1\n[[measure]]\n{lines}"))?;
        Ok(settings.measure.into_iter().next().expect("it was read"))
    }

    #[test]
    fn a_measurement_becomes_a_command() {
        let measurement = one("task = \"t\"\nmodel = \"m\"\nset = [\"epochs=1\"]\nlimit = 50").unwrap();
        assert_eq!(measurement.words().join(" "), "run tasks/t --model m --set epochs=1 --limit 50");
        assert_eq!(measurement.path(), "bench/results/t+m.json");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |lines: &str| one(lines).unwrap_err();
        assert!(refused("task = \"t\"").contains("`model`"));
        assert!(refused("task = \"../t\"\nmodel = \"m\"").contains("`task`"));
        assert!(refused("task = \"t\"\nmodel = \"m\"\nlimits = 5").contains("`limits`"));
        assert!(refused("task = \"t\"\nmodel = \"m\"\nlimit = 0").contains("above 0"));
        assert!(refused("task = \"t\"\nmodel = \"m\"\nset = \"a=1\"").contains("list"));
        let twice = "task = \"t\"\nmodel = \"m\"\n[[measure]]\ntask = \"t\"\nmodel = \"m\"";
        assert!(refused(twice).contains("twice"));
        assert!(Settings::parse("version = 3").unwrap_err().contains("expected 1"));
    }
}
